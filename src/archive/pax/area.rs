//! The data area of a sparse file: GNU tar's manual, "PAX 1" sparse format.

use super::block::padding_after;
use crate::units::ByteRange;

/// The length of a sparse file's data area, computed run by run, and the text of its map in GNU tar's sparse format
/// 1.0. The map has the number of runs, then offset and length of each, in decimal, one per line, padded to whole
/// blocks. A hole at the end is an empty run at the file's size. In maps of more than [`SparseArea::PLAIN_RUNS`]
/// runs each number is padded with zeros to 19 digits, the digits of the largest file's length: then the number of
/// runs alone determines the map's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparseArea {
    size: u64,
    runs: u64,
    lines_bytes: u64,
    data_bytes: u64,
    end: u64,
}

impl SparseArea {
    /// A map with more runs has zero-padded numbers.
    pub const PLAIN_RUNS: u64 = 1 << 16;

    /// The area of a file of `size` bytes without data.
    pub fn new(size: u64) -> Self {
        Self { size, runs: 0, lines_bytes: 0, data_bytes: 0, end: 0 }
    }

    /// Adds a run, which must be after all earlier ones and within the file.
    pub fn add(&mut self, run: ByteRange) {
        self.runs += 1;
        self.lines_bytes += line_bytes(run.start) + line_bytes(run.len);
        self.data_bytes += run.len;
        self.end = run.start + run.len;
    }

    /// The file's length.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The end of the last run; 0 without any.
    pub(in crate::archive) fn data_end(&self) -> u64 {
        self.end
    }

    /// The number of runs added.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// The number of runs in the map, including that of a hole at the end.
    pub fn map_runs(&self) -> u64 {
        self.runs + u64::from(self.last_run().is_some())
    }

    /// The length of the map, a multiple of the block size.
    pub fn map_bytes(&self) -> u64 {
        let lines_bytes = if self.runs > Self::PLAIN_RUNS {
            self.map_runs().saturating_mul(2 * WIDE_LINE_BYTES)
        } else {
            let last = self.last_run().map_or(0, |run| line_bytes(run.start) + line_bytes(run.len));
            self.lines_bytes + last
        };
        let text_bytes = line_bytes(self.map_runs()) + lines_bytes;
        text_bytes + padding_after(text_bytes)
    }

    /// The total length of all runs.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The empty run of a hole at the end.
    pub fn last_run(&self) -> Option<ByteRange> {
        (self.runs == 0 || self.end < self.size).then(|| ByteRange::new(self.size, 0))
    }

    /// The map's first line.
    pub fn first_line(&self) -> String {
        format!("{}\n", self.map_runs())
    }

    /// The map's lines for a run.
    pub fn lines_of(&self, run: ByteRange) -> String {
        let ByteRange { start, len } = run;
        if self.runs > Self::PLAIN_RUNS { format!("{start:019}\n{len:019}\n") } else { format!("{start}\n{len}\n") }
    }
}

/// Nineteen digits and a newline.
const WIDE_LINE_BYTES: u64 = 20;

/// The length of a number and its newline.
fn line_bytes(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 2
}

#[cfg(test)]
mod tests {
    use super::SparseArea;
    use crate::units::ByteRange;

    #[test]
    fn a_sparse_map_says_where_the_file_ends() {
        let map_of = |runs: &[ByteRange], size| {
            let mut area = SparseArea::new(size);
            for run in runs {
                area.add(*run);
            }
            let lines = runs.iter().copied().chain(area.last_run()).map(|run| area.lines_of(run));
            let map = area.first_line() + &lines.collect::<String>();
            assert_eq!(area.map_bytes(), (map.len() as u64).next_multiple_of(512));
            map
        };
        assert_eq!(map_of(&[ByteRange::new(4096, 10)], 1 << 20), "2\n4096\n10\n1048576\n0\n");
        assert_eq!(map_of(&[], 7), "1\n7\n0\n");
        assert_eq!(map_of(&[ByteRange::new(0, 7)], 7), "1\n0\n7\n");
        let many: Vec<ByteRange> = (0..1000).map(|run| ByteRange::new(run * 99, run % 11 + 1)).collect();
        for count in 0..many.len() {
            map_of(&many[..count], 1 << 40);
        }
        let many: Vec<ByteRange> = (0..=SparseArea::PLAIN_RUNS).map(|run| ByteRange::new(run * 99, run % 11)).collect();
        let ending = "0000009223372036854775807\n0000000000000000000\n";
        assert!(map_of(&many, i64::MAX.cast_unsigned()).ends_with(&ending[6..]));
    }
}
