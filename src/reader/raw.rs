//! A region's bytes as one large sparse file, for regions that no reader understands.

use std::io;
use std::sync::Arc;

use crate::entry::FileContent;
pub(crate) use crate::outside::zeros::is_zero;
use crate::outside::{BlockRead, Cancel};
use crate::units::ByteRange;

/// The read size while scanning for zeros.
const SCAN_BYTES: usize = 1 << 20;
/// The maximum distance to skip after a read error.
const MAX_SKIP_BYTES: u64 = 64 << 20;
/// The granularity of holes; also the usual allocation unit of filesystems.
const BLOCK_BYTES: usize = 4096;
/// A map with more runs is coarsened, so that a disk of alternating blocks does not exhaust memory.
const MAX_RUNS: usize = 1 << 16;

/// A region as a sparse file: the runs of non-zero blocks, found by one scan.
pub struct RawImage {
    blocks: Arc<dyn BlockRead>,
    runs: Vec<ByteRange>,
}

impl RawImage {
    /// Reads all of `blocks` to find its non-zero runs, and calls `on_read` with the length of each piece. A piece
    /// that cannot be read counts as data, so that the archive reports the error when it reads it again. After
    /// several errors in a row, growing parts of what follows count as data without being read. When cancelled,
    /// returns an error of kind `Interrupted`.
    pub fn scan(blocks: Arc<dyn BlockRead>, cancel: &Cancel, mut on_read: impl FnMut(u64)) -> io::Result<Self> {
        let mut runs = RunMap::default();
        let mut buf = vec![0; SCAN_BYTES];
        let len = blocks.len_bytes();
        let mut offset = 0;
        // How much to skip after a read error: each further error on a dying disk may take seconds.
        let mut skip_bytes = 0;
        while offset < len {
            if cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let piece_len = usize::try_from(len - offset).map_or(SCAN_BYTES, |left| left.min(SCAN_BYTES));
            let piece = &mut buf[..piece_len];
            if blocks.read_at(offset, piece).is_err() {
                let unseen = (piece_len as u64 + skip_bytes).min(len - offset);
                skip_bytes = (2 * skip_bytes).clamp(SCAN_BYTES as u64, MAX_SKIP_BYTES);
                runs.add(ByteRange::new(offset, unseen));
                offset += unseen;
                on_read(unseen);
                continue;
            }
            skip_bytes = 0;
            let mut at = offset;
            for block in piece.chunks(BLOCK_BYTES) {
                if !is_zero(block) {
                    runs.add(ByteRange::new(at, block.len() as u64));
                }
                at += block.len() as u64;
            }
            offset += piece_len as u64;
            on_read(piece_len as u64);
        }
        Ok(Self { blocks, runs: runs.into_runs() })
    }

    /// Whether the region has only zeros.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The total length of the data runs.
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

/// Runs of data in ascending order, at most 65,536. Beyond that, the smallest holes are merged into data, possibly
/// all of them. So use it only for content that is read as a whole.
#[derive(Debug, Default)]
struct RunMap {
    runs: Vec<ByteRange>,
    smallest_hole: u64,
}

impl RunMap {
    /// Adds a run that starts at or after the end of the last one.
    fn add(&mut self, run: ByteRange) {
        if let Some(last) = self.runs.last_mut()
            && run.start.saturating_sub(last.start + last.len) <= self.smallest_hole
        {
            last.len = run.start + run.len - last.start;
            return;
        }
        self.runs.push(run);
        if self.runs.len() > MAX_RUNS {
            self.coarsen();
        }
    }

    fn into_runs(self) -> Vec<ByteRange> {
        self.runs
    }

    fn coarsen(&mut self) {
        while self.runs.len() > MAX_RUNS / 2 {
            self.smallest_hole = (self.smallest_hole * 2).max(BLOCK_BYTES as u64);
            let smallest_hole = self.smallest_hole;
            self.runs.dedup_by(|run, before| {
                let hole = run.start - (before.start + before.len);
                let joined = hole <= smallest_hole;
                if joined {
                    before.len = run.start + run.len - before.start;
                }
                joined
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{MAX_RUNS, RawImage, RunMap, is_zero};
    use crate::entry::FileContent;
    use crate::outside::{BlockRead, Cancel};
    use crate::units::ByteRange;

    #[test]
    fn only_blocks_that_hold_something_are_data() {
        let mut disk = vec![0_u8; 3 << 20];
        disk[5000] = 1;
        disk[2 << 20] = 1;
        *disk.last_mut().unwrap() = 1;
        let image = RawImage::scan(Arc::new(disk), &Cancel::default(), |_| {}).unwrap();
        assert_eq!(image.next_data(0).unwrap(), Some(ByteRange::new(4096, 4096)));
        assert_eq!(image.next_data(5000).unwrap(), Some(ByteRange::new(5000, 3192)));
        assert_eq!(image.next_data(8192).unwrap(), Some(ByteRange::new(2 << 20, 4096)));
        assert_eq!(image.next_data((2 << 20) + 4096).unwrap(), Some(ByteRange::new((3 << 20) - 4096, 4096)));
        assert_eq!(image.data_bytes(), 3 * 4096);
    }

    /// 400 MiB that cannot be read except the first and the last MiB.
    #[derive(Default)]
    struct Dying(AtomicU64);

    impl BlockRead for Dying {
        fn len_bytes(&self) -> u64 {
            400 << 20
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            if (1 << 20..399 << 20).contains(&offset) {
                self.0.fetch_add(1, Ordering::Relaxed);
                return Err(io::Error::other("unreadable"));
            }
            buf.fill(0);
            Ok(())
        }
    }

    #[test]
    fn a_dying_disk_is_not_read_piece_by_piece() {
        let disk = Arc::new(Dying::default());
        let mut told = 0;
        let image = RawImage::scan(disk.clone(), &Cancel::default(), |bytes| told += bytes).unwrap();
        assert!(image.data_bytes() >= 398 << 20);
        assert_eq!((image.next_data(0).unwrap().unwrap().start, told), (1 << 20, 400 << 20));
        assert!(disk.0.load(Ordering::Relaxed) < 16);
    }

    #[test]
    fn a_map_stays_bounded_and_covers_all_data() {
        let mut map = RunMap::default();
        let count = MAX_RUNS as u64 * 5;
        for block in 0..count {
            map.add(ByteRange::new(block * 8192, 4096));
        }
        let runs = map.into_runs();
        assert!(runs.len() <= MAX_RUNS);
        assert_eq!(runs[0].start, 0);
        let last = runs.last().unwrap();
        assert_eq!(last.start + last.len, (count - 1) * 8192 + 4096);
        assert!(runs.windows(2).all(|pair| pair[0].start + pair[0].len < pair[1].start));
    }

    #[test]
    fn zeros_are_detected_at_every_length() {
        for len in 0..200 {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            if let Some(last) = bytes.last_mut() {
                *last = 1;
                assert!(!is_zero(&bytes), "{len}");
            }
        }
    }
}
