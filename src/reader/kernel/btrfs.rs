//! What a mounted btrfs says of itself: its subvolumes, what its files take on the disk, and the errors that its own
//! system has counted.
//!
//! One of five files with `unsafe`: rustix has no safe form of these ioctls. Sources: the kernel's
//! `include/uapi/linux/btrfs.h` and `btrfs_tree.h`.

#![allow(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::subvolumes::subvolume_of;
use crate::field::{array, le32, le64};

const MAGIC: u8 = 0x94;
/// The length of `struct btrfs_ioctl_search_args_v2` without the buffer behind it.
const SEARCH_HEAD_BYTES: usize = 112;
const TREE_SEARCH_V2: Opcode = opcode::read_write::<[u8; SEARCH_HEAD_BYTES]>(MAGIC, 17);
/// `struct btrfs_ioctl_get_dev_stats`: devid, nr_items, flags, five values, and 121 that are unused.
type DevStats = [u64; 129];
const GET_DEV_STATS: Opcode = opcode::read_write::<DevStats>(MAGIC, 52);

/// What a search gives at once, in bytes.
const SEARCH_BYTES: usize = 16 << 10;
/// The length of `struct btrfs_ioctl_search_header`.
const ITEM_HEAD_BYTES: usize = 32;

/// The tree of trees, the tree of the first subvolume, and the numbers that later subvolumes have.
const ROOT_TREE: u64 = 1;
const FIRST_TREE: u64 = 5;
const FIRST_FREE: u64 = 256;
const LAST_FREE: u64 = u64::MAX - 255;
/// The types of the items that are looked at.
const ROOT_ITEM: u32 = 132;
const EXTENT_DATA: u32 = 108;
/// The root directory of each subvolume.
pub(super) const SUBVOLUME_INODE: u64 = FIRST_FREE;

/// The names of the five counters of `BTRFS_IOC_GET_DEV_STATS`.
const COUNTERS: [&str; 5] = ["write", "read", "flush", "corruption", "generation"];

/// A subvolume, as far as it decides on whether it is archived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Subvolume {
    tree: u64,
    is_read_only: bool,
    uuid: [u8; 16],
    /// The one that it is a snapshot of; zeros for none.
    parent: [u8; 16],
    /// The one that it is a copy of, made by `btrfs receive`; zeros for none.
    received: [u8; 16],
}

/// All subvolumes of a filesystem.
#[derive(Debug, Default)]
pub(super) struct Subvolumes {
    list: Vec<Subvolume>,
    left_out: HashSet<u64>,
}

impl Subvolumes {
    /// Asks the filesystem that `root` lies in.
    pub(super) fn read(root: &impl AsFd) -> io::Result<Self> {
        let mut list = Vec::new();
        search(root, ROOT_TREE, FIRST_TREE, |item| {
            let is_subvolume = item.objectid == FIRST_TREE || (FIRST_FREE..=LAST_FREE).contains(&item.objectid);
            if item.kind == ROOT_ITEM && is_subvolume {
                list.extend(subvolume(item.objectid, item.bytes));
            }
        })?;
        Ok(Self { list, left_out: HashSet::new() })
    }

    /// Leaves read-only snapshots out whose subvolume is still there: what they hold beyond it is what it was. One that
    /// `btrfs receive` made is data that lies nowhere else.
    pub(super) fn leave_out_snapshots(&mut self) {
        let uuids: HashSet<[u8; 16]> = self.list.iter().map(|one| one.uuid).collect();
        let is_left_out = |one: &&Subvolume| {
            one.is_read_only && one.parent != [0; 16] && one.received == [0; 16] && uuids.contains(&one.parent)
        };
        self.left_out = self.list.iter().filter(is_left_out).map(|one| one.tree).collect();
    }

    /// Whether the subvolume whose root directory this is, is left out.
    pub(super) fn leaves_out(&self, directory: &impl AsFd) -> bool {
        !self.left_out.is_empty() && subvolume_of(directory).is_ok_and(|of| self.left_out.contains(&of.id))
    }

    /// What the files of all subvolumes that are not left out take on the disk when none of it is shared, compressed as it
    /// is now.
    pub(super) fn unshared_bytes(&self, root: &impl AsFd) -> io::Result<u64> {
        let mut bytes = 0_u64;
        for one in self.list.iter().filter(|one| !self.left_out.contains(&one.tree)) {
            search(root, one.tree, 0, |item| {
                if item.kind == EXTENT_DATA {
                    bytes = bytes.saturating_add(extent_bytes(item.bytes).unwrap_or(0));
                }
            })?;
        }
        Ok(bytes)
    }
}

/// `struct btrfs_root_item`: flags at 208, uuid at 247, parent_uuid at 263, received_uuid at 279.
fn subvolume(tree: u64, item: &[u8]) -> Option<Subvolume> {
    Some(Subvolume {
        tree,
        is_read_only: le64(item, 208)? & 1 != 0,
        uuid: array(item, 247)?,
        parent: array(item, 263)?,
        received: array(item, 279)?,
    })
}

/// `struct btrfs_file_extent_item`: ram_bytes at 8, compression at 16, type at 20, disk_bytenr at 21, disk_num_bytes at 29,
/// num_bytes at 45. What an extent takes of the disk, or the part of it that a file has.
fn extent_bytes(item: &[u8]) -> Option<u64> {
    let (ram_bytes, is_compressed) = (le64(item, 8)?, *item.get(16)? != 0);
    match *item.get(20)? {
        0 => u64::try_from(item.len()).ok(),
        1 if le64(item, 21)? != 0 => {
            let (on_disk, in_file) = (u128::from(le64(item, 29)?), u128::from(le64(item, 45)?));
            let bytes = if is_compressed { (on_disk * in_file).checked_div(u128::from(ram_bytes))? } else { in_file };
            u64::try_from(bytes).ok()
        }
        // A hole, or allocated and not written.
        _ => Some(0),
    }
}

/// What the device with this number counted in errors, `NAME COUNT`; empty when there were none.
pub(super) fn counted_errors(root: &impl AsFd, device: u64) -> io::Result<Vec<String>> {
    let mut stats: DevStats = [0; 129];
    (stats[0], stats[1]) = (device, COUNTERS.len() as u64);
    // SAFETY: the ioctl reads and fills one struct of this length, which its number holds, too.
    unsafe { ioctl(root, Updater::<GET_DEV_STATS, _>::new(&mut stats)) }?;
    let counted = COUNTERS.iter().zip(&stats[3..]).filter(|(_, count)| **count > 0);
    Ok(counted.map(|(name, count)| format!("{name} {count}")).collect())
}

/// `struct btrfs_ioctl_search_args_v2` with its buffer.
#[repr(C)]
struct SearchArgs {
    tree: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    items: u32,
    unused: u32,
    more_unused: [u64; 4],
    buf_bytes: u64,
    buf: [u8; SEARCH_BYTES],
}

const _: () = assert!(size_of::<SearchArgs>() == SEARCH_HEAD_BYTES + SEARCH_BYTES);

struct Item<'a> {
    objectid: u64,
    kind: u32,
    bytes: &'a [u8],
}

/// Gives all items of a tree from object `first` on.
fn search(root: &impl AsFd, tree: u64, first: u64, mut on_item: impl FnMut(&Item<'_>)) -> io::Result<()> {
    let mut args = Box::new(SearchArgs {
        tree,
        min_objectid: first,
        max_objectid: u64::MAX,
        min_offset: 0,
        max_offset: u64::MAX,
        min_transid: 0,
        max_transid: u64::MAX,
        min_type: 0,
        max_type: u32::MAX,
        items: u32::MAX,
        unused: 0,
        more_unused: [0; 4],
        buf_bytes: SEARCH_BYTES as u64,
        buf: [0; SEARCH_BYTES],
    });
    loop {
        args.items = u32::MAX;
        // SAFETY: the ioctl reads the head, and fills the buffer behind it, whose length the head says.
        unsafe { ioctl(root, Updater::<TREE_SEARCH_V2, _>::new(&mut *args)) }?;
        let mut at = 0;
        let mut last = None;
        for _ in 0..args.items {
            // transid, objectid, offset, type, len.
            let head = |from: usize| le64(&args.buf, at + from);
            let (Some(objectid), Some(offset)) = (head(8), head(16)) else { break };
            let (Some(kind), Some(len)) = (le32(&args.buf, at + 24), le32(&args.buf, at + 28)) else { break };
            let start = at + ITEM_HEAD_BYTES;
            let Some(bytes) = usize::try_from(len).ok().and_then(|len| args.buf.get(start..start + len)) else { break };
            on_item(&Item { objectid, kind, bytes });
            last = Some((objectid, kind, offset));
            at = start + bytes.len();
        }
        // The next key; each search gives one item at least, or is at the end.
        let Some((objectid, kind, offset)) = last else { return Ok(()) };
        let next = match (offset.checked_add(1), kind.checked_add(1), objectid.checked_add(1)) {
            (Some(offset), ..) => Some((objectid, kind, offset)),
            (None, Some(kind), _) if u8::try_from(kind).is_ok() => Some((objectid, kind, 0)),
            (None, _, Some(objectid)) => Some((objectid, 0, 0)),
            _ => None,
        };
        let Some((objectid, kind, offset)) = next else { return Ok(()) };
        (args.min_objectid, args.min_type, args.min_offset) = (objectid, kind, offset);
    }
}

/// The number of the device that a superblock is for: `dev_item.devid`.
pub(super) fn device_of(superblock: &[u8]) -> Option<u64> {
    le64(superblock, 0xC9)
}

#[cfg(test)]
mod tests {
    use super::{Subvolume, Subvolumes, extent_bytes};

    #[test]
    fn only_read_only_snapshots_of_what_is_there_are_left_out() {
        let live = Subvolume { tree: 256, uuid: [1; 16], ..Subvolume::default() };
        let snapshot = |tree| Subvolume { tree, is_read_only: true, parent: [1; 16], ..live };
        let list = vec![
            live,
            snapshot(257),
            Subvolume { is_read_only: false, ..snapshot(258) },
            Subvolume { received: [7; 16], ..snapshot(259) },
            Subvolume { parent: [9; 16], ..snapshot(260) },
            Subvolume { parent: [0; 16], ..snapshot(261) },
        ];
        let mut subvolumes = Subvolumes { list, ..Subvolumes::default() };
        subvolumes.leave_out_snapshots();
        assert_eq!(subvolumes.left_out.into_iter().collect::<Vec<_>>(), [257]);
    }

    #[test]
    fn an_extent_takes_its_share_of_what_was_compressed() {
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
