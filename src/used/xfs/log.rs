//! The log: whether it ends with the record of an unmount, so that nothing of it is to be replayed.

use std::io;

use super::superblock::Superblock;
use crate::field::{be32, be64};
use crate::outside::zeros::is_zero;
use crate::outside::{BlockRead, Cancel};
use crate::used::map::Whole;

/// Logs are counted in blocks of this size, whatever the filesystem's are.
const BASIC_BLOCK: usize = 512;
const LOG_BYTES_MAX: u64 = 4 << 30;
const PIECE_BYTES: u64 = 1 << 20;
const RECORD_MAGIC: u32 = 0xFEED_BABE;
/// `XLOG_UNMOUNT_TRANS` of the flags of an operation.
const UNMOUNT: u8 = 0x20;
/// A record's header has a block for each of these of its largest size.
const HEADER_CYCLE_BYTES: u32 = 32 << 10;

/// Fails where the log may have to be replayed.
pub(super) fn check_clean(blocks: &dyn BlockRead, xfs: &Superblock, cancel: &Cancel) -> Result<(), Whole> {
    let start = xfs.bytes_of(xfs.block_of(xfs.log_start), 0).start;
    let len = xfs.log_blocks * xfs.block_bytes;
    if len > LOG_BYTES_MAX || start.checked_add(len).is_none_or(|end| end > blocks.len_bytes()) {
        return Err(Whole::in_doubt("its log lies where it cannot"));
    }
    // The newest record: its sequence number, how many operations it has, and where its data begin.
    let mut newest: Option<(u64, u32, u64)> = None;
    let mut buf = Vec::new();
    let mut at = 0;
    let mut is_blank = true;
    while at < len {
        if cancel.is_cancelled() {
            return Err(io::Error::from(io::ErrorKind::Interrupted).into());
        }
        let piece = PIECE_BYTES.min(len - at);
        buf.resize(usize::try_from(piece).unwrap_or(0), 0);
        blocks.read_at(start + at, &mut buf)?;
        if is_zero(&buf) {
            at += piece;
            continue;
        }
        is_blank = false;
        for (index, block) in (0..).zip(buf.chunks_exact(BASIC_BLOCK)) {
            if be32(block, 0) != Some(RECORD_MAGIC) {
                continue;
            }
            let Some((sequence, operations)) = be64(block, 16).zip(be32(block, 40)) else { continue };
            if newest.is_none_or(|(before, ..)| sequence > before) {
                let size = be32(block, 320).unwrap_or(0);
                let headers = if be32(block, 8) == Some(2) { size.div_ceil(HEADER_CYCLE_BYTES).clamp(1, 8) } else { 1 };
                let data_at = at + (index + u64::from(headers)) * BASIC_BLOCK as u64;
                newest = Some((sequence, operations, data_at));
            }
        }
        at += piece;
    }
    let in_use = || Whole::out_of_date("it was in use: its log is to be replayed, and is not read here");
    match newest {
        None if is_blank => Ok(()),
        Some((_, 1, data_at)) => {
            let mut operation = [0; 12];
            // The record of an unmount is short; its data may begin behind the log's end.
            blocks.read_at(start + data_at % len, &mut operation)?;
            if operation[9] & UNMOUNT != 0 { Ok(()) } else { Err(in_use()) }
        }
        _ => Err(in_use()),
    }
}
