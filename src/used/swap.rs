//! Swap space: only its header is used. Pages that a running system has swapped out are of no use after a restart.

use super::map::{RunSet, UsedMap, Whole};
use crate::layout::Holds;
use crate::outside::BlockRead;
use crate::units::ByteRange;

/// The largest page that a header is in.
const PAGE_BYTES_MAX: u64 = 64 << 10;

/// The map of swap space that the layout has recognised as `holds`: not that of a suspended system, whose memory is in it.
pub(super) fn map(holds: &Holds, blocks: &dyn BlockRead) -> Result<UsedMap, Whole> {
    let page = holds.made_with.as_ref().and_then(|made| made.block_bytes).map_or(0, u64::from);
    let (Some(size), Some("1"), 4096..=PAGE_BYTES_MAX) = (holds.size_bytes, holds.version.as_deref(), page) else {
        return Err(Whole::no_map("it holds swap space of an old kind, of which nothing says how long it is"));
    };
    let len = blocks.len_bytes();
    let mut runs = RunSet::new(len);
    runs.add(ByteRange::new(0, page));
    runs.add(ByteRange::new(size, len.saturating_sub(size)));
    Ok(runs.finish())
}
