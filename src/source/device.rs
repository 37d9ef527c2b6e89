//! Block devices and other nodes of the file tree: their type, users and length. Opening a path here cannot hang
//! and has no effect on the node.

mod loops;
mod mounts;
mod node;
mod sysfs;
mod users;
mod written;

pub(crate) use loops::{files_below, loop_over, writable_loops_of};
pub(crate) use mounts::is_swap_file;
pub(crate) use node::{DeviceNumber, Node, NodeKind, length_bytes, sector_size_bytes};
pub(crate) use sysfs::{disks_below, dm_uuid, related_to, written_sectors};
pub(crate) use users::{check_kernel_is_seen, holder_of, mounted_elsewhere, open_unused, other_way_to, user_of};
pub(crate) use written::WriteWatch;
