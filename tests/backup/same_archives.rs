//! The same disk gives the same archive and the same index, byte for byte, in each version of volbak: what one version
//! carries forward, compares and restores was written by another. A change here is a change of the format, of the compressor,
//! or of the order in which a filesystem is read: `docs/format.md` and the CHANGELOG then say so.

use std::fs;
use std::path::Path;
use std::process::Command;

use flate2::read::GzDecoder;
use sha1::{Digest, Sha1};

#[test]
fn a_disk_gives_the_archive_that_earlier_versions_made_of_it() {
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("vm.img");
    let destination = work.path().join("backups");
    fs::create_dir(&destination).unwrap();
    for (night, archive, index) in [
        (1, "d5151c11d3feec7bbff9b0c8de065a8f91d342b9", "4fdc649bd75446cc71dc26777ba21fd1acc566b7"),
        (2, "103383031d5461b8b820aef372ad6c7c1da03d15", "f675d7e6d4c59258a6ac2efa70ba1cda2b3d1aec"),
    ] {
        unpack(&format!("guest-{night}.img.gz"), &image);
        let output = Command::new(env!("CARGO_BIN_EXE_volbak"))
            .args(["-q", "snapshot", "--level", "6", "--json", "--to"])
            .args([&destination, &image])
            .env_remove("VOLBAK_BACKUP_DESTINATION")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let path =
            Path::new(outcome["backups"][0]["archive"].as_str().unwrap_or_else(|| panic!("{outcome}"))).to_owned();
        let carried = outcome["backups"][0]["manifest"]["carried"]["entries"].as_u64();
        assert_eq!(
            carried.is_some_and(|entries| entries > 0),
            night == 2,
            "the second night carries forward: {carried:?}"
        );
        assert_eq!(sha1(&path), archive, "the archive of night {night}");
        assert_eq!(sha1(&path.with_extension("").with_extension("index")), index, "the index of night {night}");
    }
}

fn unpack(fixture: &str, to: &Path) {
    let packed = fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture)).unwrap();
    std::io::copy(&mut GzDecoder::new(packed), &mut fs::File::create(to).unwrap()).unwrap();
}

fn sha1(path: &Path) -> String {
    volbak::shown::hex(&Sha1::digest(fs::read(path).unwrap()))
}
