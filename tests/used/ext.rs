//! ext2, ext3 and ext4 as mke2fs makes them with each feature that moves metadata; debugfs, dumpe2fs, e2image and e2fsck
//! are the judges.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::support::{KEEP_STALE, Work, assert_free, map_of, not_whole, not_zero_bytes, run, text, tree, write_used};

/// What dumpe2fs lists as free, in bytes: first and length, and the sum of it. The unused ends of inode tables are free, too.
fn free_by_dumpe2fs(image: &Path) -> (Vec<(u64, u64)>, u64) {
    let listed = run("dumpe2fs", &[text(image)]);
    let number = |text: &str| text.trim().parse::<u64>().unwrap();
    let block_size = listed.lines().find_map(|line| line.strip_prefix("Block size:")).map(number).unwrap();
    let inode_size = listed.lines().find_map(|line| line.strip_prefix("Inode size:")).map(number).unwrap();
    let inodes = listed.lines().find_map(|line| line.strip_prefix("Inodes per group:")).map(number).unwrap();
    let (mut free, mut free_ends, mut table) = (Vec::new(), 0, 0);
    for line in listed.lines() {
        if let Some((_, at)) = line.split_once("Inode table at ") {
            table = number(at.split('-').next().unwrap());
        }
        if let Some(unused) = line.strip_suffix(" unused inodes").and_then(|line| line.rsplit(", ").next()) {
            let kept = ((inodes - number(unused)) * inode_size).div_ceil(block_size);
            let end = (inodes * inode_size).div_ceil(block_size) - kept;
            free.push(((table + kept) * block_size, end * block_size));
            free_ends += end * block_size;
        }
        let Some(ranges) = line.strip_prefix("  Free blocks: ") else { continue };
        for range in ranges.split(", ").filter(|range| !range.trim().is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            free.push((number(first) * block_size, (number(last) + 1 - number(first)) * block_size));
        }
    }
    // With bigalloc the last cluster of a range is listed as one block.
    let all = listed.lines().find_map(|line| line.strip_prefix("Free blocks:")).map(number).unwrap();
    (free, all * block_size + free_ends)
}

/// Each option of mke2fs that changes where metadata lies or what a bit of a bitmap means.
const MADE: &[(&str, &[&str])] = &[
    ("plain", &["-t", "ext4", "-g", "4096"]),
    ("ext2", &["-t", "ext2"]),
    ("ext3", &["-t", "ext3"]),
    ("1k", &["-t", "ext4", "-b", "1024"]),
    ("no_flex", &["-t", "ext4", "-g", "2048", "-O", "^flex_bg"]),
    ("meta_bg", &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"]),
    ("bigalloc", &["-t", "ext4", "-O", "bigalloc", "-C", "65536"]),
    ("bigalloc_1k", &["-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "16384"]),
    ("sparse2", &["-t", "ext4", "-b", "1024", "-O", "sparse_super2,^resize_inode"]),
    ("not_sparse", &["-t", "ext4", "-b", "1024", "-O", "^sparse_super,^resize_inode"]),
    ("32bit", &["-t", "ext4", "-b", "1024", "-O", "^64bit"]),
    ("gdt_csum", &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"]),
    ("no_csum", &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^uninit_bg"]),
    ("no_journal", &["-t", "ext4", "-O", "^has_journal"]),
    ("inline", &["-t", "ext4", "-O", "inline_data"]),
    ("casefold", &["-t", "ext4", "-O", "casefold"]),
    ("quota", &["-t", "ext4", "-O", "quota,project"]),
    ("orphan", &["-t", "ext4", "-O", "orphan_file,metadata_csum_seed"]),
    ("long_inodes", &["-t", "ext4", "-I", "1024", "-b", "1024"]),
];

#[test]
fn the_map_is_what_dumpe2fs_says_for_each_feature() {
    let work = Work::new();
    let tree = tree(&work);
    for (name, options) in MADE {
        let image = work.stale_image(name, 90 << 20);
        run("mke2fs", &[&["-q", "-F", "-d", text(&tree)], &KEEP_STALE[..], *options, &[text(&image)]].concat());
        // A deleted file leaves its blocks free.
        run("debugfs", &["-w", "-R", "rm large", text(&image)]);
        // mke2fs does not count the files that it copies in as quota.
        let _ = std::process::Command::new("/sbin/e2fsck").args(["-fy", text(&image)]).output().unwrap();
        let map = map_of(&image);
        assert_eq!(map.whole_because(), None, "{name}");
        assert!(image.metadata().unwrap().blocks() * 512 >= map.len_bytes(), "{name}: the stale data are gone");
        let (free, free_bytes) = free_by_dumpe2fs(&image);
        assert_free(&map, name, &free, free_bytes);
        // What is free is of no use to the filesystem.
        let used = work.path("used");
        write_used(&image, &map, &used);
        run("e2fsck", &["-fn", text(&used)]);
        fs::remove_file(&image).unwrap();
    }
}

#[test]
fn the_map_is_as_small_as_that_of_e2image() {
    let work = Work::new();
    let image = work.stale_image("image", 200 << 20);
    run("mke2fs", &[&["-q", "-F", "-t", "ext4", "-d", text(&tree(&work))], &KEEP_STALE[..], &[text(&image)]].concat());
    assert!(image.metadata().unwrap().blocks() * 512 >= 200 << 20, "the stale data are gone");
    let map = not_whole(map_of(&image));
    let theirs = work.path("e2image");
    run("e2image", &["-Qa", text(&image), text(&theirs)]);
    let theirs = fs::metadata(&theirs).unwrap().blocks() * 512;
    // e2image leaves out blocks of zeros, of which a new journal is made.
    let ours = not_zero_bytes(&image, &map);
    assert!(ours <= theirs * 105 / 100, "{ours} {theirs}");
}

/// A block that inodes map more than once is read no more often than blocks there are, so that a small disk takes no hours.
#[test]
fn maps_that_lead_to_the_same_blocks_again_are_no_map() {
    let work = Work::new();
    let files = work.path("files");
    fs::create_dir(&files).unwrap();
    for name in ["data", "numbers", "upper", "mapped"] {
        fs::write(files.join(name), [1; 4096]).unwrap();
    }
    for (what, number_of_data, why) in [
        ("data", None, "its inodes map more blocks than it has"),
        ("maps", Some(0), "its inodes have more blocks of maps than are read"),
    ] {
        let image = work.path(what);
        run("mke2fs", &["-q", "-F", "-t", "ext2", "-b", "4096", "-d", text(&files), text(&image), "4M"]);
        let block =
            |name: &str| run("debugfs", &["-R", &format!("bmap {name} 0"), text(&image)]).trim().parse().unwrap();
        let (data, numbers, upper): (u32, u32, u32) = (block("data"), block("numbers"), block("upper"));
        let mut bytes = fs::read(&image).unwrap();
        for (node, to) in [(numbers, number_of_data.unwrap_or(data)), (upper, numbers)] {
            let at = node as usize * 4096;
            bytes[at..at + 4096].copy_from_slice(&to.to_le_bytes().repeat(1024));
        }
        fs::write(&image, bytes).unwrap();
        run("debugfs", &["-w", "-R", &format!("sif mapped block[DIND] {upper}"), text(&image)]);
        let map = map_of(&image);
        assert!(format!("{:?}", map.whole_because()).contains(why), "{what}: {:?}", map.whole_because());
    }
}
