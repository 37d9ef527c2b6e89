//! NTFS: `$Bitmap`, of which a volume that was not in use must have all that the master file table maps. One that was in
//! use has what its log allocates and what the table maps besides. docs/decisions/0046 says why that is enough.

mod boot;
mod hibernation;
mod log;
mod record;
mod shadow;
mod table;

use std::sync::Arc;

use self::boot::Boot;
use self::record::{DATA, Record, Runs, VOLUME_INFORMATION};
use self::table::Table;
use super::map::{RunSet, UsedMap, Whole};
use crate::field::le16;
use crate::outside::{BlockRead, Cancel};
use crate::units::ByteRange;

const MIRROR_RECORD: u64 = 1;
const LOG_RECORD: u64 = 2;
const VOLUME_RECORD: u64 = 3;
const BITMAP_RECORD: u64 = 6;
/// The boot code behind the boot sector, `$Boot`.
const BOOT_BYTES: u64 = 8192;
/// The bitmap is read in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;
const FLAG_DIRTY: u16 = 0x1;

/// The map of the volume in `blocks`.
pub(super) fn map(blocks: &Arc<dyn BlockRead>, cancel: &Cancel) -> Result<UsedMap, Whole> {
    let blocks = blocks.as_ref();
    let boot = Boot::read(blocks)?;
    shadow::check(blocks)?;
    let table = Table::open(blocks, &boot)?;
    let len = blocks.len_bytes();
    let mut runs = RunSet::new(len);
    runs.add(ByteRange::new(0, BOOT_BYTES));
    // The second boot sector lies behind the last cluster.
    let content_end = boot.clusters.range(boot.clusters.count, 0).start;
    runs.add(ByteRange::new(content_end, len.saturating_sub(content_end)));
    let bitmap = table.runs_of(BITMAP_RECORD, DATA)?;
    add_bitmap(&mut runs, blocks, &boot, &bitmap, cancel)?;

    let is_dirty = is_marked_dirty(&table.record(VOLUME_RECORD)?)?;
    let log = table.runs_of(LOG_RECORD, DATA)?;
    let allocations = log::allocations(blocks, &boot, &log)?;
    let was_in_use = is_dirty || allocations.is_some();
    if !was_in_use {
        table.check_mirror(MIRROR_RECORD)?;
        let map = runs.finish();
        let hibernation_file = table.for_each_run(cancel, |record, first, count| {
            if map.covers(boot.clusters.range(first, count)) {
                Ok(())
            } else {
                Err(Whole::in_doubt(format!("cluster {first} of file record {record} is free in $Bitmap")))
            }
        })?;
        hibernation_file.map_or(Ok(()), |number| hibernation::check(&table, blocks, &boot, number))?;
        return Ok(map);
    }
    for (first, count) in allocations.unwrap_or_default() {
        runs.add(boot.clusters.range(first, count));
    }
    let hibernation_file = table.for_each_run(cancel, |_, first, count| {
        runs.add(boot.clusters.range(first, count));
        Ok(())
    })?;
    hibernation_file.map_or(Ok(()), |number| hibernation::check(&table, blocks, &boot, number))?;
    Ok(runs.finish())
}

/// `VOLUME_IS_DIRTY` of `$VOLUME_INFORMATION`.
fn is_marked_dirty(volume: &Record) -> Result<bool, Whole> {
    let found = volume.attributes().find(|attribute| attribute.kind == VOLUME_INFORMATION);
    let flags = found.and_then(|attribute| le16(attribute.value()?, 10));
    flags.map(|flags| flags & FLAG_DIRTY != 0).ok_or_else(|| Whole::in_doubt("its $Volume has no volume information"))
}

fn add_bitmap(
    runs: &mut RunSet,
    blocks: &dyn BlockRead,
    boot: &Boot,
    bitmap: &Runs,
    cancel: &Cancel,
) -> Result<(), Whole> {
    let wanted = boot.clusters.count.div_ceil(8);
    if bitmap.initialised_bytes < wanted || !bitmap.is_plain {
        return Err(Whole::in_doubt("its $Bitmap is shorter than the volume, compressed or sparse"));
    }
    let mut at = 0;
    let mut buf = Vec::new();
    while at < wanted {
        if cancel.is_cancelled() {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        let piece = PIECE_BYTES.min(wanted - at);
        buf.resize(usize::try_from(piece).unwrap_or(0), 0);
        bitmap.read(blocks, boot, at, &mut buf)?;
        boot.clusters.add_used(runs, at * 8, &buf);
        at += piece;
    }
    Ok(())
}
