//! Promise: an archive in Zstandard frames has all that one in gzip members has. `zstd` and plain tar read it, each verb
//! takes it, and it is never mixed with one of the other format.

use std::fs;

use serde_json::Value;

use crate::testkit::guest::backups::{archives, assert_all_good, beside, manifest, run_expecting, snapshot};
use crate::testkit::guest::{Mounted, extract_with_gnu_tar, make_image, quoted, restore_target, sh};
use crate::testkit::tree::{Filesystem, Kind, assert_equal_trees, fingerprint, make_hard_tree, noise, text};

const ZSTD: [&str; 2] = ["--format", "tar.zst"];

#[test]
fn the_hard_tree_comes_back_through_tar_bsdtar_and_restore() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest) = (scratch.path().join("guest.img"), scratch.path().join("backups"));
    fs::create_dir(&dest).unwrap();
    make_image(&image, "1G", Filesystem::Ext4);
    let mounted = Mounted::partition(&image, &scratch.path().join("mounted"));
    make_hard_tree(&mounted.point, Filesystem::Ext4);
    let mut expected = fingerprint(&mounted.point);
    expected.retain(|path, attributes| attributes.kind != Kind::Socket && !path.starts_with(b"lost+found"));
    mounted.unmount();

    let archive = snapshot(&image, &dest, &ZSTD);
    assert!(archive.to_str().unwrap().ends_with(".tar.zst"), "{}", archive.display());
    let facts = manifest(&archive);
    assert_eq!((&facts["compression"], &facts["format"]), (&Value::from("zstd"), &Value::from(3)));
    let directory = archive.parent().unwrap();
    sh(&format!("zstd -q -t {}; cd {}; sha1sum --strict --quiet -c *.checksum", quoted(&archive), quoted(directory)));

    let target = restore_target(scratch.path(), Filesystem::Ext4);
    assert_equal_trees(&expected, &extract_with_gnu_tar(&archive, &target.point.join("tree")));
    let to = target.point.join("by-volbak");
    run_expecting(
        0,
        &["restore", archive.to_str().unwrap(), "--to", to.to_str().unwrap(), "--devices", "--top", "--keep-setid"],
    );
    assert_equal_trees(&expected, &fingerprint(&to));
    let names = |command: &str| {
        let listed = sh(&format!("{{ {command} {} 2>/dev/null || true; }} | sort", quoted(&archive)));
        assert!(listed.lines().count() > 500, "{command}");
        listed
    };
    assert_eq!(names("bsdtar -tf").lines().count(), names("tar --zstd -tf").lines().count());

    let said = run_expecting(0, &["verify", archive.to_str().unwrap(), "--restore-test"]);
    assert!(said.contains("second opinion on"), "{said}");
}

/// A disk with some files.
fn disk(scratch: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (image, dest) = (scratch.join("guest.img"), scratch.join("backups"));
    fs::create_dir(&dest).unwrap();
    make_image(&image, "64M", Filesystem::Ext4);
    let mounted = Mounted::partition(&image, &scratch.join("mounted"));
    for number in 0..300 {
        fs::write(mounted.point.join(format!("file-{number}")), text(number, 20_000)).unwrap();
    }
    fs::write(mounted.point.join("noise"), noise(1, 3_000_000)).unwrap();
    mounted.unmount();
    // Long ago, so that all of it can be carried.
    sh(&format!(
        "for n in {{0..299}}; do for t in atime ctime mtime; do echo \"sif /file-$n $t @1600000000\"; done; done |
         debugfs -w -f - {}?offset=$((2048 * 512)) >/dev/null 2>&1",
        quoted(&image)
    ));
    (image, dest)
}

#[test]
fn the_next_night_copies_frames_and_a_change_of_format_reads_all() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest) = disk(scratch.path());
    let first = snapshot(&image, &dest, &ZSTD);
    let second = snapshot(&image, &dest, &ZSTD);
    assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "an unchanged disk gives the same archive");
    let carried = &manifest(&second)["carried"];
    assert!(carried["bytes"].as_u64().unwrap() > 0, "{carried}");

    let before = archives(&dest);
    let arguments = ["snapshot", image.to_str().unwrap(), "--to", dest.to_str().unwrap(), "--format", "tar.gz"];
    let said = run_expecting(0, &arguments);
    let gzip = archives(&dest).into_iter().find(|archive| !before.contains(archive)).unwrap();
    assert!(said.contains("it is a tar.zst, and the new backup is a tar.gz"), "{said}");
    assert!(gzip.to_str().unwrap().ends_with(".tar.gz"));
    assert_eq!(manifest(&gzip)["carried"], Value::Null);
    assert_eq!(manifest(&gzip)["compression"], Value::Null, "as it always was");
    let trees = [&second, &gzip].map(|archive| sh(&format!("tar -tvf {}", quoted(archive))));
    assert_eq!(trees[0], trees[1]);
    assert_all_good(&dest);
}

#[test]
fn every_level_is_valid_and_the_config_can_name_the_format() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest) = disk(scratch.path());
    let mut sizes = Vec::new();
    for level in ["1", "6", "12"] {
        let archive = snapshot(&image, &dest, &["--level", level, ZSTD[0], ZSTD[1]]);
        sh(&format!("zstd -q -t {}", quoted(&archive)));
        sizes.push(fs::metadata(&archive).unwrap().len());
    }
    assert!(sizes[2] < sizes[0], "{sizes:?}");
    let config = scratch.path().join("volbak.toml");
    let write = |text: &str| fs::write(&config, text).unwrap();
    let config_argument = config.to_str().unwrap();
    let to = dest.to_str().unwrap();
    write(&format!(
        "backup_destination = \"{to}\"\n[archive]\nformat = \"tar.zst\"\n[volume.\"other\"]\nformat = \"tar.gz\"\n"
    ));
    let archive = snapshot(&image, &dest, &["--config", config_argument]);
    assert!(archive.to_str().unwrap().ends_with(".tar.zst"), "{}", archive.display());
    let archive = snapshot(&image, &dest, &["--config", config_argument, "--name", "other"]);
    assert!(archive.to_str().unwrap().ends_with(".tar.gz"), "{}", archive.display());
    assert_all_good(&dest);
    write(&format!("backup_destination = \"{to}\"\n[archive]\nformat = \"tar.xz\"\n"));
    let said = run_expecting(2, &["config", "check", "--config", config_argument]);
    assert!(said.contains("tar.zst"), "{said}");
    for wrong in [["--format", "zip"].as_slice(), &["--image", "--format", "tar.zst"]] {
        run_expecting(2, &[&["snapshot", image.to_str().unwrap(), "--to", to], wrong].concat());
    }
}

/// Another program's archive beside ours, with the same stem.
#[test]
fn archives_of_both_formats_with_one_stem_are_kept_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let (image, dest) = disk(scratch.path());
    let ours = snapshot(&image, &dest, &ZSTD);
    let foreign = beside(&ours, "tar.gz");
    sh(&format!("cd {}; tar -czf {} mounted", quoted(scratch.path()), quoted(&foreign)));
    let listed: Value =
        serde_json::from_str(&run_expecting(0, &["list", dest.to_str().unwrap(), "--json"])).expect("JSON");
    let text = listed.to_string();
    assert!(text.contains("complete") && text.contains("without_manifest"), "{text}");
    run_expecting(0, &["verify", ours.to_str().unwrap()]);
    let said = run_expecting(0, &["verify", foreign.to_str().unwrap()]);
    assert!(said.contains("no manifest") || said.contains("not checked"), "{said}");
    // The first is still found to be damaged when it is.
    let mut bytes = fs::read(&ours).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&ours, &bytes).unwrap();
    run_expecting(1, &["verify", ours.to_str().unwrap()]);
}
