//! Users of a block device, in words: mounts, swap space, other devices.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

use rustix::fs::OFlags;

use super::loops::{backing_of, loops_over_backing};
use super::mounts::{mount_point_of, swap_paths};
use super::node::{DeviceNumber, Node};
use super::sysfs::{disk_of, names_in, number_in, number_of_path, partitions_of};
use crate::source::error::SourceError;
use crate::source::refusal::Refusal;

/// Opens a block device exclusively (`O_EXCL`), so that it cannot be mounted or used by another device meanwhile.
/// If it is in use, the refusal names the user as far as the kernel reports it.
pub(crate) fn open_unused(node: &Node, number: DeviceNumber, name: &str) -> Result<File, SourceError> {
    let refused = |who| SourceError::Refused { name: name.to_owned(), reason: Refusal::InUse(who) };
    if let Some(who) = user_of(number) {
        return Err(refused(who));
    }
    node.open(OFlags::EXCL).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) {
            refused(holder_of(number))
        } else {
            SourceError::io("opening it", &node.path, error)
        }
    })
}

/// The holder of a device that cannot be opened exclusively, in words.
pub(crate) fn holder_of(number: DeviceNumber) -> String {
    let disk = disk_of(number);
    let of_disk = || Some(format!("its disk is {}", user_of_one(disk?)?));
    mounted_elsewhere(number).or_else(of_disk).unwrap_or_else(|| {
        "the kernel holds it for something that it does not name: ZFS, DRBD, a cluster, or a mount that /proc does not show"
            .to_owned()
    })
}

/// A mount of a device or of one of its partitions, in the mount namespace of any process.
pub(crate) fn mounted_elsewhere(number: DeviceNumber) -> Option<String> {
    let mut all = vec![(number, String::new())];
    all.extend(partitions_of(number));
    let mut seen = HashSet::new();
    for process in names_in(Path::new("/proc")).iter().filter_map(|name| name.parse::<u32>().ok()) {
        let directory = Path::new("/proc").join(process.to_string());
        let Ok(namespace) = fs::read_link(directory.join("ns/mnt")) else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        let mounts = fs::read(directory.join("mountinfo")).unwrap_or_default();
        for (number, partition) in &all {
            let is_it = |path: &Path| number_of_path(path) == Some(*number);
            if let Some(mount_point) = mount_point_of(&mounts, *number, is_it) {
                let what = if partition.is_empty() { String::new() } else { format!("its partition {partition} is ") };
                let at = mount_point.display();
                return Some(format!("{what}mounted on {at} in the mount namespace of process {process}"));
            }
        }
    }
    None
}

/// Another user of a device's bytes, in words: a second loop device over the same file, a user of a loop device's
/// backing device, or a user of a partition's disk; and so on downwards.
pub(crate) fn other_way_to(number: DeviceNumber) -> Option<String> {
    /// The maximum depth of a stack of devices.
    const DEPTH_MAX: usize = 32;
    let mut level = vec![number];
    for _ in 0..DEPTH_MAX {
        let mut below = Vec::new();
        for number in level {
            let directory = number.sysfs();
            below.extend(disk_of(number));
            let slaves = names_in(&directory.join("slaves")).into_iter();
            below.extend(slaves.filter_map(|name| number_in(&directory.join("slaves").join(name))));
            let Some(backing) = backing_of(&directory) else { continue };
            let own = fs::canonicalize(&directory).ok()?;
            let own = own.file_name()?.to_string_lossy().into_owned();
            let shown = backing.display();
            if let Some(other) = loops_over_backing(&backing).into_iter().find(|other| *other != own) {
                let use_of_it = number_in(&Path::new("/sys/block").join(&other))
                    .and_then(|number| user_of(number).or_else(|| mounted_elsewhere(number)));
                let use_of_it = use_of_it.map_or_else(String::new, |what| format!(", which is {what}"));
                return Some(format!("the device below it, {shown}, is also attached to /dev/{other}{use_of_it}"));
            }
            if swap_paths(&fs::read("/proc/swaps").unwrap_or_default()).contains(&backing) {
                return Some(format!("the device below it, {shown}, is used as swap space"));
            }
            if let Some(number) = number_of_path(&backing) {
                if let Some(what) = user_of(number).or_else(|| mounted_elsewhere(number)) {
                    return Some(format!("the device below it, {shown}, is in use: {what}"));
                }
                below.push(number);
            }
        }
        if below.is_empty() {
            return None;
        }
        level = below;
    }
    None
}

/// Checks that [`user_of`] and [`loop_over`] have /proc and /sys. Without them (a bare chroot or container) every
/// source would seem unused.
pub(crate) fn check_kernel_is_seen() -> Result<(), SourceError> {
    let unseen = |path: &str, source| SourceError::KernelUnseen { path: path.into(), source };
    for (path, is_directory) in [("/proc/self/mountinfo", false), ("/sys/block", true)] {
        let seen = if is_directory { fs::read_dir(path).map(drop) } else { fs::File::open(path).map(drop) };
        seen.map_err(|error| unseen(path, error))?;
    }
    Ok(())
}

/// A user of this device or of one of its partitions, in words. `None` is no proof; only an exclusive open is.
pub(crate) fn user_of(number: DeviceNumber) -> Option<String> {
    let of_partition =
        |(number, name): (DeviceNumber, String)| Some(format!("its partition {name} is {}", user_of_one(number)?));
    user_of_one(number).or_else(|| partitions_of(number).into_iter().find_map(of_partition))
}

fn user_of_one(number: DeviceNumber) -> Option<String> {
    let is_it = |path: &Path| number_of_path(path) == Some(number);
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    if let Some(mount_point) = mount_point_of(&mounts, number, is_it) {
        return Some(format!("mounted on {}", mount_point.display()));
    }
    if swap_paths(&fs::read("/proc/swaps").unwrap_or_default()).iter().any(|path| is_it(path)) {
        return Some("used as swap space".to_owned());
    }
    let holders = names_in(&number.sysfs().join("holders"));
    (!holders.is_empty()).then(|| format!("held by {}", shown_holders(&holders)))
}

fn shown_holders(holders: &[String]) -> String {
    let shown = |holder: &String| {
        let name = fs::read_to_string(Path::new("/sys/block").join(holder).join("dm/name"));
        name.map_or_else(|_| holder.clone(), |name| format!("{holder} ({})", name.trim()))
    };
    holders.iter().map(shown).collect::<Vec<_>>().join(", ")
}
