//! Promise: an ext4 filesystem that volbak fills itself, without a mount, has what the kernel would have put there, in
//! every attribute; its kernel and e2fsck take it; and the result says who put the files there.

use std::fs;
use std::path::Path;

use crate::testkit::guest::backups::{run_expecting, snapshot_expecting};
use crate::testkit::guest::{Mounted, sh};
use crate::testkit::tree::{
    Filesystem, Kind, Tree, assert_equal_trees, fingerprint, make_hard_tree, make_many_entries,
};

fn tree_of(image: &Path) -> Tree {
    let mounted = Mounted::with_options(image, &image.with_extension("m"), "loop,ro");
    let mut tree = fingerprint(&mounted.point);
    // No archive format holds a socket.
    tree.retain(|path, attributes| attributes.kind != Kind::Socket && path != b"lost+found");
    mounted.unmount();
    tree
}

/// The JSON in what a command printed.
fn json_in(said: &str) -> serde_json::Value {
    let start = said.find("{\n").unwrap();
    serde_json::Deserializer::from_str(&said[start..]).into_iter().next().unwrap().unwrap()
}

/// Backs up a filesystem with a hard tree, restores it, and returns what the result says of who put the files there.
fn there_and_back(mkfs: &str, kind: Filesystem) -> serde_json::Value {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let source = dir.path().join("fs.img");
    sh(&format!("truncate -s 160M {0}; {mkfs} {0}", source.display()));
    let mounted = Mounted::with_options(&source, &dir.path().join("m"), "loop");
    make_hard_tree(&mounted.point, kind);
    make_many_entries(&mounted.point.join("many"), 5_000);
    mounted.unmount();
    let expected = tree_of(&source);
    let destination = dir.path().join("b");
    fs::create_dir(&destination).unwrap();
    let archive = snapshot_expecting(0, &source, &destination, &[]);
    let restored = dir.path().join("restored.img");
    let to = ["restore", archive.to_str().unwrap(), "--to-image", restored.to_str().unwrap(), "--json"];
    let said = run_expecting(0, &to);
    sh(&format!("e2fsck -f -n {}", restored.display()));
    assert_equal_trees(&expected, &tree_of(&restored));
    // volbak's own reader sees the same, too.
    let again = snapshot_expecting(0, &restored, &destination, &["--full"]);
    let differ = run_expecting(0, &["diff", archive.to_str().unwrap(), again.to_str().unwrap(), "--json"]);
    assert_eq!(json_in(&differ)["differences"], serde_json::json!([]), "{mkfs}: {differ}");
    // The kernel goes on in it.
    let mounted = Mounted::with_options(&restored, &dir.path().join("m"), "loop");
    for number in 0..300 {
        fs::write(mounted.point.join(format!("many/new-{number}")), vec![1; 10_000]).unwrap();
        fs::remove_file(mounted.point.join(format!("many/entry-{:06}", number * 7))).unwrap();
    }
    mounted.unmount();
    sh(&format!("e2fsck -f -n {}", restored.display()));
    json_in(&said)["report"]["put_by"]["disk"].clone()
}

#[test]
fn a_hard_tree_comes_back_without_a_mount() {
    for (mkfs, kind) in [
        ("mkfs.ext4 -q -b 4096", Filesystem::Ext4),
        ("mkfs.ext4 -q -b 4096 -O metadata_csum_seed,orphan_file", Filesystem::Ext4),
        ("mkfs.ext4 -q -b 4096 -I 128 -O ^metadata_csum,^64bit,^flex_bg,^dir_index", Filesystem::Ext4),
        // Its blocks are too small for the longest links and attributes.
        ("mkfs.ext4 -q -b 1024", Filesystem::Vfat),
        ("mkfs.ext4 -q -b 2048", Filesystem::Vfat),
    ] {
        assert_eq!(there_and_back(mkfs, kind)["by"], "volbak", "{mkfs}");
    }
}

#[test]
fn what_volbak_does_not_write_goes_through_the_kernel_and_is_named() {
    let put_by = there_and_back("mkfs.ext4 -q -b 4096 -O inline_data", Filesystem::Ext4);
    assert_eq!(put_by["by"], "kernel");
    assert!(put_by["why"].as_str().unwrap().contains("features"), "{put_by}");
}
