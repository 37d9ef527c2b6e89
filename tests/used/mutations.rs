//! Metadata with some bytes changed: a block that was used before is never left out of a map that is not whole.

use std::path::Path;
use std::sync::Arc;

use volbak::outside::BlockRead;
use volbak::units::ByteRange;

use crate::others::first_cluster_of_ntfs;
use crate::support::{Patched, Work, blocks, map_with, noise, region, run, text, tree};

/// Cases for each small image: with those of XFS, whose log alone has 64 MiB, these make 2,000.
const CASES: u64 = 276;
const CASES_XFS: u64 = 34;

fn patched(image: &Arc<dyn BlockRead>, patches: Vec<(u64, u8)>) -> Arc<dyn BlockRead> {
    Arc::new(Patched::new(image, patches))
}

/// Changes up to four bytes in `areas`, each first byte and length, and judges each map.
fn mutate(name: &str, image: &Path, areas: &[(u64, u64)], cases: u64) {
    let original: Arc<dyn BlockRead> = blocks(image);
    let found = region(original.as_ref());
    // Without the holes of the file, as the map alone has it.
    let before = map_with(&found, &patched(&original, Vec::new()));
    assert_eq!(before.whole_because(), None, "{name}");
    let mut maps = 0;
    for case in 0..cases {
        let random: Vec<u64> = noise(case * 31 + 17, 200)
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let count = usize::try_from(random[0] % 4 + 1).unwrap();
        let patches = (0..count).map(|index| {
            let (start, len) = areas[usize::try_from(random[1 + index] % areas.len() as u64).unwrap()];
            let at = start + random[6 + index] % len;
            let mut byte = [0];
            original.read_at(at, &mut byte).unwrap();
            // A bit, zero, all ones, or anything.
            let new = match random[12 + index] % 4 {
                0 => byte[0] ^ (1 << (random[18 + index] % 8)),
                1 => 0,
                2 => 0xFF,
                _ => random[18 + index].to_le_bytes()[3],
            };
            (at, new)
        });
        let patches: Vec<(u64, u8)> = patches.collect();
        let map = map_with(&found, &patched(&original, patches.clone()));
        if map.whole_because().is_some() {
            assert_eq!(map.used_bytes(), map.len_bytes());
            continue;
        }
        maps += 1;
        for run in before.runs() {
            assert!(map.covers(*run), "{name}, case {case}: {run:?} is left out; {patches:?}");
        }
    }
    assert!(maps < cases, "{name}: no change was noticed");
}

#[test]
fn ext() {
    let work = Work::new();
    let tree = tree(&work);
    for (name, options) in [
        ("with_checksums", &["-t", "ext4", "-b", "1024"][..]),
        ("without", &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^uninit_bg"]),
        ("ext2", &["-t", "ext2", "-b", "1024"]),
    ] {
        let image = work.image(name, 20 << 20);
        run("mke2fs", &[&["-q", "-F", "-d", text(&tree)], options, &[text(&image)]].concat());
        let areas = areas_of_ext(&image);
        mutate(name, &image, &areas, CASES);
    }
}

/// The superblock, the descriptors, and each group's bitmaps and first inodes.
fn areas_of_ext(image: &Path) -> Vec<(u64, u64)> {
    let listed = run("dumpe2fs", &[text(image)]);
    let mut areas = vec![(1024, 1024), (2048, 256)];
    for line in listed.lines() {
        for (label, len) in [("Block bitmap at ", 1024), ("Inode table at ", 4096)] {
            if let Some((_, rest)) = line.split_once(label) {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                areas.push((digits.parse::<u64>().unwrap() * 1024, len));
            }
        }
    }
    areas
}

#[test]
fn ntfs() {
    let work = Work::new();
    for (name, cluster) in [("4096", "4096"), ("512", "512")] {
        let image = work.image(name, 16 << 20);
        run("mkfs.ntfs", &["-F", "-Q", "-q", "-c", cluster, text(&image)]);
        let tree = tree(&work);
        for file in ["large", "sparse", "small/50", "small/51"] {
            run("ntfscp", &["-q", "-f", text(&image), text(&tree.join(file)), &format!("/{}", file.replace('/', "_"))]);
        }
        let bytes = std::fs::read(&image).unwrap();
        let table = u64::from_le_bytes(bytes[48..56].try_into().unwrap()) * cluster.parse::<u64>().unwrap();
        // Its bitmap is where most of it is: it is found by record 6's runs, which the records' area has, too.
        let at = first_cluster_of_ntfs(&image, "6") * cluster.parse::<u64>().unwrap();
        let areas = [(0, 96), (table, 70 * 1024), (table, 8192), (table + 6 * 1024, 1024), (at, 512), (at, 512)];
        mutate(name, &image, &areas, CASES);
    }
}

#[test]
fn xfs() {
    let work = Work::new();
    for (name, options) in [("v5", &[][..]), ("v4", &["-m", "crc=0"])] {
        let image = work.image(name, 310 << 20);
        run("mkfs.xfs", &[&["-q", "-d", "agcount=2"], options, &[text(&image)]].concat());
        let second = 155 << 20;
        // The headers of both groups, and the roots of their trees behind them.
        let areas = [
            (0, 256),
            (512, 224),
            (1024, 64),
            (4096, 256),
            (8192, 256),
            (12288, 256),
            (second, 1536),
            (second + 4096, 128),
        ];
        mutate(name, &image, &areas, CASES_XFS);
    }
}

#[test]
fn fat_and_exfat() {
    let work = Work::new();
    let image = work.image("fat", 16 << 20);
    run("mkfs.fat", &["-F", "16", "-s", "4", text(&image)]);
    run("mcopy", &["-s", "-i", text(&image), text(&tree(&work)), "::/copy"]);
    // With another size of a cluster or of the root directory (bytes 13, 17 and 18) each tool has the files elsewhere, too.
    mutate("fat", &image, &[(0, 13), (14, 3), (19, 45), (2048, 16384), (2048, 16)], CASES);
    let image = work.image("exfat", 16 << 20);
    run("mkfs.exfat", &[text(&image)]);
    mutate("exfat", &image, &[(0, 120), (1 << 20, 4096), (2 << 20, 4096)], CASES);
}

#[test]
fn a_cut_off_region_is_whole() {
    let work = Work::new();
    let image = work.image("ext", 20 << 20);
    run("mke2fs", &["-q", "-F", "-t", "ext4", text(&image)]);
    let found = region(blocks(&image).as_ref());
    let mut bytes = std::fs::read(&image).unwrap();
    bytes.truncate(15 << 20);
    let map = map_with(&found, &(Arc::new(bytes) as Arc<dyn BlockRead>));
    assert!(map.whole_because().is_some() && map.covers(ByteRange::new(0, 15 << 20)));
}
