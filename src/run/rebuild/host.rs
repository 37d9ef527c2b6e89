//! Facts about this host: loop devices, volume groups, and the kernel's view of a device.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::reader::kernel::loop_device::LoopDevice;
use crate::units::ByteRange;

/// Logical volumes have no partitions in the kernel.
pub(super) fn has_partitions_in_kernel(device: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = std::fs::metadata(device) else { return false };
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ext_range"))
        .is_ok_and(|range| range.trim().parse::<u64>().is_ok_and(|range| range > 1))
}

/// Checks for loop devices, which every restore needs, while the target is still unchanged.
pub(super) fn can_make_loop_devices() -> io::Result<()> {
    let attached = rustix::fs::memfd_create("volbak-loop", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(io::Error::from)
        .and_then(|file| {
            let file = File::from(file);
            file.set_len(1 << 20)?;
            LoopDevice::attach(&file, ByteRange::new(0, 1 << 20), true)
        });
    attached.map(drop)
}

/// Volume groups with an active volume, in device-mapper's names: `VG-LV`, hyphens doubled.
pub(super) fn active_groups() -> BTreeSet<String> {
    let Ok(devices) = std::fs::read_dir("/sys/block") else { return BTreeSet::new() };
    devices
        .filter_map(Result::ok)
        .filter_map(|device| {
            let read = |name: &str| std::fs::read_to_string(device.path().join("dm").join(name)).ok();
            read("uuid")?.starts_with("LVM-").then_some(group_of_map(read("name")?.trim()))
        })
        .collect()
}

fn group_of_map(name: &str) -> String {
    // Replace doubled hyphens by a character that no name contains.
    let marked = name.replace("--", "\0");
    marked.split('-').next().unwrap_or_default().replace('\0', "-")
}

#[cfg(test)]
mod tests {
    use super::group_of_map;

    #[test]
    fn the_group_is_parsed_from_the_maps_name() {
        assert_eq!(group_of_map("vg0-root"), "vg0");
        assert_eq!(group_of_map("cinder--volumes-volume--1"), "cinder-volumes");
        assert_eq!(group_of_map("plain"), "plain");
    }
}
