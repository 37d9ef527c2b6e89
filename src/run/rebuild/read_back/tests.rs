use std::fs;
use std::process::{Command, Stdio};

use super::{TableOpinion, second_opinion};
use crate::layout::gpt::Header;
use crate::layout::{Table, TableKind, detect};
use crate::run::rebuild::kept::unpack;
use crate::run::rebuild::plan::{DiskPlan, Expected, Step};
use crate::run::rebuild::shift::Shift;
use crate::run::rebuild::table::resized;
use crate::units::Lba;

const MIB: usize = 1 << 20;
const SECTOR: usize = 512;

/// A disk with a table made by sfdisk or sgdisk with this script; `$DISK` is the file.
fn made(size: usize, script: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, vec![0; size]).unwrap();
    let ran = Command::new("sh")
        .args(["-ec", script])
        .env("DISK", &path)
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    fs::read(&path).unwrap()
}

fn sfdisk(size: usize, table: &str) -> Vec<u8> {
    made(size, &format!("sfdisk -q --no-reread --no-tell-kernel $DISK <<'TABLE'\n{table}\nTABLE\n"))
}

/// The plan of a restore of `disk` to `target_bytes`, reduced to its table, and the resulting disk.
fn restored(disk: &Vec<u8>, sector_bytes: u32, target_bytes: usize) -> (DiskPlan, Vec<u8>) {
    let layout = detect(disk, "disk", Some(sector_bytes)).unwrap();
    let kept = unpack(&layout.outside).unwrap();
    let is_table = |what: &str| what == "boot sector" || what == "extended boot record" || what.starts_with("GPT ");
    let mut tables: Vec<_> = kept.into_iter().filter(|bytes| is_table(&bytes.what)).collect();
    if target_bytes != disk.len() {
        let sector = u64::from(sector_bytes);
        tables = resized(&tables, &layout.table, sector, &Shift::default(), target_bytes as u64).unwrap();
    }
    let mut target = vec![0; target_bytes];
    let mut steps = Vec::new();
    for kept in tables {
        let at = usize::try_from(kept.start).unwrap();
        target[at..at + kept.bytes.len()].copy_from_slice(&kept.bytes);
        let (what, start_bytes, size_bytes) = (kept.what, kept.start, kept.bytes.len() as u64);
        steps.push(Step::Write { what, start_bytes, size_bytes, bytes: kept.bytes });
    }
    let regions = layout.regions.into_iter().filter(|region| region.number > 0).collect();
    let expected = Expected { table: layout.table, regions };
    let (source_bytes, target_bytes) = (disk.len() as u64, target_bytes as u64);
    (DiskPlan { source_bytes, target_bytes, steps, remarks: Vec::new(), expected }, target)
}

/// The opinion on a correctly restored disk.
fn of(disk: &Vec<u8>, sector_bytes: u32) -> TableOpinion {
    let (plan, target) = restored(disk, sector_bytes, disk.len());
    second_opinion(&plan, sector_bytes, &target)
}

#[track_caller]
fn assert_agrees(opinion: &TableOpinion, asked: &[&str], not_asked: &[&str]) {
    assert_eq!(opinion.disagreements, Vec::<String>::new());
    assert_eq!(opinion.asked, asked);
    assert_eq!(opinion.not_asked.len(), not_asked.len(), "{:?}", opinion.not_asked);
    for (said, part) in opinion.not_asked.iter().zip(not_asked) {
        assert!(said.contains(part), "{said}");
    }
}

const GPT: &str = "label: gpt
size=1M, type=21686148-6449-6E6F-744E-656564454649, name=\"BIOS boot\"
start=8192, size=1M, type=linux, name=\"root é back\\\\slash\", attrs=\"RequiredPartition LegacyBIOSBootable GUID:59,63\"
size=1M, type=swap";

const MBR: &str = "label: dos
label-id: 0x1234abcd
1 : size=1M, type=83, bootable
2 : size=1M, type=c
3 : size=12M, type=5
5 : size=1M, type=83
6 : size=2M, type=82
7 : size=3M, type=8e, bootable";

#[test]
fn tables_of_many_kinds_agree() {
    let both = [
        "gpt (the primary copy, 3 partitions)",
        "gpt (the backup copy, 3 partitions)",
        "mbrman (the GPT's boot sector)",
    ];
    assert_agrees(&of(&sfdisk(16 * MIB, GPT), 512), &both, &[]);
    let sgdisk = |script: &str| made(16 * MIB, &format!("sgdisk {script} $DISK >/dev/null"));
    // More entries, fewer, the array elsewhere, an alignment of one sector, all attributes, numbers with gaps.
    let disk = sgdisk("-S 512 -a 1 -n 3:2000:2100 -n 200:3000:3000 -A 3:set:0 -A 3:set:63 -c 3:x");
    assert_agrees(
        &of(&disk, 512),
        &["gpt (the primary copy, 2 partitions)", "gpt (the backup copy, 2 partitions)", both[2]],
        &[],
    );
    let disk = sgdisk("-j 100 -n 1:4096:+1M -t 1:ef00");
    assert_agrees(
        &of(&disk, 512),
        &["gpt (the primary copy, 1 partition)", "gpt (the backup copy, 1 partition)", both[2]],
        &[],
    );
    let disk = sgdisk("-n 1:0:+1M -n 2:0:+1M -n 3:0:+1M -h 1:2");
    assert_agrees(&of(&disk, 512), &both, &[]);
    let disk = sgdisk("-o");
    assert_agrees(
        &of(&disk, 512),
        &["gpt (the primary copy, 0 partitions)", "gpt (the backup copy, 0 partitions)", both[2]],
        &[],
    );

    let disk = sfdisk(16 * MIB, MBR);
    assert_agrees(&of(&disk, 512), &["mbrman (3 primary partitions)", "mbrman (3 logical partitions)"], &[]);
    // A hybrid image starts with its partition.
    let mut disk = vec![0; 4 * MIB];
    put(&mut disk, 0, &[(0, 0x80, 0x17, 0, 100)]);
    assert_agrees(&of(&disk, 512), &["mbrman (1 primary partition)"], &[]);
    let disk = sfdisk(16 * MIB, "label: dos\nstart=2048, size=2048, type=83\nstart=8192, size=20000, type=f\n");
    assert_agrees(&of(&disk, 512), &["mbrman (2 primary partitions)", "mbrman (0 logical partitions)"], &[]);
}

#[test]
fn large_sectors_agree() {
    let disk = made(
        16 * MIB,
        "loop=$(losetup -f --show -b 4096 $DISK); trap 'losetup -d $loop' EXIT
         sfdisk -q --no-reread --no-tell-kernel $loop <<'TABLE'\nlabel: gpt\nsize=1M, name=one\nsize=2M, name=two\nTABLE\nsync $loop",
    );
    let opinion = of(&disk, 4096);
    assert_agrees(
        &opinion,
        &[
            "gpt (the primary copy, 2 partitions)",
            "gpt (the backup copy, 2 partitions)",
            "mbrman (the GPT's boot sector)",
        ],
        &[],
    );
    let disk = made(
        16 * MIB,
        &format!(
            "loop=$(losetup -f --show -b 4096 $DISK); trap 'losetup -d $loop' EXIT
             sfdisk -q --no-reread --no-tell-kernel $loop <<'TABLE'\n{MBR}\nTABLE\nsync $loop"
        ),
    );
    assert_agrees(&of(&disk, 4096), &["mbrman (3 primary partitions)", "mbrman (3 logical partitions)"], &[]);
}

#[test]
fn other_sizes_agree() {
    for target in [15 * MIB, 18 * MIB, 16 * MIB + SECTOR] {
        for (table, asked) in [(GPT, 3), (MBR.replace("12M", "11M").as_str(), 2)] {
            let (plan, target) = restored(&sfdisk(16 * MIB, table), 512, target);
            let opinion = second_opinion(&plan, 512, &target);
            assert_eq!(opinion.disagreements, Vec::<String>::new());
            assert_eq!((opinion.asked.len(), opinion.not_asked.len()), (asked, 0), "{opinion:?}");
        }
    }
}

/// Puts records `(slot, indicator, type, start, size)` into a boot record.
fn put(disk: &mut [u8], lba: usize, records: &[(usize, u8, u8, u32, u32)]) {
    let sector = &mut disk[lba * SECTOR..][..SECTOR];
    for (slot, indicator, os_type, start, size) in records {
        let record = &mut sector[0x1be + slot * 16..][..16];
        record[0] = *indicator;
        record[4] = *os_type;
        record[8..12].copy_from_slice(&start.to_le_bytes());
        record[12..16].copy_from_slice(&size.to_le_bytes());
    }
    sector[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
}

#[test]
fn tables_that_a_crate_misreads_are_not_given_to_it() {
    // Logical partitions that are not in ascending order.
    let mut unsorted = vec![0; 4 * MIB];
    put(&mut unsorted, 0, &[(0, 0x80, 0x83, 10, 50), (1, 0, 0x05, 100, 200)]);
    put(&mut unsorted, 100, &[(0, 0, 0x83, 10, 5), (1, 0, 0x05, 30, 20)]);
    put(&mut unsorted, 130, &[(0, 0, 0x83, 10, 5), (1, 0, 0x05, 15, 20)]);
    put(&mut unsorted, 115, &[(0, 0, 0x83, 5, 5)]);
    let records = "mbrman (3 of 3 extended boot records, each by itself)";
    assert_agrees(&of(&unsorted, 512), &["mbrman (2 primary partitions)", records], &["ascending order"]);

    let mut two = vec![0; 4 * MIB];
    put(&mut two, 0, &[(0, 0, 0x0f, 10, 50), (1, 0, 0x05, 100, 200)]);
    put(&mut two, 10, &[(0, 0, 0x83, 1, 5)]);
    put(&mut two, 100, &[(0, 0, 0x83, 10, 5), (2, 0, 0x83, 40, 5)]);
    let records = "mbrman (2 of 2 extended boot records, each by itself)";
    assert_agrees(&of(&two, 512), &["mbrman (2 primary partitions)", records], &["the first extended partition alone"]);

    // A chain with a loop or a dead end, a type that only mbrman takes for extended, zero-length entries.
    let mut broken = unsorted.clone();
    put(&mut broken, 115, &[(1, 0, 0x05, 0, 20)]);
    assert_eq!(of(&broken, 512).disagreements, Vec::<String>::new());
    let mut broken = unsorted.clone();
    put(&mut broken, 115, &[(1, 0, 0x05, 150, 20)]);
    assert_eq!(of(&broken, 512).disagreements, Vec::<String>::new());
    let mut odd = unsorted.clone();
    put(&mut odd, 0, &[(2, 0, 0xc5, 400, 10), (3, 0, 0x83, 500, 0)]);
    assert_eq!(of(&odd, 512).disagreements, Vec::<String>::new());
    put(&mut odd, 0, &[(2, 0, 0xc5, 5, 0), (3, 0, 0, 500, 7)]);
    assert_eq!(of(&odd, 512).disagreements, Vec::<String>::new());

    // Other entry sizes, and a longer header.
    let long = edited(&sfdisk(16 * MIB, GPT), |header| header[0x0c..0x10].copy_from_slice(&96_u32.to_le_bytes()));
    let opinion = of(&long, 512);
    assert_agrees(&opinion, &["mbrman (the GPT's boot sector)"], &["header has 96 bytes", "header has 96 bytes"]);
    let wide = edited(&sfdisk(16 * MIB, "label: gpt\nsize=1M"), |header| {
        header[0x50..0x54].copy_from_slice(&64_u32.to_le_bytes());
        header[0x54..0x58].copy_from_slice(&256_u32.to_le_bytes());
    });
    assert_agrees(&of(&wide, 512), &["mbrman (the GPT's boot sector)"], &["256 bytes", "256 bytes"]);

    // A name with a surrogate pair.
    let mut disk = sfdisk(16 * MIB, GPT);
    let end = disk.len();
    for at in [2 * SECTOR, end - 33 * SECTOR] {
        disk[at + 0x38..at + 0x3c].copy_from_slice(&[0x34, 0xd8, 0x1e, 0xdd]);
    }
    let both = [
        "gpt (the primary copy, 3 partitions)",
        "gpt (the backup copy, 3 partitions)",
        "mbrman (the GPT's boot sector)",
    ];
    assert_agrees(&of(&edited(&disk, |_| {}), 512), &both, &[]);
    // A name with a lone surrogate, and a copy that was already damaged at the backup.
    let mut disk = sfdisk(16 * MIB, GPT);
    disk[2 * SECTOR + 0x38..2 * SECTOR + 0x3a].copy_from_slice(&[0, 0xd8]);
    let end = disk.len();
    disk[end - 33 * SECTOR + 0x38..end - 33 * SECTOR + 0x3a].copy_from_slice(&[0, 0xd8]);
    let lone = edited(&disk, |_| {});
    let both = [
        "gpt (the primary copy, 3 partitions)",
        "gpt (the backup copy, 3 partitions)",
        "mbrman (the GPT's boot sector)",
    ];
    assert_agrees(&of(&lone, 512), &both, &["name of partition 1", "name of partition 1"]);
    let mut half = sfdisk(16 * MIB, GPT);
    half[SECTOR + 0x30] ^= 1;
    assert_agrees(&of(&half, 512), &both[1..], &["the primary copy: it was damaged on the source: its checksum"]);
    let mut half = sfdisk(16 * MIB, GPT);
    half[end - SECTOR..].fill(0);
    assert_agrees(&of(&half, 512), &[both[0], both[2]], &["the backup copy: the source had none"]);
    // A grown disk, whose backup copy is not at its end.
    let mut grown = sfdisk(16 * MIB, GPT);
    grown.resize(18 * MIB, 0);
    assert_agrees(&of(&grown, 512), &both, &[]);
    // A protective record with an invalid boot indicator.
    let mut odd = sfdisk(16 * MIB, GPT);
    odd[0x1be] = 0x01;
    assert_agrees(&of(&odd, 512), &both[..2], &["boot indicators"]);
}

#[test]
fn an_image_or_a_disk_without_a_table_is_no_question() {
    let (mut plan, target) = restored(&sfdisk(16 * MIB, GPT), 512, 16 * MIB);
    plan.steps.clear();
    let opinion = second_opinion(&plan, 512, &target);
    assert_agrees(&opinion, &[], &["an image of the whole disk"]);
    plan.expected.table = Table { kind: TableKind::None, uuid: None, used_copy: None };
    assert_eq!(second_opinion(&plan, 512, &target), TableOpinion::default());
    assert_eq!(TableOpinion::default().lines(), Vec::<String>::new());
}

/// Both headers changed in the same way, with matching checksums.
fn edited(disk: &[u8], edit: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut disk = disk.to_vec();
    let last = disk.len() - SECTOR;
    for at in [SECTOR, last] {
        edit(&mut disk[at..at + SECTOR]);
        let field = |disk: &[u8], at: usize| u32::from_le_bytes(disk[at..at + 4].try_into().unwrap()) as usize;
        let array = field(&disk, at + 0x48) * SECTOR;
        let len = field(&disk, at + 0x50) * field(&disk, at + 0x54);
        let crc = crc32fast::hash(&disk[array..array + len]);
        disk[at + 0x58..at + 0x5c].copy_from_slice(&crc.to_le_bytes());
        disk[at + 0x10..at + 0x14].fill(0);
        let crc = crc32fast::hash(&disk[at..at + field(&disk, at + 0x0c)]);
        disk[at + 0x10..at + 0x14].copy_from_slice(&crc.to_le_bytes());
        assert!(Header::decode(&disk[at..at + SECTOR], Lba((at / SECTOR) as u64)).unwrap().damage.is_none());
    }
    disk
}

/// A restore whose target changed between writing and reading back.
fn altered(disk: &Vec<u8>, alter: impl Fn(&mut Vec<u8>)) -> Vec<String> {
    let (plan, mut target) = restored(disk, 512, disk.len());
    alter(&mut target);
    second_opinion(&plan, 512, &target).disagreements
}

#[test]
fn a_table_that_is_not_as_planned_is_found_with_both_opinions() {
    let gpt = sfdisk(16 * MIB, GPT);
    let end = gpt.len();
    let has =
        |found: &[String], part: &str| assert!(found.iter().any(|what| what.contains(part)), "{part}: {found:#?}");
    // The checksums do not match.
    let found = altered(&gpt, |disk| disk[2 * SECTOR + 0x80 + 0x28] ^= 1);
    has(&found, "GPT primary entries: what is read is not what was written, from byte 1192 on");
    has(&found, "the primary copy: the plan has a sound one, and gpt finds none");
    assert!(!found.iter().any(|what| what.contains("the backup copy")), "{found:?}");
    // The checksums match, as after a change by firmware or another tool: only the values differ.
    let alter = |at: usize, xor: u8| {
        altered(&gpt, |disk| {
            disk[2 * SECTOR + 0x80 + at] ^= xor;
            disk[end - 33 * SECTOR + 0x80 + at] ^= xor;
            *disk = edited(disk, |_| {});
        })
    };
    has(&alter(0x28, 1), "partition 2: the plan has its last sector at 10239, and gpt reads 10238");
    has(&alter(0x28, 1), "partition 2: the plan has its end at sector 10240, and gpt reads 10239");
    has(&alter(0x21, 1), "partition 2: the plan has its first sector at 8192, and gpt reads 8448");
    has(&alter(0, 1), "partition 2: the plan has the type 0fc63daf-");
    has(&alter(0x10, 1), "partition 2: the plan has the GUID");
    has(&alter(0x30, 4), "partition 2: the plan has the boot flag true, and gpt reads false");
    has(&alter(0x36, 1), "partition 2: the plan has the attributes 0x8800000000000005, and gpt reads 0x8801");
    has(&alter(0x38, 1), "partition 2: the plan has the name `root");
    let found = altered(&gpt, |disk| {
        disk[2 * SECTOR..2 * SECTOR + 0x80].fill(0);
        disk[2 * SECTOR + 0x200] = 7;
        *disk = edited(disk, |_| {});
    });
    has(&found, "partition 1: the plan has one, and gpt reads none in the primary copy");
    has(&found, "partition 5: the plan has none, and gpt reads one in the primary copy");
    has(&altered(&gpt, |disk| *disk = edited(disk, |header| header[0x38] ^= 1)), "the disk GUID");
    let wide = |header: &mut [u8]| header[0x54..0x58].copy_from_slice(&256_u32.to_le_bytes());
    has(&altered(&gpt, |disk| wide(&mut disk[SECTOR..])), "the target has others");
    has(&altered(&gpt, |disk| disk[end - SECTOR..].fill(0)), "the backup copy: the plan has a");
    has(&altered(&gpt, |disk| disk[0x1be + 4] = 0x83), "the GPT's boot sector, record 1: the plan has the type 0xee");

    let mbr = sfdisk(16 * MIB, MBR);
    has(&altered(&mbr, |disk| disk[0x1be] = 0), "partition 1: the plan has the boot flag true, and mbrman reads false");
    has(&altered(&mbr, |disk| disk[0x1ce + 4] = 7), "partition 2: the plan has the type 0x0c, and mbrman reads 0x07");
    has(&altered(&mbr, |disk| disk[0x1b8] = 0), "the plan has the disk signature 1234abcd, and mbrman reads 1234ab00");
    has(&altered(&mbr, |disk| disk[0x1fe] = 0), "the boot sector: the plan has a sound one, and mbrman reads none");
    let first = 2048 + 2 * 2048;
    let found = altered(&mbr, |disk| disk[first * SECTOR + 0x1be + 8] ^= 1);
    has(&found, "partition 5: the plan has its first sector at 8192, and mbrman reads 8193");
    // A link to nowhere, and one that ends the chain early.
    let found = altered(&mbr, |disk| disk[first * SECTOR + 0x1ce + 8] ^= 1);
    has(&found, "the plan has a chain of logical partitions that is in order, and the target has not");
    let found = altered(&mbr, |disk| disk[first * SECTOR + 0x1ce..first * SECTOR + 0x1de].fill(0));
    has(&found, "partition 6: the plan has one, and mbrman reads none");
}

/// The table is wrong only where volbak's writer and the planned partitions differ.
#[test]
fn a_plan_that_contradicts_itself_is_found() {
    for (script, part) in [(GPT, "and gpt reads"), (MBR, "and mbrman reads")] {
        let (mut plan, target) = restored(&sfdisk(16 * MIB, script), 512, 16 * MIB);
        plan.expected.regions[1].start_bytes += 512;
        let found = second_opinion(&plan, 512, &target).disagreements;
        assert!(found.iter().any(|what| what.starts_with("partition 2") && what.contains(part)), "{found:?}");
    }
}

/// Arbitrary content on the target: each differing byte is found, nothing panics, and the output stays short.
#[test]
fn any_change_is_found_and_none_does_harm() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap() % below
    };
    let mut unsorted = vec![0; 4 * MIB];
    put(&mut unsorted, 0, &[(0, 0x80, 0x83, 10, 50), (1, 0, 0x05, 100, 200)]);
    put(&mut unsorted, 100, &[(0, 0, 0x83, 10, 5), (1, 0, 0x05, 30, 20)]);
    put(&mut unsorted, 130, &[(0, 0, 0x83, 10, 5), (1, 0, 0x05, 15, 20)]);
    put(&mut unsorted, 115, &[(0, 0, 0x83, 5, 5)]);
    for disk in [sfdisk(16 * MIB, GPT), sfdisk(16 * MIB, MBR), unsorted] {
        let (plan, target) = restored(&disk, 512, disk.len());
        let pieces: Vec<(usize, usize)> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Write { start_bytes, bytes, .. } => Some((usize::try_from(*start_bytes).unwrap(), bytes.len())),
                _ => None,
            })
            .collect();
        let mut changed = target.clone();
        for _ in 0..400 {
            for (start, len) in &pieces {
                changed[*start..start + len].copy_from_slice(&target[*start..start + len]);
            }
            for _ in 0..=random(6) {
                let (start, len) = pieces[random(pieces.len())];
                // Mostly in number fields.
                let at = start + if len == SECTOR { 0x1b8 + random(72) } else { random(len.min(512)) };
                changed[at] = if random(3) == 0 { 0xff } else { u8::try_from(random(256)).unwrap() };
            }
            if random(2) == 0 && plan.expected.table.kind == TableKind::Gpt {
                // With matching checksums.
                for at in [SECTOR, changed.len() - SECTOR] {
                    changed[at + 0x10..at + 0x14].fill(0);
                    let crc = crc32fast::hash(&changed[at..at + 92]);
                    changed[at + 0x10..at + 0x14].copy_from_slice(&crc.to_le_bytes());
                }
            }
            let differs = pieces.iter().any(|(start, len)| changed[*start..start + len] != target[*start..start + len]);
            let opinion = second_opinion(&plan, 512, &changed);
            assert_eq!(opinion.disagreements.is_empty(), !differs, "{opinion:?}");
            assert!(opinion.disagreements.len() <= 21);
            assert!(!opinion.not_asked.iter().any(|what| what.contains("panicked")), "{opinion:?}");
        }
    }
}
