//! Bytes of a source that are looked at again and again.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::BlockRead;

/// What is kept is read in pages of this size.
const PAGE_LEN: usize = 4096;
const PAGE_BYTES: u64 = PAGE_LEN as u64;
/// 8 MiB.
const PAGES_MAX: usize = 2048;
/// Longer reads are of data, which are not looked at twice.
const LONGEST_READ: usize = 1 << 20;

/// A source of which short reads are kept in memory, up to 8 MiB, and of which holes are not read at all. Detection asks for the
/// same superblocks and labels for each table, region and map: each is then read once.
///
/// The source must not change while it is in use.
pub(crate) struct Remembered {
    blocks: Arc<dyn BlockRead>,
    pages: Mutex<HashMap<u64, Vec<u8>>>,
}

impl Remembered {
    pub(crate) fn new(blocks: Arc<dyn BlockRead>) -> Self {
        Self { blocks, pages: Mutex::default() }
    }

    /// Reads the pages from `first` to `last` that are not kept yet, adjacent ones at once.
    fn fetch(&self, pages: &mut HashMap<u64, Vec<u8>>, first: u64, last: u64) -> io::Result<()> {
        let mut page = first;
        while page <= last {
            if pages.contains_key(&page) {
                page += 1;
                continue;
            }
            let run = (page..=last).take_while(|page| !pages.contains_key(page)).count() as u64;
            let start = page * PAGE_BYTES;
            let end = ((page + run) * PAGE_BYTES).min(self.blocks.len_bytes());
            // At most LONGEST_READ and two pages.
            let mut bytes = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
            let is_hole = self.blocks.next_data(start)?.is_none_or(|data| data >= end);
            if !is_hole {
                self.blocks.read_at(start, &mut bytes)?;
            }
            pages.extend((page..).zip(bytes.chunks(PAGE_LEN).map(<[u8]>::to_vec)));
            page += run;
        }
        Ok(())
    }
}

impl BlockRead for Remembered {
    fn len_bytes(&self) -> u64 {
        self.blocks.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len_bytes());
        let (Some(end), true) = (end, (1..=LONGEST_READ).contains(&buf.len())) else {
            return self.blocks.read_at(offset, buf);
        };
        let (first, last) = (offset / PAGE_BYTES, (end - 1) / PAGE_BYTES);
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = (first..=last).filter(|page| !pages.contains_key(page)).count();
        // A page that cannot be read as a whole may have the wanted bytes: they are read as they are.
        if pages.len() + missing > PAGES_MAX || self.fetch(&mut pages, first, last).is_err() {
            return self.blocks.read_at(offset, buf);
        }
        let mut rest = buf;
        let mut at = offset;
        while !rest.is_empty() {
            // A place in a page.
            let within = usize::try_from(at % PAGE_BYTES).map_err(io::Error::other)?;
            let Some(page) = pages.get(&(at / PAGE_BYTES)).and_then(|page| page.get(within..)) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let (now, later) = rest.split_at_mut(page.len().min(rest.len()));
            now.copy_from_slice(&page[..now.len()]);
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.blocks.next_data(offset)
    }

    fn next_hole(&self, offset: u64) -> io::Result<u64> {
        self.blocks.next_hole(offset)
    }

    fn will_read(&self, offset: u64, len: u64) {
        self.blocks.will_read(offset, len);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io;
    use std::ops::Range;
    use std::sync::{Arc, Mutex};

    use super::Remembered;
    use crate::outside::BlockRead;

    /// Notes what is read of it; a hole of the second half, and bytes that cannot be read.
    pub(crate) struct Counting {
        bytes: Vec<u8>,
        data_until: u64,
        bad: Range<u64>,
        reads: Mutex<Vec<Range<u64>>>,
    }

    impl Counting {
        pub(crate) fn new(bytes: Vec<u8>, data_until: u64, bad: Range<u64>) -> Arc<Self> {
            Arc::new(Self { bytes, data_until, bad, reads: Mutex::default() })
        }

        /// How many bytes were read, and how many of them more than once.
        pub(crate) fn counts(&self) -> (u64, u64) {
            let mut times = vec![0_u8; self.bytes.len()];
            for read in self.reads.lock().unwrap().iter() {
                for at in read.clone() {
                    times[usize::try_from(at).unwrap()] += 1;
                }
            }
            let of = |least: u8| times.iter().filter(|times| **times >= least).count() as u64;
            (of(1), of(2))
        }
    }

    impl BlockRead for Counting {
        fn len_bytes(&self) -> u64 {
            self.bytes.len_bytes()
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            let range = offset..offset + buf.len() as u64;
            if range.start < self.bad.end && self.bad.start < range.end {
                return Err(io::Error::other("medium error"));
            }
            self.reads.lock().unwrap().push(range);
            self.bytes.read_at(offset, buf)
        }

        fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
            Ok((offset < self.data_until).then_some(offset))
        }

        fn next_hole(&self, offset: u64) -> io::Result<u64> {
            Ok(self.data_until.max(offset))
        }
    }

    #[test]
    fn short_reads_are_made_once_and_are_the_same() {
        let bytes: Vec<u8> = (0..40_000_u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        let counting = Counting::new(bytes.clone(), 40_000, 20_600..20_700);
        let remembered = Remembered::new(Arc::<Counting>::clone(&counting) as Arc<dyn BlockRead>);
        for _ in 0..3 {
            for (offset, len) in [(0, 1), (4095, 2), (100, 9000), (39_999, 1), (36_000, 4000), (0, 0)] {
                let mut buf = vec![0; len];
                remembered.read_at(offset, &mut buf).unwrap();
                let from = usize::try_from(offset).unwrap();
                assert!(buf == bytes[from..from + len]);
            }
        }
        assert_eq!(counting.counts(), (3 * 4096 + 40_000 - 8 * 4096, 0));
        let mut buf = [0; 100];
        // Beside the bad bytes in the same page.
        remembered.read_at(20_480, &mut buf).unwrap();
        assert_eq!(buf, bytes[20_480..20_580]);
        assert!(remembered.read_at(20_550, &mut buf).is_err() && remembered.read_at(39_950, &mut buf).is_err());
    }
}
