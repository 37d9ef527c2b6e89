//! Promise: a backup in any format that a version of volbak wrote is verified and restored by this one (docs/format.md). The
//! backups in `tests/fixtures` are never made anew: indexes 1 to 3 are by the versions that introduced them, manifests 1 to 4 by
//! the one of 29 November 2026, manifest 6 by the one of 30 November. Format 5 needs an object store: `tests/objects` makes one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::testkit::guest::sh;

/// Copies a fixture, so that nothing is written beside it; the archive of the copy.
fn archive(fixture: &str, to: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    let files = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path());
    let mut found = None;
    for file in files {
        let copy = to.join(file.file_name().unwrap());
        fs::copy(&file, &copy).unwrap();
        let name = copy.display().to_string();
        if [".tar.gz", ".tar.zst", ".img.gz", ".tar.gz.age"].iter().any(|suffix| name.ends_with(suffix)) {
            found = Some(copy);
        }
    }
    found.unwrap()
}

fn volbak(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_volbak")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_format_of_files_is_verified_and_restored() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let (identity, signer) = (fixtures.join("identity"), fixtures.join("signer.pub").display().to_string());
    for (fixture, format, index) in [
        ("index-1/old", 1, Some('1')),
        ("index-2/old", 1, Some('2')),
        ("index-3/vm", 1, Some('3')),
        ("formats/manifest-1", 1, Some('4')),
        ("formats/manifest-3", 3, Some('4')),
        // Its index is encrypted.
        ("formats/manifest-4", 4, None),
    ] {
        let work = tempfile::tempdir().unwrap();
        // The key is one for tests; others must not be able to read it.
        let key = work.path().join("identity");
        sh(&format!("install -m 0600 {} {}", identity.display(), key.display()));
        let folder = work.path().join("backup");
        fs::create_dir(&folder).unwrap();
        let archive = archive(fixture, &folder);
        let stem = archive.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        let manifest = fs::read(folder.join(format!("{stem}.manifest.json"))).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["format"], format, "{fixture}");
        if let Some(index) = index {
            let lines = fs::read_to_string(folder.join(format!("{stem}.index"))).unwrap();
            assert!(lines.starts_with(&format!("volbak-index\t{index}\n")), "{fixture}");
        }
        let (archive, key) = (archive.to_str().unwrap(), key.to_str().unwrap());
        let said = volbak(&["verify", "--identity", key, "--signer", &signer, archive]);
        assert!(said.contains(": good, "), "{fixture}: {said}");
        let restored = work.path().join("restored");
        volbak(&["-q", "restore", "--identity", key, archive, "--to", restored.to_str().unwrap()]);
        if fixture.starts_with("formats/") {
            let at = |name: &str| restored.join(name);
            assert_eq!(fs::read(at("hello.txt")).unwrap(), b"hello\n", "{fixture}");
            assert_eq!(fs::metadata(at("hello.txt")).unwrap().ino(), fs::metadata(at("hard")).unwrap().ino());
            assert_eq!(fs::read(at("sub/x")).unwrap(), vec![b'x'; 3000]);
            assert_eq!(fs::read_link(at("sub/link")).unwrap(), Path::new("../hello.txt"));
        } else {
            // tar is the judge of what is in an archive.
            let plain = work.path().join("plain");
            fs::create_dir(&plain).unwrap();
            sh(&format!("tar -xzpf {archive} --exclude=./dev -C {}", plain.display()));
            sh(&format!("diff -r --no-dereference --exclude=dev {} {}", plain.display(), restored.display()));
        }
    }
}

#[test]
fn each_format_of_images_is_verified_and_restored() {
    for (format, index) in [(2, 1), (6, 2)] {
        let work = tempfile::tempdir().unwrap();
        let archive = archive(&format!("formats/manifest-{format}"), work.path());
        let text = |suffix: &str| fs::read_to_string(archive.to_str().unwrap().replace(".img.gz", suffix)).unwrap();
        assert!(text(".manifest.json").contains(&format!("\"format\": {format},")), "{format}");
        assert!(text(".index").starts_with(&format!("volbak-image-index\t{index}\n")), "{format}");
        let disk = work.path().join("disk.img");
        let archive = archive.to_str().unwrap();
        assert!(volbak(&["verify", archive]).contains("good, an image"));
        volbak(&["-q", "restore", archive, "--to-image", disk.to_str().unwrap()]);
        sh(&format!("gunzip -c {archive} | cmp - {}", disk.display()));
        assert_eq!(volbak(&["cat", &format!("{archive}:hello.txt")]), "hello\n");
    }
}

/// A new format is not forgotten in the table of the document.
#[test]
fn the_document_lists_each_format() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md")).unwrap();
    let (_, section) = text.split_once("\n## Which versions read which formats\n").unwrap();
    for format in 1..=6 {
        assert!(section.contains(&format!("\n| manifest {format} |")), "manifest {format}");
    }
    for index in 1..=4 {
        assert!(section.contains(&format!("\n| index {index} |")), "index {index}");
    }
    for index in 1..=2 {
        assert!(section.contains(&format!("\n| image index {index} |")), "image index {index}");
    }
    let schema = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manifest.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let formats = &schema["properties"]["format"]["enum"];
    assert_eq!(
        *formats,
        serde_json::json!([1, 2, 3, 4, 5, 6]),
        "each has a line in docs/format.md and a backup in tests/fixtures"
    );
}
