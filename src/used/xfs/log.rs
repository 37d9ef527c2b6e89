//! The log: whether it ends with the record of an unmount, and otherwise what replaying it would change (XFS Algorithms & Data
//! Structures, 3rd edition, "Journaling Log"). It is a ring of basic blocks. Each pass over it has a number, the cycle,
//! which begins every block, so that the newest block is the one before the number falls.

mod head;
mod items;
mod record;
mod replayed;
mod ring;
mod transactions;

pub(super) use self::replayed::Replayed;

use self::head::Head;
use self::items::{Changes, Survey};
use self::record::{Record, UNMOUNT};
use self::ring::{BASIC_BLOCK, Ring, damaged, not_understood};
use self::transactions::Transactions;
use super::superblock::Superblock;
use crate::outside::{BlockRead, Cancel};
use crate::used::map::Whole;

const LOG_BYTES_MAX: u64 = 4 << 30;

/// The filesystem as it is after its log was replayed. Nothing is written.
pub(super) fn replay<'a>(
    blocks: &'a dyn BlockRead,
    xfs: &'a Superblock,
    cancel: &Cancel,
) -> Result<Replayed<'a>, Whole> {
    let start = xfs.bytes_of(xfs.block_of(xfs.log_start), 0).start;
    let len = xfs.log_blocks * xfs.block_bytes;
    if !(1 << 16..=LOG_BYTES_MAX).contains(&len) || start.checked_add(len).is_none_or(|end| end > blocks.len_bytes()) {
        return Err(Whole::in_doubt("its log lies where it cannot"));
    }
    let ring = Ring { blocks, start, len: len / BASIC_BLOCK };
    let Some(head) = Head::find(&ring, cancel)? else { return Ok(Replayed::unchanged(blocks)) };
    let newest = Record::newest(&ring, xfs, &head)?;
    if newest.operations == 1 && newest.first_operation_flags(&ring)? & UNMOUNT != 0 {
        return Ok(Replayed::unchanged(blocks));
    }
    if xfs.log_incompat != 0 {
        return Err(not_understood(format!("it has the features {:#x} (log_incompat)", xfs.log_incompat)));
    }
    let tail = newest.tail(&ring, &head)?;
    // What is committed is known at the end, and that is where a buffer's items before its cancellation are known, too.
    let mut survey = Survey::new(xfs);
    each_record(&ring, xfs, &head, tail, &newest, cancel, &mut Transactions::new(&mut survey))?;
    let mut changes = Changes::new(blocks, xfs, survey, newest.lsn);
    each_record(&ring, xfs, &head, tail, &newest, cancel, &mut Transactions::new(&mut changes))?;
    Ok(changes.finish())
}

/// Gives the operations of all records from the tail to the head to `transactions`.
fn each_record(
    ring: &Ring<'_>,
    xfs: &Superblock,
    head: &Head,
    tail: u64,
    newest: &Record,
    cancel: &Cancel,
    transactions: &mut Transactions<'_>,
) -> Result<(), Whole> {
    let mut at = tail;
    // How many blocks there are up to the head.
    let mut left = (head.block + ring.len - tail) % ring.len;
    while left > 0 {
        if cancel.is_cancelled() {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        let record = Record::read(ring, xfs, head, at)?;
        if record.size_bytes != newest.size_bytes || record.data_bytes > record.size_bytes {
            return Err(damaged());
        }
        let data = record.data(ring, xfs, head)?;
        transactions.add(record.lsn, record.operations, &data)?;
        left = left.checked_sub(record.all_blocks()).ok_or_else(damaged)?;
        at = (at + record.all_blocks()) % ring.len;
    }
    Ok(())
}
