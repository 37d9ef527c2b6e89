//! Queries to a mounted btrfs: its subvolumes, the disk space of its files, and its error counters.
//!
//! One of six files with `unsafe`: rustix has no safe form of these ioctls. Sources: the kernel's
//! `include/uapi/linux/btrfs.h` and `btrfs_tree.h`.

#![allow(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::subvolumes::{ROOT_INODE, Subvolume, TOP_ID, subvolume_of};
use super::tree_search::{ANY_KIND, ROOT_ITEM, ROOT_TREE, search};
use crate::field::{array, le64};

const MAGIC: u8 = 0x94;
/// `struct btrfs_ioctl_get_dev_stats`: devid, nr_items, flags, five values, and 121 unused ones.
type DevStats = [u64; 129];
const GET_DEV_STATS: Opcode = opcode::read_write::<DevStats>(MAGIC, 52);

/// `BTRFS_LAST_FREE_OBJECTID`: the highest id of a subvolume.
const LAST_FREE: u64 = u64::MAX - 255;
/// `BTRFS_EXTENT_DATA_KEY`.
const EXTENT_DATA: u32 = 108;

/// The names of the five counters of `BTRFS_IOC_GET_DEV_STATS`.
const COUNTERS: [&str; 5] = ["write", "read", "flush", "corruption", "generation"];

/// All subvolumes of a filesystem.
#[derive(Debug, Default)]
pub(super) struct Subvolumes {
    list: Vec<Subvolume>,
    left_out: HashSet<u64>,
}

impl Subvolumes {
    /// Queries the filesystem of `root`.
    pub(super) fn read(root: &impl AsFd) -> io::Result<Self> {
        let mut list = Vec::new();
        search(root, ROOT_TREE, TOP_ID..=u64::MAX, ANY_KIND, |item| {
            let is_subvolume = item.objectid == TOP_ID || (ROOT_INODE..=LAST_FREE).contains(&item.objectid);
            if item.kind == ROOT_ITEM && is_subvolume {
                list.extend(subvolume(item.objectid, item.bytes));
            }
            ControlFlow::Continue(())
        })?;
        Ok(Self { list, left_out: HashSet::new() })
    }

    /// Leaves out read-only snapshots whose source subvolume still exists: they hold earlier states of it. A
    /// subvolume that `btrfs receive` made is kept, since its data may exist nowhere else.
    pub(super) fn leave_out_snapshots(&mut self) {
        let uuids: HashSet<[u8; 16]> = self.list.iter().map(|one| one.uuid).collect();
        let is_left_out = |one: &&Subvolume| {
            let is_snapshot = one.parent_uuid != [0; 16] && one.received_uuid == [0; 16];
            one.read_only && is_snapshot && uuids.contains(&one.parent_uuid)
        };
        self.left_out = self.list.iter().filter(is_left_out).map(|one| one.id).collect();
    }

    /// Whether the subvolume with this root directory is left out.
    pub(super) fn leaves_out(&self, directory: &impl AsFd) -> bool {
        !self.left_out.is_empty() && subvolume_of(directory).is_ok_and(|of| self.left_out.contains(&of.id))
    }

    /// Bytes on disk that the files of the remaining subvolumes need without sharing, at their present compression.
    pub(super) fn unshared_bytes(&self, root: &impl AsFd) -> io::Result<u64> {
        let mut bytes = 0_u64;
        for one in self.list.iter().filter(|one| !self.left_out.contains(&one.id)) {
            search(root, one.id, 0..=u64::MAX, ANY_KIND, |item| {
                if item.kind == EXTENT_DATA {
                    bytes = bytes.saturating_add(extent_bytes(item.bytes).unwrap_or(0));
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(bytes)
    }
}

/// `struct btrfs_root_item`: flags at 208, uuid at 247, parent_uuid at 263, received_uuid at 279.
fn subvolume(id: u64, item: &[u8]) -> Option<Subvolume> {
    Some(Subvolume {
        id,
        read_only: le64(item, 208)? & 1 != 0,
        uuid: array(item, 247)?,
        parent_uuid: array(item, 263)?,
        received_uuid: array(item, 279)?,
    })
}

/// Disk space of an extent, or of the part of it that a file uses. `struct btrfs_file_extent_item`: ram_bytes at 8,
/// compression at 16, type at 20, disk_bytenr at 21, disk_num_bytes at 29, num_bytes at 45.
fn extent_bytes(item: &[u8]) -> Option<u64> {
    let (ram_bytes, is_compressed) = (le64(item, 8)?, *item.get(16)? != 0);
    match *item.get(20)? {
        0 => u64::try_from(item.len()).ok(),
        1 if le64(item, 21)? != 0 => {
            let (on_disk, in_file) = (u128::from(le64(item, 29)?), u128::from(le64(item, 45)?));
            let bytes = if is_compressed { (on_disk * in_file).checked_div(u128::from(ram_bytes))? } else { in_file };
            u64::try_from(bytes).ok()
        }
        // A hole or a preallocated extent.
        _ => Some(0),
    }
}

/// The non-zero error counters of device `device`, as `NAME COUNT`.
pub(super) fn counted_errors(root: &impl AsFd, device: u64) -> io::Result<Vec<String>> {
    let mut stats: DevStats = [0; 129];
    (stats[0], stats[1]) = (device, COUNTERS.len() as u64);
    // SAFETY: the ioctl reads and fills one struct of this length, which is also encoded in its number.
    unsafe { ioctl(root, Updater::<GET_DEV_STATS, _>::new(&mut stats)) }?;
    let counted = COUNTERS.iter().zip(&stats[3..]).filter(|(_, count)| **count > 0);
    Ok(counted.map(|(name, count)| format!("{name} {count}")).collect())
}

/// The device number in a superblock: `dev_item.devid`.
pub(super) fn device_of(superblock: &[u8]) -> Option<u64> {
    le64(superblock, 0xC9)
}

#[cfg(test)]
mod tests {
    use super::{Subvolume, Subvolumes, extent_bytes};

    #[test]
    fn only_read_only_snapshots_of_existing_subvolumes_are_left_out() {
        let live = Subvolume { id: 256, uuid: [1; 16], ..Subvolume::default() };
        let snapshot = |id| Subvolume { id, read_only: true, parent_uuid: [1; 16], ..live };
        let list = vec![
            live,
            snapshot(257),
            Subvolume { read_only: false, ..snapshot(258) },
            Subvolume { received_uuid: [7; 16], ..snapshot(259) },
            Subvolume { parent_uuid: [9; 16], ..snapshot(260) },
            Subvolume { parent_uuid: [0; 16], ..snapshot(261) },
        ];
        let mut subvolumes = Subvolumes { list, ..Subvolumes::default() };
        subvolumes.leave_out_snapshots();
        assert_eq!(subvolumes.left_out.into_iter().collect::<Vec<_>>(), [257]);
    }

    #[test]
    fn a_partly_used_extent_takes_its_share_of_the_compressed_size() {
        let mut item = [0; 53];
        item[8..16].copy_from_slice(&(128_u64 << 10).to_le_bytes());
        item[20] = 1;
        item[21] = 1;
        item[29..37].copy_from_slice(&4096_u64.to_le_bytes());
        item[45..53].copy_from_slice(&(64_u64 << 10).to_le_bytes());
        assert_eq!(extent_bytes(&item), Some(64 << 10));
        item[16] = 3;
        assert_eq!(extent_bytes(&item), Some(2048));
        item[8..16].fill(0);
        assert_eq!(extent_bytes(&item), None);
        item[20] = 2;
        assert_eq!(extent_bytes(&item), Some(0));
    }
}
