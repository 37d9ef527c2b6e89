//! Loop devices and their backing files.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::node::DeviceNumber;
use super::sysfs::{disks_below, names_in, number_of_path, related_to};

/// The backing file of a loop device; `None` for other devices and detached ones.
pub(super) fn backing_of(directory: &Path) -> Option<PathBuf> {
    let backing = fs::read(directory.join("loop/backing_file")).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(backing.trim_ascii_end())))
}

/// The same, if the loop device has all of it.
pub(super) fn whole_backing_of(directory: &Path) -> Option<PathBuf> {
    let is_zero = |name: &str| fs::read_to_string(directory.join(name)).is_ok_and(|text| text.trim() == "0");
    backing_of(directory).filter(|_| is_zero("loop/offset") && is_zero("loop/sizelimit"))
}

/// The loop devices over a file or device. An unlinked file is matched by its last name.
pub(super) fn loops_over_backing(wanted: &Path) -> Vec<String> {
    let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino(), found.rdev()));
    let wanted_id = id(wanted);
    let is_it = |name: &String| {
        let backing = backing_of(&Path::new("/sys/block").join(name));
        backing.is_some_and(|backing| match (wanted_id, id(&backing)) {
            (Some(wanted), Some(found)) if wanted.2 != 0 || found.2 != 0 => wanted.2 == found.2,
            (Some(wanted), Some(found)) => wanted == found,
            _ => backing == wanted,
        })
    };
    names_in(Path::new("/sys/block")).into_iter().filter(|name| name.starts_with("loop")).filter(is_it).collect()
}

/// The loop devices attached read-write to this file.
pub(crate) fn writable_loops_of(image: &Path) -> Vec<(String, DeviceNumber)> {
    let Ok(image) = fs::canonicalize(image) else { return Vec::new() };
    let is_writable_loop = |directory: &Path| {
        let backing = fs::read(directory.join("loop/backing_file")).ok()?;
        let backing = Path::new(OsStr::from_bytes(backing.trim_ascii_end()));
        let read_only = fs::read_to_string(directory.join("ro")).ok()?;
        if backing != image || read_only.trim() != "0" {
            return None;
        }
        DeviceNumber::parse(&fs::read_to_string(directory.join("dev")).ok()?)
    };
    names_in(Path::new("/sys/block"))
        .into_iter()
        .filter(|name| name.starts_with("loop"))
        .filter_map(|name| is_writable_loop(&Path::new("/sys/block").join(&name)).map(|number| (name, number)))
        .collect()
}

/// The files behind this block device: those of the loop devices on which it lies, through device-mapper, RAID, partitions and
/// other loop devices.
pub(crate) fn files_below(number: DeviceNumber) -> Vec<PathBuf> {
    let mut waiting = vec![number];
    let mut files = Vec::new();
    while let Some(device) = waiting.pop() {
        for backing in disks_below(device).into_iter().filter_map(|disk| backing_of(&disk.sysfs())) {
            match number_of_path(&backing) {
                Some(below) => waiting.push(below),
                None => files.push(backing),
            }
        }
    }
    files
}

/// A loop device over this file or block device, its partitions or its disk, writable or not.
pub(crate) fn loop_over(path: &Path) -> Option<String> {
    let wanted = fs::metadata(path).ok()?;
    let family = related_to(wanted.rdev());
    let is_it = |name: &String| {
        let Ok(backing) = fs::read(Path::new("/sys/block").join(name).join("loop/backing_file")) else { return false };
        let backing = Path::new(OsStr::from_bytes(backing.trim_ascii_end()));
        fs::metadata(backing).is_ok_and(|found| {
            if wanted.file_type().is_block_device() {
                found.file_type().is_block_device() && family.contains(&found.rdev())
            } else {
                (found.dev(), found.ino()) == (wanted.dev(), wanted.ino())
            }
        })
    };
    names_in(Path::new("/sys/block")).into_iter().filter(|name| name.starts_with("loop")).find(is_it)
}
