//! Whether the volume has shadow copies (VSS). Windows copies a block into a store before it overwrites it, and reads what was not
//! overwritten from the volume: clusters that were freed since then belong to the shadow copy, and are free in `$Bitmap`.
//!
//! As libvshadow documents it ("Volume Shadow Snapshot (VSS) format", sections 3 and 4): a header in `$Boot` leads to a catalog.

use crate::field::le64;
use crate::outside::BlockRead;
use crate::used::map::Whole;

/// {3808876b-c176-4e48-b7ae-04046e6cc752}, at the beginning of the header and of each block of the catalog.
const VSS: [u8; 16] = [0x6b, 0x87, 0x08, 0x38, 0x76, 0xc1, 0x48, 0x4e, 0xb7, 0xae, 0x04, 0x04, 0x6e, 0x6c, 0xc7, 0x52];
const HEADER_AT: u64 = 0x1e00;
const CATALOG_AT: usize = 48;
const BLOCK_BYTES: usize = 16384;
const NEXT_AT: usize = 40;
const ENTRY_BYTES: usize = 128;
/// Entries of a store: its facts, and the places of its parts. 0 ends the catalog, and 1 is not used any more.
const OF_A_STORE: [u64; 2] = [2, 3];
/// A volume has at most 512 shadow copies, with two entries each.
const MOST_BLOCKS: usize = 64;

/// An error if the volume has shadow copies, or may have.
pub(super) fn check(blocks: &dyn BlockRead) -> Result<(), Whole> {
    let mut header = [0; 512];
    if blocks.len_bytes() < HEADER_AT + header.len() as u64 {
        return Ok(());
    }
    blocks.read_at(HEADER_AT, &mut header)?;
    if !header.starts_with(&VSS) {
        return Ok(());
    }
    let unclear = || Whole::in_doubt("it has a header of shadow copies, and their catalog makes no sense");
    let mut next = le64(&header, CATALOG_AT).ok_or_else(unclear)?;
    let mut block = vec![0; BLOCK_BYTES];
    for _ in 0..MOST_BLOCKS {
        if next == 0 {
            return Ok(());
        }
        if next.checked_add(BLOCK_BYTES as u64).is_none_or(|end| end > blocks.len_bytes()) {
            return Err(unclear());
        }
        blocks.read_at(next, &mut block)?;
        if !block.starts_with(&VSS) {
            return Err(unclear());
        }
        for entry in block.chunks_exact(ENTRY_BYTES).skip(1) {
            if le64(entry, 0).is_some_and(|kind| OF_A_STORE.contains(&kind)) {
                return Err(Whole::out_of_date("it has shadow copies, which need clusters that are free by now"));
            }
        }
        next = le64(&block, NEXT_AT).ok_or_else(unclear)?;
    }
    Err(unclear())
}
