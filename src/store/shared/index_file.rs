//! A staged index whose text is shared with that of the night before, and such an index to be read.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::facts::SegmentFacts;
use super::index_text::{Lines, Pieces, Sums, To, is_of_this_version, pieces_of};
use super::names::PARTS;
use super::reading::read_manifest;
use super::scratch::ScratchFile;
use super::segment::{NewSegment, date_of};
use super::writer::{Built, OF_INDEX, OF_REMOTE_INDEX, PartsWriter};
use crate::archive::members::ArchiveFile;
use crate::outside::unnamed::unnamed_file;
use crate::outside::{BlockCursor, BlockRead, FileBlocks};
use crate::store::api::{Content, Folder, Store, StoreFile};
use crate::store::error::StoreError;
use crate::store::names::{INDEX, MANIFEST};
use crate::store::open::OpenError;

/// A longer index is read from a file without a name, and not from memory.
const MOST_IN_MEMORY: usize = 8 << 20;
/// A longer index is not read if there is no manifest that says its length.
const MOST_WITHOUT_MANIFEST: u64 = 2 << 30;

/// A staged index. It is written as it is; when it settles, its text goes to a segment.
#[derive(Debug)]
pub(super) struct IndexFile {
    volume: Folder,
    name: String,
    plain: Box<dyn StoreFile>,
    /// Kept until this is dropped, which is after it was published.
    segment: Mutex<Option<NewSegment>>,
    facts: Arc<SegmentFacts>,
    /// Opens the text of the index before.
    previous: fn(&Folder, &str) -> Option<Arc<dyn BlockRead>>,
}

impl IndexFile {
    pub(super) fn create(
        volume: &Folder,
        name: &str,
        facts: Arc<SegmentFacts>,
        previous: fn(&Folder, &str) -> Option<Arc<dyn BlockRead>>,
    ) -> Result<Self, StoreError> {
        // A long object would be sent while it is written.
        let plain: Box<dyn StoreFile> = if volume.is_local() {
            volume.create(name)?
        } else {
            Box::new(ScratchFile::create(volume.path_of_staged(name))?)
        };
        Ok(Self { volume: volume.clone(), name: name.to_owned(), plain, segment: Mutex::default(), facts, previous })
    }

    fn stem(&self) -> &str {
        self.name.strip_suffix(INDEX).unwrap_or(&self.name)
    }

    /// Stages the index in an object store, which has nothing of it yet.
    fn stage_as_it_is(&self, bytes: u64) -> Result<(), StoreError> {
        let file = self.volume.create_own(&self.name)?;
        let failed = || StoreError::io("writing", self.volume.path());
        let mut out = file.writer(Content::Index).map_err(failed())?;
        io::copy(&mut BlockCursor::new(self.plain.read()?), &mut out).map_err(failed())?;
        out.flush().map_err(failed())?;
        drop(out);
        file.settle(bytes)
    }

    /// Writes the stored text; `None` if the index is not one of this version.
    fn compose(&self, segment: &NewSegment) -> io::Result<Option<Built>> {
        let index = self.plain.read().map_err(io::Error::other)?;
        if !is_of_this_version(&*index) {
            return Ok(None);
        }
        let built = Arc::new(Mutex::new(Built::default()));
        let limits = if self.volume.is_local() { &OF_INDEX } else { &OF_REMOTE_INDEX };
        let mut out = PartsWriter::new(segment, Arc::clone(&built), limits)?;
        if let Some(previous) =
            last_before(&self.volume, &self.name).and_then(|last| (self.previous)(&self.volume, &last))
        {
            out.refer_to(&previous, pieces_of(&previous));
        }
        let mut write = |piece: &[u8]| {
            let one = (piece.len() as u64, blake3::hash(piece).into());
            out.write_members(piece, &mut std::iter::once(one), None)
        };
        let (mut lines, mut pieces) = (Lines::of(index), Pieces::default());
        let (mut to, mut back) = (Sums::default(), Sums::default());
        let (mut stored, mut again) = (Vec::new(), Vec::new());
        while let Some(line) = lines.next()? {
            stored.clear();
            again.clear();
            let is_turned = to.add(line, To::Stored, &mut stored).is_some();
            // What is read later has to be what was written.
            if !is_turned || back.add(&stored, To::Index, &mut again).is_none() || again != line {
                return Ok(None);
            }
            pieces.add(&stored, &mut write)?;
        }
        write(pieces.last())?;
        out.flush()?;
        drop(out);
        Ok(Some(std::mem::take(&mut *built.lock().unwrap_or_else(PoisonError::into_inner))))
    }
}

impl StoreFile for IndexFile {
    fn writer(&self, content: Content) -> io::Result<Box<dyn ArchiveFile>> {
        self.plain.writer(content)
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.plain.write_all(bytes)
    }

    fn start_over(&self) -> Result<(), StoreError> {
        self.plain.start_over()
    }

    fn read(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        self.plain.read()
    }

    fn settle(&self, expected_bytes: u64) -> Result<(), StoreError> {
        self.plain.settle(expected_bytes)?;
        let facts = Arc::clone(&self.facts);
        let segment = NewSegment::create(&self.volume, &self.name, (self.stem(), INDEX), facts)?;
        let composed = self.compose(&segment);
        let path = segment.segments.path_of_staged(&segment.name);
        // Otherwise the index stays as it is.
        let Some(built) = composed.map_err(StoreError::io("writing", &path))? else {
            return if self.volume.is_local() { Ok(()) } else { self.stage_as_it_is(expected_bytes) };
        };
        segment.settle(&built.recipe, built.new_bytes)?;
        if self.volume.is_local() {
            self.volume.discard(&self.name)?;
        }
        *self.segment.lock().unwrap_or_else(PoisonError::into_inner) = Some(segment);
        Ok(())
    }
}

/// The newest other index in the folder that is composed.
fn last_before(volume: &Folder, own: &str) -> Option<String> {
    let names = volume.list().ok()?.files.into_iter();
    let indexes = names.filter_map(|name| name.strip_suffix(PARTS).map(str::to_owned));
    let indexes = indexes.filter(|name| name.ends_with(INDEX) && name != own);
    indexes.max_by_key(|name| (date_of(name.strip_suffix(INDEX).unwrap_or(name)), name.clone()))
}

/// The index `name` in the folder `volume`, whose stored text this is.
pub(super) fn index_of(
    volume: &dyn Store,
    name: &str,
    stored: Arc<dyn BlockRead>,
) -> Result<Arc<dyn BlockRead>, OpenError> {
    let manifest = format!("{}{MANIFEST}", name.strip_suffix(INDEX).unwrap_or(name));
    let said = read_manifest(volume, &manifest).map_or(MOST_WITHOUT_MANIFEST, |manifest| manifest.sizes.index_bytes);
    expand(stored, said).map_err(|source| OpenError::Io { path: volume.path().join(format!("{name}{PARTS}")), source })
}

/// Expands a stored text, which may be anything, to at most so many bytes.
fn expand(stored: Arc<dyn BlockRead>, most_bytes: u64) -> io::Result<Arc<dyn BlockRead>> {
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let too_long =
        || wrong(format!("it makes an index of more than {most_bytes} bytes, which is longer than it should be"));
    // The text of an index is not longer than that.
    if stored.len_bytes() > most_bytes {
        return Err(too_long());
    }
    let (mut lines, mut sums, mut text, mut file) = (Lines::of(stored), Sums::default(), Vec::new(), None);
    let mut written = 0;
    while let Some(line) = lines.next()? {
        let added = sums.add(line, To::Index, &mut text);
        added.ok_or_else(|| wrong("it is not the text of an index".to_owned()))?;
        if written + text.len() as u64 > most_bytes {
            return Err(too_long());
        }
        if text.len() >= MOST_IN_MEMORY {
            written += text.len() as u64;
            let file = match &mut file {
                Some(file) => file,
                none => none.insert(unnamed_file()?),
            };
            file.write_all(&text)?;
            text.clear();
        }
    }
    match file {
        None => Ok(Arc::new(text)),
        Some(mut file) => {
            file.write_all(&text)?;
            Ok(Arc::new(FileBlocks::of_file(file)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::expand;

    #[test]
    fn a_text_is_not_expanded_beyond_the_length_that_is_said() {
        let line = "M\t\t\t9000000000\t\t9000000000\taa\tbb\t-\n";
        let stored = Arc::new(line.repeat(100).into_bytes());
        let index = expand(stored.clone(), 1 << 20).unwrap().len_bytes();
        assert!(index > stored.len() as u64);
        assert_eq!(expand(stored.clone(), index).unwrap().len_bytes(), index);
        for most in [index - 1, stored.len() as u64, 10] {
            let said = expand(stored.clone(), most).unwrap_err().to_string();
            assert!(said.contains(&format!("more than {most} bytes")), "{said}");
        }
    }
}
