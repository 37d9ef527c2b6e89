//! Maps of sparse files, in each form that GNU tar has used.
//!
//! An untrusted map may have any number of runs. The first are kept in memory. If there are more, all go to an
//! unnamed file and are read from there in small pieces; it needs less space than the restored file.
//!
//! Source: GNU tar's manual, "Storing Sparse Files"; `struct sparse` in its `tar.h`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::header_error::HolesError;
use crate::digits::parse_padded;
use crate::outside::unnamed::unnamed_file;
use crate::units::ByteRange;

/// The maximum number of runs of a map inside the headers, which are read as a whole. volbak does not write such
/// maps.
pub const MAX_HEADER_RUNS: usize = 1 << 20;

/// The maximum number of runs in memory: 1 MiB.
const KEPT_RUNS: usize = 1 << 16;
/// The number of runs written and read at once, if there are more.
const PIECE_RUNS: usize = 1 << 12;
/// Offset and length of a run, 8 bytes each.
const RUN_BYTES: usize = 16;
/// The maximum number of digits of a number, including leading zeros.
const MAX_DIGITS: usize = 20;

/// Whether the runs of a map are kept or only checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Kept.
    #[default]
    Runs,
    /// Only checked: the map has no runs to return, and needs no memory.
    Nothing,
}

/// The runs of a file's stored data, checked: ascending, disjoint, inside the file, and in total as long as the
/// stored data.
#[derive(Clone, Debug)]
pub struct RunMap {
    kept: Vec<ByteRange>,
    /// All runs, if there are too many for memory.
    spilled: Option<Arc<File>>,
    count: u64,
}

impl RunMap {
    /// A single run over the whole file.
    pub fn whole(size: u64) -> Self {
        let kept = if size > 0 { vec![ByteRange::new(0, size)] } else { Vec::new() };
        Self { count: kept.len() as u64, kept, spilled: None }
    }

    /// The number of runs.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// A reader of its runs.
    pub fn runs(&self) -> RunReader<'_> {
        RunReader { map: self, piece: Vec::new(), piece_start: 0, next: 0 }
    }
}

/// Returns the runs in order.
#[derive(Debug)]
pub struct RunReader<'a> {
    map: &'a RunMap,
    /// Runs from `piece_start`, if they are in a file.
    piece: Vec<ByteRange>,
    piece_start: u64,
    next: u64,
}

impl RunReader<'_> {
    /// The next run; `None` after the last. Fails if the temporary file cannot be read.
    pub fn next_run(&mut self) -> io::Result<Option<ByteRange>> {
        if self.next >= self.map.count {
            return Ok(None);
        }
        let run = match &self.map.spilled {
            None => usize::try_from(self.next).ok().and_then(|next| self.map.kept.get(next).copied()),
            Some(file) => {
                if self.next >= self.piece_start + self.piece.len() as u64 {
                    self.read_piece(file)?;
                }
                usize::try_from(self.next - self.piece_start).ok().and_then(|at| self.piece.get(at).copied())
            }
        };
        self.next += 1;
        Ok(run)
    }

    fn read_piece(&mut self, file: &File) -> io::Result<()> {
        let len = usize::try_from(self.map.count - self.next).map_or(PIECE_RUNS, |left| left.min(PIECE_RUNS));
        let mut bytes = vec![0; len * RUN_BYTES];
        file.read_exact_at(&mut bytes, self.next * RUN_BYTES as u64)?;
        self.piece_start = self.next;
        self.piece.clear();
        self.piece.extend(bytes.as_chunks().0.iter().map(|run: &[u8; RUN_BYTES]| {
            let number = |at: usize| run[at..at + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            ByteRange::new(number(0), number(8))
        }));
        Ok(())
    }
}

/// Collects and checks the runs of a map.
#[derive(Debug)]
pub struct MapBuilder {
    keep: Keep,
    real_size: u64,
    kept: Vec<ByteRange>,
    spilled: Option<File>,
    count: u64,
    end_before: u64,
    sum: u64,
}

impl MapBuilder {
    /// For a file of `real_size` bytes.
    pub fn new(real_size: u64, keep: Keep) -> Self {
        Self { keep, real_size, kept: Vec::new(), spilled: None, count: 0, end_before: 0, sum: 0 }
    }

    /// Adds the next run.
    pub fn add(&mut self, run: ByteRange) -> Result<(), HolesError> {
        let end = run.end().filter(|end| *end <= self.real_size && run.start >= self.end_before);
        self.end_before = end.ok_or(HolesError::Contradiction)?;
        // The sum of disjoint runs below 2^64 fits in 64 bits.
        self.sum = self.sum.saturating_add(run.len);
        if run.len == 0 || self.keep == Keep::Nothing {
            return Ok(());
        }
        let most = if self.spilled.is_some() { PIECE_RUNS } else { KEPT_RUNS };
        if self.kept.len() >= most {
            self.spill().map_err(HolesError::PutAside)?;
        }
        self.kept.push(run);
        self.count += 1;
        Ok(())
    }

    /// The map, after its last run. `stored_bytes` is the length of the stored data.
    pub fn finish(mut self, stored_bytes: u64) -> Result<RunMap, HolesError> {
        if self.sum != stored_bytes {
            return Err(HolesError::Length { mapped: self.sum, stored: stored_bytes });
        }
        if self.spilled.is_some() {
            self.spill().map_err(HolesError::PutAside)?;
        }
        Ok(RunMap { kept: self.kept, spilled: self.spilled.map(Arc::new), count: self.count })
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut file = match self.spilled.take() {
            Some(file) => file,
            None => unnamed_file()?,
        };
        for piece in self.kept.chunks(PIECE_RUNS) {
            let mut bytes = Vec::with_capacity(piece.len() * RUN_BYTES);
            for run in piece {
                bytes.extend_from_slice(&run.start.to_be_bytes());
                bytes.extend_from_slice(&run.len.to_be_bytes());
            }
            file.write_all(&bytes)?;
        }
        self.kept.clear();
        self.kept.shrink_to(PIECE_RUNS);
        self.spilled = Some(file);
        Ok(())
    }
}

/// The map with these runs.
pub fn check(runs: &[ByteRange], real_size: u64, stored_bytes: u64) -> Result<RunMap, HolesError> {
    let mut map = MapBuilder::new(real_size, Keep::Runs);
    runs.iter().try_for_each(|run| map.add(*run))?;
    map.finish(stored_bytes)
}

/// The runs of a list of offsets and lengths.
pub fn runs_of(numbers: &[u64]) -> Result<Vec<ByteRange>, HolesError> {
    if !numbers.len().is_multiple_of(2) || numbers.len() > 2 * MAX_HEADER_RUNS {
        return Err(HolesError::List);
    }
    Ok(numbers.chunks_exact(2).map(|pair| ByteRange::new(pair[0], pair[1])).collect())
}

/// Reads the map of PAX format 1.0 block by block: the number of runs, then offset and length of each.
#[derive(Debug)]
pub struct MapReader {
    /// The number of runs still to come.
    left: Option<u64>,
    start: Option<u64>,
    digits: Vec<u8>,
    map: MapBuilder,
}

impl MapReader {
    /// For a file of `real_size` bytes.
    pub fn new(real_size: u64, keep: Keep) -> Self {
        Self { left: None, start: None, digits: Vec::new(), map: MapBuilder::new(real_size, keep) }
    }

    /// Adds a block of the data area. True if it was the map's last.
    pub fn add_block(&mut self, block: &[u8]) -> Result<bool, HolesError> {
        for byte in block {
            if self.left == Some(0) {
                break;
            }
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > MAX_DIGITS {
                    return Err(HolesError::Damaged);
                }
                continue;
            }
            let number = parse_padded(&self.digits).ok_or(HolesError::Damaged)?;
            self.digits.clear();
            match (&mut self.left, self.start.take()) {
                (None, _) => self.left = Some(number),
                (Some(_), None) => self.start = Some(number),
                (Some(left), Some(start)) => {
                    *left -= 1;
                    self.map.add(ByteRange::new(start, number))?;
                }
            }
        }
        Ok(self.left == Some(0))
    }

    /// The map, after its last block.
    pub fn finish(self, stored_bytes: u64) -> Result<RunMap, HolesError> {
        self.map.finish(stored_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_RUNS, Keep, MapBuilder, MapReader, PIECE_RUNS, RunMap, check};
    use crate::units::ByteRange;

    fn runs_of(map: &RunMap) -> Vec<ByteRange> {
        let mut runs = map.runs();
        std::iter::from_fn(|| runs.next_run().unwrap()).collect()
    }

    fn run(number: u64) -> ByteRange {
        ByteRange::new(number * 1_000_000, 512)
    }

    #[test]
    fn a_map_has_as_many_runs_as_it_has() {
        let (kept, piece) = (KEPT_RUNS as u64, PIECE_RUNS as u64);
        for count in [1, 100, kept, kept + 1, kept + piece, kept + piece + 1, (1 << 20) + 1] {
            let mut map = MapBuilder::new(count * 1_000_000, Keep::Runs);
            (0..count).for_each(|number| map.add(run(number)).unwrap());
            let map = map.finish(count * 512).unwrap();
            assert_eq!((map.count(), map.spilled.is_some()), (count, count > kept));
            let mut runs = map.runs();
            assert!((0..count).all(|number| runs.next_run().unwrap() == Some(run(number))), "{count}");
            assert_eq!(runs.next_run().unwrap(), None);
            assert!(map.kept.capacity() <= KEPT_RUNS);
        }
    }

    #[test]
    fn a_map_is_read_block_by_block() {
        for (count, keep, kept) in [(1, Keep::Runs, 1), (100, Keep::Runs, 100), (1000, Keep::Nothing, 0)] {
            let lines = (0..count).map(|number| format!("{}\n512\n", run(number).start));
            let mut text = (format!("{count}\n") + &lines.collect::<String>()).into_bytes();
            text.resize(text.len().next_multiple_of(512), 0);
            let mut reader = MapReader::new(count * 1_000_000, keep);
            let (last, blocks) = text.as_chunks::<512>().0.split_last().unwrap();
            for block in blocks {
                assert!(!reader.add_block(block).unwrap());
            }
            assert!(reader.add_block(last).unwrap());
            let map = reader.finish(count * 512).unwrap();
            assert_eq!(runs_of(&map), (0..kept).map(run).collect::<Vec<_>>());
        }
    }

    #[test]
    fn empty_runs_are_none() {
        let run = ByteRange::new;
        assert_eq!(
            runs_of(&check(&[run(0, 5), run(7, 0), run(9, 1), run(20, 0)], 20, 6).unwrap()),
            [run(0, 5), run(9, 1)]
        );
        assert_eq!(runs_of(&RunMap::whole(3)), [run(0, 3)]);
        assert_eq!(runs_of(&RunMap::whole(0)), []);
    }

    #[test]
    fn maps_that_lie_are_refused() {
        let run = ByteRange::new;
        assert!(check(&[run(10, 5), run(0, 5)], 20, 10).is_err());
        assert!(check(&[run(0, 5), run(4, 5)], 20, 10).is_err());
        assert!(check(&[run(0, 30)], 20, 30).is_err());
        assert!(check(&[run(u64::MAX, 2)], u64::MAX, 2).is_err());
        assert!(check(&[run(0, 5)], 20, 6).is_err());
        let reader = || MapReader::new(1 << 40, Keep::Runs);
        assert!(reader().add_block(b"99999999999999999999\n").is_err());
        assert!(reader().add_block(b"-1\n").is_err());
        assert!(reader().add_block(&[b'1'; 512]).is_err());
        assert!(reader().add_block(b"3\n5\n1\n4\n1\n").is_err(), "without waiting for the third");
        // The huge number must not cause an allocation.
        assert!(!reader().add_block(b"1152921504606846976\n").unwrap());
    }
}
