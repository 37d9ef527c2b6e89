//! A file whose bytes lie in parts of other files: an archive in the shared layout.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::spans::Spans;
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

    /// Whether each read of a segment is a request to an object store.
    fn is_remote(&self) -> bool {
        false
    }
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
    spans: Mutex<Spans>,
    /// Of each segment, whether a new archive does not refer to it.
    left: Mutex<Vec<bool>>,
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
        let (opened, spans, left) = (Mutex::default(), Mutex::default(), Mutex::new(vec![false; segments.len()]));
        Self { folder, segments, places, len_bytes, open, opened, spans, left }
    }

    /// Whether its segments lie in an object store.
    pub fn is_remote(&self) -> bool {
        self.open.is_remote()
    }

    fn left(&self) -> MutexGuard<'_, Vec<bool>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, no new archive refers to the segments that `is_left` names by their numbers.
    pub fn leave(&self, is_left: impl Fn(usize) -> bool) {
        for (number, left) in self.left().iter_mut().enumerate() {
            *left |= is_left(number);
        }
    }

    /// Whether no new archive refers to this segment.
    pub fn is_left(&self, segment: u32) -> bool {
        usize::try_from(segment).ok().and_then(|number| self.left().get(number).copied()).unwrap_or(true)
    }

    /// Whether a new archive may refer to all of this range.
    pub fn may_be_referred_to(&self, at: u64, len: u64) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.len_bytes)
            && self.pieces(at, len).all(|(place, _)| !self.is_left(place.segment))
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
            if self.is_remote() {
                self.read_span(place, piece)?;
            } else {
                self.segment(place.segment)?.read_at(place.offset, piece)?;
            }
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Fills `buf` with what begins at `place` and lies in one part, with few requests.
    fn read_span(&self, mut place: PartPlace, mut buf: &mut [u8]) -> io::Result<()> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        while !buf.is_empty() {
            let copied = spans.copied(place.segment, place.offset, buf);
            buf = &mut buf[copied..];
            (place.at, place.offset) = (place.at + copied as u64, place.offset + copied as u64);
            if copied > 0 {
                continue;
            }
            let mut next = self.pieces(place.at, self.len_bytes);
            let part_end = next.next().map_or(0, |(_, len)| len).saturating_add(place.offset);
            let range = spans.next_read(place, buf.len() as u64, part_end, next);
            let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
            let mut bytes = vec![0; len];
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.segment(place.segment)?.read_once(range.start, &mut bytes)?;
            spans.keep(place.segment, range.start, bytes);
        }
        Ok(())
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
        if self.0.is_remote() {
            return;
        }
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
    use std::sync::{Arc, Mutex};

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

    /// Segments of which each read is noted.
    struct Remote(Arc<Mutex<Vec<(u64, usize)>>>);

    struct RemoteSegment(Vec<u8>, Arc<Mutex<Vec<(u64, usize)>>>);

    impl BlockRead for RemoteSegment {
        fn len_bytes(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            self.1.lock().unwrap().push((offset, buf.len()));
            self.0.read_at(offset, buf)
        }
    }

    fn byte(segment: u32, at: u64) -> u8 {
        u8::try_from((at.wrapping_mul(2_654_435_761) >> 16 ^ u64::from(segment)) & 0xff).unwrap()
    }

    const SEGMENT_BYTES: u64 = 6 << 20;

    impl OpenSegment for Remote {
        fn open_segment(&self, name: &str) -> io::Result<Arc<dyn BlockRead>> {
            let segment = name.parse().unwrap();
            let bytes = (0..SEGMENT_BYTES).map(|at| byte(segment, at)).collect();
            Ok(Arc::new(RemoteSegment(bytes, Arc::clone(&self.0))))
        }

        fn is_remote(&self) -> bool {
            true
        }
    }

    #[test]
    fn what_lies_near_in_an_object_store_is_read_at_once() {
        // Of two segments in turns, with gaps in both.
        let (mut places, mut at) = (Vec::new(), 0);
        for number in 0..400_u64 {
            let segment = u32::try_from(number % 2).unwrap();
            places.push(PartPlace { at, segment, offset: number / 2 * 30_000 });
            at += 10_000;
        }
        let reads = Arc::new(Mutex::new(Vec::new()));
        let segments = vec!["0".to_owned(), "1".to_owned()];
        let parts = Parts::new("/x".into(), segments, places.clone(), at, Box::new(Remote(Arc::clone(&reads))));
        let composed = Composed(Arc::new(parts));
        let mut all = Vec::new();
        while (all.len() as u64) < at {
            let mut buf = vec![0; 7919.min(usize::try_from(at).unwrap() - all.len())];
            composed.read_at(all.len() as u64, &mut buf).unwrap();
            all.extend(buf);
        }
        let expected = places.iter().flat_map(|place| (0..10_000).map(|at| byte(place.segment, place.offset + at)));
        assert!(expected.eq(all.iter().copied()));
        let count = reads.lock().unwrap().len();
        assert!(count <= 14, "{:?}", reads.lock().unwrap());
        // One place alone takes one short read.
        let mut buf = [0; 100];
        composed.read_at(200 * 10_000 + 5, &mut buf).unwrap();
        assert_eq!(buf[0], byte(0, 100 * 30_000 + 5));
        let reads = reads.lock().unwrap();
        assert!(reads.len() == count + 1 && reads[count].1 <= 256 << 10, "{:?}", reads.last());
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
