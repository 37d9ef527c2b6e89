//! Filesystems that contradict themselves. e2fsck is the oracle: what it would change in names, data, sizes, types or
//! counts is a problem of the backup, and a filesystem that it finds nothing wrong with has none.

use std::fs;
use std::path::Path;

use super::alike::Case;
use super::small::{create, set_xattr};
use crate::testkit::guest::backups::{problems, run, snapshot_expecting};
use crate::testkit::guest::{both_outputs, quoted, sh_output};
use crate::testkit::tree::noise;

fn fill(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir(root.join("e")).unwrap();
    for number in 1..=6 {
        fs::write(root.join(format!("a/f{number}")), noise(number, 5000 * usize::try_from(number).unwrap())).unwrap();
    }
    fs::write(root.join("big"), noise(9, 300_000)).unwrap();
    fs::write(root.join("e/x"), "x").unwrap();
    fs::hard_link(root.join("e/x"), root.join("e/y")).unwrap();
    for number in 0..200 {
        fs::write(root.join(format!("e/{number}{}", "n".repeat(40))), "").unwrap();
    }
    std::os::unix::fs::symlink("target", root.join("short")).unwrap();
    std::os::unix::fs::symlink("t".repeat(100), root.join("long")).unwrap();
    let pieces = create(root, "pieces");
    for number in 0..300 {
        std::os::unix::fs::FileExt::write_all_at(&pieces, b"piece", number * 8192).unwrap();
    }
    pieces.sync_all().unwrap();
    set_xattr(&root.join("a/f1"), "user.large", &noise(2, 500));
    crate::testkit::guest::sh(&format!("mkfifo {}", quoted(&root.join("fifo"))));
}

/// Each a name and what debugfs is told.
const DAMAGES: &[(&str, &[&str])] = &[
    ("a directory with two names", &["ln a/b e/again"]),
    ("a name that leads to a free inode", &["clri a/f2"]),
    ("a file that is a directory", &["sif a/f2 mode 040755"]),
    ("a directory that is a file", &["sif a mode 0100644"]),
    ("a file that is a link", &["sif a/f3 mode 0120777"]),
    ("a type that is none", &["sif fifo mode 0170000"]),
    ("a size that is too small", &["sif big size 1000"]),
    ("a size that is too small, of many pieces", &["sif pieces size 20000"]),
    ("a directory that is too short", &["sif e size 2048"]),
    ("a directory of half a block", &["sif e size 1500"]),
    ("a link count that is too high", &["sif a/f4 links_count 5"]),
    ("a link count that is too low", &["sif e/x links_count 1"]),
    ("a directory's link count", &["sif a links_count 9"]),
    ("a count of blocks", &["sif a/f5 blocks 4000"]),
    ("a short link's length", &["sif short size 20"]),
    ("a long link's length", &["sif long size 50"]),
    ("a file without a name", &["unlink a/f6"]),
    ("a directory without a name", &["unlink a/b"]),
    ("lost+found without a name", &["unlink lost+found"]),
    ("a map that is none", &["sif big block[0] 0x12345678"]),
    ("flags that say nothing of extents", &["sif big flags 0"]),
    ("flags that say extents", &["sif a/f1 flags 0x80000"]),
    ("a block of two files", &["sif a/f1 block[5] 2000", "sif a/f2 block[5] 2000"]),
    ("a block of the filesystem itself", &["sif a/f1 block[0] 5"]),
    ("a fifo with a map", &["sif fifo flags 0x80000"]),
    ("attributes in a file's block", &["sif a/f2 file_acl 300"]),
    ("a time of deletion", &["sif a/f1 dtime 1234567"]),
    ("a name of the root", &["ln <2> e/root"]),
    ("a name of the journal", &["ln <8> e/journal"]),
    ("a hole in a directory", &["punch e 1 1"]),
    ("a parent that is another one", &["cd e", "unlink ..", "ln <12> .."]),
];

#[test]
fn what_e2fsck_would_change_is_a_problem() {
    let mut silent = Vec::new();
    for (name, mke2fs) in
        [("contradictions", "-t ext4 -b 1024 -O ^metadata_csum"), ("contradictions-ext2", "-t ext2 -b 1024")]
    {
        let case = Case::new(name, "20M", mke2fs).filled(fill);
        let dest = case.scratch.path().join("healthy");
        fs::create_dir(&dest).unwrap();
        snapshot_expecting(0, &case.image, &dest, &["--level", "1"]);
        for (damage, commands) in DAMAGES {
            let image = case.scratch.path().join("damaged.img");
            fs::copy(&case.image, &image).unwrap();
            let script = commands.join("\n");
            sh_output(&format!("debugfs -w -f - {} <<'END' 2>&1\n{script}\nEND", quoted(&image)));
            let fsck = sh_output(&format!("e2fsck -fn {}", quoted(&image)));
            let dest = case.scratch.path().join("damaged");
            fs::create_dir(&dest).unwrap();
            let said = run(&["snapshot", image.to_str().unwrap(), "--to", dest.to_str().unwrap(), "--level", "1"]);
            if said.status.code() == Some(0) && fsck.status.code() != Some(0) {
                silent.push(format!("{name}: {damage}\n{}", both_outputs(&fsck)));
            }
            if said.status.code() == Some(3) && fsck.status.code() == Some(0) {
                silent.push(format!("{name}: {damage} is no damage\n{}", both_outputs(&said)));
            }
            fs::remove_dir_all(&dest).unwrap();
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

/// What only an index, the journal's map or a size shows: a name that changed where it stands, and indexes that lead elsewhere.
#[test]
fn what_no_entry_shows_is_a_problem() {
    for (name, mke2fs) in [("indexes", "-t ext4 -b 1024 -O ^metadata_csum"), ("indexes-csum", "-t ext4 -b 1024")] {
        let case = Case::new(name, "20M", mke2fs).filled(fill);
        let (indexed, journal) = (super::patch::blocks(&case.image, "e"), super::patch::blocks(&case.image, "<8>")[7]);
        // By chance a changed name may still belong to its block, or it is what a block's split left behind.
        let bytes = fs::read(&case.image).unwrap();
        let is_found = |at: usize, letter: u8| {
            let mut disk = super::patch::Disk::read(&case.image);
            disk.put(at, &[letter]);
            let image = case.scratch.path().join("tried.img");
            disk.write(&image);
            sh_output(&format!("e2fsck -fn {}", quoted(&image))).status.code() != Some(0)
        };
        let names = bytes.windows(8).enumerate().filter(|(_, bytes)| *bytes == b"77nnnnnn").map(|(at, _)| at + 3);
        let changes = names.flat_map(|at| (b'A'..=b'Z').map(move |letter| (at, letter)));
        let (stands, letter) = changes.into_iter().find(|(at, letter)| is_found(*at, *letter)).unwrap();
        let has_checksums = name.ends_with("csum");
        let seen = |what: &str, at: usize, new: &[u8], expected: &str| {
            let mut disk = super::patch::Disk::read(&case.image);
            disk.put(at, new);
            let image = case.scratch.path().join("damaged.img");
            disk.write(&image);
            let fsck = sh_output(&format!("e2fsck -fn {}", quoted(&image)));
            assert_ne!(fsck.status.code(), Some(0), "{what}: e2fsck finds it, too");
            let dest = case.scratch.path().join("damaged");
            fs::create_dir(&dest).unwrap();
            let told = problems(&snapshot_expecting(3, &image, &dest, &["--level", "1"])).join("\n");
            assert!(told.contains(expected), "{name}: {what}: {told}");
            fs::remove_dir_all(&dest).unwrap();
        };
        // Entry 2 of the root: the number of a block.
        seen("a block that is not there", indexed[0] * 1024 + 0x2C, &[0xFF, 0xFF], "e: its index is damaged");
        if !has_checksums {
            seen(
                "a name that changed",
                stands,
                &[letter],
                "error e: 1 of its names are in the wrong block by its index",
            );
            seen("a block twice", indexed[0] * 1024 + 0x2C, &[1, 0], "e: its index is damaged");
            seen("one block fewer", indexed[0] * 1024 + 0x22, &[5, 0], "e: its index leads past");
            seen("an unknown hash", indexed[0] * 1024 + 0x1C, &[9], "e: its index is damaged");
            seen("another hash", indexed[0] * 1024 + 0x1C, &[2], "e: its index fits");
            seen("another seed", 1024 + 0xEC, &[1, 2, 3, 4], "e: its index fits");
            let data = super::patch::Disk::read(&case.image).inode(super::patch::inode_number(&case.image, "a/f1"));
            let block = u32::try_from(journal).unwrap().to_le_bytes();
            seen("a block of the journal", data + 0x28 + 12 + 8, &block, "a/f1: 5 of its blocks");
            seen("a size that no map holds", data + 0x6C, &[0, 0, 0, 0x10], "a/f1: ");
            seen(
                "a bitmap that lies elsewhere",
                2048,
                &[0xFF, 0xFF, 0xFF],
                "warning disk: the bitmaps or inodes of 1 groups",
            );
        }
    }
}

/// Indexes of each hash, with bytes above 127 and names that were removed, of more and fewer levels.
#[test]
fn healthy_indexes_are_no_problem() {
    for (number, change) in [
        "tune2fs -E hash_alg=legacy $IMG",
        "tune2fs -E hash_alg=tea $IMG",
        "tune2fs -E hash_alg=half_md4 $IMG",
        "debugfs -w -R 'ssv flags 2' $IMG",
        "debugfs -w -R 'ssv hash_seed clear' $IMG",
        "tune2fs -O ^metadata_csum $IMG",
    ]
    .into_iter()
    .enumerate()
    {
        let case = Case::new(&format!("hashes-{number}"), "20M", "-t ext4 -b 1024 -N 8000");
        case.at_image(&format!("{{ {change}; }} >/dev/null 2>&1"));
        let case = case.filled(|root| {
            fs::create_dir(root.join("names")).unwrap();
            for number in 0..3000 {
                fs::write(root.join(format!("names/grün-{number}-{}", "é".repeat(number % 60))), "").unwrap();
            }
            for number in (0..3000).step_by(3) {
                fs::remove_file(root.join(format!("names/grün-{number}-{}", "é".repeat(number % 60)))).unwrap();
            }
        });
        assert_eq!(sh_output(&format!("e2fsck -fn {}", quoted(&case.image))).status.code(), Some(0), "{change}");
        let dest = case.scratch.path().join("healthy");
        fs::create_dir(&dest).unwrap();
        assert_eq!(problems(&snapshot_expecting(0, &case.image, &dest, &["--level", "1"])), [""; 0], "{change}");
    }
}

/// The kernel's own account of errors is told with its times.
#[test]
fn recorded_errors_are_told() {
    let case = Case::new("recorded", "20M", "-t ext4 -b 1024").filled(fill);
    let values = [
        "error_count 3",
        "first_error_time 20261101120000",
        "first_error_func ext4_lookup",
        "first_error_ino 42",
        "last_error_time 20261102120000",
        "last_error_func ext4_iget",
    ];
    let script = values.map(|value| format!("ssv {value}")).join("\n");
    case.at_image(&format!("debugfs -w -f - $IMG <<'END' 2>&1\n{script}\nEND"));
    let dest = case.scratch.path().join("backups");
    fs::create_dir(&dest).unwrap();
    for reader in ["auto", "kernel"] {
        let more = ["--level", "1", "--reader", reader, "--full"];
        let told = problems(&snapshot_expecting(3, &case.image, &dest, &more)).join("\n");
        for part in [
            "recorded 3 errors",
            "2026-11-01 12:00:00 UTC in ext4_lookup, inode 42",
            "2026-11-02 12:00:00 UTC in ext4_iget",
        ] {
            assert!(told.contains(part), "{reader}: {part}: {told}");
        }
    }
}

/// Names that the kernel leaves out without an error of any call: it logs that, and the backup is partial.
#[test]
fn what_the_kernel_only_logs_is_told() {
    let case = Case::new("logged", "20M", "-t ext4 -b 1024 -O ^metadata_csum").filled(fill);
    let block = u64::try_from(super::patch::blocks(&case.image, "e")[3]).unwrap();
    let image = fs::File::options().write(true).open(&case.image).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&image, &[3, 0], block * 1024 + 4).unwrap();
    let dest = case.scratch.path().join("backups");
    fs::create_dir(&dest).unwrap();
    let told = problems(&snapshot_expecting(3, &case.image, &dest, &["--level", "1", "--reader", "kernel"])).join("\n");
    let is_logged = told.contains("error disk: the kernel logged") && told.contains("bad entry in directory");
    assert!(is_logged, "{told}");
}

/// Errors that btrfs counts: those that its system counted before, and those that reading met.
#[test]
fn what_btrfs_counts_is_told() {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let image = scratch.path().join("btrfs.img");
    let (path, mount) = (quoted(&image), quoted(&scratch.path().join("mnt")));
    let make = "truncate -s 200M $IMG; mkfs.btrfs -q $IMG; mkdir $MNT; mount -o loop $IMG $MNT";
    let fill = "(yes 'the only copy' || true) | head -c 50000 >$MNT/f; umount $MNT";
    let script = format!("export IMG={path} MNT={mount}; {make}; {fill}");
    crate::testkit::guest::sh(&script);
    let bytes = fs::read(&image).unwrap();
    let at = bytes.windows(28).position(|bytes| bytes == b"the only copy\nthe only copy\n").unwrap();
    let file = fs::File::options().write(true).open(&image).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"X", u64::try_from(at + 5000).unwrap()).unwrap();
    let dest = scratch.path().join("backups");
    fs::create_dir(&dest).unwrap();
    let told = problems(&snapshot_expecting(3, &image, &dest, &["--level", "1"])).join("\n");
    assert!(told.contains("errors were counted while it was read: corruption"), "{told}");
    assert!(!told.contains("the system that it belongs to"), "{told}");
    // Its own system meets it, too, and counts.
    crate::testkit::guest::sh(&format!(
        "mount -o loop {path} {mount}; md5sum {mount}/f || true; echo x >{mount}/new; umount {mount}"
    ));
    let told = problems(&snapshot_expecting(3, &image, &dest, &["--level", "1", "--full"])).join("\n");
    assert!(told.contains("warning disk: the system that it belongs to has counted errors (corruption"), "{told}");
}

/// Maps that lead to the same blocks again and again end by themselves, and nothing of them is published as files.
#[test]
fn a_map_without_an_end_is_kept_as_an_image() {
    for (what, size, holds_data) in [("data", 4_u64 << 40, true), ("holes", 4 << 40, false)] {
        let case = Case::new("endless", "4M", "-t ext2 -b 4096").filled(|root| {
            for name in ["one", "two", "three"] {
                fs::write(root.join(name), noise(3, 4096)).unwrap();
            }
            fs::write(root.join("bomb"), "x").unwrap();
        });
        let mut disk = super::patch::Disk::read(&case.image);
        let block = |name: &str| u32::try_from(super::patch::blocks(&case.image, name)[0]).unwrap();
        let (one, two, three, data) = (block("one"), block("two"), block("three"), block("bomb"));
        let fill = |disk: &mut super::patch::Disk, block: u32, number: u32| {
            for at in 0..1024 {
                disk.put_u32(usize::try_from(block).unwrap() * 4096 + 4 * at, number);
            }
        };
        fill(&mut disk, one, if holds_data { data } else { 0 });
        fill(&mut disk, two, one);
        fill(&mut disk, three, two);
        let inode = disk.inode(super::patch::inode_number(&case.image, "bomb"));
        disk.put_u32(inode + 0x4, 0);
        disk.put_u32(inode + 0x6C, u32::try_from(size >> 32).unwrap());
        for (tree, number) in [(12, one), (13, two), (14, three)] {
            disk.put_u32(inode + 0x28 + 4 * tree, number);
        }
        let image = case.scratch.path().join("bomb.img");
        disk.write(&image);
        let dest = case.scratch.path().join("backups");
        fs::create_dir(&dest).unwrap();
        let archive = snapshot_expecting(3, &image, &dest, &["--level", "1"]);
        let told = problems(&archive);
        assert!(
            told.iter().any(|one| one.starts_with("error") && one.contains("kept as a raw image")),
            "{what}: {told:?}"
        );
        let listed = crate::testkit::guest::sh(&format!("tar tzf {}", quoted(&archive)));
        assert_eq!(listed.trim(), "./disk.img", "{what}");
    }
}
