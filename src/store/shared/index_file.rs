//! A staged index whose text is shared with that of the night before, and such an index to be read.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::index_text::{Lines, Pieces, Sums, To, is_of_this_version, pieces_of};
use super::left::LeftSegments;
use super::names::PARTS;
use super::scratch::ScratchFile;
use super::segment::{NewSegment, date_of};
use super::writer::{Built, OF_INDEX, OF_REMOTE_INDEX, PartsWriter};
use crate::archive::members::ArchiveFile;
use crate::outside::unnamed::unnamed_file;
use crate::outside::{BlockCursor, BlockRead, FileBlocks};
use crate::store::api::{Content, Folder, StoreFile};
use crate::store::error::StoreError;
use crate::store::names::INDEX;
use crate::store::open::OpenError;

/// A longer index is read from a file without a name, and not from memory.
const MOST_IN_MEMORY: usize = 8 << 20;

/// A staged index. It is written as it is; when it settles, its text goes to a segment.
#[derive(Debug)]
pub(super) struct IndexFile {
    volume: Folder,
    name: String,
    plain: Box<dyn StoreFile>,
    /// Kept until this is dropped, which is after it was published.
    segment: Mutex<Option<NewSegment>>,
    left: Arc<LeftSegments>,
    /// Opens the text of the index before.
    previous: fn(&Folder, &str) -> Option<Arc<dyn BlockRead>>,
}

impl IndexFile {
    pub(super) fn create(
        volume: &Folder,
        name: &str,
        left: Arc<LeftSegments>,
        previous: fn(&Folder, &str) -> Option<Arc<dyn BlockRead>>,
    ) -> Result<Self, StoreError> {
        // A long object would be sent while it is written.
        let plain: Box<dyn StoreFile> = if volume.is_local() {
            volume.create(name)?
        } else {
            Box::new(ScratchFile::create(volume.path_of_staged(name))?)
        };
        Ok(Self { volume: volume.clone(), name: name.to_owned(), plain, segment: Mutex::default(), left, previous })
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
        let left = Arc::clone(&self.left);
        let segment = NewSegment::create(&self.volume, &self.name, (self.stem(), INDEX), left)?;
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

/// The index whose stored text this is.
pub(super) fn index_of(path: &Path, stored: Arc<dyn BlockRead>) -> Result<Arc<dyn BlockRead>, OpenError> {
    expand(stored).map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

fn expand(stored: Arc<dyn BlockRead>) -> io::Result<Arc<dyn BlockRead>> {
    let (mut lines, mut sums, mut text, mut file) = (Lines::of(stored), Sums::default(), Vec::new(), None);
    while let Some(line) = lines.next()? {
        let added = sums.add(line, To::Index, &mut text);
        added.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not the text of an index"))?;
        if text.len() >= MOST_IN_MEMORY {
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
