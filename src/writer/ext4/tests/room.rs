//! Attributes that had room where they come from have room here.

use super::{Image, add, add_file, attributes, make_directory, make_file};
use crate::entry::Xattr;
use crate::writer::ext4::directory::{Directory, encode, most_blocks};
use crate::writer::ext4::entries::entry_bytes;
use crate::writer::ext4::{Kind, extents};

/// A seeded sequence.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }
}

fn bytes_of(name: usize, value: usize) -> usize {
    16 + name.next_multiple_of(4) + value.next_multiple_of(4)
}

/// Attributes that fill a space of these bytes, as far as the sizes that come up allow it; `number` keeps names apart.
fn fill(space: usize, seeded: &mut Seeded, number: &mut usize) -> Vec<Xattr> {
    let (mut left, mut made) = (space, Vec::new());
    for _ in 0..200 {
        let name = format!("{number:04}{}", "n".repeat(seeded.below(3) * seeded.below(60)));
        let mut value = seeded.below(4) * seeded.below(70);
        if made.len() == 3 && left >= bytes_of(name.len(), 0) {
            // The last byte, too.
            value = left - bytes_of(name.len(), 0);
        }
        if bytes_of(name.len(), value) <= left {
            left -= bytes_of(name.len(), value);
            *number += 1;
            made.push(Xattr { name: format!("trusted.{name}").into_bytes(), value: vec![7; value] });
        }
    }
    made
}

#[test]
fn attributes_that_fill_an_inode_and_a_block_are_placed_whatever_their_order() {
    for (mkfs, inode_bytes, block_bytes) in [
        (["-b", "1024", "-I", "256"], 256, 1024),
        (["-b", "2048", "-I", "1024"], 1024, 2048),
        (["-b", "4096", "-I", "512"], 512, 4096),
        (["-b", "4096", "-I", "128"], 128, 4096),
    ] {
        let image = Image::new(&mkfs, 32 << 20);
        let writer = image.open().unwrap();
        for seed in 0..200 {
            let mut seeded = Seeded(seed);
            let mut number = 0;
            // Behind the fields of an inode of 160 bytes come a magic number and the end of the entries.
            let in_inode = inode_bytes - usize::min(inode_bytes, 160 + 8);
            let mut all = fill(in_inode, &mut seeded, &mut number);
            all.extend(fill(block_bytes - 36, &mut seeded, &mut number));
            for at in (1..all.len()).rev() {
                all.swap(at, seeded.below(at + 1));
            }
            let mut file = attributes(Kind::File, 0o600);
            for xattr in &all {
                file.set_xattr(xattr).unwrap();
            }
            let (_, left) = file.xattrs.place(true, &writer.volume);
            assert!(left.is_empty(), "seed {seed}, {mkfs:?}: {} of {} have no room", left.len(), all.len());
        }
    }
}

#[test]
fn a_full_filesystem_has_room_for_attributes_in_a_block_that_is_there() {
    let image = Image::new(&["-b", "1024", "-m", "0", "-N", "64"], 8 << 20);
    let mut writer = image.open().unwrap();
    let mut root = writer.root().unwrap();
    let mut dir = make_directory(&mut writer, &mut root, "dir");
    let mut with = attributes(Kind::File, 0o600);
    with.set_xattr(&Xattr { name: b"trusted.large".to_vec(), value: vec![3; 600] }).unwrap();
    let mut other = with.clone();
    other.set_xattr(&Xattr { name: b"trusted.large".to_vec(), value: vec![4; 600] }).unwrap();
    let first = make_file(&mut writer, 0, &[], 0, &with).unwrap();
    add(&mut writer, &mut dir, b"first", first);
    let free = writer.groups.free_blocks - writer.reserved;
    let mut size = free * 1024;
    while !(0..64).any(|less| {
        size = (free - less) * 1024;
        let had_room = writer.groups.free_blocks;
        let made = make_file(&mut writer, size, &[(0, size)], 1, &attributes(Kind::File, 0o600));
        made.map(|named| add(&mut writer, &mut dir, b"rest", named)).is_ok() || {
            assert_eq!(writer.groups.free_blocks, had_room);
            false
        }
    }) {}
    while writer.has_room(1).is_ok() {
        let name = format!("more-{}", writer.groups.free_blocks);
        add_file(&mut writer, &mut dir, &name, 1);
    }
    let shares = make_file(&mut writer, 0, &[], 0, &with).unwrap();
    add(&mut writer, &mut dir, b"shares", shares);
    let file = writer.begin_file(0, &mut || Ok(None)).unwrap();
    let (named, left) = writer.complete(&file, &other).unwrap();
    assert_eq!(left, [b"trusted.large".to_vec()], "there is no block for it");
    add(&mut writer, &mut dir, b"without", named);
    writer.close_directory(dir).unwrap();
    writer.close_directory(root).unwrap();
    writer.finish().unwrap();
    image.assert_clean("full");
    image.mounted("ro", |at| {
        let mut value = vec![0; 1000];
        let len = rustix::fs::getxattr(at.join("dir/shares"), "trusted.large", &mut value).unwrap();
        assert_eq!(value[..len], [3; 600]);
    });
}

#[test]
fn a_directory_keeps_little_more_room_than_it_takes() {
    for mkfs in [
        ["-b", "1024", "-O", "^dir_index"],
        ["-b", "1024", "-O", "metadata_csum"],
        ["-b", "4096", "-O", "^metadata_csum"],
        ["-b", "4096", "-O", "^dir_index"],
    ] {
        let image = Image::new(&mkfs, 32 << 20);
        let mut writer = image.open().unwrap();
        let file = make_file(&mut writer, 0, &[], 0, &attributes(Kind::File, 0o600)).unwrap();
        for seed in 0..12 {
            let mut seeded = Seeded(seed);
            let (longest, mut directory) = ([5, 8, 60, 200, 255][seeded.below(5)], Directory::new(2, 2));
            for number in 0..[3, 20, 200, 2000, 20_000][seeded.below(5)] {
                let len = if seed % 2 == 0 { longest } else { 5 + seeded.below(longest - 4) };
                directory.add_name(format!("{number:05}{}", "n".repeat(len - 5)).as_bytes(), file);
            }
            assert!(directory.longest <= entry_bytes(&vec![0; longest]));
            let (blocks, _) = encode(&directory, None, 0, &writer.volume);
            // At worst no two blocks are adjacent.
            let taken = (blocks.len() + extents::tree_blocks(blocks.len(), &writer.volume)) as u64;
            let kept = most_blocks(directory.entry_bytes, directory.longest, &writer.volume);
            assert!(taken <= kept, "seed {seed}, {mkfs:?}: {kept} for {taken}");
            assert!(kept <= taken * 5 / 4 + 3, "seed {seed}, {mkfs:?}: {kept} for {taken}");
        }
    }
}
