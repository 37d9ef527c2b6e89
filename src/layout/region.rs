//! A region as a disk of its own.

use std::io;
use std::sync::Arc;

use crate::outside::BlockRead;
use crate::units::Extent;

/// Several extents of a source as one sequence of bytes. Offsets are relative to the region and checked against its
/// length. An extent past the source's end yields the source's error when it is read.
pub struct RegionBlocks<'a> {
    source: Source<'a>,
    /// Each extent with its offset in the region; sorted by offset.
    pieces: Vec<(u64, Extent)>,
    len_bytes: u64,
}

enum Source<'a> {
    Borrowed(&'a dyn BlockRead),
    Shared(Arc<dyn BlockRead>),
}

impl Source<'_> {
    fn blocks(&self) -> &dyn BlockRead {
        match self {
            Self::Borrowed(blocks) => *blocks,
            Self::Shared(blocks) => blocks.as_ref(),
        }
    }
}

impl<'a> RegionBlocks<'a> {
    /// The region of these extents, in order. If their lengths add up to more than 2^64, the region ends there.
    pub fn new(source: &'a dyn BlockRead, extents: &[Extent]) -> Self {
        Self::over(Source::Borrowed(source), extents)
    }

    fn over(source: Source<'a>, extents: &[Extent]) -> Self {
        let mut pieces = Vec::with_capacity(extents.len());
        let mut len_bytes = 0_u64;
        for extent in extents {
            let length = extent.length.min(u64::MAX - len_bytes);
            if length > 0 {
                pieces.push((len_bytes, Extent { source_offset: extent.source_offset, length }));
                len_bytes += length;
            }
        }
        Self { source, pieces, len_bytes }
    }
}

impl RegionBlocks<'static> {
    /// Like [`RegionBlocks::new`], but shares the source, for readers that outlive the caller.
    pub fn shared(source: Arc<dyn BlockRead>, extents: &[Extent]) -> Self {
        Self::over(Source::Shared(source), extents)
    }
}

impl RegionBlocks<'_> {
    /// The index of the extent that holds byte `offset`, which must be below the length.
    fn piece_at(&self, offset: u64) -> usize {
        self.pieces.partition_point(|(start, _)| *start <= offset).saturating_sub(1)
    }
}

impl BlockRead for RegionBlocks<'_> {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len_bytes);
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = offset;
        let mut rest = buf;
        let mut index = self.piece_at(offset);
        while !rest.is_empty() {
            let (start, extent) = *self.pieces.get(index).ok_or(io::ErrorKind::UnexpectedEof)?;
            let inside = at - start;
            let count = usize::try_from(extent.length - inside).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            let on_source = extent.source_offset.checked_add(inside).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.source.blocks().read_at(on_source, now)?;
            at += count as u64;
            rest = later;
            index += 1;
        }
        Ok(())
    }

    fn will_read(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.len_bytes);
        for (start, extent) in &self.pieces[self.piece_at(offset)..] {
            if *start >= end {
                break;
            }
            let inside = offset.saturating_sub(*start);
            let until = (end - start).min(extent.length);
            if let Some(on_source) = extent.source_offset.checked_add(inside)
                && until > inside
            {
                self.source.blocks().will_read(on_source, until - inside);
            }
        }
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        if offset >= self.len_bytes {
            return Ok(None);
        }
        // Extents inside a known hole of the source need no query.
        let mut hole = 0..0;
        // The offset is below the length, so the index is valid.
        for (start, extent) in &self.pieces[self.piece_at(offset)..] {
            let inside = offset.saturating_sub(*start);
            let Some(on_source) = extent.source_offset.checked_add(inside) else {
                return Ok(Some(offset.max(*start)));
            };
            let end = extent.source_offset.checked_add(extent.length);
            if hole.contains(&on_source) && end.is_some_and(|end| end <= hole.end) {
                continue;
            }
            let found = self.source.blocks().next_data(on_source)?;
            hole = on_source..found.unwrap_or(u64::MAX);
            if let Some(found) = found {
                let in_extent = found.saturating_sub(extent.source_offset);
                if in_extent < extent.length {
                    return Ok(Some(start + in_extent));
                }
            }
        }
        Ok(None)
    }

    fn next_hole(&self, offset: u64) -> io::Result<u64> {
        if offset >= self.len_bytes {
            return Ok(self.len_bytes);
        }
        for (start, extent) in &self.pieces[self.piece_at(offset)..] {
            let inside = offset.saturating_sub(*start);
            let Some(on_source) = extent.source_offset.checked_add(inside) else { continue };
            let in_extent = self.source.blocks().next_hole(on_source)?.saturating_sub(extent.source_offset);
            if in_extent < extent.length {
                return Ok((start + in_extent).max(offset));
            }
        }
        Ok(self.len_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::RegionBlocks;
    use crate::outside::BlockRead;
    use crate::units::Extent;

    fn extents(list: &[(u64, u64)]) -> Vec<Extent> {
        list.iter().map(|(source_offset, length)| Extent { source_offset: *source_offset, length: *length }).collect()
    }

    #[test]
    fn reads_cross_from_one_extent_to_the_next() {
        let disk: Vec<u8> = (0..100).collect();
        let region = RegionBlocks::new(&disk, &extents(&[(50, 4), (10, 3), (99, 1)]));
        assert_eq!(region.len_bytes(), 8);
        let mut buf = [0; 8];
        region.read_at(0, &mut buf).expect("inside");
        assert_eq!(buf, [50, 51, 52, 53, 10, 11, 12, 99]);
        let mut buf = [0; 3];
        region.read_at(3, &mut buf).expect("inside");
        assert_eq!(buf, [53, 10, 11]);
    }

    #[test]
    fn a_read_past_the_end_is_refused_whole() {
        let region = RegionBlocks::shared(Arc::new(vec![7; 100]), &extents(&[(0, 10)]));
        let error = region.read_at(9, &mut [0; 2]).expect_err("past the end");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(region.read_at(u64::MAX, &mut [0; 2]).is_err());
        region.read_at(10, &mut []).expect("nothing at the end is no read past it");
    }

    #[test]
    fn an_extent_outside_the_source_is_the_sources_error() {
        let disk = vec![0; 10];
        let region = RegionBlocks::new(&disk, &extents(&[(8, 4), (u64::MAX, 9)]));
        assert!(region.read_at(0, &mut [0; 2]).is_ok());
        assert!(region.read_at(1, &mut [0; 2]).is_err());
        assert!(region.read_at(5, &mut [0; 2]).is_err());
    }

    /// A disk of zeros with data at one place, which it knows.
    struct Sparse {
        len: u64,
        data_at: u64,
    }

    impl BlockRead for Sparse {
        fn len_bytes(&self) -> u64 {
            self.len
        }

        fn read_at(&self, _: u64, buf: &mut [u8]) -> io::Result<()> {
            buf.fill(0);
            Ok(())
        }

        fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
            Ok((offset <= self.data_at).then_some(self.data_at))
        }
    }

    #[test]
    fn holes_are_followed_through_the_extents() {
        let disk = Sparse { len: 1000, data_at: 500 };
        let region = RegionBlocks::new(&disk, &extents(&[(600, 100), (0, 100), (450, 100)]));
        assert_eq!(region.next_data(0).expect("no I/O"), Some(250));
        assert_eq!(region.next_data(250).expect("no I/O"), Some(250));
        assert_eq!(region.next_data(251).expect("no I/O"), None);
        assert_eq!(region.next_data(300).expect("no I/O"), None);
    }
}
