//! btrfs's chunk tree (btrfs documentation, "On-disk format"): the profiles of data and metadata.

use std::collections::BTreeSet;

use crate::field::{le16, le32, le64};
use crate::layout::window::Window;

/// The superblock's copy of the chunks that hold the chunk tree, and its maximum length.
const SYS_CHUNK_ARRAY_AT: usize = 0x32b;
const SYS_CHUNK_ARRAY_BYTES: usize = 2048;
const KEY_BYTES: usize = 17;
const CHUNK_ITEM_KEY: u8 = 228;
const HEADER_BYTES: usize = 101;
const LEVELS_MAX: u8 = 8;
/// The maximum number of nodes to read: a leaf of 16 KiB has about 200 chunks of at most 1 GiB.
const NODES_MAX: usize = 1024;

const DATA: u64 = 0x1;
const SYSTEM: u64 = 0x2;
const METADATA: u64 = 0x4;
const PROFILES: &[(u64, &str)] = &[
    (0x8, "raid0"),
    (0x10, "raid1"),
    (0x20, "dup"),
    (0x40, "raid10"),
    (0x80, "raid5"),
    (0x100, "raid6"),
    (0x200, "raid1c3"),
    (0x400, "raid1c4"),
];

/// The profiles of data, metadata and system chunks. Several during a conversion.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    pub(super) data: BTreeSet<&'static str>,
    pub(super) metadata: BTreeSet<&'static str>,
    pub(super) system: BTreeSet<&'static str>,
}

/// `None` if the tree cannot be read completely.
pub(super) fn profiles(window: &Window<'_>, sb: &[u8], node_bytes: u32) -> Option<Profiles> {
    let chunks = system_chunks(sb)?;
    let physical = |logical: u64| {
        let (start, _, at) = chunks.iter().find(|(start, len, _)| logical.wrapping_sub(*start) < *len)?;
        at.checked_add(logical - start)
    };
    let mut profiles = Profiles::default();
    let mut nodes = vec![(le64(sb, 0x58)?, *sb.get(0xc7)?)];
    let mut read = 0;
    while let Some((logical, level)) = nodes.pop() {
        read += 1;
        if read > NODES_MAX || level > LEVELS_MAX {
            return None;
        }
        let node = window.read(physical(logical)?, usize::try_from(node_bytes).ok()?)?;
        if le64(&node, 48)? != logical || *node.get(100)? != level {
            return None;
        }
        let items = usize::try_from(le32(&node, 96)?).ok()?;
        // The smallest item, a node pointer, has more than 25 bytes.
        if items > node.len() / 25 {
            return None;
        }
        for item in 0..items {
            if level > 0 {
                let at = HEADER_BYTES + item * (KEY_BYTES + 16);
                nodes.push((le64(&node, at + KEY_BYTES)?, level - 1));
                if nodes.len() > NODES_MAX {
                    return None;
                }
                continue;
            }
            let at = HEADER_BYTES + item * (KEY_BYTES + 8);
            if *node.get(at + 8)? == CHUNK_ITEM_KEY {
                let data = HEADER_BYTES.checked_add(usize::try_from(le32(&node, at + KEY_BYTES)?).ok()?)?;
                profiles.add(le64(&node, data.checked_add(24)?)?);
            }
        }
    }
    Some(profiles)
}

impl Profiles {
    fn add(&mut self, chunk_type: u64) {
        let name = PROFILES.iter().find(|(bit, _)| chunk_type & bit != 0).map_or("single", |(_, name)| name);
        for (bit, of) in [(DATA, &mut self.data), (METADATA, &mut self.metadata), (SYSTEM, &mut self.system)] {
            if chunk_type & bit != 0 {
                of.insert(name);
            }
        }
    }
}

/// Logical start and length, and the offset of the first copy on the device.
type Chunk = (u64, u64, u64);

fn system_chunks(sb: &[u8]) -> Option<Vec<Chunk>> {
    let len = usize::try_from(le32(sb, 0xa0)?).ok().filter(|len| *len <= SYS_CHUNK_ARRAY_BYTES)?;
    let array = sb.get(SYS_CHUNK_ARRAY_AT..SYS_CHUNK_ARRAY_AT + len)?;
    let mut chunks = Vec::new();
    let mut at = 0;
    while at < array.len() {
        let item = array.get(at + KEY_BYTES..)?;
        let stripes = usize::from(le16(item, 44)?);
        chunks.push((le64(array, at + 9)?, le64(item, 0)?, le64(item, 48 + 8)?));
        at += KEY_BYTES + 48 + stripes * 32;
    }
    Some(chunks)
}
