//! Damage by chance: whatever was changed, volbak ends, with what can be read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::alike::Case;
use super::churn::Churn;
use super::patch::{Disk, assert_well_behaved, blocks, metadata_blocks};
use super::random::{Random, rounds};
use super::small::{create, set_xattr};
use crate::testkit::guest::backups::run;
use crate::testkit::guest::{both_outputs, quoted, sh, sh_output};
use crate::testkit::tree::noise;

/// Files, of which each kind of metadata is a part.
fn fill(root: &Path) {
    for name in ["a", "b", "directory", "many"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    for number in 0..300 {
        fs::write(root.join(format!("many/{number}{}", "n".repeat(number % 50))), "").unwrap();
    }
    for number in 0..30 {
        fs::write(root.join(format!("a/{number}")), noise(number, 3000)).unwrap();
    }
    let pieces = create(root, "pieces");
    for number in 0..400 {
        std::os::unix::fs::FileExt::write_all_at(&pieces, b"piece", number * 8192).unwrap();
    }
    pieces.sync_all().unwrap();
    fs::write(root.join("whole"), noise(1, 400_000)).unwrap();
    std::os::unix::fs::symlink("t".repeat(300), root.join("link")).unwrap();
    std::os::unix::fs::symlink("short", root.join("short")).unwrap();
    for name in ["a", "pieces", "b/attributes"] {
        fs::write(root.join("b/attributes"), "").unwrap();
        set_xattr(&root.join(name), "user.small", b"small");
        set_xattr(&root.join(name), "trusted.large", &noise(4, 700));
    }
}

/// An image, and the blocks in it that are worth changing.
struct Seed {
    disk: Disk,
    targets: Vec<usize>,
}

fn seed(name: &str, mke2fs: &str, is_dirty: bool) -> (Case, Seed) {
    let case = Case::new(name, "12M", &format!("{mke2fs} -N 800")).filled(fill);
    let mut targets = Vec::new();
    for path in ["/", "a", "many", "pieces", "link", "whole"] {
        // Of a file's blocks those of its map come where it begins; what else is hit is data.
        let found = blocks(&case.image, path);
        targets.extend(found.iter().take(if path == "whole" { 2 } else { 60 }));
    }
    let attributes = case.debugfs("stat b/attributes");
    targets.extend(
        attributes.split("File ACL: ").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok()),
    );
    // Most of the inodes are in use.
    targets.extend(metadata_blocks(&case.image));
    let image = if is_dirty { dirty(&case) } else { case.image.clone() };
    if is_dirty {
        let journal = blocks(&image, "<8>");
        for _ in 0..3 {
            targets.extend(journal.iter().take(60));
        }
    }
    let disk = Disk::read(&image);
    (case, Seed { disk, targets })
}

fn dirty(case: &Case) -> PathBuf {
    let mounted = case.mount_with("commit=3600");
    let mut churn = Churn::new(&mounted.point, 5, 20_000);
    for _ in 0..4 {
        churn.go_on(40);
        churn.commit();
    }
    File::open(&mounted.point).unwrap().sync_all().unwrap();
    let copy = case.copy("dirty");
    drop(churn);
    mounted.unmount();
    copy
}

fn damage(random: &mut Random, seed: &Seed) -> Disk {
    let mut disk = seed.disk.clone();
    for _ in 0..=random.below(6) {
        let block = match random.below(12) {
            0 => 1024 / disk.block,
            1 => random.below(disk.bytes.len() / disk.block),
            _ => *random.one_of(&seed.targets),
        };
        let inside = match random.below(4) {
            // Where the fields of most structures are.
            0 => random.below(64),
            1 => random.below(disk.block / 128) * 128 + random.below(48),
            _ => random.below(disk.block),
        };
        let at = block * disk.block + inside;
        let extreme =
            [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, u64::MAX / 2, u64::MAX][random.below(10)];
        match random.below(7) {
            0 => {
                let bit = disk.bytes.get(at).map_or(0, |byte| byte ^ (1 << random.below(8)));
                disk.put(at, &[bit]);
            }
            1 => disk.put(at & !1, &extreme.to_le_bytes()[..2]),
            2 => disk.put(at & !3, &extreme.to_le_bytes()[..4]),
            3 => disk.put(at & !7, &extreme.to_le_bytes()),
            4 => disk.put(at & !3, &extreme.to_be_bytes()[4..]),
            5 => {
                // A block's number where another one was.
                let other = u32::try_from(*random.one_of(&seed.targets)).unwrap();
                disk.put_u32(at & !3, other);
            }
            _ => {
                let other = *random.one_of(&seed.targets) * disk.block;
                let (len, aligned) = (1 << random.below(11), at & !15);
                let piece = disk.bytes[other..(other + len).min(disk.bytes.len())].to_vec();
                disk.put(aligned, &piece);
            }
        }
    }
    disk
}

fn many_damages(name: &str, mke2fs: &str, is_dirty: bool, cases: u64) {
    let (case, seed) = seed(name, mke2fs, is_dirty);
    let mut random = Random::new(name.len() as u64 + 1000);
    let mut counts = std::collections::BTreeMap::new();
    for round in 0..rounds(cases) {
        let image = case.scratch.path().join(format!("{name}-{round}.img"));
        damage(&mut random, &seed).write(&image);
        *counts.entry(assert_well_behaved(&image, "auto")).or_insert(0) += 1;
        fs::remove_file(image).unwrap();
    }
    eprintln!("{name}: by exit status: {counts:?}");
}

/// What an archive of the image holds: types, modes, owners, sizes and names, and a digest of the data. A damaged size may
/// stand for terabytes of zeros, which tar would write: more than an image could hold with its holes is not looked at.
fn archived(image: &Path) -> String {
    let dest = image.with_extension("archived");
    let _ = fs::remove_dir_all(&dest);
    fs::create_dir(&dest).unwrap();
    let said = run(&["snapshot", image.to_str().unwrap(), "--to", dest.to_str().unwrap(), "--level", "1"]);
    assert!(matches!(said.status.code(), Some(0 | 3)), "{}", both_outputs(&said));
    sh(&format!(
        "cd {}; tar --numeric-owner -tvzf */*.tar.gz 2>/dev/null | awk '{{ $4 = $5 = \"\"; print }}'
        {{ tar -xzOf */*.tar.gz 2>/dev/null || true; }} | head -c 64M | sha1sum",
        quoted(&dest)
    ))
}

/// What the judge says. Of some damage it finds no end.
fn e2fsck(image: &Path, option: &str) -> std::process::Output {
    sh_output(&format!("timeout -s KILL 20 e2fsck {option} {}", quoted(image)))
}

/// One small change each: where nothing is reported, e2fsck changes no file.
#[test]
fn no_damage_of_files_is_silent() {
    let (mut silent, mut counts) = (Vec::new(), [0; 2]);
    for (name, mke2fs) in [
        ("silent", "-t ext4 -b 1024 -O ^metadata_csum"),
        ("silent-sums", "-t ext4 -b 1024"),
        ("silent-ext2", "-t ext2 -b 1024"),
    ] {
        let (case, seed) = seed(name, mke2fs, false);
        let mut random = Random::new(name.len() as u64 + 77);
        for round in 0..rounds(8) {
            let mut disk = seed.disk.clone();
            let block = *random.one_of(&seed.targets);
            let inside = if random.below(3) == 0 { random.below(64) } else { random.below(disk.block) };
            let at = block * disk.block + inside;
            let value = match random.below(3) {
                0 => disk.bytes[at] ^ (1 << random.below(8)),
                1 => u8::try_from(random.below(256)).unwrap(),
                _ => disk.bytes[at].wrapping_add([1, 255, 4, 252][random.below(4)]),
            };
            disk.put(at, &[value]);
            let image = case.scratch.path().join("changed.img");
            disk.write(&image);
            if e2fsck(&image, "-fn").status.code() == Some(0) {
                continue;
            }
            let status = assert_well_behaved(&image, "auto");
            counts[usize::from(status == 0)] += 1;
            if status != 0 {
                continue;
            }
            let before = archived(&image);
            let fsck = e2fsck(&image, "-fy");
            let after = archived(&image);
            if before != after {
                silent.push(format!("{name}, round {round}: byte {at} to {value:#x}\n{}", both_outputs(&fsck)));
            }
        }
    }
    eprintln!("reported, harmless: {counts:?}");
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn damage_with_checksums() {
    many_damages("sums", "-t ext4 -b 1024", false, 13);
    many_damages("sums-dirty", "-t ext4 -b 1024", true, 16);
}

#[test]
fn damage_without_checksums() {
    many_damages("no-sums", "-t ext4 -b 1024 -O ^metadata_csum", false, 20);
    many_damages("no-sums-dirty", "-t ext4 -b 1024 -O ^metadata_csum,^64bit", true, 20);
}

#[test]
fn damage_of_older_kinds() {
    many_damages("ext3", "-t ext3 -b 1024 -I 256", false, 13);
    many_damages("ext3-dirty", "-t ext3 -b 1024 -I 128", true, 10);
    many_damages("ext2-4k", "-t ext2 -b 4096", false, 10);
}
