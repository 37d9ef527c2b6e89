//! Disks with a GPT, sound and damaged.

use super::{case, with_luks};
use crate::{Case, patch};

pub(crate) fn all() -> Vec<Case> {
    let mut all = sound();
    all.extend(damaged());
    all
}

/// Two small ext4 in a GPT of 64 MiB, which many cases damage.
const GPT_TWO: &str = r#"
truncate -s 64M "$IMG"
printf 'label: gpt\nsize=16M,type=L,name=root\nsize=24M,type=L,name=data\n' | sfdisk "$IMG"
put 1 16 mkfs.ext4 -q -L root; put 17 24 mkfs.ext4 -q -L data
"#;
const TWO_EXT4: &[&str] = &["p1 files ext4", "p2 files ext4"];

fn sound() -> Vec<Case> {
    vec![
        case("gpt-sfdisk-cloud-image", r#"
truncate -s 400M "$IMG"
printf 'label: gpt\nsize=40M,type=U,name="EFI System"\nsize=100M,type=L\nsize=64M,type=S\nsize=150M,type=L\n' | sfdisk "$IMG"
put 1 40 mkfs.vfat -F 32 -n EFISYS; put 41 100 mkfs.ext4 -q -L root; put 141 64 mkswap -L sw
put 205 150 mkfs.btrfs -q -L pool"#)
        .finds(&["p1 files vfat", "p2 files ext4", "p3 facts swap", "p4 files btrfs"]),
        case("gpt-sgdisk-names-and-attributes", r#"
truncate -s 64M "$IMG"
sgdisk -n 1:2048:+1M -t 1:ef02 -c 1:grub -n 2:0:+20M -t 2:8300 -c 2:'Wurzel äöü' -A 2:set:2 -n 3:0:0 -t 3:0700
noise 2048 16; put 2 20 mkfs.ext4 -q; put 22 41 mkfs.vfat -n DATEN"#)
        .finds(&["p1 raw unknown", "p2 files ext4", "p3 files vfat"]),
        case("gpt-parted", r#"
truncate -s 64M "$IMG"
parted mklabel gpt mkpart one ext4 2048s 34815s mkpart two ext4 34816s 67583s
put 1 16 mkfs.ext4 -q; put 17 16 mkfs.ext3 -q"#)
        .finds(&["p1 files ext4", "p2 files ext3"]),
        case("gpt-4096-byte-sectors", r#"
truncate -s 64M "$IMG"
PARTED_SECTOR_SIZE=4096 parted mklabel gpt mkpart root 256s 4351s mkpart data 4352s 10495s
put 1 16 mkfs.ext4 -q; put 17 24 mkfs.ext4 -q"#)
        .finds(TWO_EXT4)
            .unlike(&["sfdisk", "kpartx"]),
        case("gpt-4096-primary-header-damaged", r#"
truncate -s 64M "$IMG"
PARTED_SECTOR_SIZE=4096 parted mklabel gpt mkpart root 256s 4351s mkpart data 4352s 10495s
put 1 16 mkfs.ext4 -q; put 17 24 mkfs.ext4 -q; poke 4100 XX"#)
        .finds(TWO_EXT4)
        .says(&["W gpt the primary header is damaged"])
            .unlike(&["sfdisk", "kpartx"]),
        case("gpt-256-entries", r#"
truncate -s 64M "$IMG"; sgdisk -S 256 -n 1:2048:+16M -n 200:0:+16M
put 1 16 mkfs.ext4 -q; put 17 16 mkfs.ext4 -q"#)
        .finds(&["p1 files ext4", "p200 files ext4"]),
        case("gpt-numbers-with-holes-and-out-of-order", r#"
truncate -s 64M "$IMG"; sgdisk -n 7:34M:+8M -n 128:2048:+8M -n 2:20M:+8M
put 34 8 mkfs.ext4 -q; put 1 8 mkfs.ext4 -q; put 20 8 mkfs.ext4 -q"#)
        .finds(&["p2 files ext4", "p7 files ext4", "p128 files ext4"]),
        case("gpt-128-partitions", r#"
truncate -s 160M "$IMG"
{ echo 'label: gpt'; for _ in $(seq 128); do echo 'size=512K,type=L'; done; } | sfdisk "$IMG""#)
        .finds(EMPTY_128),
        case("gpt-without-partitions", r#"truncate -s 16M "$IMG"; echo 'label: gpt' | sfdisk "$IMG""#).finds(&[]),
        case("gpt-hybrid-mbr", r#"
truncate -s 64M "$IMG"; sgdisk -n 1:2048:+16M -n 2:0:+24M; sgdisk -h 1:2
put 1 16 mkfs.ext4 -q; put 17 24 mkfs.ext4 -q"#)
        .finds(TWO_EXT4),
        case("gpt-hybrid-mbr-that-contradicts", GPT_TWO)
            .patched(|file| patch::record(file, 0, 2, 0x83, 100_000, 8192))
            .finds(TWO_EXT4)
            .says(&["W mbr its partition at LBA 100000 is not in the GPT"]),
        case("gpt-data-in-a-large-gap", r#"
truncate -s 64M "$IMG"; sgdisk -n 1:2048:+16M -n 2:41M:+16M
put 1 16 mkfs.ext4 -q; put 41 16 mkfs.ext4 -q; put 20 16 mkfs.ext4 -q -L deleted"#)
        .finds(&["p1 files ext4", "p2 files ext4", "gap1 raw unknown"])
        .says(&["W gap1 outside every partition"]),
        case("gpt-boot-code-before-the-first-partition", r#"
truncate -s 64M "$IMG"; sgdisk -n 1:8M:+16M; put 8 16 mkfs.ext4 -q; noise 64 100"#)
        .finds(&["p1 files ext4"]),
        case("gpt-luks-and-unknown", r#"
truncate -s 128M "$IMG"; sgdisk -n 1:2048:+32M -n 2:0:+32M -n 3:0:+16M
put 1 32 luks1; put 33 32 luks2; noise $((65 * 2048)) 1000"#)
        .finds(&["p1 raw crypto_LUKS", "p2 raw crypto_LUKS", "p3 raw unknown"]),
        case("gpt-xfs-and-btrfs", r#"
truncate -s 460M "$IMG"; sgdisk -n 1:2048:+300M -n 2:0:+130M
put 1 300 mkfs.xfs -q -L logs; put 301 130 mkfs.btrfs -q --csum sha256 -L pool"#)
        .finds(&["p1 files xfs", "p2 files btrfs"]),
    ]
    .into_iter()
    .map(with_luks)
    .collect()
}

/// 128 regions of zeros.
const EMPTY_128: &[&str] = &empty_128();

const fn empty_128() -> [&'static str; 128] {
    macro_rules! lines {
        ($($number:literal)*) => { [$(concat!("p", $number, " facts empty")),*] };
    }
    lines!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39
        40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77
        78 79 80 81 82 83 84 85 86 87 88 89 90 91 92 93 94 95 96 97 98 99 100 101 102 103 104 105 106 107 108 109 110 111
        112 113 114 115 116 117 118 119 120 121 122 123 124 125 126 127 128)
}

fn damaged() -> Vec<Case> {
    vec![
        case("gpt-primary-header-damaged", GPT_TWO)
            .patched(|file| patch::write(file, 512 + 40, &[0xff]))
            .finds(TWO_EXT4)
            .says(&["W gpt the primary header is damaged or missing: its checksum"]),
        case("gpt-primary-header-zeroed", GPT_TWO)
            .patched(|file| patch::write(file, 512, &[0; 512]))
            .finds(TWO_EXT4)
            .says(&["W gpt the primary header is damaged or missing: LBA 1: the signature"]),
        case("gpt-primary-array-damaged", GPT_TWO)
            .patched(|file| patch::write(file, 1024 + 128 + 32, &[0x77; 16]))
            .finds(TWO_EXT4)
            .says(&["W gpt the other copy's fit its checksum"]),
        case("gpt-primary-wiped", GPT_TWO)
            .patched(|file| patch::write(file, 512, &[0; 33 * 512]))
            .finds(TWO_EXT4)
            .says(&["W gpt the primary header is damaged or missing"]),
        case("gpt-backup-header-damaged", GPT_TWO)
            .patched(|file| patch::write(file, (64 << 20) - 512 + 16, &[1, 2, 3, 4]))
            .finds(TWO_EXT4)
            .says(&["W gpt the backup header is damaged or missing: its checksum"]),
        case("gpt-backup-wiped", GPT_TWO)
            .patched(|file| patch::write(file, (64 << 20) - 33 * 512, &[0; 33 * 512]))
            .finds(TWO_EXT4)
            .says(&["W gpt the backup header is damaged or missing"]),
        case("gpt-both-headers-wiped", GPT_TWO)
            .patched(|file| {
                patch::write(file, 512, &[0; 512]);
                patch::write(file, (64 << 20) - 512, &[0; 512]);
            })
            .finds(&["disk raw unknown"])
            .says(&["E gpt neither copy of it can be used"])
            .unlike(&["sfdisk"]),
        case("gpt-both-header-checksums-wrong", GPT_TWO)
            .patched(|file| {
                patch::write(file, 512 + 16, &[1; 4]);
                patch::write(file, (64 << 20) - 512 + 16, &[1; 4]);
            })
            .finds(TWO_EXT4)
            .says(&["W gpt the primary header is damaged", "W gpt the backup header is damaged"])
            .unlike(&["sfdisk", "partx", "kpartx"]),
        case("gpt-both-arrays-damaged", GPT_TWO)
            .patched(|file| {
                patch::write(file, 1024 + 60, b"X");
                patch::write(file, (64 << 20) - 33 * 512 + 60, b"Y");
            })
            .finds(TWO_EXT4)
            .says(&["E gpt no copy of the entries fits its checksum"])
            .unlike(&["sfdisk", "partx", "kpartx"]),
        case("gpt-primary-header-and-backup-array-damaged", GPT_TWO)
            .patched(|file| {
                patch::write(file, 512 + 40, &[0xff]);
                patch::write(file, (64 << 20) - 33 * 512 + 60, b"Y");
            })
            .finds(TWO_EXT4)
            .says(&["W gpt the primary header is damaged", "W gpt the entries beside the backup header are damaged"])
            .unlike(&["sfdisk", "partx", "kpartx"]),
        case(
            "gpt-grown",
            r#"truncate -s 64M "$IMG"; sgdisk -n 1:2048:+16M -n 2:0:0
put 1 16 mkfs.ext4 -q; put 17 46 mkfs.ext4 -q; truncate -s 96M "$IMG""#,
        )
        .finds(TWO_EXT4),
        case("gpt-grown-and-primary-header-damaged", GPT_TWO)
            .patched(|file| {
                file.set_len(96 << 20).expect("sparse");
                patch::write(file, 512, &[0; 512]);
            })
            .finds(TWO_EXT4)
            .says(&["W gpt the primary header is damaged"])
            .unlike(&["sfdisk", "partx", "kpartx"]),
        case("gpt-grown-and-primary-array-damaged", GPT_TWO)
            .patched(|file| {
                file.set_len(96 << 20).expect("sparse");
                patch::write(file, 1024 + 60, b"X");
            })
            .finds(TWO_EXT4)
            .says(&["W gpt the other copy's fit its checksum"])
            .unlike(&["sfdisk", "partx", "kpartx"]),
        case("gpt-truncated-in-a-partition", GPT_TWO)
            .patched(|file| file.set_len(30 << 20).expect("shorter"))
            .finds(&["p1 files ext4", "p2 raw ext4"])
            .says(&["W gpt the backup header is damaged", "E p2 past the source's end", "E p2 it was cut off"])
            .unlike(&["sfdisk", "partx", "kpartx"])
            .blkid_differs(&[]),
        case("gpt-truncated-before-a-partition", GPT_TWO)
            .patched(|file| file.set_len(17 << 20).expect("shorter"))
            .finds(&["p1 files ext4"])
            .says(&["W gpt the backup header is damaged", "E p2 nothing of it is here"])
            .unlike(&["sfdisk", "partx", "kpartx"]),
        case("gpt-overlapping", GPT_TWO)
            .patched(|file| patch::gpt(file, |array| patch::entry_range(array, 1, 30000, 80000)))
            .finds(&["p1 files ext4", "p2 raw unknown"])
            .says(&["W p2 it shares bytes with p1"]),
        case("gpt-reversed-entry", GPT_TWO)
            .patched(|file| patch::gpt(file, |array| patch::entry_range(array, 1, 83967, 34816)))
            .finds(&["p1 files ext4", "gap1 raw unknown"])
            .says(&["E p2 before it starts", "W gap1 outside every partition"])
            .unlike(&["sfdisk", "partx", "kpartx"]),
        case("gpt-entry-past-the-end", GPT_TWO)
            .patched(|file| patch::gpt(file, |array| patch::entry_range(array, 1, u64::MAX / 2, u64::MAX - 1)))
            .finds(&["p1 files ext4", "gap1 raw unknown"])
            .says(&["E p2 past the source's end", "W gap1 outside every partition"])
            .unlike(&["sfdisk", "kpartx"]),
        case("gpt-entry-over-the-table", GPT_TWO)
            .patched(|file| patch::gpt(file, |array| patch::entry_range(array, 1, 0, u64::MAX)))
            .finds(&["p1 files ext4", "p2 raw gpt"])
            .says(&[
                "E p2 past the source's end",
                "W p1 it shares bytes with p2",
                "W p2 it shares bytes with the table",
                "W p2 a partition table (gpt) lies in it",
            ])
            .unlike(&["sfdisk", "partx", "kpartx"])
            .blkid_differs(&["p2"]),
        case("gpt-same-guid-twice", GPT_TWO)
            .patched(|file| patch::gpt(file, |array| array.copy_within(16..32, 128 + 16)))
            .finds(TWO_EXT4)
            .says(&["W p2 it has the same unique GUID as p1"]),
        case("gpt-hostile-name", GPT_TWO)
            .patched(|file| {
                patch::gpt(file, |array| {
                    array[56..70].copy_from_slice(&[0x1b, 0, b'[', 0, b'2', 0, b'J', 0, 0x00, 0xd8, b'/', 0, b'\n', 0]);
                });
            })
            .finds(TWO_EXT4)
            .unlike(&["sfdisk"]),
        case("gpt-entries-of-256-bytes", GPT_TWO)
            .patched(|file| {
                let halve = |array: &mut Vec<u8>| {
                    let second = array[128..256].to_vec();
                    array[128..256].fill(0);
                    array[256..384].copy_from_slice(&second);
                };
                let sizes = |header: &mut [u8]| {
                    header[80..84].copy_from_slice(&64_u32.to_le_bytes());
                    header[84..88].copy_from_slice(&256_u32.to_le_bytes());
                };
                patch::gpt_headers(file, sizes, halve);
            })
            .finds(TWO_EXT4)
            .unlike(&["partx", "kpartx"]),
        case("gpt-absurd-entry-count", GPT_TWO)
            .patched(|file| {
                patch::gpt_headers(file, |header| header[80..84].copy_from_slice(&128_u32.to_le_bytes()), |_| ());
                let last = (64 << 20) - 512;
                for at in [512, last] {
                    patch::write(file, at + 80, &u32::MAX.to_le_bytes());
                }
            })
            .finds(&["disk raw unknown"])
            .says(&["E gpt neither copy of it can be used"])
            .unlike(&["sfdisk"]),
        case("gpt-copies-differ", GPT_TWO)
            .patched(|file| {
                let before = patch::read(file, (64 << 20) - 33 * 512, 33 * 512);
                patch::gpt(file, |array| array[56] = b'R');
                patch::write(file, (64 << 20) - 33 * 512, &before);
            })
            .finds(TWO_EXT4)
            .says(&["W gpt the primary and the backup copy differ"]),
        case("gpt-protective-mbr-missing", GPT_TWO)
            .patched(|file| patch::write(file, 0, &[0; 512]))
            .finds(TWO_EXT4)
            .says(&["W gpt the protective MBR is missing"])
            .unlike(&["sfdisk", "partx", "kpartx"]),
        case(
            "gpt-left-over-under-an-mbr",
            r#"
truncate -s 64M "$IMG"; printf 'label: dos\nsize=20M,type=83\n' | sfdisk "$IMG"
dd if="$IMG" of="$IMG.mbr" bs=512 count=1 status=none; clear 0 1
printf 'label: gpt\nsize=16M\nsize=24M\n' | sfdisk --wipe never "$IMG"
dd if="$IMG.mbr" of="$IMG" bs=512 count=1 conv=notrunc status=none; rm "$IMG.mbr"; put 1 20 mkfs.ext4 -q"#,
        )
        .finds(&["p1 files ext4", "gap1 raw unknown"])
        .says(&["W gpt without its protective MBR is left over", "W gap1 outside every partition"]),
        case(
            "gpt-left-over-under-xfs",
            r#"
truncate -s 320M "$IMG"; printf 'label: gpt\nsize=16M\nsize=24M\n' | sfdisk "$IMG"
mkfs.xfs -q -f "$IMG"; truncate -s 320M "$IMG""#,
        )
        .finds(&["disk files xfs"]),
    ]
}
