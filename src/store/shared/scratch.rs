//! An index that is written before it goes to a segment in an object store: in a file of this host without a name.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::archive::members::ArchiveFile;
use crate::outside::unnamed::unnamed_file;
use crate::outside::{BlockRead, FileBlocks};
use crate::store::api::{Content, StoreFile};
use crate::store::error::StoreError;
use crate::store::open::OpenError;

#[derive(Debug)]
pub(super) struct ScratchFile {
    file: File,
    /// Of what is made from it.
    path: PathBuf,
}

impl ScratchFile {
    pub(super) fn create(path: PathBuf) -> Result<Self, StoreError> {
        let file = unnamed_file().map_err(StoreError::io("making a temporary file for", &path))?;
        Ok(Self { file, path })
    }

    fn blocks(&self) -> io::Result<FileBlocks> {
        FileBlocks::of_file(self.file.try_clone()?)
    }
}

impl StoreFile for ScratchFile {
    fn writer(&self, _: Content) -> io::Result<Box<dyn ArchiveFile>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::End(0))?;
        Ok(Box::new(file))
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.writer(Content::Index).and_then(|mut file| file.write_all(bytes));
        written.map_err(StoreError::io("writing", &self.path))
    }

    fn start_over(&self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(StoreError::io("emptying", &self.path))
    }

    fn read(&self) -> Result<Arc<dyn BlockRead>, OpenError> {
        match self.blocks() {
            Ok(blocks) => Ok(Arc::new(blocks)),
            Err(source) => Err(OpenError::Io { path: self.path.clone(), source }),
        }
    }

    fn settle(&self, expected_bytes: u64) -> Result<(), StoreError> {
        let found_bytes = self.blocks().map_err(StoreError::io("reading", &self.path))?.len_bytes();
        if found_bytes == expected_bytes {
            return Ok(());
        }
        Err(StoreError::WrongLength { path: self.path.clone(), found_bytes, expected_bytes })
    }
}
