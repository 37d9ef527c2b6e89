use super::is_parent;
use crate::manifest::{CarriedRecord, DigestsRecord, Manifest, blank};

#[test]
fn a_parent_is_known_by_its_digest_and_without_a_sha1_also_by_its_name() {
    let parent = |archive_sha1: &str, index_sha256: &str| {
        let digests = DigestsRecord {
            archive_sha1: archive_sha1.to_owned(),
            index_sha256: index_sha256.to_owned(),
            ..DigestsRecord::default()
        };
        Manifest { stem: "v_1".to_owned(), digests, ..blank() }
    };
    let carried = |name: &str, sha1: &str, index_sha256: Option<&str>| CarriedRecord {
        parent: name.to_owned(),
        parent_archive_sha1: sha1.to_owned(),
        parent_index_sha256: index_sha256.map(str::to_owned),
        ..CarriedRecord::default()
    };
    assert!(is_parent(&parent("a", "i"), &carried("v_0", "a", None)));
    assert!(!is_parent(&parent("b", "i"), &carried("v_1", "a", None)), "made again under its name");
    assert!(is_parent(&parent("", "i"), &carried("v_0", "", Some("i"))));
    assert!(is_parent(&parent("", "published"), &carried("v_1", "", Some("decrypted"))));
    assert!(!is_parent(&parent("", "published"), &carried("v_2", "", Some("decrypted"))));
}
