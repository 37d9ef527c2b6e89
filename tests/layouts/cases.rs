//! The table of layouts.

// Scripts may hold quotes tomorrow that they do not hold today.
#![allow(clippy::needless_raw_string_hashes)]

use crate::{Case, patch};

fn case(name: &'static str, script: &'static str) -> Case {
    Case { name, script, patch: None, regions: &[], problems: &[], disagree: &[], blkid_differs: &[] }
}

impl Case {
    fn patched(self, patch: fn(&std::fs::File)) -> Self {
        Self { patch: Some(patch), ..self }
    }

    fn finds(self, regions: &'static [&'static str]) -> Self {
        Self { regions, ..self }
    }

    fn says(self, problems: &'static [&'static str]) -> Self {
        Self { problems, ..self }
    }

    /// These tools see another table; `docs/layout-choices.md` has a line for each such case.
    fn unlike(self, disagree: &'static [&'static str]) -> Self {
        Self { disagree, ..self }
    }

    fn blkid_differs(self, blkid_differs: &'static [&'static str]) -> Self {
        Self { blkid_differs, ..self }
    }
}

/// Two small ext4 in a GPT of 64 MiB, which many cases damage.
const GPT_TWO: &str = r#"
truncate -s 64M "$IMG"
printf 'label: gpt\nsize=16M,type=L,name=root\nsize=24M,type=L,name=data\n' | sfdisk "$IMG"
put 1 16 mkfs.ext4 -q -L root; put 17 24 mkfs.ext4 -q -L data
"#;
const TWO_EXT4: &[&str] = &["p1 files ext4", "p2 files ext4"];

/// A primary and three logical ext2 partitions, 64 MiB.
const MBR_LOGICAL: &str = r#"
truncate -s 64M "$IMG"
printf 'label: dos\nstart=2048,size=8M,type=83,bootable\nstart=10M,size=50M,type=5\nx5: size=8M,type=83\nx6: size=8M,type=83\nx7: size=8M,type=83\n' | sfdisk "$IMG"
put 1 8 mkfs.ext2 -q
for at in $(command sfdisk -J "$IMG" | jq -r '.partitiontable.partitions[2:][].start'); do
    put $((at / 2048)) 8 mkfs.ext2 -q
done
"#;

pub(crate) fn all() -> Vec<Case> {
    let mut all = gpt();
    all.extend(damaged_gpt());
    all.extend(mbr());
    all.extend(damaged_mbr());
    all.extend(without_table());
    all.extend(contents());
    all.extend(conflicts());
    all
}

fn gpt() -> Vec<Case> {
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

const LUKS: &str = r#"
luks1() { echo secret | cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 "$1" -; }
luks2() { echo secret | cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label safe "$1" -; }
"#;

/// cryptsetup wants its passphrase on standard input, and little time for its key.
fn with_luks(case: Case) -> Case {
    if !case.script.contains("luks") {
        return case;
    }
    Case { script: Box::leak(format!("{LUKS}{}", case.script).into_boxed_str()), ..case }
}

fn damaged_gpt() -> Vec<Case> {
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

fn mbr() -> Vec<Case> {
    vec![
        case(
            "mbr-sfdisk-primaries",
            r#"
truncate -s 128M "$IMG"
printf 'label: dos\nsize=16M,type=83,bootable\nsize=32M,type=7\nsize=16M,type=6\nsize=32M,type=82\n' | sfdisk "$IMG"
put 1 16 mkfs.ext3 -q; put 17 32 mkfs.ntfs -F -q -L Windows; put 49 16 mkfs.vfat -F 16 -n DOS; put 65 32 mkswap"#,
        )
        .finds(&["p1 files ext3", "p2 raw ntfs", "p3 files vfat", "p4 facts swap"]),
        case("mbr-sfdisk-logicals", MBR_LOGICAL).finds(&[
            "p1 files ext2",
            "p2 container unknown",
            "p5 files ext2",
            "p6 files ext2",
            "p7 files ext2",
        ]),
        case(
            "mbr-parted-logicals",
            r#"
truncate -s 64M "$IMG"
parted mklabel msdos mkpart primary 2048s 18431s mkpart extended 20480s 131071s mkpart logical 22528s 38911s \
    mkpart logical 40960s 57343s
put 1 8 mkfs.ext4 -q; put 11 8 mkfs.ext4 -q; put 20 8 mkfs.ext4 -q"#,
        )
        .finds(&["p1 files ext4", "p2 container unknown", "p5 files ext4", "p6 files ext4"]),
        case(
            "mbr-extended-lba-and-linux-types",
            r#"
truncate -s 64M "$IMG"
printf 'label: dos\nstart=2048,size=8M,type=83\nstart=20480,size=40M,type=f\nx5: size=8M,type=8e\n' | sfdisk "$IMG"
put 1 8 mkfs.ext4 -q; put 11 8 mkfs.ext4 -q"#,
        )
        .finds(&["p1 files ext4", "p2 container unknown", "p5 files ext4"]),
        case(
            "mbr-logicals-out-of-order",
            r#"
truncate -s 64M "$IMG"
printf 'label: dos\nstart=20480,size=50M,type=5\n' | sfdisk "$IMG"
put 12 8 mkfs.ext2 -q; put 42 8 mkfs.ext2 -q; put 27 8 mkfs.ext2 -q"#,
        )
        .patched(|file| {
            patch::record(file, 20480, 0, 0x83, 4096, 16384);
            patch::record(file, 20480, 1, 0x05, 61440, 20480);
            patch::record(file, 81920, 0, 0x83, 4096, 16384);
            patch::record(file, 81920, 1, 0x05, 30720, 20480);
            patch::record(file, 51200, 0, 0x83, 4096, 16384);
        })
        .finds(&["p1 container unknown", "p5 files ext2", "p6 files ext2", "p7 files ext2"]),
        case(
            "mbr-56-logicals",
            r#"
truncate -s 160M "$IMG"
{ printf 'label: dos\nstart=2048,size=150M,type=5\n'
for n in $(seq 5 60); do echo "x$n: size=200K,type=83"; done; } | sfdisk "$IMG""#,
        )
        .finds(MANY_LOGICALS),
        case(
            "mbr-two-extended",
            r#"
truncate -s 64M "$IMG"; printf 'label: dos\nstart=2048,size=8M,type=83\n' | sfdisk "$IMG"
put 1 8 mkfs.ext2 -q; put 11 8 mkfs.ext2 -q; put 31 8 mkfs.ext2 -q"#,
        )
        .patched(|file| {
            patch::record(file, 0, 1, 0x05, 20480, 20480);
            patch::record(file, 20480, 0, 0x83, 2048, 16384);
            patch::record(file, 0, 2, 0x85, 61440, 20480);
            patch::record(file, 61440, 0, 0x83, 2048, 16384);
        })
        .finds(&["p1 files ext2", "p2 container unknown", "p3 container unknown", "p5 files ext2", "p6 files ext2"])
        .unlike(&["sfdisk", "kpartx"]),
        case(
            "mbr-4096-byte-sectors",
            r#"
truncate -s 64M "$IMG"
PARTED_SECTOR_SIZE=4096 parted mklabel msdos mkpart primary 256s 4351s mkpart extended 5120s 15359s \
    mkpart logical 5376s 9471s
put 1 16 mkfs.ext4 -q; put 21 16 mkfs.ext4 -q"#,
        )
        .finds(&["p1 files ext4", "p2 container unknown", "p5 files ext4"])
        .unlike(&["sfdisk", "kpartx"]),
        case(
            "mbr-type-zero-with-a-size",
            r#"
truncate -s 64M "$IMG"; printf 'label: dos\nsize=16M,type=83\n' | sfdisk "$IMG"; put 1 16 mkfs.ext4 -q; poke 450 '\0'"#,
        )
        .finds(&["p1 files ext4"]),
        case("mbr-without-partitions", r#"truncate -s 16M "$IMG"; echo 'label: dos' | sfdisk "$IMG""#).finds(&[]),
        case(
            "mbr-without-partitions-over-data",
            r#"
truncate -s 16M "$IMG"; echo 'label: dos' | sfdisk "$IMG"; noise 10000 100"#,
        )
        .finds(&["gap1 raw unknown"])
        .says(&["W gap1 outside every partition"]),
        case(
            "mbr-boot-code-and-grub-in-the-gap",
            r#"
truncate -s 64M "$IMG"; printf 'label: dos\nsize=16M,type=83,bootable\n' | sfdisk "$IMG"
put 1 16 mkfs.ext4 -q; poke 0 '\353\143\220'; noise 1 90"#,
        )
        .finds(&["p1 files ext4"]),
        case(
            "mbr-without-a-disk-signature",
            r#"
truncate -s 64M "$IMG"; printf 'label: dos\nsize=16M,type=83\n' | sfdisk "$IMG"; put 1 16 mkfs.ext4 -q
poke 440 '\0\0\0\0'"#,
        )
        .finds(&["p1 files ext4"]),
        case(
            "mbr-in-a-partition",
            r#"
truncate -s 64M "$IMG"; printf 'label: dos\nsize=40M,type=83\n' | sfdisk "$IMG"
inner() { printf 'label: dos\nsize=16M,type=83\n' | sfdisk "$1"; }; put 1 40 inner; noise 8000 10"#,
        )
        .finds(&["p1 raw dos"])
        .says(&["W p1 a partition table (dos) lies in it"]),
    ]
}

const MANY_LOGICALS: &[&str] = &many_logicals();

const fn many_logicals() -> [&'static str; 57] {
    macro_rules! lines {
        ($($number:literal)*) => { ["p1 container unknown", $(concat!("p", $number, " facts empty")),*] };
    }
    lines!(5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43
        44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60)
}

fn damaged_mbr() -> Vec<Case> {
    vec![
        case("ebr-loop", MBR_LOGICAL)
            .patched(|file| {
                let chain = patch::chain(file);
                patch::record(file, chain[2], 1, 0x05, u32::try_from(chain[1] - chain[0]).expect("small"), 2048);
            })
            .finds(&["p1 files ext2", "p2 container unknown", "p5 files ext2", "p6 files ext2", "p7 files ext2"])
            .says(&["E p2 comes back to the extended boot record"])
            .unlike(&["sfdisk", "kpartx"]),
        case("ebr-that-links-to-itself", MBR_LOGICAL)
            .patched(|file| patch::record(file, patch::chain(file)[0], 1, 0x05, 0, 2048))
            .finds(&["p1 files ext2", "p2 container unknown", "p5 files ext2", "gap1 raw unknown"])
            .says(&["E p2 comes back to the extended boot record", "W gap1 outside every partition"])
            .unlike(&["sfdisk"]),
        case("ebr-past-the-end", MBR_LOGICAL)
            .patched(|file| patch::record(file, patch::chain(file)[1], 1, 0x05, 0x7fff_ffff, 2048))
            .finds(&["p1 files ext2", "p2 container unknown", "p5 files ext2", "p6 files ext2", "gap1 raw unknown"])
            .says(&["E p2 is past the disk's end", "W gap1 outside every partition"]),
        case("ebr-without-signature", MBR_LOGICAL)
            .patched(|file| patch::write(file, patch::chain(file)[1] * 512 + 510, &[0, 0]))
            .finds(&["p1 files ext2", "p2 container unknown", "p5 files ext2", "gap1 raw unknown"])
            .says(&["E p2 lacks its signature", "W gap1 outside every partition"])
            .unlike(&["sfdisk"]),
        case("ebr-first-one-wiped", MBR_LOGICAL)
            .patched(|file| patch::write(file, patch::chain(file)[0] * 512, &[0; 512]))
            .finds(&["p1 files ext2", "p2 container unknown", "gap1 raw unknown"])
            .says(&["E p2 lacks its signature", "W gap1 outside every partition"]),
        case("ebr-logical-past-the-end", MBR_LOGICAL)
            .patched(|file| patch::record(file, patch::chain(file)[2], 0, 0x83, 0x7000_0000, 0x7000_0000))
            .finds(&["p1 files ext2", "p2 container unknown", "p5 files ext2", "p6 files ext2", "gap1 raw unknown"])
            .says(&[
                "W p7 reaches out of its extended partition",
                "E p7 nothing of it is here",
                "W gap1 outside every partition",
            ])
            .unlike(&["sfdisk", "partx", "kpartx"]),
        case("mbr-truncated", MBR_LOGICAL)
            .patched(|file| file.set_len(24 << 20).expect("shorter"))
            .finds(&["p1 files ext2", "p2 container unknown", "p5 files ext2", "p6 raw ext2"])
            .says(&[
                "E p2 past the source's end",
                "E p6 past the source's end",
                "E p6 it was cut off",
                "E p2 the extended boot record",
            ])
            .unlike(&["sfdisk", "partx", "kpartx"])
            .blkid_differs(&[]),
        case("mbr-overlapping", r#"
truncate -s 64M "$IMG"; printf 'label: dos\nsize=16M,type=83\n' | sfdisk "$IMG"; put 1 16 mkfs.ext4 -q"#)
        .patched(|file| patch::record(file, 0, 2, 0x83, 4096, 40960))
        .finds(&["p1 files ext4", "p3 raw unknown"])
        .says(&["W p3 it shares bytes with p1"]),
        case("mbr-partition-past-the-end", r#"
truncate -s 64M "$IMG"; printf 'label: dos\nsize=16M,type=83\n' | sfdisk "$IMG"; put 1 16 mkfs.ext4 -q"#)
        .patched(|file| patch::record(file, 0, 1, 0x83, 0xffff_0000, 0xffff_ffff))
        .finds(&["p1 files ext4"])
        .says(&["E p2 nothing of it is here"])
        .unlike(&["sfdisk", "partx", "kpartx"]),
        case("mbr-primary-in-the-extended", MBR_LOGICAL)
            .patched(|file| patch::record(file, 0, 2, 0x83, 100_000, 8192))
            .finds(&[
                "p1 files ext2",
                "p2 container unknown",
                "p3 facts empty",
                "p5 files ext2",
                "p6 files ext2",
                "p7 files ext2",
            ])
            .says(&["W p3 it shares bytes with the extended partition p2"]),
        case("mbr-protective-without-gpt", r#"truncate -s 64M "$IMG"; put 1 16 mkfs.ext4 -q"#)
            .patched(|file| patch::record(file, 0, 0, 0xee, 1, 131_071))
            .finds(&["disk raw unknown"])
            .says(&["E gpt neither copy of it can be used"])
            .unlike(&["sfdisk"]),
        case("mbr-hybrid-without-gpt", r#"truncate -s 64M "$IMG"; put 1 16 mkfs.ext4 -q"#)
            .patched(|file| {
                patch::record(file, 0, 0, 0x83, 2048, 32768);
                patch::record(file, 0, 1, 0xee, 1, 2047);
            })
            .finds(&["p1 files ext4", "p2 facts empty"])
            .says(&["E gpt neither copy of it can be used"])
            .unlike(&["partx", "kpartx"]),
        case("mbr-odd-boot-indicator", r#"
truncate -s 64M "$IMG"; printf 'label: dos\nsize=16M,type=83\n' | sfdisk "$IMG"; put 1 16 mkfs.ext4 -q; poke 446 '\177'"#)
        .finds(&["disk raw unknown"])
        .says(&["W disk ends like a boot record"])
            .unlike(&["sfdisk", "kpartx"]),
    ]
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
