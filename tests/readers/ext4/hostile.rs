//! Filesystems that somebody made to do harm. There are no checksums on them, since whoever makes such a thing makes the
//! checksums right, too.

use std::fs;
use std::path::Path;

use super::alike::{Case, at, is_dirty};
use super::patch::{Disk, assert_well_behaved, blocks, inode_number};
use super::small::{create, set_xattr};
use crate::testkit::tree::noise;

fn fill(root: &Path) {
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..60 {
        fs::write(root.join(format!("many/{number}{}", "n".repeat(40))), "").unwrap();
    }
    for name in ["file", "a/b/c/file"] {
        fs::write(root.join(name), noise(1, 50_000)).unwrap();
    }
    set_xattr(&root.join("file"), "user.large", &noise(2, 700));
    let pieces = create(root, "pieces");
    for number in 0..500 {
        std::os::unix::fs::FileExt::write_all_at(&pieces, b"piece", number * 3072).unwrap();
    }
    pieces.sync_all().unwrap();
}

/// The image, where its inodes are, and what can be changed.
struct Target {
    case: Case,
    disk: Disk,
}

impl Target {
    fn new(name: &str, mke2fs: &str) -> Self {
        let case = Case::new(name, "16M", mke2fs).filled(fill);
        let disk = Disk::read(&case.image);
        Self { case, disk }
    }

    fn inode_of(&self, path: &str) -> usize {
        self.disk.inode(inode_number(&self.case.image, path))
    }

    fn blocks_of(&self, path: &str) -> Vec<usize> {
        blocks(&self.case.image, path)
    }

    /// Changes a copy and has volbak read it. Each is read by volbak itself, or left to a kernel that refuses it.
    fn with(&self, what: &str, change: impl FnOnce(&mut Disk)) {
        let mut disk = self.disk.clone();
        change(&mut disk);
        if disk.bytes == self.disk.bytes {
            return;
        }
        let image = self.case.scratch.path().join(format!("{what}.img"));
        disk.write(&image);
        assert_well_behaved(&image, "auto");
        fs::remove_file(image).unwrap();
    }
}

/// ext4 layout, "Super Block".
#[test]
fn superblocks() {
    for (name, mke2fs) in [("super", "-t ext4 -b 1024 -O ^metadata_csum"), ("super-ext2", "-t ext2 -b 1024")] {
        let target = Target::new(name, mke2fs);
        for (field, values) in [
            (0x0, [0, 1, 11, u32::MAX]),                        // s_inodes_count
            (0x4, [0, 1, 0x7FFF_FFFF, u32::MAX]),               // s_blocks_count_lo
            (0x14, [0, 2, 1000, u32::MAX]),                     // s_first_data_block
            (0x18, [1, 6, 40, u32::MAX]),                       // s_log_block_size
            (0x1C, [1, 31, 40, u32::MAX]),                      // s_log_cluster_size
            (0x20, [0, 1, 8, u32::MAX]),                        // s_blocks_per_group
            (0x24, [0, 1, 8, u32::MAX]),                        // s_clusters_per_group
            (0x28, [0, 1, 8, u32::MAX]),                        // s_inodes_per_group
            (0x54, [0, 1, 3, u32::MAX]),                        // s_first_ino
            (0x58, [0, 64, 100, 0xFFFF]),                       // s_inode_size
            (0xE0, [1, 3, 500, u32::MAX]),                      // s_journal_inum
            (0xFC, [0, 0x0001_0000, 0x0030_0000, 0xFFFF_0000]), // s_desc_size
            (0x60, [0, 0x2, 0x42, 0xC2]),                       // s_feature_incompat
            (0x150, [1, 0x8000, 0x8000_0000, u32::MAX]),        // s_blocks_count_hi
            (0x16C, [1, 0x8000, 0x8000_0000, u32::MAX]),        // s_log_groups_per_flex and more
        ] {
            for value in values {
                if target.disk.u32_at(1024 + field) != value {
                    target.with(&format!("{name}-{field:x}-{value:x}"), |disk| disk.put_u32(1024 + field, value));
                }
            }
        }
    }
}

/// ext4 layout, "Index Nodes" and "Extent Tree".
#[test]
fn inodes_and_extents() {
    let target = Target::new("extents", "-t ext4 -b 1024 -O ^metadata_csum,large_dir");
    let (file, pieces, many) = (target.inode_of("file"), target.inode_of("pieces"), target.inode_of("many"));
    let number = |block: usize| u32::try_from(block).unwrap();
    for (name, inode) in [("file", file), ("pieces", pieces), ("many", many)] {
        for (what, low, high) in [
            ("2-63", 0, 1 << 31),
            ("2-63-less-1", u32::MAX, 0x7FFF_FFFF),
            ("2-48", 0, 1 << 16),
            ("2-32", 0, 1),
            ("4-gib", u32::MAX, 0),
        ] {
            target.with(&format!("size-{name}-{what}"), |disk| {
                disk.put_u32(inode + 0x4, low);
                disk.put_u32(inode + 0x6C, high);
            });
        }
        for (what, field, value) in [
            ("outside", 0x28 + 12 + 8, u32::MAX),
            ("block-0", 0x28 + 12 + 8, 0),
            ("high", 0x28 + 12 + 4, 0xFFFF_8000),
            ("late", 0x28 + 12, u32::MAX),
            ("entries", 0x28, 0xFFFF_F30A),
            ("deep", 0x28 + 4, 0x0006_0004),
            ("depth-65535", 0x28 + 4, 0xFFFF_0004),
            ("depth-5", 0x28 + 4, 0x0005_0004),
            ("not-extents", 0x20, 0),
            ("acl-outside", 0x68, u32::MAX),
            ("acl-is-itself", 0x68, 1),
            ("extra", 0x80, 0xFFFF),
            ("mode", 0x0, 0xF1FF),
            ("links", 0x18, 0),
        ] {
            target.with(&format!("{name}-{what}"), |disk| disk.put_u32(inode + field, value));
        }
    }
    // A node of the tree that leads to itself, and one that leads to the one above it.
    let node = usize::try_from(target.disk.u32_at(pieces + 0x28 + 12 + 4)).unwrap();
    for (what, depth) in [("same", 1_u16), ("deeper", 2), ("deepest", 5)] {
        target.with(&format!("node-loop-{what}"), |disk| {
            disk.put_u16(pieces + 0x28 + 6, depth);
            disk.put_u16(node * disk.block + 6, depth - 1);
            disk.put_u32(node * disk.block + 12 + 4, number(node));
        });
    }
    // A directory whose data is one of its own names' files, and a file as long as a directory can be.
    target.with("directory-of-data", |disk| {
        let map = disk.bytes[file + 0x28..file + 0x64].to_vec();
        disk.put(many + 0x28, &map);
    });
    for block in target.blocks_of("many").into_iter().take(3) {
        for (what, at, value) in
            [("0", 4, 0), ("1", 4, 1), ("8", 4, 8), ("65535", 4, 0xFFFF), ("13", 4, 13), ("name", 6, 0x01FF)]
        {
            target.with(&format!("entry-{block}-{what}"), |disk| disk.put_u16(block * disk.block + at, value));
        }
        for (what, value) in [("root", 2), ("journal", 8), ("bad", 1), ("outside", u32::MAX), ("free", 4000)] {
            target.with(&format!("leads-{block}-{what}"), |disk| disk.put_u32(block * disk.block, value));
        }
    }
}

#[test]
fn directories_in_themselves() {
    for (name, mke2fs) in [
        ("loops", "-t ext4 -b 1024 -O ^metadata_csum"),
        ("loops-sums", "-t ext4 -b 1024"),
        ("loops-ext2", "-t ext2 -b 1024"),
    ] {
        let target = Target::new(name, mke2fs);
        let links = [
            ("a/b/c", "a/b/c/self"),
            ("a", "a/b/c/ancestor"),
            ("/", "a/b/root"),
            ("a/b", "a/twice"),
            ("a/b/c", "many/c"),
            ("many", "a/many"),
        ];
        for (from, to) in links {
            let number = inode_number(&target.case.image, from);
            // A directory has one parent; debugfs asks for none of that.
            target.case.at_image(&format!("debugfs -w -R 'ln <{number}> {to}' $IMG 2>&1"));
        }
        assert_well_behaved(&target.case.image, "auto");
    }
}

/// Block numbers that lead in a circle: 64 MiB of the same.
#[test]
fn block_numbers_in_a_circle() {
    let target = Target::new("circle", "-t ext2 -b 1024");
    let file = target.inode_of("file");
    let block = target.blocks_of("file")[20];
    let number = u32::try_from(block).unwrap();
    for (what, field, size) in [("single", 0x28 + 48, 200_000), ("double", 0x28 + 52, 67_000_000_u32)] {
        target.with(&format!("circle-{what}"), |disk| {
            disk.put_u32(file + field, number);
            disk.put(block * disk.block, &number.to_le_bytes().repeat(256));
            disk.put_u32(file + 4, size);
        });
    }
    let many = target.inode_of("many");
    for (what, field) in [("single", 0x28 + 48), ("double", 0x28 + 52), ("triple", 0x28 + 56)] {
        target.with(&format!("directory-circle-{what}"), |disk| {
            disk.put_u32(many + field, number);
            disk.put(block * disk.block, &number.to_le_bytes().repeat(256));
            disk.put_u32(many + 4, u32::MAX - 1023);
        });
    }
}

#[test]
fn attributes() {
    let target = Target::new("attributes", "-t ext4 -b 1024 -I 256 -O ^metadata_csum");
    let inode = target.inode_of("file");
    let block = usize::try_from(target.disk.u32_at(inode + 0x68)).unwrap() * target.disk.block;
    for (what, field, value) in [
        ("name-length", 32, 0xFFFF_FFFF),
        ("name-of-255", 32, 0x0000_01FF),
        ("value-outside", 34, 0xFFFF_FFFF),
        ("value-in-an-inode", 36, 12),
        ("value-length", 40, u32::MAX),
        ("value-of-2-gib", 40, 0x7FFF_FFFF),
        ("value-of-64-kib", 40, 0x1_0000),
        ("acl", 33, 0x0000_0002),
        ("no-magic", 0, 0),
        ("blocks", 8, u32::MAX),
    ] {
        target.with(&format!("attribute-{what}"), |disk| disk.put_u32(block + field, value));
    }
    // Names up to the block's end, with no end of the list.
    target.with("attribute-no-end", |disk| {
        for at in (32..disk.block).step_by(16) {
            disk.put_u32(block + at, 0x0000_0600);
            disk.put(block + at + 4, &[0; 12]);
        }
    });
}

/// ext4 layout, "Journal (jbd2)". Where it is damaged the kernel has the last word; here it is not asked, since there is no
/// room for a copy.
#[test]
fn journals() {
    let target = Target::new("journal", "-t ext4 -b 1024 -O ^metadata_csum,^64bit -J size=1");
    let mounted = target.case.mount_with("commit=3600");
    for number in 0..30 {
        let path = mounted.point.join(format!("{number}"));
        fs::write(&path, noise(number, 3000)).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
    }
    let dirty = target.case.copy("dirty");
    mounted.unmount();
    assert!(is_dirty(&dirty));
    let journal = blocks(&dirty, "<8>");
    let head: usize = at(&dirty, "debugfs -R 'bmap <8> 0' $IMG 2>/dev/null").trim().parse().unwrap();
    let target = Target { disk: Disk::read(&dirty), case: target.case };
    let first = head * 1024;
    let log = first
        + 1024
            * usize::try_from(u32::from_be_bytes(target.disk.bytes[first + 0x1C..first + 0x20].try_into().unwrap()))
                .unwrap();
    assert_eq!(&target.disk.bytes[log..log + 4], &[0xC0, 0x3B, 0x39, 0x98]);
    for (what, field, value) in [
        ("type", 4, 9),
        ("block-size", 0xC, 4096),
        ("block-size-0", 0xC, 0),
        ("maxlen", 0x10, u32::MAX),
        ("maxlen-0", 0x10, 0),
        ("maxlen-1", 0x10, 1),
        ("maxlen-2", 0x10, 2),
        ("first", 0x14, u32::MAX),
        ("first-0", 0x14, 0),
        ("first-at-end", 0x14, 1024),
        ("start", 0x1C, u32::MAX),
        ("start-last", 0x1C, 1023),
        ("sequence", 0x18, u32::MAX),
        ("features", 0x28, u32::MAX),
        ("64-bit", 0x28, 2),
        ("sums-2", 0x28, 8),
        ("sums-3", 0x28, 0x10),
    ] {
        target.with(&format!("journal-{what}"), |disk| disk.put(first + field, &u32::to_be_bytes(value)));
    }
    for (what, field, value) in [
        ("type", 4, 77),
        ("revoke", 4, 5),
        ("commit", 4, 2),
        ("target", 12, u32::MAX),
        ("flags", 16, 0),
        ("target-of-itself", 12, u32::try_from(head).unwrap()),
    ] {
        target.with(&format!("log-{what}"), |disk| disk.put(log + field, &u32::to_be_bytes(value)));
    }
    // A revoke block that says it is longer than it is, and shorter than its head.
    for length in [0, 3, 15, 17, 1023, 1025, u32::MAX] {
        target.with(&format!("revoke-of-{length}"), |disk| {
            disk.put(log + 4, &5_u32.to_be_bytes());
            disk.put(log + 12, &length.to_be_bytes());
        });
    }
    // A ring of the journal's own blocks, all of one transaction, without an end.
    let sequence = target.disk.bytes[first + 0x18..first + 0x1C].to_vec();
    for (what, kind) in [("descriptors", 1_u32), ("revokes", 5)] {
        target.with(&format!("ring-of-{what}"), |disk| {
            for &block in journal.iter().filter(|block| (head + 1..head + 1024).contains(*block)) {
                let at = block * 1024;
                disk.put(at, &[0xC0, 0x3B, 0x39, 0x98]);
                disk.put(at + 4, &kind.to_be_bytes());
                disk.put(at + 8, &sequence);
                disk.put(at + 12, &16_u32.to_be_bytes());
                disk.put(at + 16, &8_u32.to_be_bytes());
            }
        });
    }
}
