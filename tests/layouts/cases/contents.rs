//! Sources without a table, and what regions hold, alone and in conflict.

use super::{case, with_luks};
use crate::{Case, patch};

pub(crate) fn all() -> Vec<Case> {
    let mut all = without_table();
    all.extend(contents());
    all.extend(conflicts());
    all
}

fn without_table() -> Vec<Case> {
    let whole = [
        case("whole-ext2", "truncate -s 16M $IMG; mkfs.ext2 -q -L e2 $IMG").finds(&["disk files ext2"]),
        case("whole-ext3", "truncate -s 16M $IMG; mkfs.ext3 -q -L e3 $IMG").finds(&["disk files ext3"]),
        case("whole-ext4", "truncate -s 16M $IMG; mkfs.ext4 -q -L 'two words' $IMG").finds(&["disk files ext4"]),
        case("whole-ext4-64k-blocks", "truncate -s 64M $IMG; mkfs.ext4 -q -F -b 65536 $IMG 2>/dev/null")
            .finds(&["disk files ext4"]),
        case("whole-ext4-old-features", "truncate -s 16M $IMG; mkfs.ext4 -q -O ^metadata_csum,^64bit,^extent $IMG")
            .finds(&["disk files ext4"]),
        case(
            "whole-ext4-label-not-utf8",
            r#"truncate -s 16M $IMG; mkfs.ext4 -q -O ^metadata_csum $IMG
poke 1144 'a\377\\b'"#,
        )
        .finds(&["disk files ext4"])
        .blkid_differs(&["disk"]),
        case("whole-xfs", "truncate -s 320M $IMG; mkfs.xfs -q -L logs $IMG").finds(&["disk files xfs"]),
        case("whole-xfs-v4", "truncate -s 320M $IMG; mkfs.xfs -q -m crc=0 -L old $IMG 2>/dev/null")
            .finds(&["disk files xfs"]),
        case("whole-btrfs", "truncate -s 128M $IMG; mkfs.btrfs -q -L pool $IMG").finds(&["disk files btrfs"]),
        case("whole-btrfs-two-devices", "truncate -s 128M $IMG $IMG.2; mkfs.btrfs -q $IMG $IMG.2; rm $IMG.2")
            .finds(&["disk raw btrfs"])
            .says(&["W disk spans 2 devices"]),
        case("superfloppy-fat12", "truncate -s 4M $IMG; mkfs.vfat -F 12 -n FLOPPY $IMG >/dev/null")
            .finds(&["disk files vfat"]),
        case("superfloppy-fat16", "truncate -s 32M $IMG; mkfs.vfat -F 16 -n STICK $IMG >/dev/null")
            .finds(&["disk files vfat"]),
        case("superfloppy-fat32", "truncate -s 64M $IMG; mkfs.vfat -F 32 -n 'BIG ONE' $IMG >/dev/null")
            .finds(&["disk files vfat"]),
        case("superfloppy-fat-4096", "truncate -s 64M $IMG; mkfs.vfat -S 4096 $IMG >/dev/null")
            .finds(&["disk files vfat"]),
        case("superfloppy-ntfs", "truncate -s 32M $IMG; mkfs.ntfs -F -q -L Daten $IMG >/dev/null 2>&1")
            .finds(&["disk raw ntfs"]),
        case("superfloppy-exfat", "truncate -s 32M $IMG; mkfs.exfat -L card $IMG >/dev/null")
            .finds(&["disk raw exfat"]),
        case("whole-swap", "truncate -s 16M $IMG; mkswap -L swp $IMG >/dev/null 2>&1").finds(&["disk facts swap"]),
        case("whole-swap-64k-pages", "truncate -s 16M $IMG; mkswap -p 65536 $IMG >/dev/null 2>&1")
            .finds(&["disk facts swap"]),
        case("whole-luks1", "truncate -s 32M $IMG; luks1 $IMG").finds(&["disk raw crypto_LUKS"]),
        case("whole-luks2", "truncate -s 32M $IMG; luks2 $IMG").finds(&["disk raw crypto_LUKS"]),
        case("whole-luks2-first-header-wiped", "truncate -s 32M $IMG; luks2 $IMG; clear 0 8")
            .finds(&["disk raw crypto_LUKS"])
            .says(&["W disk its first header is missing"])
            .blkid_differs(&[]),
        case("whole-zero", "truncate -s 3G $IMG").finds(&["disk facts empty"]),
        case("whole-noise", "truncate -s 16M $IMG; noise 0 32768").finds(&["disk raw unknown"]),
        case("whole-last-byte-set", r"truncate -s 16M $IMG; poke 16777215 '\001'").finds(&["disk raw unknown"]),
        case("whole-nothing", "truncate -s 0 $IMG").finds(&[]),
        case("whole-one-byte", "printf x >$IMG").finds(&["disk raw unknown"]),
        case("whole-511-bytes", "truncate -s 511 $IMG").finds(&["disk facts empty"]),
        case("whole-ext4-truncated", "truncate -s 32M $IMG; mkfs.ext4 -q $IMG; truncate -s 20M $IMG")
            .finds(&["disk raw ext4"])
            .says(&["E disk it was cut off"]),
        case("whole-ext4-in-a-longer-disk", "truncate -s 16M $IMG; mkfs.ext4 -q $IMG; truncate -s 64M $IMG")
            .finds(&["disk files ext4"]),
    ];
    whole.into_iter().map(with_luks).collect()
}

fn contents() -> Vec<Case> {
    vec![
        case("ext4-external-journal", "truncate -s 16M $IMG; mke2fs -q -O journal_dev -b 4096 $IMG >/dev/null")
            .finds(&["disk raw jbd"]),
        case(
            "iso9660",
            r#"mkdir $IMG.d; echo x >$IMG.d/a
genisoimage -quiet -V CONFIG-2 -J -r -o $IMG $IMG.d; rm -r $IMG.d"#,
        )
        .finds(&["disk raw iso9660"]),
        case("udf", "truncate -s 32M $IMG; mkudffs -l disc $IMG >/dev/null")
            .finds(&["disk raw udf"])
            .blkid_differs(&["disk"]),
        case(
            "squashfs",
            r#"mkdir $IMG.d; echo x >$IMG.d/a; mksquashfs $IMG.d $IMG -quiet -no-progress >/dev/null
rm -r $IMG.d"#,
        )
        .finds(&["disk raw squashfs"]),
        case("f2fs", "truncate -s 64M $IMG; mkfs.f2fs -q -l flash $IMG >/dev/null").finds(&["disk raw f2fs"]),
        case("jfs", "truncate -s 32M $IMG; mkfs.jfs -q -L aix $IMG >/dev/null 2>&1").finds(&["disk raw jfs"]),
        case("reiserfs", "truncate -s 64M $IMG; mkfs.reiserfs -q -f -f -l old $IMG >/dev/null 2>&1")
            .finds(&["disk raw reiserfs"]),
        case("nilfs2", "truncate -s 160M $IMG; mkfs.nilfs2 -q -L log $IMG >/dev/null 2>&1").finds(&["disk raw nilfs2"]),
        case("bcache", "truncate -s 32M $IMG").patched(bcache).finds(&["disk raw bcache"]),
        case("drbd-over-ext4", "truncate -s 16M $IMG; mkfs.ext4 -q $IMG 15M")
            .patched(|file| patch::write(file, (16 << 20) - 4096 + 60, &0x8374_026b_u32.to_be_bytes()))
            .finds(&["disk raw drbd"]),
        case("zfs", "truncate -s 64M $IMG")
            .patched(|file| {
                for index in 0..8 {
                    patch::write(file, (128 << 10) + index * 1024, &0x00ba_b10c_u64.to_le_bytes());
                }
            })
            .finds(&["disk raw zfs_member"])
            .blkid_differs(&[]),
        case("bitlocker", r#"truncate -s 16M $IMG; poke 0 '\353\130\220-FVE-FS-'; poke 510 '\125\252'; noise 2000 5"#)
            .finds(&["disk raw BitLocker"])
            .blkid_differs(&["disk"]),
        case("swap-with-data-behind-it", r#"truncate -s 16M $IMG; mkswap $IMG 8192 >/dev/null 2>&1; noise 30000 10"#)
            .finds(&["disk raw swap"])
            .says(&["W disk data may follow the swap space"]),
        case("ext4-with-data-behind-it", r#"truncate -s 32M $IMG; mkfs.ext4 -q $IMG 16M; noise 40000 10"#)
            .finds(&["disk files ext4", "disk.tail raw unknown"])
            .says(&["W disk.tail what follows holds data"]),
        case(
            "xfs-with-a-little-behind-it",
            r#"truncate -s 320M $IMG; mkfs.xfs -q $IMG; truncate -s +3K $IMG; noise 655362 1"#,
        )
        .finds(&["disk files xfs", "disk.tail raw unknown"]),
        case("suspended-system", r#"truncate -s 16M $IMG; mkswap $IMG >/dev/null 2>&1; poke 4086 'S1SUSPEND\0'"#)
            .finds(&["disk raw swsuspend"])
            .blkid_differs(&["disk"]),
        case("md-0.90-mirror-of-ext4", "truncate -s 16M $IMG; mkfs.ext4 -q $IMG 16256K")
            .patched(md_0_90)
            .finds(&["disk container linux_raid_member", "disk.md files ext4"]),
    ]
}

/// A backing device's superblock, which make-bcache would only write on a block device.
fn bcache(file: &std::fs::File) {
    patch::write(file, 4096 + 8, &8_u64.to_le_bytes());
    patch::write(file, 4096 + 16, &1_u64.to_le_bytes());
    patch::write(file, 4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81");
    patch::write(file, 4096 + 40, &[0x42; 16]);
}

/// mdadm has no way to make a 0.90 superblock on a file; the lab makes one on a device.
fn md_0_90(file: &std::fs::File) {
    let at = (16 << 20) - (64 << 10);
    let words: [(u64, u32); 9] = [
        (0, 0xa92b_4efc),
        (2, 90),
        (3, 0),
        (5, 0x1234_5678),
        (7, 1),
        (8, (16 << 10) - 64),
        (10, 2),
        (15, 0x9abc_def0),
        (996, 6),
    ];
    let mut sum = 0_u64;
    for (index, word) in words {
        patch::write(file, at + index * 4, &word.to_le_bytes());
        sum += u64::from(word);
    }
    let folded = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).expect("small");
    patch::write(file, at + 38 * 4, &folded.to_le_bytes());
}

fn conflicts() -> Vec<Case> {
    vec![
        case("ext4-over-an-old-pv", r#"truncate -s 32M $IMG; pv $IMG; mkfs.ext4 -q -F $IMG; pv_label"#)
            .finds(&["disk files ext4"])
            .says(&["W disk the damaged LVM2_member is passed over", "W disk LVM2_member: the metadata area"])
            .blkid_differs(&["disk"]),
        case("btrfs-under-ext4", r#"
truncate -s 128M $IMG; mkfs.btrfs -q $IMG; dd if=$IMG of=$IMG.sb bs=4096 skip=16 count=1 status=none
mkfs.ext4 -q -F $IMG; dd if=$IMG.sb of=$IMG bs=4096 seek=16 conv=notrunc status=none; rm $IMG.sb"#)
        .finds(&["disk raw ext4"])
        .says(&["W disk it may hold any of ext4, btrfs"])
        .blkid_differs(&["disk"]),
        case("swap-over-ext4", r#"truncate -s 16M $IMG; mkfs.ext4 -q $IMG
poke 4086 SWAPSPACE2"#)
        .finds(&["disk files ext4"]),
        case("mbr-beside-whole-ext4", r#"
truncate -s 64M $IMG; printf 'label: dos\nsize=16M,type=83\n' | sfdisk $IMG
dd if=$IMG of=$IMG.mbr bs=512 count=1 status=none; mkfs.ext4 -q -F -L whole $IMG
dd if=$IMG.mbr of=$IMG bs=512 count=1 conv=notrunc status=none; rm $IMG.mbr"#)
        .finds(&["disk raw ext4", "p1 raw unknown"])
        .says(&["W disk ext4 lies on the whole source beside a partition table"])
        .blkid_differs(&[]),
        case("gpt-beside-whole-btrfs", r#"
truncate -s 160M $IMG; mkfs.btrfs -q $IMG; printf 'label: gpt\nstart=20M,size=16M\n' | sfdisk --wipe never $IMG
put 20 16 mkfs.ext4 -q"#)
        .finds(&["disk raw btrfs", "p1 files ext4"])
        .says(&["W disk btrfs lies on the whole source beside a partition table"]),
    ]
    .into_iter()
    .map(|case| {
        // pvcreate wants a block device; a label of its own form with nothing behind it is what mkfs leaves of a PV.
        const PV: &str = "pv() { :; }\npv_label() { base64 -d <<<\"$PV_LABEL\" | gunzip | dd of=$IMG bs=512 seek=1 conv=notrunc status=none; }\n";
        Case { script: Box::leak(format!("PV_LABEL={PV_LABEL}\n{PV}{}", case.script).into_boxed_str()), ..case }
    })
    .collect()
}

/// The second sector of a physical volume that `pvcreate` made in the lab on 2026-11-20, `gzip | base64`.
const PV_LABEL: &str = "H4sIAAAAAAACA/NxdHL18fdzZWSAALmXWVYKQNonzNdIwcDAsDjT1DPExNAsJzPRxbAiJNm4MiwlKcLAOLAwNd8pKqMSqJQJolOAAS+ASX/gxyrNxDAKBgIAAGFOUAQAAgAA";
