use super::{Manifest, ManifestError};

fn manifest() -> Manifest {
    Manifest { name: "\"self_sha256\": \"".to_owned(), ..super::blank() }
}

#[test]
fn a_written_manifest_is_read_back() {
    let bytes = manifest().to_bytes().unwrap();
    let read = Manifest::from_bytes(&bytes).unwrap();
    assert_eq!(Manifest { self_sha256: String::new(), ..read }, manifest());
}

#[test]
fn a_newer_format_is_believed_only_with_its_digest() {
    let newer = Manifest { format: 9, ..manifest() }.to_bytes().unwrap();
    assert!(matches!(Manifest::from_bytes(&newer), Err(ManifestError::TooNew(9))));
    let text = String::from_utf8(newer).unwrap().replacen("\"format\": 9", "\"format\": 99999999999", 1);
    assert!(matches!(Manifest::from_bytes(text.as_bytes()), Err(ManifestError::Changed { .. })));
}

#[test]
fn every_flipped_bit_is_found() {
    let bytes = manifest().to_bytes().unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let read = Manifest::from_bytes(&changed);
            let is_told = matches!(read, Err(ManifestError::Changed { .. } | ManifestError::Json(_)));
            assert!(is_told, "byte {at}, bit {bit}: {read:?}");
        }
    }
    assert!(matches!(Manifest::from_bytes(&[bytes.as_slice(), b" "].concat()), Err(ManifestError::Changed { .. })));
}
