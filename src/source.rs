//! The source of a backup: a logical volume, which is read through a snapshot, or a block device or raw disk image,
//! which are read directly.
//!
//! `resolve` finds the source that the user named and refuses one that cannot be backed up. `freeze` returns a
//! [`SnapshotGuard`]: a source that does not change while it is read, or reports a change. [`remove_stale`] removes
//! snapshots left by a crash, [`list_volumes`] lists the volumes that a nightly run can back up.
//!
//! This module never writes to an origin, a device or an image, and never touches a snapshot that volbak did not
//! take.

mod context;
mod dev_nodes;
mod device;
mod error;
mod freeze;
mod guard;
mod health;
mod image;
mod look;
mod lvm;
mod naming;
mod nova_disk;
mod options;
mod origin;
mod plan;
mod refusal;
mod resolve;
mod snapshot;
mod snapshot_facts;
mod stale;
mod thin;
mod volumes;
mod watch;

pub use context::Context;
pub use dev_nodes::volumes_by_links;
pub use error::SourceError;
pub use freeze::freeze;
pub use guard::SnapshotGuard;
pub use health::HealthFlag;
pub(crate) use image::Fingerprint;
pub use look::{LookedAt, open_block_device};
pub use lvm::LvFacts;
pub use naming::{KEPT_TAG, OWNER_TAG_PREFIX, SNAPSHOT_TAG};
pub(crate) use nova_disk::NovaDisk;
pub use options::{BadSnapshotSize, FreezeOptions, SnapshotSize};
pub use origin::{Source, SourceKind};
pub use plan::snapshot_bytes;
pub use refusal::Refusal;
pub use resolve::{resolve, resolve_as};
pub use snapshot_facts::{SnapshotFacts, SnapshotKind};
pub use stale::{StaleSnapshots, remove_stale};
pub(crate) use thin::{PoolFacts, ThinSnapshot};
pub use volumes::{ListedVolume, Volumes, free_bytes, list_volumes, pool_of};

/// The name of the format of an image that is not raw, by the magic numbers at its start and end.
pub(crate) fn other_image_format(blocks: &dyn crate::outside::BlockRead) -> std::io::Result<Option<&'static str>> {
    image::format_of(blocks)
}

/// A loop device over this file or block device, over a part of it, or over the disk that it is a partition of. The
/// kernel does not treat that as a use: such a device can still be opened exclusively.
pub fn loop_device_over(path: &std::path::Path) -> Option<String> {
    device::loop_over(path)
}

/// The files behind this block device: those of the loop devices on which it lies.
pub fn files_below(rdev: u64) -> Vec<std::path::PathBuf> {
    device::files_below(device::DeviceNumber::of_rdev(rdev))
}

/// Another user of this block device's bytes, in words: a second loop device over the same file, or a user of the
/// device below it.
pub fn other_way_to(rdev: u64) -> Option<String> {
    device::other_way_to(device::DeviceNumber::of_rdev(rdev))
}

/// A user of this block device or of one of its partitions, in words. Mounts in any namespace count.
pub fn user_of_device(rdev: u64) -> Option<String> {
    let number = device::DeviceNumber::of_rdev(rdev);
    device::user_of(number).or_else(|| device::mounted_elsewhere(number))
}

/// The holder of a block device that cannot be opened exclusively, in words.
pub fn holder_of(rdev: u64) -> String {
    let number = device::DeviceNumber::of_rdev(rdev);
    device::user_of(number).unwrap_or_else(|| device::holder_of(number))
}

/// Whether a file is in use as swap space.
pub fn is_swap_file(path: &std::path::Path) -> bool {
    device::is_swap_file(path)
}

/// The disks, by major and minor number, on which this volume lies; none if it is inactive, or if sysfs does not say.
pub(crate) fn disks_of(volume: &LvFacts) -> Vec<(u32, u32)> {
    let Some((major, minor)) = volume.device else { return Vec::new() };
    let disks = device::disks_below(device::DeviceNumber { major, minor });
    disks.into_iter().map(|disk| (disk.major, disk.minor)).collect()
}

/// The device numbers (`st_rdev`) of the block devices that share bytes with this one: itself, its partitions, and
/// its disk.
pub fn related_devices(rdev: u64) -> Vec<u64> {
    device::related_to(rdev)
}
