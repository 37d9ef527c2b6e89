//! A file whose bytes lie in parts of other files: an archive in the shared layout.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BlockRead, let_go_of_pages};

/// Segments of one composed file that are open at a time.
const MOST_OPEN: usize = 32;

/// Where a part lies. Its length is the distance to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartPlace {
    /// Its offset in the composed file.
    pub at: u64,
    /// The number of its segment, from 0.
    pub segment: u32,
    /// Its offset there.
    pub offset: u64,
}

/// Opens the segments of a composed file.
pub trait OpenSegment: Send + Sync {
    /// Opens the segment of this name.
    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn BlockRead>>;
}

/// The parts of a composed file, in order.
pub struct Parts {
    folder: PathBuf,
    segments: Vec<String>,
    places: Vec<PartPlace>,
    len_bytes: u64,
    open: Box<dyn OpenSegment>,
    /// The segments used last, at the end.
    opened: Mutex<VecDeque<(u32, Arc<dyn BlockRead>)>>,
}

impl Parts {
    /// `places` begin at 0, ascend, and end at `len_bytes`; `folder` has the segments.
    pub fn new(
        folder: PathBuf,
        segments: Vec<String>,
        places: Vec<PartPlace>,
        len_bytes: u64,
        open: Box<dyn OpenSegment>,
    ) -> Self {
        Self { folder, segments, places, len_bytes, open, opened: Mutex::default() }
    }

    /// The folder that has the segments.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The names of the segments.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The number of parts.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// The length of the composed file.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Bytes of the composed file that each segment has.
    pub fn bytes_by_segment(&self) -> Vec<u64> {
        let mut bytes = vec![0_u64; self.segments.len()];
        for (place, len) in self.pieces(0, self.len_bytes) {
            if let Some(of_segment) = usize::try_from(place.segment).ok().and_then(|number| bytes.get_mut(number)) {
                *of_segment = of_segment.saturating_add(len);
            }
        }
        bytes
    }

    /// Where `len` bytes from `at` lie: for each piece its place, which may be within a part, and its length. They end
    /// with the file.
    pub fn pieces(&self, at: u64, len: u64) -> impl Iterator<Item = (PartPlace, u64)> {
        let end = at.saturating_add(len).min(self.len_bytes);
        let first = self.places.partition_point(|place| place.at <= at).saturating_sub(1);
        let places = self.places.get(first..).unwrap_or_default();
        places.iter().enumerate().map_while(move |(number, place)| {
            let ends_at = places.get(number + 1).map_or(self.len_bytes, |next| next.at);
            let (from, to) = (place.at.max(at), ends_at.min(end));
            let offset = place.offset.saturating_add(from.saturating_sub(place.at));
            (from < to).then(|| (PartPlace { at: from, segment: place.segment, offset }, to - from))
        })
    }

    fn opened(&self) -> MutexGuard<'_, VecDeque<(u32, Arc<dyn BlockRead>)>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self, number: u32) -> io::Result<Arc<dyn BlockRead>> {
        let mut opened = self.opened();
        let at = opened.iter().position(|(open, _)| *open == number);
        if let Some(found) = at.and_then(|at| opened.remove(at)) {
            let segment = Arc::clone(&found.1);
            opened.push_back(found);
            return Ok(segment);
        }
        let name = usize::try_from(number).ok().and_then(|number| self.segments.get(number));
        let segment = self.open.open_segment(name.ok_or(io::ErrorKind::InvalidData)?)?;
        if opened.len() >= MOST_OPEN {
            opened.pop_front();
        }
        opened.push_back((number, Arc::clone(&segment)));
        Ok(segment)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let len = buf.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.len_bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = buf;
        for (place, len) in self.pieces(offset, len) {
            let (piece, behind) = rest.split_at_mut(usize::try_from(len).unwrap_or(usize::MAX).min(rest.len()));
            self.segment(place.segment)?.read_at(place.offset, piece)?;
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} parts in {}", self.places.len(), self.folder.display())
    }
}

/// A composed file, to be read.
#[derive(Clone, Debug)]
pub struct Composed(pub Arc<Parts>);

impl BlockRead for Composed {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buf)
    }

    fn will_read(&self, offset: u64, len: u64) {
        for (place, len) in self.0.pieces(offset, len) {
            // A hint; failure costs time only.
            if let Ok(segment) = self.0.segment(place.segment) {
                segment.will_read(place.offset, len);
            }
        }
    }

    fn let_go(&self, offset: u64, len: u64) {
        for (place, len) in self.0.pieces(offset, len) {
            // Of those that are open.
            let opened = self.0.opened().iter().find(|(open, _)| *open == place.segment).map(|found| found.1.clone());
            if let (Some(segment), Some(len)) = (opened, NonZero::new(len)) {
                segment.file().inspect(|file| let_go_of_pages(file, place.offset, Some(len)));
            }
        }
    }

    fn parts(&self) -> Option<&Arc<Parts>> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::{Composed, OpenSegment, PartPlace, Parts};
    use crate::outside::BlockRead;

    struct Two;

    impl OpenSegment for Two {
        fn open_segment(&self, name: &str) -> io::Result<Arc<dyn BlockRead>> {
            match name {
                "a" => Ok(Arc::new(b"0123456789".to_vec())),
                "b" => Ok(Arc::new(b"abcdef".to_vec())),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    fn composed(segments: &[&str]) -> Composed {
        let place = |at, segment, offset| PartPlace { at, segment, offset };
        let places = vec![place(0, 0, 5), place(3, 1, 0), place(9, 0, 0), place(10, 1, 1)];
        let segments = segments.iter().map(|name| (*name).to_owned()).collect();
        Composed(Arc::new(Parts::new("/x".into(), segments, places, 13, Box::new(Two))))
    }

    #[test]
    fn each_range_is_read_from_its_parts() {
        let (composed, whole) = (composed(&["a", "b"]), b"567abcdef0bcd");
        for from in 0..=whole.len() {
            for to in from..=whole.len() {
                let mut buf = vec![0; to - from];
                composed.read_at(from as u64, &mut buf).unwrap();
                assert_eq!(buf, &whole[from..to]);
                let pieces = composed.0.pieces(from as u64, (to - from) as u64);
                assert_eq!(pieces.map(|(_, len)| len).sum::<u64>(), (to - from) as u64);
            }
        }
        assert_eq!(composed.read_at(12, &mut [0; 2]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(composed.read_at(u64::MAX, &mut [0; 2]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(composed.0.bytes_by_segment(), [4, 9]);
        assert_eq!(self::composed(&["a", "c"]).read_at(2, &mut [0; 2]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
