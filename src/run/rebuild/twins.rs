//! Other devices of this machine that hold a btrfs of the same UUID: the kernel takes both for one filesystem, and
//! might write to the wrong one.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::plan::{DiskPlan, Step};
use super::target::Target;
use crate::layout::probe::btrfs_uuid;
use crate::outside::FileBlocks;
use crate::shown;

/// The unit of `/sys/class/block/NAME/size` (Linux, Documentation/ABI/stable/sysfs-block), for devices of any
/// sector size.
const SYSFS_SECTOR_BYTES: u64 = 512;

/// Why the plan cannot be carried out because of such devices, one line each.
pub(super) fn refusals(plan: &DiskPlan, target: &Target) -> Vec<String> {
    let made: Vec<(&str, &str)> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Make(made) if made.fs == "btrfs" => Some((made.region.as_str(), made.uuid.as_deref()?)),
            _ => None,
        })
        .collect();
    if made.is_empty() {
        return Vec::new();
    }
    let mut refusals = Vec::new();
    for (device, uuid) in btrfs_devices() {
        for (region, _) in made.iter().filter(|(_, own)| *own == uuid) {
            if !target.is_or_shares(&device) {
                refusals.push(format!(
                    "{}: {} has a btrfs of the same UUID, and the kernel would take the two for one: detach it, or restore \
                     on another machine",
                    shown::path(region.as_bytes()),
                    shown::path(device.as_os_str().as_encoded_bytes())
                ));
            }
        }
    }
    refusals.sort_unstable();
    refusals
}

/// Every block device with a btrfs, and its UUID. They are found in sysfs: blkid reads /proc/partitions, where it
/// may miss a device while others come and go. A device that cannot be opened or read is skipped.
fn btrfs_devices() -> impl Iterator<Item = (PathBuf, String)> {
    fs::read_dir("/sys/class/block").into_iter().flatten().filter_map(Result::ok).filter_map(|entry| {
        let sectors: u64 = fs::read_to_string(entry.path().join("size")).ok()?.trim().parse().ok()?;
        let len_bytes = sectors.checked_mul(SYSFS_SECTOR_BYTES).filter(|len| *len > 0)?;
        // sysfs replaces a slash in the name by `!`.
        let node = Path::new("/dev").join(entry.file_name().to_str()?.replace('!', "/"));
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(&node).ok()?;
        btrfs_uuid(&FileBlocks::new(file, len_bytes)).map(|uuid| (node, uuid))
    })
}
