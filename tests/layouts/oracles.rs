//! What other tools see on an image, and how it compares with a layout.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use volbak::layout::{Handling, HoldsKind, Layout, Region, TableKind};

/// Number, first sector of 512 bytes, how many of them.
type Partition = (u32, u64, u64);

/// How the tools say that they find nothing on an image. Any other failure is the tool's, and no opinion.
const NOTHING_FOUND: [(&str, i32, &str); 5] = [
    ("sfdisk", 1, "does not contain a recognized partition table"),
    ("sfdisk", 1, "Invalid argument"),
    ("partx", 1, "failed to read partition table"),
    ("blkid", 2, ""),
    ("blkid", 8, "ambivalent result"),
];

/// What the tool prints, or nothing where it says that it finds nothing.
fn output(program: &str, args: &[&str], image: &Path) -> Option<String> {
    // kpartx gives up when another program takes the loop device that it was about to take.
    for _ in 0..100 {
        let output = Command::new(program)
            .args(args)
            .arg(image)
            .env("LC_ALL", "C")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        if output.status.success() {
            return Some(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let nothing = |(tool, code, words): (&str, i32, &str)| {
            tool == program && output.status.code() == Some(code) && said.contains(words)
        };
        if NOTHING_FOUND.into_iter().any(nothing) {
            return None;
        }
        assert!(said.contains("LOOP_SET_FD: Device or resource busy"), "{program}: {}: {said}", output.status);
    }
    panic!("{program}: each loop device was taken by another program, 100 times");
}

/// Compares numbers, places and, for sfdisk, types, names and GUIDs of the table's partitions.
pub(crate) fn compare_tables(image: &Path, layout: &Layout, disagree: &[&str]) -> String {
    let ours: Vec<&Region> = layout.regions.iter().filter(|region| region.number > 0 && is_partition(region)).collect();
    let mut wrong = String::new();
    let sector = u64::from(layout.source.sector_size);
    for (tool, found) in [
        ("sfdisk", sfdisk(image, sector).map(|found| found.into_iter().collect::<BTreeMap<_, _>>())),
        ("partx", partx(image, sector).map(|found| found.into_iter().map(|p| (p, String::new())).collect())),
        ("kpartx", kpartx(image).map(|found| found.into_iter().map(|p| (p, String::new())).collect())),
    ] {
        let found = found.unwrap_or_default();
        let mine: BTreeMap<Partition, String> = ours
            .iter()
            // kpartx shows two sectors of an extended partition, and no number for what it cannot map.
            .filter(|region| tool != "kpartx" || region.handling != Handling::Container || region.holds.fs.is_some())
            .map(|region| {
                let place = (region.number, region.start_bytes / 512, region.size_bytes / 512);
                (place, if tool == "sfdisk" { described(region, layout) } else { String::new() })
            })
            .collect();
        let found: BTreeMap<Partition, String> =
            found.into_iter().filter(|((_, _, size), _)| *size > 2 || tool != "kpartx").collect();
        let same = mine == found;
        match (same, disagree.contains(&tool)) {
            (false, false) => wrong += &format!("{tool} sees\n  {found:?}\nand we see\n  {mine:?}\n"),
            (true, true) => wrong += &format!("{tool} agrees, and docs/layout-choices.md says that it does not\n"),
            _ => {}
        }
    }
    wrong
}

fn is_partition(region: &Region) -> bool {
    region.lv.is_none() && !region.name.contains('.')
}

fn described(region: &Region, layout: &Layout) -> String {
    let type_id = match layout.table.kind {
        // sfdisk prints the type without 0x and without a leading zero.
        TableKind::Mbr => format!("{:x}", u8::from_str_radix(&region.type_id[2..], 16).expect("hex")),
        _ => region.type_id.clone(),
    };
    let uuid = if layout.table.kind == TableKind::Gpt { region.partition_uuid.as_str() } else { "" };
    let bootable = layout.table.kind == TableKind::Mbr && region.bootable;
    format!("{type_id} {uuid} {} {bootable}", region.partition_name)
}

fn sfdisk(image: &Path, sector: u64) -> Option<Vec<(Partition, String)>> {
    let json: serde_json::Value = serde_json::from_str(&output("sfdisk", &["-q", "-J"], image)?).ok()?;
    let table = &json["partitiontable"];
    let is_gpt = table["label"] == "gpt";
    let prefix = table["device"].as_str()?.to_owned();
    let text = |part: &serde_json::Value, key: &str| part[key].as_str().unwrap_or_default().to_owned();
    let parts = table["partitions"].as_array()?;
    let one = |part: &serde_json::Value| {
        let node = part["node"].as_str()?;
        let number: u32 = node.strip_prefix(&prefix)?.trim_start_matches('p').parse().ok()?;
        let place = (
            number,
            part["start"].as_u64()?.saturating_mul(sector) / 512,
            part["size"].as_u64()?.saturating_mul(sector) / 512,
        );
        let bootable = part["bootable"].as_bool().unwrap_or(false) && !is_gpt;
        let type_id = text(part, "type").to_lowercase();
        Some((place, format!("{type_id} {} {} {bootable}", text(part, "uuid").to_lowercase(), text(part, "name"))))
    };
    parts.iter().map(one).collect()
}

fn partx(image: &Path, sector: u64) -> Option<Vec<Partition>> {
    let size = format!("--sector-size={sector}");
    let text = output("partx", &["--raw", "--noheadings", &size, "-o", "NR,START,SECTORS"], image)?;
    text.lines()
        .map(|line| {
            let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().ok());
            // partx counts in 512 bytes whatever the sector is.
            Some((u32::try_from(numbers.next()??).ok()?, numbers.next()??, numbers.next()??))
        })
        .collect()
}

fn kpartx(image: &Path) -> Option<Vec<Partition>> {
    let text = output("kpartx", &["-l"], image)?;
    let mut found: Vec<Partition> = Vec::new();
    // loop0p1 : 0 204800 /dev/loop0 2048
    for line in text.lines().filter(|line| line.contains(" : ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = words.first()?.rsplit('p').next()?.parse().ok()?;
        let mut start: u64 = words.get(5)?.parse().ok()?;
        // A logical partition is shown inside the mapping of its extended one, which is dm-1 for partition 2.
        if let Some(minor) = words.get(4)?.strip_prefix("/dev/dm-") {
            let extended = minor.parse::<u32>().ok()? + 1;
            start += found.iter().find(|(number, ..)| *number == extended)?.1;
        }
        found.push((number, start, words.get(3)?.parse().ok()?));
    }
    Some(found)
}

/// Compares what each region holds with blkid's low-level probe of the same bytes. Regions in several pieces cannot be
/// shown to blkid; the lab compares those.
pub(crate) fn compare_contents(image: &Path, layout: &Layout, differs: &[&str]) -> String {
    let mut wrong = String::new();
    for region in &layout.regions {
        let [extent] = region.extents.as_slice() else { continue };
        let is_extended = region.handling == Handling::Container && region.holds.fs.is_none();
        if is_extended || region.name.starts_with("gap") || extent.length == 0 {
            continue;
        }
        let offset = extent.source_offset.to_string();
        let size = extent.length.to_string();
        let args = ["-p", "-O", &offset, "-S", &size, "-o", "export", "-u", "filesystem,raid,crypto,other"];
        let export = output("blkid", &args, image).unwrap_or_default();
        let theirs: BTreeMap<&str, &str> = export.lines().filter_map(|line| line.split_once('=')).collect();
        let get = |key: &str| theirs.get(key).copied().unwrap_or_default().to_owned();
        let label = if get("TYPE").contains("LVM2") { String::new() } else { unescaped(&get("LABEL")) };
        let them = [get("TYPE"), get("UUID"), label, version(&get("TYPE"), &get("VERSION"))];
        let holds = &region.holds;
        let known = !matches!(holds.kind, HoldsKind::Empty) && holds.fs.as_deref() != Some("dos");
        let own = |value: &Option<String>| value.clone().filter(|_| known).unwrap_or_default();
        let fs = own(&holds.fs);
        let us = [fs.clone(), own(&holds.uuid), own(&holds.label), version(&fs, &own(&holds.version))];
        match (them == us, differs.contains(&region.name.as_str())) {
            (false, false) => wrong += &format!("{}: blkid says {them:?}, we say {us:?}\n", region.name),
            (true, true) => wrong += &format!("{}: blkid agrees, and the case says that it does not\n", region.name),
            _ => {}
        }
    }
    let names: BTreeSet<&str> = layout.regions.iter().map(|region| region.name.as_str()).collect();
    for name in differs {
        if !names.contains(name) {
            wrong += &format!("blkid_differs names {name}, which is no region\n");
        }
    }
    wrong
}

/// blkid's export format escapes blanks with a backslash.
fn unescaped(value: &str) -> String {
    value.replace("\\ ", " ")
}

/// The version is compared where both have one and mean the same by it.
fn version(fs: &str, value: &str) -> String {
    let compared = ["ext2", "ext3", "ext4", "vfat", "swap", "crypto_LUKS", "linux_raid_member", "exfat", "squashfs"];
    if compared.contains(&fs) { value.to_owned() } else { String::new() }
}
