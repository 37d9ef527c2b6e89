//! Writes what is new in an archive to a segment, and notes where the rest lies.

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::facts::SegmentFacts;
use super::known::Known;
use super::recipe::{MOST_PARTS, Recipe};
use super::segment::NewSegment;
use super::segments_now::SegmentsNow;
use crate::archive::members::{ArchiveFile, KnownMembersOf};
use crate::outside::{BlockRead, PartPlace, Parts};
use crate::store::api::{Content, Folder};

/// What a composed file may have.
pub(super) struct Bounds {
    /// The most segments that it refers to. If the previous one has so many, what is in those with the fewest bytes of it is
    /// copied, until `fewer_segments` are left.
    most_segments: usize,
    fewer_segments: usize,
    /// Beyond [`FREE_PARTS`], it has one part for so many bytes at most, and a quarter of [`MOST_PARTS`] altogether: what
    /// would be a further part is copied.
    bytes_a_part: u64,
}

/// The bounds of an archive.
pub(super) const OF_ARCHIVE: Bounds = Bounds { most_segments: 128, fewer_segments: 96, bytes_a_part: 16 << 10 };
/// Those of the text of an index.
pub(super) const OF_INDEX: Bounds = Bounds { bytes_a_part: 512, ..OF_ARCHIVE };
/// Those of an index in an object store: a host that has not seen its segments reads each of them whole.
pub(super) const OF_REMOTE_INDEX: Bounds = Bounds { most_segments: 16, fewer_segments: 8, ..OF_INDEX };

const COPIED_AT_ONCE: usize = 1 << 20;
/// Parts that any archive may have.
const FREE_PARTS: u64 = 1024;

/// What was written so far.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) recipe: Recipe,
    /// Bytes in the new segment.
    pub(super) new_bytes: u64,
    numbers: HashMap<String, u32>,
}

impl Built {
    fn number_of(&mut self, segment: &str) -> u32 {
        if let Some(number) = self.numbers.get(segment) {
            return *number;
        }
        let number = u32::try_from(self.recipe.segments.len()).unwrap_or(u32::MAX);
        self.recipe.segments.push(segment.to_owned());
        self.numbers.insert(segment.to_owned(), number);
        number
    }

    /// Whether a range is the continuation of the last part.
    fn goes_on_at(&self, segment: &str, offset: u64) -> bool {
        let Recipe { segments, places, len_bytes } = &self.recipe;
        places.last().is_some_and(|last| {
            let name = usize::try_from(last.segment).ok().and_then(|number| segments.get(number));
            name.is_some_and(|name| name == segment) && last.offset + (len_bytes - last.at) == offset
        })
    }

    fn add(&mut self, segment: &str, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        if !self.goes_on_at(segment, offset) {
            let (at, segment) = (self.recipe.len_bytes, self.number_of(segment));
            self.recipe.places.push(PartPlace { at, segment, offset });
        }
        self.recipe.len_bytes += len;
    }

    /// Whether there may be a further part; the previous archive has `previous_bytes`.
    fn has_room(&self, previous_bytes: u64, bytes_a_part: u64) -> bool {
        let (written, most) = (self.recipe.len_bytes, MOST_PARTS as u64 / 4);
        let of_all = u128::from(most) * u128::from(written) / u128::from(previous_bytes.max(written).max(1));
        let allowed = (written / bytes_a_part).min(u64::try_from(of_all).unwrap_or(most));
        // The range, and what is new behind it.
        self.recipe.places.len() as u64 + 2 <= FREE_PARTS + allowed
    }
}

/// The previous archive.
struct Previous {
    archive: Arc<dyn BlockRead>,
    parts: Arc<Parts>,
    known: Known,
}

/// The writer of a composed archive.
pub(super) struct PartsWriter {
    out: Box<dyn ArchiveFile>,
    segment: String,
    segments: Folder,
    built: Arc<Mutex<Built>>,
    previous: Option<Previous>,
    buffer: Vec<u8>,
    facts: Arc<SegmentFacts>,
    bounds: &'static Bounds,
}

impl PartsWriter {
    /// Continues `segment`.
    pub(super) fn new(segment: &NewSegment, built: Arc<Mutex<Built>>, bounds: &'static Bounds) -> io::Result<Self> {
        let out = segment.file.writer(Content::Archive { share_blocks: false })?;
        let (name, segments) = (segment.name.clone(), Arc::clone(&segment.segments));
        Ok(Self {
            out,
            segment: name,
            segments,
            built,
            previous: None,
            buffer: Vec::new(),
            facts: Arc::clone(&segment.facts),
            bounds,
        })
    }

    fn built(&self) -> MutexGuard<'_, Built> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refers to `bytes`, which the previous archive has at `from`; copies what it should not refer to.
    fn refer(&mut self, bytes: &[u8], from: u64) -> io::Result<()> {
        let Some(previous) = &self.previous else { return self.write_all(bytes) };
        let parts = Arc::clone(&previous.parts);
        let mut rest = bytes;
        for (place, len) in parts.pieces(from, bytes.len() as u64) {
            let (piece, behind) = rest.split_at(usize::try_from(len).unwrap_or(usize::MAX).min(rest.len()));
            rest = behind;
            if !self.is_referred_to(&parts, place, len) {
                self.write_all(piece)?;
            }
        }
        // The previous archive ends before: what was read there lies elsewhere now.
        self.write_all(rest)?;
        if let Some(previous) = &mut self.previous {
            previous.known.go_on(from.saturating_add(bytes.len() as u64));
        }
        Ok(())
    }

    /// Refers to a piece of the previous archive, unless it should be copied.
    fn is_referred_to(&self, parts: &Parts, place: PartPlace, len: u64) -> bool {
        let number = usize::try_from(place.segment).unwrap_or(usize::MAX);
        let Some(name) = parts.segments().get(number).filter(|_| !parts.is_left(place.segment)) else { return false };
        let mut built = self.built();
        let fits = built.goes_on_at(name, place.offset) || built.has_room(parts.len_bytes(), self.bounds.bytes_a_part);
        if fits {
            built.add(name, place.offset, len);
        }
        fits
    }

    /// Where the previous archive has this member, byte for byte.
    fn same(&mut self, member: &[u8], digest: &[u8; 32]) -> Option<u64> {
        let previous = self.previous.as_mut()?;
        let len = member.len() as u64;
        let offset = previous.known.find(len, digest)?;
        // In an object store nothing is read again: the digest is that of these bytes.
        if previous.parts.is_remote() {
            return Some(offset);
        }
        self.buffer.resize(member.len(), 0);
        // What is on the disk counts.
        previous.archive.let_go(offset, len);
        let is_read = previous.archive.read_at(offset, &mut self.buffer).is_ok();
        previous.archive.let_go(offset, len);
        (is_read && self.buffer == member).then_some(offset)
    }
}

impl Write for PartsWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.out.write(buf)?;
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let (offset, len) = (built.new_bytes, written as u64);
        built.add(&self.segment, offset, len);
        built.new_bytes += len;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl ArchiveFile for PartsWriter {
    fn refer_to(&mut self, previous: &Arc<dyn BlockRead>, members: KnownMembersOf) {
        let Some(parts) = previous.parts().filter(|parts| parts.folder() == self.segments.path()) else { return };
        let bytes = parts.bytes_by_segment();
        // With the new one.
        if bytes.len() >= self.bounds.most_segments {
            let mut by_bytes: Vec<usize> = (0..bytes.len()).collect();
            by_bytes.sort_by_key(|number| bytes.get(*number).copied());
            let few = &by_bytes[..bytes.len() - self.bounds.fewer_segments];
            parts.leave(|number| few.contains(&number));
        }
        parts.leave(|number| parts.segments().get(number).is_none_or(|name| self.facts.is_left(name)));
        if parts.is_remote() {
            let now = SegmentsNow::of(&self.segments);
            parts.leave(|number| {
                let needed = bytes.get(number).copied().unwrap_or(0);
                parts.segments().get(number).is_none_or(|name| !now.may_be_referred_to(name, needed, &self.facts))
            });
        }
        let (archive, parts) = (Arc::clone(previous), Arc::clone(parts));
        self.previous = Some(Previous { archive, parts, known: Known::new(members) });
    }

    fn refer_to_range(&mut self, range: Range<u64>) -> io::Result<()> {
        let Some(previous) = &self.previous else { return Err(io::ErrorKind::Unsupported.into()) };
        let (archive, parts) = (Arc::clone(&previous.archive), Arc::clone(&previous.parts));
        for (place, len) in parts.pieces(range.start, range.end.saturating_sub(range.start)) {
            if self.is_referred_to(&parts, place, len) {
                continue;
            }
            // There are so many parts that this one is copied.
            let (mut at, end) = (place.at, place.at + len);
            while at < end {
                let mut piece = vec![0; usize::try_from(end - at).unwrap_or(usize::MAX).min(COPIED_AT_ONCE)];
                archive.read_at(at, &mut piece)?;
                self.write_all(&piece)?;
                at += piece.len() as u64;
            }
        }
        if let Some(previous) = &mut self.previous {
            previous.known.go_on(range.end);
        }
        Ok(())
    }

    fn write_members(
        &mut self,
        bytes: &[u8],
        members: &mut dyn Iterator<Item = (u64, [u8; 32])>,
        from: Option<u64>,
    ) -> io::Result<()> {
        if self.previous.is_none() {
            return self.write_all(bytes);
        }
        if let Some(from) = from {
            return self.refer(bytes, from);
        }
        let mut rest = bytes;
        for (length, digest) in members {
            let (member, behind) = rest.split_at(usize::try_from(length).unwrap_or(usize::MAX).min(rest.len()));
            rest = behind;
            match self.same(member, &digest) {
                Some(from) => self.refer(member, from)?,
                None => self.write_all(member)?,
            }
        }
        self.write_all(rest)
    }
}
