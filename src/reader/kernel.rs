//! The kernel's reader: a detached mount of the filesystem, and the loop devices and device maps below it.

mod btrfs;
pub mod device_map;
mod error_counters;
pub(super) mod filesystem;
mod list;
mod log;
pub mod loop_device;
pub mod mounted;
mod open_file;
mod scout;
pub mod scratch;
mod stat;
pub mod subvolumes;
mod superblocks;
pub mod tree;
mod tree_search;
