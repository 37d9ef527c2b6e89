//! What guests put on their filesystems.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, OFlags};

use super::alike::{Case, Reader, assert_alike, is_dirty};
use super::churn::Churn;
use super::random::Random;
use super::small::{create, set_mtime, set_xattr};
use crate::testkit::tree::{Filesystem, make_hard_tree, noise, text};

/// Nothing that another test starts meanwhile keeps it open.
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// The tree that all other tests of backups have, too.
#[test]
fn the_hard_tree() {
    for (name, mke2fs) in
        [("hard", "-t ext4 -b 4096 -i 4096"), ("hard-no-sums", "-t ext4 -b 4096 -i 4096 -O ^metadata_csum")]
    {
        let case = Case::new(name, "1G", mke2fs).filled(|root| make_hard_tree(root, Filesystem::Ext4));
        let listed = case.assert_alike(Reader::Own).listed();
        assert!(listed.len() > 600, "{}", listed.len());
    }
}

/// Extent trees of every depth that fits, with holes and without.
#[test]
fn files_in_thousands_of_pieces() {
    let case = Case::new("pieces", "256M", "-t ext4 -b 1024 -O ^metadata_csum");
    let sums = Case::new("pieces-sums", "256M", "-t ext4 -b 1024");
    for case in [case, sums] {
        let case = case.filled(|root| {
            let sparse = create(root, "sparse");
            for number in 0..9000_u64 {
                sparse.write_all_at(&number.to_le_bytes().repeat(100), number * 3 * 1024).unwrap();
            }
            sparse.sync_all().unwrap();
            // A block for the one, a block for the other: no two of a file's blocks lie side by side.
            let both = [create(root, "even"), create(root, "odd")];
            for number in 0..3000_u64 {
                for file in &both {
                    rustix::fs::fallocate(file, FallocateFlags::empty(), number * 1024, 1024).unwrap();
                }
            }
            for file in &both {
                for number in (0..3000_u64).filter(|number| number % 7 != 3) {
                    file.write_all_at(&number.to_le_bytes().repeat(128), number * 1024).unwrap();
                }
            }
        });
        let tree = case.debugfs("dump_extents sparse");
        assert!(tree.lines().any(|line| line.trim_start().starts_with("2/ 2")), "{}", &tree[..2000]);
        let pieces = case.debugfs("dump_extents -l even").lines().count();
        assert!(pieces > 800, "{pieces} pieces");
        case.assert_alike(Reader::Own);
    }
}

#[test]
fn allocated_and_not_written() {
    for (name, block) in [("unwritten-1k", 1024_u64), ("unwritten-4k", 4096)] {
        let case = Case::new(name, "256M", &format!("-t ext4 -b {block}")).filled(|root| {
            // What lies there before must not come to light.
            let secret = create(root, "secret");
            secret.write_all_at(&text(9, 100 << 20), 0).unwrap();
            secret.sync_all().unwrap();
            fs::remove_file(root.join("secret")).unwrap();
            let allocate = |file: &File, flags, from, len| rustix::fs::fallocate(file, flags, from, len).unwrap();
            let plain = FallocateFlags::empty();
            allocate(&create(root, "all"), plain, 0, 5 << 20);
            let partly = create(root, "partly");
            allocate(&partly, plain, 0, 3 << 20);
            for at in [0, 10_000, 1 << 20, (3 << 20) - 10] {
                partly.write_all_at(b"written", at).unwrap();
            }
            let behind = create(root, "behind-the-end");
            behind.write_all_at(&noise(1, 70_001), 0).unwrap();
            allocate(&behind, FallocateFlags::KEEP_SIZE, 0, 4 << 20);
            let only_behind = create(root, "only-behind-the-end");
            allocate(&only_behind, FallocateFlags::KEEP_SIZE, 0, 1 << 20);
            let grown = create(root, "grown-into-it");
            grown.write_all_at(&noise(2, 100_000), 0).unwrap();
            allocate(&grown, FallocateFlags::KEEP_SIZE, 0, 1 << 20);
            grown.set_len(500_000).unwrap();
            let zeroed = create(root, "zeroed");
            zeroed.write_all_at(&noise(3, 1 << 20), 0).unwrap();
            zeroed.sync_all().unwrap();
            allocate(&zeroed, FallocateFlags::ZERO_RANGE, 100_000, 300_000);
            allocate(&zeroed, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 500_000, 300_000);
            let moved = create(root, "collapsed-and-inserted");
            moved.write_all_at(&noise(4, 1 << 20), 0).unwrap();
            moved.sync_all().unwrap();
            allocate(&moved, FallocateFlags::COLLAPSE_RANGE, 4 * block, 8 * block);
            allocate(&moved, FallocateFlags::INSERT_RANGE, 64 * block, 16 * block);
            let small = create(root, "small");
            allocate(&small, plain, 0, 20_000);
            let half = create(root, "small-half");
            allocate(&half, plain, 0, 20_000);
            half.write_all_at(&noise(5, 9000), 0).unwrap();
            // One extent has at most 32768 blocks, and one less when it is not written.
            allocate(&create(root, "longest"), plain, 0, 40_000 * 1024);
        });
        case.assert_alike(Reader::Own);
    }
}

#[test]
fn sizes_beyond_all_borders() {
    let case = Case::new("large", "256M", "-t ext4 -b 4096").filled(|root| {
        for (name, at) in
            [("2g", (2_u64 << 30) - 3), ("4g", (4 << 30) - 3), ("5t", 5 << 40), ("last", (16 << 40) - 4096 - 20)]
        {
            let file = create(root, name);
            file.write_all_at(b"the first bytes", 100).unwrap();
            file.write_all_at(b"these bytes", at).unwrap();
        }
        create(root, "hole").set_len(15 << 40).unwrap();
        // Exactly the borders between reading a small file whole and looking for its holes.
        for size in [65_535, 65_536, 65_537] {
            create(root, &format!("hole-{size}")).set_len(size).unwrap();
            let file = create(root, &format!("data-{size}"));
            file.write_all_at(&noise(size, usize::try_from(size).unwrap()), 0).unwrap();
            let holes = create(root, &format!("holes-{size}"));
            holes.write_all_at(b"x", size - 1).unwrap();
            // As many blocks as its size asks for, and a hole all the same.
            let odd = create(root, &format!("hole-and-all-blocks-{size}"));
            odd.write_all_at(b"x", 0).unwrap();
            odd.set_len(size).unwrap();
            rustix::fs::fallocate(&odd, FallocateFlags::KEEP_SIZE, 1 << 20, 1 << 20).unwrap();
        }
    });
    case.assert_alike(Reader::Own);
}

/// Attributes in the inode, in a block, in both; one block for many inodes.
#[test]
fn attributes_wherever_they_fit() {
    for (name, mke2fs) in [
        ("attributes-128", "-t ext4 -b 4096 -I 128"),
        ("attributes-256", "-t ext4 -b 4096 -I 256"),
        ("attributes-1024", "-t ext4 -b 4096 -I 1024 -O ^metadata_csum"),
        ("attributes-1k", "-t ext4 -b 1024 -I 256"),
        ("attributes-ext3", "-t ext3 -b 1024 -I 256"),
    ] {
        let mut random = Random::new(5);
        let case = Case::new(name, "64M", mke2fs).filled(|root| {
            for number in 0..400 {
                let path = root.join(format!("{number}"));
                match number % 5 {
                    0 | 1 => fs::write(&path, "file").unwrap(),
                    2 => fs::create_dir(&path).unwrap(),
                    3 => std::os::unix::fs::symlink("t".repeat(number), &path).unwrap(),
                    _ => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o644), 0).unwrap(),
                }
                for _ in 0..random.below(7) {
                    let class = *random.one_of(if number % 5 < 3 {
                        &["user", "trusted", "security"]
                    } else {
                        &["trusted", "security", "trusted"]
                    });
                    let value = noise(random.next() % 3, *random.one_of(&[0, 1, 3, 4, 20, 60, 100, 300, 700]));
                    set_xattr(&path, &format!("{class}.{}", random.below(12)), &value);
                }
                if number % 5 < 3 && random.below(3) == 0 {
                    set_acl(&path, "system.posix_acl_access", 1 + random.below(10));
                }
                if number % 5 == 2 && random.below(2) == 0 {
                    set_acl(&path, "system.posix_acl_default", 1 + random.below(10));
                }
                // In the inode, then in a block, then in the inode again.
                for round in 0..random.below(3) {
                    set_xattr(&path, "trusted.changing", &noise(1, [10, 800, 30][round]));
                }
            }
            for number in 0..100 {
                let path = root.join(format!("shared-{number}"));
                fs::write(&path, "").unwrap();
                set_xattr(&path, "user.shared", &noise(8, 500));
                set_xattr(&path, "trusted.shared", &noise(9, 300));
            }
        });
        case.assert_alike(Reader::Own);
    }
}

/// An ACL with so many users and groups, as it is given to the kernel.
fn set_acl(path: &Path, name: &str, count: usize) {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    let mut add = |tag: u16, mode: u16, id: u32| {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&mode.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    };
    let ids = (0..u32::try_from(count).unwrap()).map(|number| number * 300_000_000 + 1);
    add(0x1, 7, u32::MAX);
    ids.clone().for_each(|id| add(0x2, 5, id));
    add(0x4, 4, u32::MAX);
    ids.for_each(|id| add(0x8, 3, id));
    add(0x10, 6, u32::MAX);
    add(0x20, 1, u32::MAX);
    set_xattr(path, name, &acl);
}

/// Directories with an index of more than one level, of which half was removed again.
#[test]
fn directories_with_many_names() {
    for (name, mke2fs, count) in [
        ("many-1k", "-t ext4 -b 1024 -N 70000", 60_000),
        ("many-1k-no-sums", "-t ext4 -b 1024 -N 30000 -O ^metadata_csum", 20_000),
        ("many-no-index", "-t ext4 -b 1024 -N 10000 -O ^dir_index", 4000),
        ("many-no-types", "-t ext4 -b 4096 -N 30000 -O ^filetype", 20_000),
        ("many-ext2", "-t ext2 -b 1024 -N 10000", 4000),
    ] {
        let case = Case::new(name, "128M", mke2fs).filled(|root| {
            fs::create_dir(root.join("many")).unwrap();
            let many = rustix::fs::open(root.join("many"), DIRECTORY, Mode::empty()).unwrap();
            let name = |number: usize| format!("{number}{}", "n".repeat(number % 37));
            for number in 0..count {
                let kind = if number % 100 == 0 { FileType::Fifo } else { FileType::RegularFile };
                rustix::fs::mknodat(&many, name(number), kind, Mode::from(0o644), 0).unwrap();
            }
            for number in (0..count).filter(|number| number % 2 == 0 || number / 1000 % 5 == 1) {
                rustix::fs::unlinkat(&many, name(number), rustix::fs::AtFlags::empty()).unwrap();
            }
            for number in 0..50 {
                rustix::fs::mkdirat(&many, format!("directory-{number}"), Mode::from(0o755)).unwrap();
            }
        });
        if count == 60_000 {
            let index = case.debugfs("htree_dump /many");
            assert!(index.contains("Indirect levels: 1"), "{}", &index[..1000]);
        }
        let listed = case.assert_alike(Reader::Own).listed();
        assert!(listed.len() > count / 3, "{}", listed.len());
    }
}

/// An index of three levels, for which such a directory has to be allowed to be large.
#[test]
fn a_directory_with_three_levels_of_index() {
    let case = Case::new("three-levels", "192M", "-t ext4 -b 1024 -N 60000 -O large_dir").filled(|root| {
        let dir = rustix::fs::open(root, DIRECTORY, Mode::empty()).unwrap();
        for number in 0..45_000 {
            let name = format!("{number:0>252}");
            rustix::fs::mknodat(&dir, name, FileType::RegularFile, Mode::from(0o644), 0).unwrap();
        }
    });
    let index = case.debugfs("htree_dump /");
    assert!(index.contains("Indirect levels: 2"), "{}", &index[..1000]);
    case.assert_alike(Reader::Own);
}

#[test]
fn deep_paths_and_odd_times() {
    let case = Case::new("deep", "64M", "-t ext4 -b 1024").filled(|root| {
        let open = |parent: &std::os::fd::OwnedFd, name: &str| {
            rustix::fs::mkdirat(parent, name, Mode::from(0o755)).unwrap();
            rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()).unwrap()
        };
        let mut fd = rustix::fs::open(root, DIRECTORY, Mode::empty()).unwrap();
        for level in 0..160 {
            fd = open(&fd, &format!("level-{level}"));
            rustix::fs::mknodat(&fd, "file", FileType::RegularFile, Mode::from(0o600), 0).unwrap();
            open(&fd, "z");
        }
        let mut fd = rustix::fs::open(root, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..40 {
            fd = open(&fd, &"d".repeat(250));
            rustix::fs::mknodat(&fd, "file", FileType::RegularFile, Mode::from(0o600), 0).unwrap();
        }
        let border = 1_i64 << 31;
        for second in [
            -border,
            -border + 1,
            -1,
            0,
            border - 1,
            border,
            2 * border - 1,
            2 * border,
            3 * border,
            4 * border,
            5 * border,
            7 * border - 1,
            8 * border,
        ] {
            for nanosecond in [0, 1, 999_999_999] {
                let path = root.join(format!("at-{second}-{nanosecond}"));
                fs::write(&path, "").unwrap();
                set_mtime(&path, second, nanosecond);
            }
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o1751)).unwrap();
        set_xattr(root, "user.root", b"yes");
        set_mtime(root, -5, 7);
    });
    case.assert_alike(Reader::Own);
}

/// Without a journal nothing says what is the newest; the counts in the groups may be old.
#[test]
fn filesystems_without_a_journal_that_are_in_use() {
    for (name, mke2fs) in [("no-journal", "-t ext4 -b 1024 -O ^has_journal"), ("ext2", "-t ext2 -b 1024")] {
        let case = Case::new(name, "32M", mke2fs);
        let mounted = case.mount();
        let mut churn = Churn::new(&mounted.point, 77, 60_000);
        churn.go_on(400);
        crate::testkit::guest::sh(&format!("sync -f {}", crate::testkit::guest::quoted(&mounted.point)));
        let copy = case.copy(&format!("{name}-in-use"));
        drop(churn);
        mounted.unmount();
        assert!(!is_dirty(&copy));
        assert_alike(&copy, Reader::Own);
    }
}
