//! A block device in sysfs: its disk, its partitions, and its write counters.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::node::DeviceNumber;

/// Sectors written to and discarded from a device since boot; `None` if the kernel does not report them.
pub(crate) fn written_sectors(number: DeviceNumber) -> Option<(u64, u64)> {
    parse_written(&fs::read_to_string(number.sysfs().join("stat")).ok()?)
}

/// Documentation/block/stat.rst: field 7 is the sectors written, field 14 the sectors discarded (Linux 4.18).
fn parse_written(text: &str) -> Option<(u64, u64)> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let written = fields.get(6)?.parse().ok()?;
    Some((written, fields.get(13).and_then(|field| field.parse().ok()).unwrap_or(0)))
}

/// The UUID of a device-mapper device; `None` for other devices.
pub(crate) fn dm_uuid(number: DeviceNumber) -> Option<String> {
    Some(fs::read_to_string(number.sysfs().join("dm/uuid")).ok()?.trim().to_owned())
}

/// The device numbers (`st_rdev`) by which bytes of this block device can be reached: its own, its partitions' and
/// its disk's.
pub(crate) fn related_to(rdev: u64) -> Vec<u64> {
    let number = DeviceNumber::of_rdev(rdev);
    let mut all = vec![number];
    all.extend(partitions_of(number).into_iter().map(|(partition, _)| partition));
    all.extend(disk_of(number));
    all.into_iter().map(|number| rustix::fs::makedev(number.major, number.minor)).collect()
}

/// The disks on which this block device lies, through device-mapper, RAID and partitions. Only what the kernel knows: two disks
/// of a RAID controller or a SAN may be the same spindles. A loop device is a disk, whatever its file lies on.
pub(crate) fn disks_below(number: DeviceNumber) -> Vec<DeviceNumber> {
    let mut waiting = vec![number];
    let mut seen = Vec::new();
    let mut disks = Vec::new();
    while let Some(device) = waiting.pop() {
        if seen.contains(&device) {
            continue;
        }
        seen.push(device);
        let slaves = device.sysfs().join("slaves");
        let below: Vec<DeviceNumber> =
            names_in(&slaves).into_iter().filter_map(|name| number_in(&slaves.join(name))).collect();
        match (below.is_empty(), disk_of(device)) {
            (false, _) => waiting.extend(below),
            (true, Some(disk)) => waiting.push(disk),
            (true, None) => disks.push(device),
        }
    }
    disks
}

/// The disk of a partition: a partition's directory in sysfs lies in its disk's.
pub(super) fn disk_of(number: DeviceNumber) -> Option<DeviceNumber> {
    let directory = fs::canonicalize(number.sysfs()).ok().filter(|directory| directory.join("partition").exists())?;
    DeviceNumber::parse(&fs::read_to_string(directory.parent()?.join("dev")).ok()?)
}

pub(super) fn partitions_of(number: DeviceNumber) -> Vec<(DeviceNumber, String)> {
    let directory = number.sysfs();
    let partition = |name: String| {
        let directory = directory.join(&name);
        let text = fs::read_to_string(directory.join("dev")).ok()?;
        directory.join("partition").exists().then_some((DeviceNumber::parse(&text)?, name))
    };
    names_in(&directory).into_iter().filter_map(partition).collect()
}

pub(super) fn number_of_path(path: &Path) -> Option<DeviceNumber> {
    let metadata = fs::metadata(path).ok()?;
    metadata.file_type().is_block_device().then(|| DeviceNumber::of_rdev(metadata.rdev()))
}

pub(super) fn number_in(directory: &Path) -> Option<DeviceNumber> {
    DeviceNumber::parse(&fs::read_to_string(directory.join("dev")).ok()?)
}

pub(super) fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::parse_written;

    #[test]
    fn what_was_written_is_counted() {
        let line = "  100 0 800 5 7 0 56 1 0 4 6 2 0 16 0 0 0\n";
        assert_eq!(parse_written(line), Some((56, 16)));
        assert_eq!(parse_written("100 0 800 5 7 0 56 1 0 4 6"), Some((56, 0)));
        assert_eq!(parse_written("1 2 3"), None);
    }
}
