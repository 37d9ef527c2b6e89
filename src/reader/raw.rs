//! A region's bytes as one large sparse file, for regions that no reader understands.

use std::io;
use std::sync::Arc;

use crate::entry::FileContent;
use crate::outside::BlockRead;
use crate::units::ByteRange;

/// A region as a sparse file, of which the runs of data are known.
pub struct RawImage {
    blocks: Arc<dyn BlockRead>,
    runs: Vec<ByteRange>,
    /// What is in use, if that is less.
    used: Option<Vec<ByteRange>>,
}

impl RawImage {
    /// The image of `blocks` that has these runs of data, in ascending order and apart from each other, and zeros
    /// elsewhere. Of these runs, `used` are in use, and the rest is zeros, too: holes that are too small to be one.
    pub fn of_runs(blocks: Arc<dyn BlockRead>, runs: Vec<ByteRange>, used: Vec<ByteRange>) -> Self {
        let used = (used != runs).then_some(used);
        Self { blocks, runs, used }
    }

    /// The number of bytes in runs of data.
    pub fn data_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.len).sum()
    }
}

impl FileContent for RawImage {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.blocks.len_bytes().saturating_sub(offset);
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        if len == 0 {
            return Ok(0);
        }
        let Some(used) = &self.used else {
            self.blocks.read_at(offset, &mut buf[..len])?;
            return Ok(len);
        };
        let end = offset + len as u64;
        let within = |at: u64| usize::try_from(at.clamp(offset, end) - offset).unwrap_or(len);
        let first = used.partition_point(|run| run.start + run.len <= offset);
        let here = used[first..].iter().take_while(|run| run.start < end);
        let here = here.map(|run| within(run.start)..within(run.start + run.len));
        let all = here.clone().fold(len..0, |all, run| all.start.min(run.start)..all.end.max(run.end));
        if all.start < all.end {
            // At once, since the holes are small.
            self.blocks.read_at(offset + all.start as u64, &mut buf[all])?;
        }
        let mut free_from = 0;
        for run in here {
            buf[free_from..run.start].fill(0);
            free_from = run.end;
        }
        buf[free_from..len].fill(0);
        Ok(len)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>> {
        let next = self.runs.partition_point(|run| run.start + run.len <= from);
        Ok(self.runs.get(next).map(|run| {
            let start = run.start.max(from);
            ByteRange::new(start, run.start + run.len - start)
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::RawImage;
    use crate::entry::FileContent;
    use crate::units::ByteRange;

    #[test]
    fn data_are_where_the_runs_are() {
        let mut disk = vec![0_u8; 64 << 10];
        disk[5000] = 1;
        let runs = vec![ByteRange::new(4096, 4096), ByteRange::new(32 << 10, 8192)];
        let image = RawImage::of_runs(Arc::new(disk), runs.clone(), runs);
        assert_eq!(image.next_data(0).unwrap(), Some(ByteRange::new(4096, 4096)));
        assert_eq!(image.next_data(5000).unwrap(), Some(ByteRange::new(5000, 3192)));
        assert_eq!(image.next_data(8192).unwrap(), Some(ByteRange::new(32 << 10, 8192)));
        assert_eq!((image.next_data(40 << 10).unwrap(), image.data_bytes()), (None, 12288));
        let mut bytes = [9; 3];
        assert_eq!((image.read_at(4999, &mut bytes).unwrap(), bytes), (3, [0, 1, 0]));
    }

    #[test]
    fn holes_that_are_stored_are_zeros() {
        let used = [ByteRange::new(10, 5), ByteRange::new(20, 5), ByteRange::new(40, 10)].to_vec();
        let runs = [ByteRange::new(10, 15), ByteRange::new(40, 10)].to_vec();
        let image = RawImage::of_runs(Arc::new(vec![7_u8; 60]), runs, used.clone());
        for start in 0..60 {
            for len in 1..=60 - start {
                let mut bytes = vec![9; len];
                assert_eq!(image.read_at(start as u64, &mut bytes).unwrap(), len);
                for (at, byte) in (start as u64..).zip(bytes) {
                    let is_used = used.iter().any(|run| (run.start..run.start + run.len).contains(&at));
                    assert_eq!(byte, if is_used { 7 } else { 0 }, "{at} of {start} and {len}");
                }
            }
        }
        assert_eq!(image.data_bytes(), 25);
    }
}
