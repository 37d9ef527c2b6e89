//! Which bytes of a disk hold data: what is used, without the source's holes.

use std::io;

use crate::outside::BlockRead;
use crate::units::ByteRange;

/// The runs of data of a disk, in ascending order: the parts of the used ranges that are no hole of the source.
///
/// It holds no list of them, so that a disk in a million pieces takes no memory; it may be gone through again.
#[derive(Clone)]
pub struct DataRuns<'a> {
    blocks: &'a dyn BlockRead,
    used: std::slice::Iter<'a, ByteRange>,
    /// The rest of the used range that is looked at.
    left: ByteRange,
    /// The last run that the source was asked for: many used ranges may lie in it.
    data: ByteRange,
    failed: bool,
}

impl<'a> DataRuns<'a> {
    /// `used` is in ascending order, without overlaps; what lies past the end of `blocks` is left out.
    pub fn new(blocks: &'a dyn BlockRead, used: &'a [ByteRange]) -> Self {
        let none = ByteRange::new(0, 0);
        Self { blocks, used: used.iter(), left: none, data: none, failed: false }
    }

    /// The first piece at or after `from` of the source that is no hole; `None` if all that follows is one.
    fn data_from(&mut self, from: u64) -> io::Result<Option<ByteRange>> {
        let end = self.data.start + self.data.len;
        if from >= end {
            let Some(start) = self.blocks.next_data(from)? else { return Ok(None) };
            if start < from {
                return Err(io::Error::other(format!("the source has data at byte {start}, before byte {from}")));
            }
            // One that says both that it is data and a hole is read.
            let end = Some(self.blocks.next_hole(start)?).filter(|end| *end > start).unwrap_or(self.blocks.len_bytes());
            self.data = ByteRange::new(start, end - start);
        }
        Ok(Some(self.data))
    }

    fn next_run(&mut self) -> io::Result<Option<ByteRange>> {
        let len = self.blocks.len_bytes();
        loop {
            while self.left.len == 0 {
                let Some(next) = self.used.next() else { return Ok(None) };
                let start = next.start.min(len);
                self.left = ByteRange::new(start, next.len.min(len - start));
            }
            let end = self.left.start + self.left.len;
            let Some(data) = self.data_from(self.left.start)? else { return Ok(None) };
            let start = data.start.max(self.left.start);
            if start >= end {
                self.left.len = 0;
                continue;
            }
            let run = ByteRange::new(start, end.min(data.start + data.len) - start);
            self.left = ByteRange::new(run.start + run.len, end - (run.start + run.len));
            return Ok(Some(run));
        }
    }
}

impl Iterator for DataRuns<'_> {
    type Item = io::Result<ByteRange>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_run();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// How much data there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes of data.
    pub bytes: u64,
    /// Clusters that hold at least one of them.
    pub clusters: u64,
    /// Groups of clusters that hold at least one of them.
    pub groups: u64,
}

impl Amount {
    /// Counts the data of `runs`, its clusters of `cluster_bytes`, and their groups of `group_bytes`; both powers of two.
    pub fn of(runs: DataRuns<'_>, cluster_bytes: u64, group_bytes: u64) -> io::Result<Self> {
        let mut amount = Self::default();
        let (mut clusters_until, mut groups_until) = (0, 0);
        for run in runs {
            let run = run?;
            amount.bytes += run.len;
            let last = run.start + run.len - 1;
            for (count, until, size) in [
                (&mut amount.clusters, &mut clusters_until, cluster_bytes),
                (&mut amount.groups, &mut groups_until, group_bytes),
            ] {
                let first = (run.start / size).max(*until);
                let end = last / size + 1;
                *count += end.saturating_sub(first);
                *until = (*until).max(end);
            }
        }
        Ok(amount)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Amount, DataRuns};
    use crate::outside::BlockRead;
    use crate::units::ByteRange;

    /// Data in every other 1000 bytes.
    struct Striped(u64);

    impl BlockRead for Striped {
        fn len_bytes(&self) -> u64 {
            self.0
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            unreachable!("runs are found without reading")
        }
        fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
            let at = if offset % 2000 < 1000 { offset } else { offset.next_multiple_of(2000) };
            Ok((at < self.0).then_some(at))
        }
        fn next_hole(&self, offset: u64) -> io::Result<u64> {
            Ok((offset / 2000 * 2000 + 1000).min(self.0))
        }
    }

    fn runs(used: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let used: Vec<ByteRange> = used.iter().map(|(start, len)| ByteRange::new(*start, *len)).collect();
        DataRuns::new(&Striped(10_500), &used).map(|run| run.unwrap()).map(|run| (run.start, run.len)).collect()
    }

    #[test]
    fn runs_are_used_and_no_holes() {
        assert_eq!(runs(&[(0, 10)]), [(0, 10)]);
        assert_eq!(runs(&[(1500, 100)]), []);
        assert_eq!(runs(&[(500, 2000)]), [(500, 500), (2000, 500)]);
        assert_eq!(runs(&[(0, 1), (2, 1), (999, 2), (2100, 5)]), [(0, 1), (2, 1), (999, 1), (2100, 5)]);
        assert_eq!(runs(&[(8000, u64::MAX)]), [(8000, 1000), (10_000, 500)]);
        assert_eq!(runs(&[(10_499, 2), (20_000, 7)]), [(10_499, 1)]);
    }

    #[test]
    fn clusters_are_counted_once() {
        let used = [(0, 1), (2, 1), (900, 50), (2000, 100), (4500, 100)].map(|(start, len)| ByteRange::new(start, len));
        let amount = Amount::of(DataRuns::new(&Striped(10_500), &used), 1024, 4096).unwrap();
        assert_eq!(amount, Amount { bytes: 252, clusters: 4, groups: 2 });
    }
}
