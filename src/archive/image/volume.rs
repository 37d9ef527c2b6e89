//! The volume while it is read: its used ranges, and its bytes.

use std::io;

use crate::entry::FileContent;
use crate::outside::BlockRead;
use crate::units::ByteRange;

/// The runs at or after a place; places ascend.
pub(super) struct Used<'a> {
    pub(super) runs: &'a [ByteRange],
    pub(super) len: u64,
}

impl Used<'_> {
    /// The first used run at or after `from`, or the rest of the one that `from` lies in.
    pub(super) fn next(&mut self, from: u64) -> Option<ByteRange> {
        let ahead = self.runs.iter().take_while(|run| run.start.saturating_add(run.len) <= from).count();
        self.runs = &self.runs[ahead..];
        let run = self.runs.first().filter(|run| run.start < self.len)?;
        let start = run.start.max(from);
        Some(ByteRange::new(start, run.start.saturating_add(run.len).min(self.len) - start))
    }

    /// The used ranges between two places, of which the first is that of the last [`next`](Self::next).
    pub(super) fn within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        let runs = self.runs.iter().take_while(move |run| run.start < to);
        runs.map(move |run| (run.start.max(from), run.start.saturating_add(run.len).min(to)))
    }
}

/// A volume as the content of a file, which is read in spite of errors.
pub(super) struct Content<'a>(pub(super) &'a dyn BlockRead);

impl FileContent for Content<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.0.len_bytes().saturating_sub(offset);
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        if len > 0 {
            self.0.read_at(offset, &mut buf[..len])?;
        }
        Ok(len)
    }
    fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>> {
        let len = self.0.len_bytes();
        Ok((from < len).then(|| ByteRange::new(from, len - from)))
    }
}
