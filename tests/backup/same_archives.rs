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
        (1, "bd8e9f8a185c9bc2b76bb1b1190ce56630e68f53", "fa7ae25e685a7a123abc1c78c0a9e7ea079242f6"),
        (2, "8188539b252e74a602efc4085fee9f7aee600827", "dce7253d36e3c8b797e60a94059229d1ec784051"),
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

/// The backup was made of night 1 by volbak at commit 7eda0ae.
#[test]
fn a_backup_with_an_index_of_version_3_is_verified_and_carried_from() {
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("vm.img");
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/index-3/vm/vm_28_11_2026.tar.gz");
    let volbak = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_volbak"))
            .args(args)
            .env_remove("VOLBAK_BACKUP_DESTINATION")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let destination = work.path().join("backups");
    fs::create_dir_all(destination.join("old")).unwrap();
    for suffix in ["checksum", "index", "manifest.json", "tar.gz"] {
        let name = format!("vm_28_11_2026.{suffix}");
        fs::copy(old.with_file_name(&name), destination.join("old").join(&name)).unwrap();
    }
    let old = destination.join("old/vm_28_11_2026.tar.gz");
    let old = old.to_str().unwrap();
    volbak(&["verify", "--second-opinion", old]);
    unpack("guest-2.img.gz", &image);
    let (destination, image) = (destination.to_str().unwrap(), image.to_str().unwrap());
    let (out, _) = volbak(&["-q", "snapshot", "--level", "6", "--json", "--parent", old, "--to", destination, image]);
    let outcome: serde_json::Value = serde_json::from_str(&out).unwrap();
    let backup = &outcome["backups"][0];
    assert_eq!(sha1(Path::new(backup["archive"].as_str().unwrap())), "103383031d5461b8b820aef372ad6c7c1da03d15");
    assert_eq!(backup["manifest"]["carried"]["parent"], "vm_28_11_2026", "{outcome}");
}

fn unpack(fixture: &str, to: &Path) {
    let packed = fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture)).unwrap();
    std::io::copy(&mut GzDecoder::new(packed), &mut fs::File::create(to).unwrap()).unwrap();
}

fn sha1(path: &Path) -> String {
    volbak::shown::hex(&Sha1::digest(fs::read(path).unwrap()))
}
