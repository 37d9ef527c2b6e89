//! Searches for non-zero bytes at a bounded cost.

use std::io;

use crate::outside::BlockRead;
use crate::units::ByteRange;

/// How many bytes one detection reads to distinguish zeros from data. The rest counts as data: making its raw image
/// reads it once, and scanning it here would double that. See docs/decisions/0008.
pub const SCAN_BYTES: u64 = 4 << 30;
const CHUNK_BYTES: usize = 1 << 20;
/// Most ranges have data at their beginning: little is read of them here, since their image reads it again.
const FIRST_CHUNK_BYTES: usize = 4096;

/// The result of a scan.
#[derive(Debug)]
pub(super) enum Scanned {
    /// Only zeros.
    Zero,
    /// The first non-zero byte is in the 512 bytes from this offset.
    DataAt(u64),
    /// The budget ended before the range did.
    NotLookedAt,
    /// The range could not be read.
    Failed(io::Error),
}

/// Scans for non-zero bytes, with one budget per detection. Stops at the first non-zero byte; known holes cost
/// nothing.
pub(super) struct Scanner {
    left_bytes: u64,
    chunk: Vec<u8>,
}

impl Scanner {
    #[cfg(test)]
    pub(super) fn new() -> Self {
        Self::with_budget(SCAN_BYTES)
    }

    /// Creates a scanner that reads at most this many bytes, rounded up to whole chunks.
    pub(super) fn with_budget(bytes: u64) -> Self {
        Self { left_bytes: bytes, chunk: vec![0; CHUNK_BYTES] }
    }

    /// Scans `range` of `blocks`; the range must be inside.
    pub(super) fn scan(&mut self, blocks: &dyn BlockRead, range: ByteRange) -> Scanned {
        let end = range.start.saturating_add(range.len);
        let mut at = range.start;
        let mut most = FIRST_CHUNK_BYTES;
        while at < end {
            match blocks.next_data(at) {
                Ok(Some(data)) if data < end => at = data.max(at),
                Ok(_) => return Scanned::Zero,
                Err(error) => return Scanned::Failed(error),
            }
            if self.left_bytes == 0 {
                return Scanned::NotLookedAt;
            }
            let len = usize::try_from(end - at).unwrap_or(most).min(most);
            let chunk = &mut self.chunk[..len];
            if let Err(error) = blocks.read_at(at, chunk) {
                return Scanned::Failed(error);
            }
            if let Some(found) = first_data(chunk) {
                return Scanned::DataAt(at + found);
            }
            at += len as u64;
            most = (4 * most).min(CHUNK_BYTES);
            self.left_bytes = self.left_bytes.saturating_sub(len as u64);
        }
        Scanned::Zero
    }
}

/// The offset of the first 512 bytes with a non-zero byte.
fn first_data(bytes: &[u8]) -> Option<u64> {
    // OR-ing all bytes vectorises; a search for the first non-zero byte would not.
    let has_data = |piece: &[u8]| piece.iter().fold(0, |bits, byte| bits | byte) != 0;
    bytes.chunks(512).position(has_data).map(|index| index as u64 * 512)
}

#[cfg(test)]
mod tests {
    use super::{Scanned, Scanner};
    use crate::units::ByteRange;

    #[test]
    fn data_are_found_where_they_are_and_only_in_the_range() {
        let mut disk = vec![0_u8; 3 << 20];
        disk[(2 << 20) + 700] = 1;
        let mut scanner = Scanner::new();
        let mut scan = |start, len| scanner.scan(&disk, ByteRange::new(start, len));
        assert!(matches!(scan(0, 3 << 20), Scanned::DataAt(at) if at == (2 << 20) + 512));
        assert!(matches!(scan(0, 2 << 20), Scanned::Zero));
        assert!(matches!(scan((2 << 20) + 701, 1000), Scanned::Zero));
        assert!(matches!(scan(3 << 20, 1), Scanned::Failed(_) | Scanned::Zero));
    }

    #[test]
    fn the_budget_ends() {
        let disk = vec![0_u8; 4 << 20];
        let mut scanner = Scanner::new();
        scanner.left_bytes = 2 << 20;
        assert!(matches!(scanner.scan(&disk, ByteRange::new(0, 4 << 20)), Scanned::NotLookedAt));
    }
}
