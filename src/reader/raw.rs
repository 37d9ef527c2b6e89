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
}

impl RawImage {
    /// The image of `blocks` that has these runs of data, in ascending order and apart from each other, and zeros elsewhere.
    pub fn of_runs(blocks: Arc<dyn BlockRead>, runs: Vec<ByteRange>) -> Self {
        Self { blocks, runs }
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
        self.blocks.read_at(offset, &mut buf[..len])?;
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
        let image = RawImage::of_runs(Arc::new(disk), runs);
        assert_eq!(image.next_data(0).unwrap(), Some(ByteRange::new(4096, 4096)));
        assert_eq!(image.next_data(5000).unwrap(), Some(ByteRange::new(5000, 3192)));
        assert_eq!(image.next_data(8192).unwrap(), Some(ByteRange::new(32 << 10, 8192)));
        assert_eq!((image.next_data(40 << 10).unwrap(), image.data_bytes()), (None, 12288));
        let mut bytes = [9; 3];
        assert_eq!((image.read_at(4999, &mut bytes).unwrap(), bytes), (3, [0, 1, 0]));
    }
}
