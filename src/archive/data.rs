//! Reads a file's data for the archive whatever happens to it: what cannot be read, and what is no longer there, becomes
//! zeros, so that the archive stays as its headers say; and it is noted.

use std::io;

use sha2::Sha256;

use crate::reader::FileContent;

/// What cannot be read is tried again in blocks of this size.
const RETRY_BLOCK_BYTES: usize = 4096;
/// After this many unreadable blocks the rest of a file is not tried: a dying disk may take seconds for each.
const MAX_BAD_BLOCKS: u32 = 256;

/// What became of a data area.
#[derive(Default)]
pub(super) struct DataOutcome {
    /// SHA-256 of what was stored.
    pub(super) digest: Sha256,
    bad_blocks: u32,
    first_error: Option<io::Error>,
    ended_at: Option<u64>,
    /// Where the file holds data was another answer each time.
    pub(super) runs_changed: bool,
    /// Some of its data was left out; that was told already.
    pub(super) is_cut: bool,
}

impl DataOutcome {
    /// Whether the archive does not hold the data as it was.
    pub(super) fn is_damaged(&self) -> bool {
        self.first_error.is_some() || self.ended_at.is_some() || self.runs_changed || self.is_cut
    }

    /// What went wrong with a file of `size` bytes, a line each.
    pub(super) fn complaints(&self, size: u64) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Some(error) = &self.first_error {
            let rest = if self.bad_blocks > MAX_BAD_BLOCKS { ", the rest of the file was not tried" } else { "" };
            let blocks = self.bad_blocks;
            complaints.push(format!(
                "{blocks} blocks of 4 KiB could not be read and are zeros in the archive{rest}: {error}"
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
}

/// Fills `buf` from `offset` on. What cannot be read, and what lies behind the file's end, is zeros, and noted.
pub(super) fn read_or_zero(content: &dyn FileContent, offset: u64, buf: &mut [u8], outcome: &mut DataOutcome) {
    let mut done = 0;
    while done < buf.len() {
        if outcome.ended_at.is_some() || outcome.bad_blocks > MAX_BAD_BLOCKS {
            buf[done..].fill(0);
            return;
        }
        let at = offset + done as u64;
        match content.read_at(at, &mut buf[done..]) {
            Ok(0) => outcome.ended_at = Some(at),
            Ok(len) => done += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => done += read_blockwise(content, at, &mut buf[done..], outcome),
        }
    }
}

/// Reads what can be read of a piece in which something cannot, block by block; says how far it came.
fn read_blockwise(content: &dyn FileContent, offset: u64, buf: &mut [u8], outcome: &mut DataOutcome) -> usize {
    let mut done = 0;
    while done < buf.len() && outcome.bad_blocks <= MAX_BAD_BLOCKS {
        let at = offset + done as u64;
        // To the next multiple of the block size, where the medium's own blocks begin.
        let to_border = RETRY_BLOCK_BYTES - usize::try_from(at % RETRY_BLOCK_BYTES as u64).unwrap_or(0);
        let len = to_border.min(buf.len() - done);
        match content.read_at(at, &mut buf[done..done + len]) {
            Ok(0) => return done,
            Ok(read) => done += read,
            Err(error) => {
                buf[done..done + len].fill(0);
                outcome.bad_blocks += 1;
                outcome.first_error.get_or_insert(error);
                done += len;
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{DataOutcome, MAX_BAD_BLOCKS, read_or_zero};
    use crate::reader::FileContent;
    use crate::units::ByteRange;

    /// A file of ones with unreadable blocks, of which the last bytes may be gone.
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
        // In pieces that do not fall on the borders of blocks.
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

    #[test]
    fn a_file_that_cannot_be_read_at_all_is_given_up() {
        let (data, outcome) = read(&Failing { len: 4_000_000, bad: |_| true }, 4_000_000);
        assert!(data.iter().all(|byte| *byte == 0));
        assert!(outcome.bad_blocks <= MAX_BAD_BLOCKS + 1);
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

    #[test]
    fn a_whole_file_is_not_damaged() {
        let (data, outcome) = read(&Failing { len: 5000, bad: |_| false }, 5000);
        assert!(data.iter().all(|byte| *byte == 1));
        assert!(!outcome.is_damaged());
    }
}
