//! Where a backup's bytes come from: a logical volume, of which a snapshot is taken, or a block device or raw disk image,
//! which are read as they are.
//!
//! `resolve` finds what the user named and refuses what cannot be backed up. `freeze` gives a [`SnapshotGuard`]:
//! something that does not change while it is read, or says so. [`remove_stale`] removes the snapshots that a crash
//! left, [`list_volumes`] lists what a nightly run could back up.
//!
//! Nothing here ever writes to an origin, a device or an image, and no snapshot that volbak did not take is touched.

mod context;
mod device;
mod error;
mod freeze;
mod guard;
mod health;
mod image;
mod look;
mod lvm;
mod naming;
mod options;
mod origin;
mod plan;
mod refusal;
mod resolve;
mod snapshot;
mod snapshot_facts;
mod stale;
mod volumes;
mod watch;

pub use context::Context;
pub use error::SourceError;
pub use freeze::freeze;
pub use guard::SnapshotGuard;
pub use health::HealthFlag;
pub use look::{LookedAt, open_block_device};
pub use lvm::LvFacts;
pub use naming::{KEPT_TAG, OWNER_TAG_PREFIX, SNAPSHOT_TAG};
pub use options::{BadSnapshotSize, FreezeOptions, SnapshotSize};
pub use origin::{Source, SourceKind};
pub use plan::snapshot_bytes;
pub use refusal::Refusal;
pub use resolve::resolve;
pub use snapshot_facts::{SnapshotFacts, SnapshotKind};
pub use stale::{StaleSnapshots, remove_stale};
pub use volumes::{ListedVolume, Volumes, free_bytes, list_volumes};

/// The loop device that shows this file or block device, a part of it, or the disk that it is a partition of, if there
/// is one. The kernel itself does not take note of that: such a device can still be opened exclusively.
pub fn loop_device_over(path: &std::path::Path) -> Option<String> {
    device::loop_over(path)
}

/// What uses the bytes of this block device by another way than through it: a second loop device over its file, or what
/// uses the device that it lies on. In words.
pub fn other_way_to(rdev: u64) -> Option<String> {
    device::other_way_to(device::DeviceNumber::of_rdev(rdev))
}

/// What uses this block device or one of its partitions, in words; a mount in any namespace counts.
pub fn user_of_device(rdev: u64) -> Option<String> {
    let number = device::DeviceNumber::of_rdev(rdev);
    device::user_of(number).or_else(|| device::mounted_elsewhere(number))
}

/// What holds a block device that cannot be opened exclusively, in words.
pub fn holder_of(rdev: u64) -> String {
    let number = device::DeviceNumber::of_rdev(rdev);
    device::user_of(number).unwrap_or_else(|| device::holder_of(number))
}

/// Whether a file is used as swap space.
pub fn is_swap_file(path: &std::path::Path) -> bool {
    device::is_swap_file(path)
}

/// The numbers, as `st_rdev` has them, of the block devices that share bytes with this one: itself, its partitions, and
/// the disk that it is a partition of.
pub fn related_devices(rdev: u64) -> Vec<u64> {
    device::related_to(rdev)
}
