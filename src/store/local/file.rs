//! A staged file in a directory.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::staged_writer::{ARCHIVE_STAGE_BYTES, INDEX_STAGE_BYTES, StagedWriter};
use super::syncing_writer::{LateError, SyncingWriter};
use crate::archive::members::ArchiveFile;
use crate::outside::{BlockRead, let_go_of_pages};
use crate::store::api::{Content, StoreFile};
use crate::store::error::StoreError;
use crate::store::open::{OpenError, open_regular};

#[derive(Debug)]
pub(super) struct LocalFile {
    file: File,
    path: PathBuf,
    /// The parent directory, if it is open: blocks are shared within its filesystem.
    directory: Option<OwnedFd>,
    late_error: LateError,
}

impl LocalFile {
    pub(super) fn new(file: File, path: PathBuf, directory: Option<OwnedFd>) -> Self {
        Self { file, path, directory, late_error: LateError::default() }
    }

    fn staged_writer(&self, stage_bytes: usize) -> io::Result<StagedWriter> {
        let file = SyncingWriter::new(self.file.try_clone()?, self.late_error.clone())?;
        StagedWriter::new(file, stage_bytes)
    }
}

impl StoreFile for LocalFile {
    fn writer(&self, content: Content) -> io::Result<Box<dyn ArchiveFile>> {
        let mut writer = self.staged_writer(match content {
            Content::Archive { .. } => ARCHIVE_STAGE_BYTES,
            Content::Index => INDEX_STAGE_BYTES,
        })?;
        if let (Content::Archive { share_blocks: true }, Some(directory)) = (content, &self.directory) {
            writer.share_in(directory.try_clone()?);
        }
        Ok(Box::new(writer))
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        (&self.file).write_all(bytes).map_err(StoreError::io("writing", &self.path))
    }

    fn start_over(&self) -> Result<(), StoreError> {
        // The data is discarded, and so is its error.
        let _ = self.late_error.take();
        let emptied = self.file.set_len(0).and_then(|()| (&self.file).seek(SeekFrom::Start(0)));
        emptied.map(|_| ()).map_err(StoreError::io("emptying", &self.path))
    }

    fn read(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        open_regular(&self.path)
    }

    fn settle(&self, expected_bytes: u64) -> Result<(), StoreError> {
        let late_error = self.late_error.take();
        late_error.map_or_else(|| self.file.sync_all(), Err).map_err(StoreError::io("syncing", &self.path))?;
        let_go_of_pages(&self.file, 0, None);
        let found_bytes = self.file.metadata().map_err(StoreError::io("asking", &self.path))?.len();
        if found_bytes == expected_bytes {
            Ok(())
        } else {
            Err(StoreError::WrongLength { path: self.path.clone(), found_bytes, expected_bytes })
        }
    }
}
