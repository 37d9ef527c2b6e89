//! What a filesystem's own headers say of damage is found, each by one thing that was changed; a healthy filesystem, and
//! one in the middle of its work, has nothing.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::testkit::layouts::LIMIT;
use crate::testkit::layouts::invariants::processor_time;
use volbak::layout::recorded_damage;
use volbak::outside::FileBlocks;

/// Kind, how `$IMG` is made, how it is changed, and a part of each line that is to be found.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

const XFS: &str = "truncate -s 400M $IMG; mkfs.xfs -q $IMG";
const XFS_4: &str = "truncate -s 400M $IMG; mkfs.xfs -q -m crc=0 $IMG";
const BTRFS: &str = "truncate -s 200M $IMG; mkfs.btrfs -q -U 5f3c2d1e-0000-4000-8000-000000000001 $IMG";
const BTRFS_SHA: &str =
    "truncate -s 200M $IMG; mkfs.btrfs -q -U 5f3c2d1e-0000-4000-8000-000000000001 --csum sha256 $IMG";
const BTRFS_XX: &str =
    "truncate -s 200M $IMG; mkfs.btrfs -q -U 5f3c2d1e-0000-4000-8000-000000000001 --csum xxhash $IMG";
const FAT_32: &str = "truncate -s 64M $IMG; mkfs.vfat -F 32 $IMG";
const FAT_16: &str = "truncate -s 16M $IMG; mkfs.vfat -F 16 $IMG";
const FAT_12: &str = "truncate -s 2M $IMG; mkfs.vfat -F 12 $IMG";
const EXFAT: &str = "truncate -s 16M $IMG; mkfs.exfat $IMG";
const NTFS: &str = "truncate -s 16M $IMG; mkfs.ntfs -qQF $IMG";

/// A mounted one in the middle of its work, its log unwritten: `cp` sees what a snapshot would.
const BUSY: &str = "mkdir $IMG.mnt; mount -o loop $IMG $IMG.mnt; \
    for n in $(seq 200); do mkdir -p $IMG.mnt/d$n; echo $n >$IMG.mnt/d$n/f; done; sync -f $IMG.mnt; \
    rm -r $IMG.mnt/d1*; cp $IMG $IMG.now; umount $IMG.mnt; mv $IMG.now $IMG";

const CASES: &[Case] = &[
    ("xfs", XFS, "", &[]),
    ("xfs", XFS_4, "", &[]),
    ("xfs", XFS, BUSY, &[]),
    ("xfs", "truncate -s 400M $IMG; mkfs.xfs -q -s size=4096 $IMG", "", &[]),
    ("xfs", "truncate -s 400M $IMG; mkfs.xfs -q -b size=65536 $IMG", "", &[]),
    ("xfs", "truncate -s 2G $IMG; mkfs.xfs -q -d agcount=20 $IMG", "", &[]),
    // A UUID of its own in the metadata.
    ("xfs", XFS, "xfs_admin -U generate $IMG", &[]),
    ("xfs", XFS_4, "xfs_admin -U generate $IMG", &[]),
    ("xfs", XFS, "xfs_db -x -c 'sb 0' -c 'write -d features_incompat 0x1b' $IMG", &["needsrepair"]),
    ("xfs", XFS, "xfs_db -x -c 'sb 0' -c 'write -d inprogress 1' $IMG", &["sb_inprogress"]),
    ("xfs", XFS, "xfs_db -x -c 'sb 0' -c 'write -d fdblocks 999999999' $IMG", &["free blocks of 102400"]),
    ("xfs", XFS, "xfs_db -x -c 'sb 0' -c 'write -d ifree 999' $IMG", &["free inodes"]),
    ("xfs", XFS, "xfs_db -x -c 'sb 0' -c 'write -d icount 999999999999' $IMG", &["free inodes"]),
    ("xfs", XFS, "xfs_db -x -c 'sb 2' -c 'write -d magicnum 0' $IMG", &["group 2 (byte 209715200): its copy of the"]),
    ("xfs", XFS, "poke 209715320 x", &["group 2 (byte 209715200): its copy of the superblock has a wrong checksum"]),
    ("xfs", XFS, "xfs_db -x -c 'agf 1' -c 'write -d magicnum 0' $IMG", &["group 1 (byte 104857600): its list of free"]),
    ("xfs", XFS_4, "xfs_db -x -c 'agf 1' -c 'write -d freeblks 99999999' $IMG", &["free space (AGF) makes no sense"]),
    ("xfs", XFS, "xfs_db -x -c 'agf 1' -c 'write -d bnoroot 99999999' $IMG", &["free space (AGF) makes no sense"]),
    ("xfs", XFS, "xfs_db -x -c 'agf 3' -c 'write -d seqno 1' $IMG", &["(AGF) belongs to another group"]),
    ("xfs", XFS, "xfs_db -x -c 'agf 3' -c 'write -d length 0' $IMG", &["(AGF) has a length"]),
    ("xfs", XFS, "xfs_db -x -c 'agi 3' -c 'write -d level 0' $IMG", &["(AGI) makes no sense"]),
    ("xfs", XFS_4, "xfs_db -x -c 'agi 3' -c 'write -d magicnum 7' $IMG", &["(AGI) is not there"]),
    ("xfs", XFS, "xfs_db -x -c 'agi 0' -c 'write -d uuid generate' $IMG; poke 1400 x", &["(AGI) has a wrong checksum"]),
    ("xfs", XFS, "poke 1536 xxxx", &["(AGFL) is not there"]),
    ("xfs", XFS, "poke 1544 xxxx", &["(AGFL) has a wrong checksum"]),
    // All headers of three groups.
    (
        "xfs",
        XFS,
        "zero 104857600 2048; zero 209715200 2048",
        &["group 1", "group 1", "group 1", "group 1", "group 2", "3 more"],
    ),
    ("btrfs", BTRFS, "", &[]),
    ("btrfs", BTRFS_SHA, "", &[]),
    ("btrfs", BTRFS_XX, "", &[]),
    ("btrfs", BTRFS, BUSY, &[]),
    // Too small for a copy.
    ("btrfs", "truncate -s 60M $IMG; mkfs.btrfs -q --mixed $IMG", "", &[]),
    ("btrfs", BTRFS, "poke 65592 '\\x05'", &["marked it as damaged"]),
    ("btrfs", BTRFS, "zero 67108864 4096", &["copy of its superblock at byte 67108864 is not there"]),
    ("btrfs", BTRFS, "poke 67109264 x", &["has a wrong checksum"]),
    ("btrfs", BTRFS_SHA, "poke 67109264 x", &["has a wrong checksum"]),
    ("btrfs", BTRFS_XX, "poke 67108896 x", &["belongs to another filesystem"]),
    ("btrfs", BTRFS_XX, "poke 67108937 x", &["generation"]),
    ("vfat", FAT_32, "", &[]),
    ("vfat", FAT_16, "", &[]),
    ("vfat", FAT_12, "", &[]),
    // In use: Linux, Windows; and FATs of which one was written.
    ("vfat", FAT_32, "poke 65 '\\x01'; poke 17000 x", &[]),
    ("vfat", FAT_32, "poke 16391 '\\x07'; poke 17000 x", &[]),
    ("vfat", FAT_16, "poke 37 '\\x01'; poke 2200 x", &[]),
    ("vfat", FAT_16, "poke 2051 '\\x7f'; poke 2200 x", &[]),
    ("vfat", FAT_32, "poke 65 '\\x02'", &["recorded a read or write error"]),
    ("vfat", FAT_32, "poke 16391 '\\x0b'", &["recorded a read or write error"]),
    ("vfat", FAT_32, "poke 16391 '\\x03'; poke 65 '\\x03'", &["recorded a read or write error"]),
    ("vfat", FAT_16, "poke 2051 '\\xbf'", &["recorded a read or write error"]),
    ("vfat", FAT_12, "poke 37 '\\x02'", &["recorded a read or write error"]),
    ("vfat", FAT_32, "poke 17000 x", &["FATs differ, first at cluster 154"]),
    ("vfat", FAT_16, "poke 2200 x", &["FATs differ, first at cluster 76"]),
    ("vfat", FAT_12, "poke 700 x", &["FATs differ"]),
    ("exfat", EXFAT, "", &[]),
    ("exfat", EXFAT, "poke 106 '\\x02'", &[]),
    ("exfat", EXFAT, "poke 106 '\\x04'", &["failure of its medium"]),
    ("ntfs", NTFS, "", &[]),
    ("ntfs", NTFS, "dirty_ntfs", &["marked as dirty"]),
];

const PRELUDE: &str = r#"
set -euo pipefail
poke() { printf "$2" | dd of="$IMG" bs=1 seek="$1" conv=notrunc status=none; }
zero() { dd if=/dev/zero of="$IMG" bs=1 seek="$1" count="$2" conv=notrunc status=none; }
# The 70 of the attribute's type, its head of 24 bytes, 8 bytes that are zero, the version 3.1, then the flags.
dirty_ntfs() { perl -e '
    open my $file, "+<:raw", $ENV{IMG} or die; local $/; my $bytes = <$file>;
    $bytes =~ /\x70\0\0\0.{20}\0{8}\x03\x01/s or die "no volume information"; seek $file, $+[0], 0; print $file "\x01"'; }
"#;

fn make(directory: &Path, made: &str, changed: &str) -> PathBuf {
    let image = directory.join("disk.img");
    let output = Command::new("bash")
        .args(["-c", &format!("{PRELUDE}\n{{ {made}\n{changed}\n}} </dev/null >/dev/null")])
        .env("IMG", &image)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{made}; {changed}: {}", String::from_utf8_lossy(&output.stderr));
    image
}

#[test]
fn damage_in_the_headers_is_found_and_work_under_way_is_none() {
    let mut wrong = Vec::new();
    for (fs, made, changed, expected) in CASES {
        let directory = tempfile::tempdir().expect("a directory");
        let image = make(directory.path(), made, changed);
        let file = File::open(&image).expect("just made");
        let len = file.metadata().expect("a file").len();
        let found = recorded_damage(fs, &FileBlocks::new(file, len));
        if found.len() != expected.len() || found.iter().zip(*expected).any(|(line, part)| !line.contains(part)) {
            wrong.push(format!("{made}; {changed}\n  found {found:#?}\n  expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Headers are a tenant's: whatever they hold, a look at them ends soon and without a panic.
#[test]
fn any_headers_end_soon() {
    let mut random = 20_261_128_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    for (fs, made) in [("xfs", XFS_4), ("btrfs", BTRFS_XX), ("vfat", FAT_32), ("vfat", FAT_16), ("ntfs", NTFS)] {
        let directory = tempfile::tempdir().expect("a directory");
        let image = make(directory.path(), made, "");
        let file = OpenOptions::new().read(true).write(true).open(&image).expect("just made");
        let len = file.metadata().expect("a file").len();
        for _ in 0..200 {
            let at = if fs == "btrfs" { 65_536 + next() % 4096 } else { next() % 512 };
            let before = crate::patch::read(&file, at, 1);
            crate::patch::write(&file, at, &[u8::try_from(next() % 256).expect("a byte")]);
            let began = processor_time();
            recorded_damage(fs, &FileBlocks::new(file.try_clone().expect("a descriptor"), len));
            assert!(processor_time().saturating_sub(began) < LIMIT, "{fs}: byte {at}");
            crate::patch::write(&file, at, &before);
        }
    }
}
