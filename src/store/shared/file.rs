//! A staged archive that is composed: a segment with what is new, and a recipe.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::facts::SegmentFacts;
use super::segment::NewSegment;
use super::writer::{Built, OF_ARCHIVE, PartsWriter};
use crate::archive::kind::ArchiveKind;
use crate::archive::members::ArchiveFile;
use crate::outside::BlockRead;
use crate::store::api::{Content, Folder, StoreFile};
use crate::store::error::StoreError;
use crate::store::open::OpenError;

/// A staged archive. Its segment is published when it settles, before the recipe is staged.
#[derive(Debug)]
pub(super) struct SharedFile {
    segment: NewSegment,
    built: Arc<Mutex<Built>>,
}

impl SharedFile {
    /// Of the archive `archive`.
    pub(super) fn create(volume: &Folder, archive: &str, facts: Arc<SegmentFacts>) -> Result<Self, StoreError> {
        let stem = ArchiveKind::of_name(archive).map_or(archive, |(stem, _)| stem);
        Ok(Self { segment: NewSegment::create(volume, archive, (stem, ""), facts)?, built: Arc::default() })
    }
}

impl StoreFile for SharedFile {
    fn writer(&self, _: Content) -> io::Result<Box<dyn ArchiveFile>> {
        Ok(Box::new(PartsWriter::new(&self.segment, Arc::clone(&self.built), &OF_ARCHIVE)?))
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.segment.segments.path_of_staged(&self.segment.name);
        let content = Content::Archive { share_blocks: false };
        self.writer(content).and_then(|mut out| out.write_all(bytes)).map_err(StoreError::io("writing", &path))
    }

    fn start_over(&self) -> Result<(), StoreError> {
        *self.built.lock().unwrap_or_else(PoisonError::into_inner) = Built::default();
        self.segment.file.start_over()
    }

    fn read(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        Err(self.segment.unreadable())
    }

    fn settle(&self, expected_bytes: u64) -> Result<(), StoreError> {
        let built = std::mem::take(&mut *self.built.lock().unwrap_or_else(PoisonError::into_inner));
        let found_bytes = built.recipe.len_bytes;
        if found_bytes != expected_bytes {
            return Err(self.segment.wrong_length(found_bytes, expected_bytes));
        }
        self.segment.settle(&built.recipe, built.new_bytes)
    }
}
