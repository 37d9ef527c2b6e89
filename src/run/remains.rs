//! Removes the remains of interrupted runs: snapshots, device maps, temporary files.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::backup::{BackupError, BackupWorld};
use super::collect::tell;
use crate::error::with_causes;
use crate::events::{Observer, Severity};
use crate::reader::kernel::device_map::{DeviceMapError, remove_stale_maps};
use crate::shown::counted;
use crate::source;
use crate::store::Destination;
use crate::store::remains::remove_remains;

/// Removes the remains of earlier runs before `sources` are backed up: files in the destination, then system
/// resources. Only the latter can fail. Requires the destination's lock.
pub fn remove_before(
    sources: &[impl AsRef<OsStr>],
    destination: &Destination,
    world: &BackupWorld,
) -> Result<(), BackupError> {
    remove_all_remains(destination, &*world.observer);
    if wants_lvm(sources) {
        remove_stale(world)
    } else if rustix::process::geteuid().is_root() {
        remove_stale_device_maps(world)
    } else {
        // Only root can create or remove device-mapper devices.
        Ok(())
    }
}

/// Removes device maps and snapshots of volbak processes that no longer exist.
pub(super) fn remove_stale(world: &BackupWorld) -> Result<(), BackupError> {
    // Maps depend on snapshots, so they go first.
    remove_stale_maps(&*world.commands, &*world.observer)?;
    source::remove_stale(&[], &*world.commands, &*world.observer)?;
    Ok(())
}

/// Removes only device maps, for runs that do not need LVM. A host without dmsetup has none.
fn remove_stale_device_maps(world: &BackupWorld) -> Result<(), BackupError> {
    match remove_stale_maps(&*world.commands, &*world.observer) {
        Ok(_) => Ok(()),
        Err(DeviceMapError::NotRun(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes the remains of interrupted runs from the directories of all volumes; reports each file, and each
/// failure. Requires the lock.
pub(super) fn remove_all_remains(destination: &Destination, observer: &dyn Observer) {
    match destination.store().end_dead_uploads() {
        Ok(0) => {}
        Ok(count) => {
            let what = format!(
                "{} left by runs that were cut off; ended",
                counted(count as u64, "upload was", "uploads were")
            );
            tell(observer, Severity::Notice, destination.root().display().to_string(), what);
        }
        Err(error) => {
            tell(observer, Severity::Warning, destination.root().display().to_string(), with_causes(&error));
        }
    }
    // What is removed is looked up by its own name.
    let surveyed = destination.surveyed(&[]).and_then(|seen| Ok((seen.volume_names()?, seen)));
    let (names, destination) = match surveyed {
        Ok(found) => found,
        Err(error) => {
            tell(observer, Severity::Warning, destination.root().display().to_string(), with_causes(&error));
            return;
        }
    };
    for name in names {
        let volume = destination.existing_volume_directory(&name);
        match volume.and_then(|volume| volume.map_or_else(|| Ok(Vec::new()), |volume| remove_remains(&*volume))) {
            Ok(paths) => {
                for path in paths {
                    let what = "was left by a run that was cut off; removed";
                    tell(observer, Severity::Notice, path.display().to_string(), what);
                }
            }
            Err(error) => tell(observer, Severity::Warning, name, with_causes(&error)),
        }
    }
}

/// Whether one of these needs LVM's tools, since it is no path of a file.
fn wants_lvm(specs: &[impl AsRef<OsStr>]) -> bool {
    specs.iter().any(|spec| !Path::new(spec).is_file())
}
