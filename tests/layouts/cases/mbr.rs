//! Disks with an MBR, sound and damaged.

use super::case;
use crate::{Case, patch};

pub(crate) fn all() -> Vec<Case> {
    let mut all = sound();
    all.extend(damaged());
    all
}

/// A primary and three logical ext2 partitions, 64 MiB.
const MBR_LOGICAL: &str = r#"
truncate -s 64M "$IMG"
printf 'label: dos\nstart=2048,size=8M,type=83,bootable\nstart=10M,size=50M,type=5\nx5: size=8M,type=83\nx6: size=8M,type=83\nx7: size=8M,type=83\n' | sfdisk "$IMG"
put 1 8 mkfs.ext2 -q
for at in $(command sfdisk -J "$IMG" | jq -r '.partitiontable.partitions[2:][].start'); do
    put $((at / 2048)) 8 mkfs.ext2 -q
done
"#;

fn sound() -> Vec<Case> {
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

fn damaged() -> Vec<Case> {
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
