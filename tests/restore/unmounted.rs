//! Promise: an ext4 filesystem that volbak fills itself, without a mount, has what the kernel would have put there, in
//! every attribute; its kernel and e2fsck take it; and the result says who put the files there.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::testkit::guest::backups::{run_expecting, snapshot_expecting, volbak};
use crate::testkit::guest::{Mounted, sh};
use crate::testkit::tree::{
    Filesystem, Kind, Tree, assert_equal_trees, fingerprint, make_hard_tree, make_many_entries, noise,
};
use crate::testkit::wait::assert_no_loop_device;

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

/// A filesystem, and what came back of its backup.
struct Restored {
    dir: tempfile::TempDir,
    source: PathBuf,
    archive: PathBuf,
    image: PathBuf,
    /// What the result says of who put the files there.
    put_by: serde_json::Value,
}

/// Backs up what `fill` puts into a filesystem, restores it, and compares.
fn there_and_back(mkfs: &str, fill: impl FnOnce(&Path)) -> Restored {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let source = dir.path().join("fs.img");
    sh(&format!("truncate -s 160M {0}; {mkfs} {0}", source.display()));
    let mounted = Mounted::with_options(&source, &dir.path().join("m"), "loop");
    fill(&mounted.point);
    mounted.unmount();
    let destination = dir.path().join("b");
    fs::create_dir(&destination).unwrap();
    let archive = snapshot_expecting(0, &source, &destination, &[]);
    let image = dir.path().join("restored.img");
    let to = ["restore", archive.to_str().unwrap(), "--to-image", image.to_str().unwrap(), "--json"];
    let put_by = json_in(&run_expecting(0, &to))["report"]["put_by"]["disk"].clone();
    sh(&format!("e2fsck -f -n {}", image.display()));
    assert_equal_trees(&tree_of(&source), &tree_of(&image));
    Restored { dir, source, archive, image, put_by }
}

/// There and back with a hard tree, in which the kernel goes on. Returns who put the files there.
fn hard_tree(mkfs: &str, kind: Filesystem) -> serde_json::Value {
    let restored = there_and_back(mkfs, |root| {
        make_hard_tree(root, kind);
        make_many_entries(&root.join("many"), 5_000);
    });
    // volbak's own reader sees the same, too.
    let again = snapshot_expecting(0, &restored.image, &restored.dir.path().join("b"), &["--full"]);
    let differ = run_expecting(0, &["diff", restored.archive.to_str().unwrap(), again.to_str().unwrap(), "--json"]);
    assert_eq!(json_in(&differ)["differences"], serde_json::json!([]), "{mkfs}: {differ}");
    let mounted = Mounted::with_options(&restored.image, &restored.dir.path().join("m"), "loop");
    for number in 0..300 {
        fs::write(mounted.point.join(format!("many/new-{number}")), vec![1; 10_000]).unwrap();
        fs::remove_file(mounted.point.join(format!("many/entry-{:06}", number * 7))).unwrap();
    }
    mounted.unmount();
    sh(&format!("e2fsck -f -n {}", restored.image.display()));
    restored.put_by
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
        assert_eq!(hard_tree(mkfs, kind)["by"], "volbak", "{mkfs}");
    }
}

#[test]
fn what_volbak_does_not_write_goes_through_the_kernel_and_is_named() {
    let put_by = hard_tree("mkfs.ext4 -q -b 4096 -O inline_data", Filesystem::Ext4);
    assert_eq!(put_by["by"], "kernel");
    assert!(put_by["why"].as_str().unwrap().contains("features"), "{put_by}");
}

/// There and back, with the flags of inodes. Returns who put the files there.
fn with_flags(mkfs: &str, fill: impl FnOnce(&Path)) -> serde_json::Value {
    let restored = there_and_back(mkfs, fill);
    let flags = |image: &Path| {
        let mounted = Mounted::with_options(image, &restored.dir.path().join("m"), "loop,ro");
        let listed =
            sh(&format!("cd {}; lsattr -pRa . | grep -v lost+found | tr -d eI | sort", mounted.point.display()));
        mounted.unmount();
        listed
    };
    assert_eq!(flags(&restored.source), flags(&restored.image));
    restored.put_by
}

#[test]
fn every_flag_that_the_kernel_sets_comes_back() {
    let put_by = with_flags("mkfs.ext4 -q", |root| {
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
        let put_by = with_flags(mkfs, |root| {
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

/// A filesystem without a table in a file on a disk, with 2,000 files in 40 directories, and its backup.
fn many_files(dir: &Path) -> (PathBuf, PathBuf) {
    let source = dir.join("fs.img");
    sh(&format!("truncate -s 160M {0}; mkfs.ext4 -q -b 4096 {0}", source.display()));
    let mounted = Mounted::with_options(&source, &dir.join("m"), "loop");
    for number in 0..2_000_u64 {
        let parent = mounted.point.join(format!("directory-{}", number % 40));
        fs::create_dir_all(&parent).unwrap();
        fs::write(parent.join(format!("file-{number}")), noise(number, 10_000 + 20 * usize::try_from(number).unwrap()))
            .unwrap();
    }
    mounted.unmount();
    let destination = dir.join("b");
    fs::create_dir(&destination).unwrap();
    let archive = snapshot_expecting(0, &source, &destination, &[]);
    (source, archive)
}

#[test]
fn a_damaged_member_costs_its_own_files_and_blocks_are_used_again() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (source, archive) = many_files(dir.path());
    let expected = tree_of(&source);
    let mut bytes = fs::read(&archive).unwrap();
    for place in 1..10 {
        let at = place * bytes.len() / 10;
        bytes[at] ^= 0x10;
    }
    fs::write(&archive, bytes).unwrap();
    let restored = dir.path().join("restored.img");
    let to = ["restore", archive.to_str().unwrap(), "--to-image", restored.to_str().unwrap(), "--json"];
    let said = json_in(&run_expecting(3, &to));
    assert_eq!(said["report"]["put_by"]["disk"]["by"], "volbak");
    sh(&format!("e2fsck -f -n {}", restored.display()));
    let found = tree_of(&restored);
    assert!(found.iter().all(|(path, attributes)| expected.get(path) == Some(attributes)));
    let lost: Vec<_> = expected.iter().filter(|(path, _)| !found.contains_key(*path)).collect();
    assert!(lost.iter().all(|(_, attributes)| matches!(attributes.kind, Kind::File { .. })));
    assert_eq!(said["report"]["files"]["disk"]["failed"], lost.len());
    // Members have some 100 KiB, and a file lies in one or two.
    assert!((9..120).contains(&lost.len()), "{}", lost.len());
}

#[test]
fn a_restore_that_is_killed_leaves_nothing_that_can_be_mounted() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (_, archive) = many_files(dir.path());
    let target = dir.path().join("target.img");
    sh(&format!("truncate -s 160M {}", target.display()));
    let device = sh(&format!("losetup -f --show {}", target.display()));
    let device = device.trim();
    let erase = format!("--yes-erase={}", device.strip_prefix("/dev/").unwrap());
    let arguments = ["restore", archive.to_str().unwrap(), "--to-device", device, &erase];
    let signature = || {
        let mut bytes = [0; 2];
        fs::File::open(&target).unwrap().read_exact_at(&mut bytes, 0x438).unwrap();
        bytes
    };
    let (mut killed, mut tries) = (0, 0);
    let mut moments = [0, 5, 20, 60, 150, 400].into_iter();
    // A signature that was there and went between two looks, or a restore that was done: one more, at once.
    while let Some(milliseconds) = moments.next().or((killed < 2).then_some(0)) {
        sh(&format!("wipefs -q -a {device}; sync {}", target.display()));
        let mut child = volbak(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // mke2fs writes a signature, and the writer takes it away.
        let mut was_made = false;
        while !(was_made && signature() == [0; 2]) && child.try_wait().unwrap().is_none() {
            was_made |= signature() == [0x53, 0xEF];
        }
        std::thread::sleep(Duration::from_millis(milliseconds));
        let is_begun = child.try_wait().unwrap().is_none() && signature() == [0; 2];
        child.kill().unwrap();
        child.wait().unwrap();
        // A tool that it had started ends by itself, and its loop device over this one with it.
        assert_no_loop_device(Path::new(device));
        if is_begun && signature() == [0; 2] {
            killed += 1;
            let said = sh(&format!(
                "mkdir -p {1}; blkid -p {0} || true; mount -o ro {0} {1} 2>&1 && umount {1} && echo mounted || true",
                device,
                dir.path().join("m").display()
            ));
            assert!(!said.contains("ext4") && !said.contains("mounted"), "after {milliseconds} ms: {said}");
        } else if !was_made {
            eprintln!("done before {milliseconds} ms");
        } else {
            sh(&format!("e2fsck -f -n {}", target.display()));
        }
        tries += 1;
        assert!(tries < 40, "killed in time {killed} times of {tries}");
    }
    run_expecting(0, &arguments);
    sh(&format!("losetup -d {device}; e2fsck -f -n {}", target.display()));
}
