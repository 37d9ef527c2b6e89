//! Where the log ends.

use super::ring::{BASIC_BLOCK, BLOCK_LEN, Ring, cycle_of, damaged, not_understood};
use crate::outside::Cancel;
use crate::outside::zeros::is_zero;
use crate::used::map::Whole;

const PIECE_BLOCKS: u64 = 2048;
/// The blocks of all records that can be on their way to the disk at once: 8 of 256 KiB.
const IN_FLIGHT_BLOCKS: u64 = 4096;

/// The first block that is not written in the newest cycle.
pub(super) struct Head {
    /// Between 1 and the log's length.
    pub(super) block: u64,
    /// The cycle of the blocks before it; those from it on have the one before.
    pub(super) cycle: u32,
}

impl Head {
    /// `None` where nothing was written to the log yet.
    ///
    /// The blocks around the head, as many as can be on their way to the disk at once, must have the cycles that they have when
    /// all writes are complete. The kernel goes on without the records of which blocks are missing; which they are is not
    /// guessed here, since damage can look the same.
    pub(super) fn find(ring: &Ring<'_>, cancel: &Cancel) -> Result<Option<Self>, Whole> {
        let cycle = ring.cycle_at(0)?;
        if cycle == 0 {
            return if is_blank(ring, cancel)? { Ok(None) } else { Err(damaged()) };
        }
        let (mut newest, mut block) = (0, ring.len);
        while block - newest > 1 {
            let middle = newest + (block - newest) / 2;
            if ring.cycle_at(middle)? == cycle { newest = middle } else { block = middle }
        }
        let head = Self { block, cycle };
        head.check_surroundings(ring)?;
        Ok(Some(head))
    }

    /// The cycle that a block below the log's length must have.
    pub(super) fn cycle_at(&self, block: u64) -> u32 {
        if block < self.block { self.cycle } else { self.cycle - 1 }
    }

    fn check_surroundings(&self, ring: &Ring<'_>) -> Result<(), Whole> {
        let around = (2 * IN_FLIGHT_BLOCKS).min(ring.len);
        let from = self.block + ring.len - around / 2;
        let mut buf = Vec::new();
        let mut done = 0;
        while done < around {
            let piece = PIECE_BLOCKS.min(around - done);
            buf.resize(usize::try_from(piece * BASIC_BLOCK).unwrap_or(0), 0);
            ring.read(from + done, &mut buf)?;
            for (index, block) in (from + done..).zip(buf.chunks_exact(BLOCK_LEN)) {
                let (found, wanted) = (cycle_of(block), self.cycle_at(index % ring.len));
                if found != Some(wanted) {
                    let is_older = found.is_some_and(|found| found.abs_diff(wanted) == 1);
                    return Err(if is_older {
                        not_understood("it was being written at this moment")
                    } else {
                        damaged()
                    });
                }
            }
            done += piece;
        }
        Ok(())
    }
}

fn is_blank(ring: &Ring<'_>, cancel: &Cancel) -> Result<bool, Whole> {
    let mut buf = vec![0; usize::try_from(PIECE_BLOCKS * BASIC_BLOCK).unwrap_or(0)];
    let mut at = 0;
    while at < ring.len {
        if cancel.is_cancelled() {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        let piece = PIECE_BLOCKS.min(ring.len - at);
        let buf = buf.get_mut(..usize::try_from(piece * BASIC_BLOCK).unwrap_or(0)).ok_or_else(damaged)?;
        ring.read(at, buf)?;
        if !is_zero(buf) {
            return Ok(false);
        }
        at += piece;
    }
    Ok(true)
}
