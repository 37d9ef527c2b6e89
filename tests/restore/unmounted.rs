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

/// Backs up what `fill` puts into a filesystem, restores it, and compares. Returns who put the files there.
fn filled(mkfs: &str, fill: impl FnOnce(&Path)) -> serde_json::Value {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let source = dir.path().join("fs.img");
    sh(&format!("truncate -s 32M {0}; {mkfs} {0}", source.display()));
    let mounted = Mounted::with_options(&source, &dir.path().join("m"), "loop");
    fill(&mounted.point);
    mounted.unmount();
    let flags = |image: &Path| {
        let mounted = Mounted::with_options(image, &dir.path().join("m"), "loop,ro");
        let listed =
            sh(&format!("cd {}; lsattr -pRa . | grep -v lost+found | tr -d eI | sort", mounted.point.display()));
        mounted.unmount();
        listed
    };
    let (expected, expected_flags) = (tree_of(&source), flags(&source));
    let destination = dir.path().join("b");
    fs::create_dir(&destination).unwrap();
    let archive = snapshot_expecting(0, &source, &destination, &[]);
    let restored = dir.path().join("restored.img");
    let to = ["restore", archive.to_str().unwrap(), "--to-image", restored.to_str().unwrap(), "--json"];
    let said = run_expecting(0, &to);
    sh(&format!("e2fsck -f -n {}", restored.display()));
    assert_equal_trees(&expected, &tree_of(&restored));
    assert_eq!(expected_flags, flags(&restored));
    json_in(&said)["report"]["put_by"]["disk"].clone()
}

#[test]
fn every_flag_that_the_kernel_sets_comes_back() {
    let put_by = filled("mkfs.ext4 -q", |root| {
        let mut held = String::new();
        for flag in "suciadASjtDTmxPCF".chars() {
            // What the kernel does not know for ext4 is left out.
            held += &sh(&format!(
                "cd {}; touch f-{flag}; echo x > full-{flag}; mkdir d-{flag}; \
                 for at in f full d; do chattr +{flag} $at-{flag} 2>/dev/null && echo {flag}; done || true",
                root.display()
            ));
        }
        for flag in "iadASDTx".chars() {
            assert!(held.contains(flag), "{held}");
        }
    });
    assert_eq!(put_by["by"], "volbak", "{put_by}");
}

#[test]
fn a_filesystem_without_a_free_inode_comes_back_either_way() {
    for (mkfs, by) in [("mkfs.ext4 -q -N 64", "volbak"), ("mkfs.ext4 -q -N 64 -O inline_data", "kernel")] {
        let put_by = filled(mkfs, |root| {
            let made = (0..1000).take_while(|number| fs::write(root.join(format!("f-{number}")), "x").is_ok()).count();
            assert!((20..200).contains(&made), "{made}");
            for number in 0..made {
                // The last name was made for no file.
                assert!(root.join(format!("f-{number}")).exists());
            }
        });
        assert_eq!(put_by["by"], by, "{put_by}");
    }
}
