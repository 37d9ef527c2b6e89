//! Reads a file's data for the archive in spite of errors: unreadable and missing bytes become zeros and are
//! reported, so that the archive stays consistent with its headers.
//!
//! A dying disk may take seconds per failed read, and its bad areas are long runs of blocks. After a few
//! consecutive failures the end of the run is searched in growing steps, then bisected, so that a run costs a
//! logarithmic number of failures. The number of failures per file is limited too.

use std::io;

use sha2::Sha256;

use crate::entry::FileContent;
use crate::shown::counted;
use crate::units::ByteRange;

/// The size of blocks in which an unreadable range is retried.
const BLOCK_BYTES: u64 = 4096;
/// The number of consecutive bad blocks that are tried one by one.
const ROW_BLOCKS: u32 = 16;
/// Then the end of the run is searched this far ahead, and four times as far after each failure,
const FIRST_STEP_BYTES: u64 = 64 << 10;
/// up to this distance.
const LAST_STEP_BYTES: u64 = 64 << 20;
/// After this many failures the rest of a stretch is skipped.
const MAX_FAILURES: u64 = 1024;
/// The length of a stretch: an image of a volume of terabytes is not lost behind its first bad area.
const STRETCH_BYTES: u64 = 16 << 30;
/// The maximum number of ranges to list individually.
const MAX_NAMED: usize = 12;

/// The result of reading a data area.
#[derive(Default)]
pub(super) struct DataOutcome {
    /// SHA-256 of the stored data.
    pub(super) digest: Sha256,
    /// Failed reads.
    failures: u64,
    /// Whether something was skipped after so many of them.
    has_given_up: bool,
    /// Of these, consecutive bad blocks up to the current position.
    row: u32,
    /// Bytes before this offset are not tried.
    skip_to: u64,
    unread: Unread,
    first_error: Option<io::Error>,
    ended_at: Option<u64>,
    /// Repeated queries for the file's data runs gave different answers.
    pub(super) runs_changed: bool,
    /// Some of its data was left out, which was already reported.
    pub(super) is_cut: bool,
}

/// Ranges that are zeros in the archive but not in the file.
#[derive(Default)]
struct Unread {
    first: Vec<ByteRange>,
    /// The end of the last range.
    end: u64,
    places: u64,
    bytes: u64,
}

impl Unread {
    /// Adds a range; it must not be before those already added.
    fn add(&mut self, range: ByteRange) {
        if range.len == 0 {
            return;
        }
        let goes_on = self.places > 0 && range.start == self.end;
        self.end = range.start + range.len;
        self.bytes += range.len;
        if !goes_on {
            self.places += 1;
            if self.first.len() < MAX_NAMED {
                self.first.push(range);
            }
        } else if self.places <= MAX_NAMED as u64
            && let Some(last) = self.first.last_mut()
        {
            last.len += range.len;
        }
    }

    fn shown(&self) -> String {
        let named = self.first.iter().map(|range| format!("{} to {}", range.start, range.start + range.len - 1));
        let more = if self.places > MAX_NAMED as u64 { ", …" } else { "" };
        format!("{}{more}", named.collect::<Vec<_>>().join(", "))
    }
}

impl DataOutcome {
    /// Whether the archive's data differs from the file's.
    pub(super) fn is_damaged(&self) -> bool {
        self.unread.places > 0 || self.ended_at.is_some() || self.runs_changed || self.is_cut
    }

    /// The problems with a file of `size` bytes, one line each.
    pub(super) fn complaints(&self, size: u64) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Some(error) = self.first_error.as_ref().filter(|_| self.unread.places > 0) {
            let rest = if self.has_given_up { "; after so many failures more was not tried" } else { "" };
            let Unread { places, bytes, .. } = &self.unread;
            let places = counted(*places, "place", "places");
            complaints.push(format!(
                "{bytes} bytes in {places} could not be read and are zeros in the archive (bytes {}){rest}: {error}",
                self.unread.shown()
            ));
        }
        if let Some(ended_at) = self.ended_at {
            complaints.push(format!("shrank from {size} to {ended_at} bytes while it was read; the rest is zeros"));
        }
        if self.runs_changed {
            complaints.push("its holes changed while it was read; it cannot be restored as it was".to_owned());
        }
        complaints
    }

    /// What is worth knowing about a file whose data were all read.
    pub(super) fn warning(&self) -> Option<String> {
        let error = self.first_error.as_ref().filter(|_| self.unread.places == 0)?;
        let again = "a read failed, and its repetition did not: the data are whole, and the medium may be failing";
        Some(format!("{again}: {error}"))
    }

    /// Whether the stretch of this byte is not tried any more.
    fn is_given_up(&self, at: u64) -> bool {
        self.failures >= MAX_FAILURES.saturating_mul(1 + at / STRETCH_BYTES)
    }

    fn failed(&mut self, error: io::Error) {
        self.failures += 1;
        self.first_error.get_or_insert(error);
    }
}

/// Fills `buf` from `offset`. Unreadable bytes and bytes past the end of the file become zeros and are recorded.
/// Offsets must not decrease between calls.
pub(super) fn read_or_zero(content: &dyn FileContent, offset: u64, buf: &mut [u8], outcome: &mut DataOutcome) {
    let mut done = 0;
    while done < buf.len() {
        let at = offset + done as u64;
        let left = buf.len() - done;
        if outcome.ended_at.is_some() {
            buf[done..].fill(0);
            return;
        }
        let skipped = if outcome.is_given_up(at) {
            outcome.has_given_up = true;
            left
        } else {
            usize::try_from(outcome.skip_to.saturating_sub(at)).map_or(left, |skipped| skipped.min(left))
        };
        if skipped > 0 {
            buf[done..done + skipped].fill(0);
            outcome.unread.add(ByteRange::new(at, skipped as u64));
            done += skipped;
            continue;
        }
        match content.read_at(at, &mut buf[done..]) {
            Ok(0) => outcome.ended_at = Some(at),
            Ok(len) => {
                outcome.row = 0;
                done += len;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                outcome.failed(error);
                done += read_blockwise(content, at, &mut buf[done..], outcome);
            }
        }
    }
}

/// Reads a partly unreadable range block by block; returns how far it got.
fn read_blockwise(content: &dyn FileContent, offset: u64, buf: &mut [u8], outcome: &mut DataOutcome) -> usize {
    let mut done = 0;
    while done < buf.len() && !outcome.is_given_up(offset + done as u64) {
        let at = offset + done as u64;
        // To the next multiple of the block size, where the medium's blocks start.
        let to_border = usize::try_from(BLOCK_BYTES - at % BLOCK_BYTES).unwrap_or(usize::MAX);
        let len = to_border.min(buf.len() - done);
        match content.read_at(at, &mut buf[done..done + len]) {
            Ok(0) => return done,
            Ok(read) => {
                outcome.row = 0;
                done += read;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                buf[done..done + len].fill(0);
                outcome.unread.add(ByteRange::new(at, len as u64));
                outcome.failed(error);
                outcome.row += 1;
                done += len;
                if outcome.row >= ROW_BLOCKS {
                    outcome.skip_to = end_of_row(content, at + len as u64, outcome);
                    return done;
                }
            }
        }
    }
    done
}

/// Searches for the first readable block after a run of bad ones that includes `from`: ahead until a read succeeds,
/// then back by bisection. If the bad blocks are not a single run, it finds the start of one of the good ranges.
fn end_of_row(content: &dyn FileContent, from: u64, outcome: &mut DataOutcome) -> u64 {
    let aligned = |at: u64| at - at % BLOCK_BYTES;
    let mut bad_to = from;
    let mut step = FIRST_STEP_BYTES;
    let mut good = loop {
        if outcome.is_given_up(bad_to) {
            return bad_to;
        }
        let at = aligned(bad_to.saturating_add(step));
        if can_be_read(content, at, outcome) {
            break at;
        }
        bad_to = at.saturating_add(BLOCK_BYTES);
        step = (4 * step).min(LAST_STEP_BYTES);
    };
    while bad_to < good && !outcome.is_given_up(bad_to) {
        let middle = aligned(bad_to + (good - bad_to) / 2).max(bad_to);
        if can_be_read(content, middle, outcome) {
            good = middle;
        } else {
            bad_to = middle + BLOCK_BYTES;
        }
    }
    outcome.row = 0;
    good
}

/// Whether `at` can be read or is past the end. The kernel reads whole blocks for this.
fn can_be_read(content: &dyn FileContent, at: u64, outcome: &mut DataOutcome) -> bool {
    let mut byte = [0];
    loop {
        match content.read_at(at, &mut byte) {
            Ok(_) => return true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                outcome.failed(error);
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{DataOutcome, MAX_FAILURES, STRETCH_BYTES, read_or_zero};
    use crate::entry::FileContent;
    use crate::units::ByteRange;

    /// A file of ones with unreadable blocks, which may be truncated.
    struct Failing {
        len: u64,
        bad: fn(u64) -> bool,
    }

    impl FileContent for Failing {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            let len = usize::try_from(self.len.saturating_sub(offset)).unwrap().min(buf.len());
            let end = offset + len as u64;
            if (offset / 4096..end.div_ceil(4096)).any(self.bad) {
                return Err(io::Error::other("unreadable"));
            }
            buf[..len].fill(1);
            Ok(len)
        }

        fn next_data(&self, _: u64) -> io::Result<Option<ByteRange>> {
            Ok(None)
        }
    }

    fn read(content: &Failing, len: usize) -> (Vec<u8>, DataOutcome) {
        let mut outcome = DataOutcome::default();
        let mut data = vec![9; len];
        // In pieces that are not aligned to blocks.
        let mut at = 0;
        for piece in data.chunks_mut(10_000) {
            read_or_zero(content, at, piece, &mut outcome);
            at += piece.len() as u64;
        }
        (data, outcome)
    }

    #[test]
    fn only_the_unreadable_blocks_are_zeros() {
        let (data, outcome) = read(&Failing { len: 100_000, bad: |block| block == 2 || block == 7 }, 100_000);
        for (at, byte) in data.iter().enumerate() {
            assert_eq!(*byte, u8::from(at / 4096 != 2 && at / 4096 != 7), "byte {at}");
        }
        assert!(outcome.is_damaged());
        assert_eq!(outcome.complaints(100_000).len(), 1);
    }

    /// The 4 KiB blocks that are zeros.
    fn zero_blocks(data: &[u8]) -> Vec<u64> {
        let blocks = (0_u64..).zip(data.chunks(4096));
        blocks.filter(|(_, block)| block.iter().all(|byte| *byte == 0)).map(|(number, _)| number).collect()
    }

    #[test]
    fn a_file_that_cannot_be_read_at_all_costs_few_failures() {
        let (data, outcome) = read(&Failing { len: 40_000_000, bad: |_| true }, 40_000_000);
        assert!(data.iter().all(|byte| *byte == 0));
        assert!(outcome.failures < 64, "{}", outcome.failures);
        assert_eq!((outcome.unread.places, outcome.unread.bytes), (1, 40_000_000));
        assert_eq!(
            outcome.complaints(40_000_000),
            [
                "40000000 bytes in 1 place could not be read and are zeros in the archive (bytes 0 to 39999999): unreadable"
            ]
        );
    }

    #[test]
    fn data_after_a_bad_run_is_read_from_its_end() {
        const LEN: usize = 32 << 20;
        let content = Failing {
            len: LEN as u64,
            // Runs of many lengths; one starts within the search of another.
            bad: |block| matches!(block, 3 | 100..=115 | 200..=216 | 300..=5000 | 5002..=5050 | 8000..=8191),
        };
        let (data, outcome) = read(&content, LEN);
        let expected: Vec<u64> = (0..(LEN as u64) / 4096).filter(|block| (content.bad)(*block)).collect();
        let zeros = zero_blocks(&data);
        assert!(expected.iter().all(|block| zeros.contains(block)));
        let lost: Vec<u64> = zeros.into_iter().filter(|block| !(content.bad)(*block)).collect();
        assert!(lost.len() <= 1, "only the block between two rows: {lost:?}");
        assert_eq!(outcome.unread.bytes, (expected.len() + lost.len()) as u64 * 4096);
        assert!(outcome.failures < 250, "{}", outcome.failures);
        let complaint = &outcome.complaints(LEN as u64)[0];
        assert!(complaint.contains("(bytes 12288 to 16383, 409600 to 475135, "), "{complaint}");
    }

    #[test]
    fn failures_have_a_limit() {
        let (data, outcome) = read(&Failing { len: 40_000_000, bad: |block| block % 2 == 1 }, 40_000_000);
        assert!(outcome.failures <= MAX_FAILURES && outcome.has_given_up);
        let zeros = zero_blocks(&data);
        assert!(data[..4096].iter().all(|byte| *byte == 1) && zeros.len() > 9000);
        let ones: u64 = data.iter().map(|byte| u64::from(*byte)).sum();
        assert_eq!(outcome.unread.bytes, 40_000_000 - ones);
        let complaint = &outcome.complaints(40_000_000)[0];
        assert!(complaint.contains("more was not tried") && complaint.contains(", …)"), "{complaint}");
    }

    #[test]
    fn what_lies_far_behind_a_bad_area_is_read() {
        let content = Failing { len: 4 * STRETCH_BYTES, bad: |block| block < 20_000 && block % 2 == 1 };
        let mut outcome = DataOutcome::default();
        let mut data = vec![9; 1 << 20];
        for (at, is_read) in [(0, false), (100 << 20, false), (STRETCH_BYTES, true), (3 * STRETCH_BYTES, true)] {
            for step in 0..40 {
                read_or_zero(&content, at + (step << 20), &mut data, &mut outcome);
            }
            assert_eq!(data.iter().all(|byte| *byte == 1), is_read, "{at}");
        }
        assert!(outcome.failures <= MAX_FAILURES && outcome.has_given_up);
    }

    #[test]
    fn a_file_that_shrank_is_filled_up() {
        let (data, outcome) = read(&Failing { len: 5000, bad: |_| false }, 30_000);
        assert!(data[..5000].iter().all(|byte| *byte == 1) && data[5000..].iter().all(|byte| *byte == 0));
        assert_eq!(
            outcome.complaints(30_000),
            ["shrank from 30000 to 5000 bytes while it was read; the rest is zeros"]
        );
    }

    /// Content of ones, whose first read fails.
    struct FailingOnce(std::cell::Cell<bool>);

    impl FileContent for FailingOnce {
        fn read_at(&self, _: u64, buf: &mut [u8]) -> io::Result<usize> {
            if self.0.take() {
                return Err(io::Error::other("unreadable"));
            }
            buf.fill(1);
            Ok(buf.len())
        }

        fn next_data(&self, _: u64) -> io::Result<Option<ByteRange>> {
            Ok(None)
        }
    }

    #[test]
    fn a_read_that_failed_once_is_a_warning() {
        let mut outcome = DataOutcome::default();
        let mut data = vec![0; 30_000];
        read_or_zero(&FailingOnce(std::cell::Cell::new(true)), 0, &mut data, &mut outcome);
        assert!(data.iter().all(|byte| *byte == 1));
        assert!(!outcome.is_damaged() && outcome.complaints(30_000).is_empty());
        assert!(outcome.warning().is_some_and(|what| what.ends_with("failing: unreadable")));
    }

    #[test]
    fn a_whole_file_is_not_damaged() {
        let (data, outcome) = read(&Failing { len: 5000, bad: |_| false }, 5000);
        assert!(data.iter().all(|byte| *byte == 1));
        assert!(!outcome.is_damaged());
    }
}
