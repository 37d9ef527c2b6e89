//! Writes what is new in an archive to a segment, and notes where the rest lies.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::known::Known;
use super::recipe::{MOST_PARTS, Recipe};
use super::segment::NewSegment;
use crate::archive::members::{ArchiveFile, KnownMembersOf};
use crate::outside::{BlockRead, PartPlace, Parts};
use crate::store::api::Content;

/// The most segments that an archive refers to. If the previous archive has so many, what is in those with the fewest bytes
/// of it is copied, until [`FEWER_SEGMENTS`] are left.
pub(super) const MOST_SEGMENTS: usize = 128;
const FEWER_SEGMENTS: usize = 96;
/// Parts that any archive may have.
const FREE_PARTS: u64 = 1024;
/// Beyond them, an archive has one part for so many bytes at most, and a quarter of [`MOST_PARTS`] altogether: what would be
/// a further part is copied.
pub(super) const ARCHIVE_BYTES_A_PART: u64 = 16 << 10;
/// The same for the text of an index.
pub(super) const INDEX_BYTES_A_PART: u64 = 512;

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
    /// Of each of its segments, whether it is not referred to any more.
    left: Vec<bool>,
    known: Known,
}

/// The writer of a composed archive.
pub(super) struct PartsWriter {
    out: Box<dyn ArchiveFile>,
    segment: String,
    folder: PathBuf,
    built: Arc<Mutex<Built>>,
    previous: Option<Previous>,
    buffer: Vec<u8>,
    bytes_a_part: u64,
}

impl PartsWriter {
    /// Continues `segment`. `bytes_a_part` limits the number of parts.
    pub(super) fn new(segment: &NewSegment, built: Arc<Mutex<Built>>, bytes_a_part: u64) -> io::Result<Self> {
        let out = segment.file.writer(Content::Archive { share_blocks: false })?;
        let (name, folder) = (segment.name.clone(), segment.segments.path().to_owned());
        Ok(Self { out, segment: name, folder, built, previous: None, buffer: Vec::new(), bytes_a_part })
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
            let number = usize::try_from(place.segment).unwrap_or(usize::MAX);
            let is_left =
                self.previous.as_ref().and_then(|previous| previous.left.get(number)).copied().unwrap_or(true);
            let name = parts.segments().get(number).filter(|_| !is_left);
            let mut built = self.built();
            let is_referred = name.is_some_and(|name| {
                let fits = built.goes_on_at(name, place.offset) || built.has_room(parts.len_bytes(), self.bytes_a_part);
                if fits {
                    built.add(name, place.offset, len);
                }
                fits
            });
            drop(built);
            if !is_referred {
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

    /// Where the previous archive has this member, byte for byte.
    fn same(&mut self, member: &[u8], digest: &[u8; 32]) -> Option<u64> {
        let previous = self.previous.as_mut()?;
        let len = member.len() as u64;
        let offset = previous.known.find(len, digest)?;
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
        let Some(parts) = previous.parts().filter(|parts| parts.folder() == self.folder) else { return };
        let bytes = parts.bytes_by_segment();
        let mut left = vec![false; bytes.len()];
        // With the new one.
        if bytes.len() >= MOST_SEGMENTS {
            let mut by_bytes: Vec<usize> = (0..bytes.len()).collect();
            by_bytes.sort_by_key(|number| bytes.get(*number).copied());
            for number in by_bytes.into_iter().take(bytes.len() - FEWER_SEGMENTS) {
                left[number] = true;
            }
        }
        let (archive, parts) = (Arc::clone(previous), Arc::clone(parts));
        self.previous = Some(Previous { archive, parts, left, known: Known::new(members) });
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
