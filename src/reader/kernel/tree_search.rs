//! Searches the btrees of a btrfs through the kernel.
//!
//! One of six files with `unsafe`: rustix has no safe form of this ioctl. Sources: the kernel's
//! `include/uapi/linux/btrfs.h` and `btrfs_tree.h`.

#![allow(unsafe_code)]

use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::os::fd::AsFd;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use crate::field::{le32, le64};

const MAGIC: u8 = 0x94;
/// The length of `struct btrfs_ioctl_search_args_v2` without its buffer.
const SEARCH_HEAD_BYTES: usize = 112;
const TREE_SEARCH_V2: Opcode = opcode::read_write::<[u8; SEARCH_HEAD_BYTES]>(MAGIC, 17);

/// The length of the result buffer.
const SEARCH_BYTES: usize = 16 << 10;
/// The length of `struct btrfs_ioctl_search_header`.
const ITEM_HEAD_BYTES: usize = 32;

/// `BTRFS_ROOT_TREE_OBJECTID`.
pub(super) const ROOT_TREE: u64 = 1;
/// `BTRFS_ROOT_ITEM_KEY`.
pub(super) const ROOT_ITEM: u32 = 132;
/// Items of any type.
pub(super) const ANY_KIND: RangeInclusive<u32> = 0..=u32::MAX;

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

/// An item of a tree.
pub(super) struct Item<'a> {
    pub(super) objectid: u64,
    pub(super) kind: u32,
    pub(super) bytes: &'a [u8],
}

/// Calls `on_item` for the items with these ranges of object ids and types, in key order, until it breaks. Items
/// between the first and the last object id may have any type.
pub(super) fn search(
    root: impl AsFd,
    tree: u64,
    objects: RangeInclusive<u64>,
    kinds: RangeInclusive<u32>,
    mut on_item: impl FnMut(&Item<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut args = Box::new(SearchArgs {
        tree,
        min_objectid: *objects.start(),
        max_objectid: *objects.end(),
        min_offset: 0,
        max_offset: u64::MAX,
        min_transid: 0,
        max_transid: u64::MAX,
        min_type: *kinds.start(),
        max_type: *kinds.end(),
        items: u32::MAX,
        unused: 0,
        more_unused: [0; 4],
        buf_bytes: SEARCH_BYTES as u64,
        buf: [0; SEARCH_BYTES],
    });
    loop {
        args.items = u32::MAX;
        // SAFETY: the ioctl reads the head and fills the buffer after it; the head holds the buffer's length.
        unsafe { ioctl(&root, Updater::<TREE_SEARCH_V2, _>::new(&mut *args)) }?;
        let mut at = 0;
        let mut last = None;
        for _ in 0..args.items {
            // transid, objectid, offset, type, len.
            let head = |from: usize| le64(&args.buf, at + from);
            let (Some(objectid), Some(offset)) = (head(8), head(16)) else { break };
            let (Some(kind), Some(len)) = (le32(&args.buf, at + 24), le32(&args.buf, at + 28)) else { break };
            let start = at + ITEM_HEAD_BYTES;
            let Some(bytes) = usize::try_from(len).ok().and_then(|len| args.buf.get(start..start + len)) else { break };
            if on_item(&Item { objectid, kind, bytes }).is_break() {
                return Ok(());
            }
            last = Some((objectid, kind, offset));
            at = start + bytes.len();
        }
        // The next key. Each search returns at least one item unless it is at the end.
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
