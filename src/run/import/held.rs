//! The bytes of a disk that are written last, and the target as it will be with them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::outside::BlockRead;
use crate::outside::zeros::is_zero;
use crate::run::rebuild::put_bytes::HELD_BACK_BYTES;
use crate::units::ByteRange;

/// What is written after all else.
const FIRST_BYTES: usize = 4096;
/// What is written at once.
const BLOCK_BYTES: usize = 64 << 10;

/// Pieces of the disk that are not on the target yet, with their places, in ascending order.
#[derive(Debug)]
pub(super) struct HeldBack {
    disk_bytes: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl HeldBack {
    pub(super) fn of_disk(disk_bytes: u64) -> Self {
        Self { disk_bytes, pieces: Vec::new() }
    }

    /// Where the bytes at the end begin that are held back.
    fn tail_at(&self) -> u64 {
        self.disk_bytes.saturating_sub(HELD_BACK_BYTES).max(HELD_BACK_BYTES)
    }

    /// Keeps the parts of what lies at `start` that are held back. Returns the part between them, and its place.
    pub(super) fn take<'a>(&mut self, start: u64, bytes: &'a [u8]) -> (u64, &'a [u8]) {
        let up_to =
            |end: u64, from: u64, len: usize| usize::try_from(end.saturating_sub(from)).map_or(len, |n| n.min(len));
        let (head, rest) = bytes.split_at(up_to(HELD_BACK_BYTES, start, bytes.len()));
        let at = start + head.len() as u64;
        let (middle, tail) = rest.split_at(up_to(self.tail_at(), at, rest.len()));
        for (at, piece) in [(start, head), (at + middle.len() as u64, tail)] {
            if !piece.is_empty() {
                self.pieces.push((at, piece.to_vec()));
            }
        }
        (at, middle)
    }

    /// Writes them, the first bytes of the disk last, and syncs the target. A new file stays without blocks where they are zeros.
    pub(super) fn write(&self, file: &File, is_new: bool) -> io::Result<()> {
        let mut first = None;
        for (at, piece) in self.pieces.iter().rev() {
            let len = if *at == 0 { FIRST_BYTES.min(piece.len()) } else { 0 };
            let (start, rest) = piece.split_at(len);
            let mut at = at + len as u64;
            for block in rest.chunks(BLOCK_BYTES) {
                if !(is_new && is_zero(block)) {
                    file.write_all_at(block, at)?;
                }
                at += block.len() as u64;
            }
            first = Some(start).filter(|start| !start.is_empty()).or(first);
        }
        file.sync_all()?;
        file.write_all_at(first.unwrap_or_default(), 0)?;
        file.sync_all()
    }

    /// Whether the target has all of them.
    pub(super) fn are_on(&self, target: &dyn BlockRead) -> io::Result<bool> {
        let mut found = Vec::new();
        for (at, piece) in &self.pieces {
            found.resize(piece.len(), 0);
            target.read_at(*at, &mut found)?;
            if found != *piece {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The ranges in which they lie.
    fn ranges(&self) -> [ByteRange; 2] {
        let (head, tail) = (HELD_BACK_BYTES.min(self.disk_bytes), self.tail_at().min(self.disk_bytes));
        [ByteRange::new(0, head), ByteRange::new(tail, self.disk_bytes - tail)]
    }
}

/// A target, with the bytes that are held back in their places.
pub(super) struct Completed<'a> {
    pub(super) target: &'a dyn BlockRead,
    pub(super) held: &'a HeldBack,
}

impl BlockRead for Completed<'_> {
    fn len_bytes(&self) -> u64 {
        self.target.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.target.read_at(offset, buf)?;
        let end = offset + buf.len() as u64;
        for (at, piece) in &self.held.pieces {
            let (from, to) = (offset.max(*at), end.min(at + piece.len() as u64));
            if from < to {
                // Both lie in memory.
                let place = |from: u64, at: u64| usize::try_from(from - at).unwrap_or(usize::MAX);
                buf[place(from, offset)..place(to, offset)].copy_from_slice(&piece[place(from, *at)..place(to, *at)]);
            }
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let held = self.held.ranges().into_iter().filter(|range| range.start + range.len > offset);
        let held = held.map(|range| range.start.max(offset)).min();
        let found = self.target.next_data(offset)?;
        Ok(found.into_iter().chain(held).min())
    }

    fn next_hole(&self, offset: u64) -> io::Result<u64> {
        let held =
            self.held.ranges().into_iter().find(|range| range.start <= offset && offset < range.start + range.len);
        held.map_or_else(|| self.target.next_hole(offset), |range| Ok(range.start + range.len))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::{Completed, HELD_BACK_BYTES, HeldBack};
    use crate::outside::BlockRead;

    #[test]
    fn both_ends_of_a_disk_of_any_length_are_held_back_and_none_of_its_middle() {
        let mib = 1_usize << 20;
        for len in [1, 4095, 4097, mib - 1, mib, mib + 1, 2 * mib - 1, 2 * mib, 2 * mib + 1, 5 * mib + 12_345] {
            let disk: Vec<u8> = (1..=251).cycle().take(len).collect();
            for chunk in [64 << 10, mib, 3 * mib] {
                let mut held = HeldBack::of_disk(len as u64);
                let file = tempfile::tempfile().unwrap();
                file.set_len(len as u64).unwrap();
                for (number, piece) in disk.chunks(chunk).enumerate() {
                    let (at, middle) = held.take((number * chunk) as u64, piece);
                    file.write_all_at(middle, at).unwrap();
                }
                let mut before = vec![0; len];
                file.read_exact_at(&mut before, 0).unwrap();
                let ends = |at: usize| at < mib || at + mib >= len;
                assert!(before.iter().enumerate().all(|(at, byte)| (*byte == 0) == ends(at)), "{len} {chunk}");
                assert!(!held.are_on(&before).unwrap());
                let completed = Completed { target: &before, held: &held };
                for (at, size) in [(0, len), (len / 2, len - len / 2), (mib.min(len) - 1, 1)] {
                    let mut found = vec![0; size];
                    completed.read_at(at as u64, &mut found).unwrap();
                    assert!(found == disk[at..at + size], "{len} {chunk}: {at}");
                }
                held.write(&file, chunk == mib).unwrap();
                let mut after = vec![0; len];
                file.read_exact_at(&mut after, 0).unwrap();
                assert!(after == disk, "{len} {chunk}");
                assert!(held.are_on(&after).unwrap());
            }
        }
    }

    /// A file that is one hole beside both ends.
    struct Hole(u64);

    impl BlockRead for Hole {
        fn len_bytes(&self) -> u64 {
            self.0
        }
        fn read_at(&self, _: u64, buf: &mut [u8]) -> std::io::Result<()> {
            buf.fill(0);
            Ok(())
        }
        fn next_data(&self, _: u64) -> std::io::Result<Option<u64>> {
            Ok(None)
        }
        fn next_hole(&self, offset: u64) -> std::io::Result<u64> {
            Ok(offset)
        }
    }

    #[test]
    fn what_is_held_back_is_no_hole() {
        let len = 10 * HELD_BACK_BYTES;
        let (target, held) = (Hole(len), HeldBack::of_disk(len));
        let completed = Completed { target: &target, held: &held };
        let tail = len - HELD_BACK_BYTES;
        for (at, data) in [(0, 0), (5, 5), (HELD_BACK_BYTES, tail), (tail + 1, tail + 1)] {
            assert_eq!(completed.next_data(at).unwrap(), Some(data), "{at}");
        }
        assert_eq!(completed.next_data(len).unwrap(), None);
        for (at, hole) in [(5, HELD_BACK_BYTES), (HELD_BACK_BYTES, HELD_BACK_BYTES), (tail, len)] {
            assert_eq!(completed.next_hole(at).unwrap(), hole, "{at}");
        }
    }
}
