//! Image files that are read as the disk in them: raw ones, and qcow2.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::image::format::Format;
use crate::image::qcow2::{self, Qcow2, Qcow2Error};
use crate::outside::{BlockRead, FileBlocks};
use crate::shown;
use crate::source::{self, Fingerprint};

/// Why an image file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFileError {
    /// It cannot be opened or read.
    #[error("{name}: it cannot be read")]
    Io {
        /// The file.
        name: String,
        /// The system's own error.
        source: io::Error,
    },
    /// It is no regular file.
    #[error("{0}: it is no image file")]
    NotAFile(String),
    /// It has the form of another format.
    #[error("{name} is a {format} image: convert it with `qemu-img convert -O qcow2 {name} {name}.qcow2`")]
    OtherFormat {
        /// The file.
        name: String,
        /// Its format.
        format: &'static str,
    },
    /// It is a qcow2 image that is not read.
    #[error("{name}")]
    Qcow2 {
        /// The file.
        name: String,
        /// What is wrong with it.
        source: Qcow2Error,
    },
    /// It changed while it was read.
    #[error("{0}: it was written to, or replaced, while it was read; repeat it when nothing writes to it")]
    Changed(String),
}

/// An image file, open for reading.
pub struct ImageFile {
    /// The disk in it.
    pub blocks: Arc<dyn BlockRead>,
    /// Its format.
    pub format: Format,
    /// The path, fit to be shown.
    pub name: String,
    /// What is worth knowing of it, one line each.
    pub remarks: Vec<String>,
    path: PathBuf,
    was: Fingerprint,
}

impl ImageFile {
    /// Opens an image. Without a format, one that begins as a qcow2 image does is one, and all else is raw.
    ///
    /// Fails for images of other formats, and for qcow2 images that need what is not read here.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Self, ImageFileError> {
        let name = shown::path(path.as_os_str().as_encoded_bytes());
        let io_error = |source| ImageFileError::Io { name: name.clone(), source };
        // A fifo is not waited for.
        #[expect(clippy::cast_possible_wrap, reason = "flags of open(2)")]
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io_error)?;
        let metadata = file.metadata().map_err(io_error)?;
        if !metadata.is_file() {
            return Err(ImageFileError::NotAFile(name));
        }
        let blocks = FileBlocks::new(file, metadata.len());
        let mut magic = [0; 4];
        let is_qcow2 = metadata.len() >= 4 && {
            blocks.read_at(0, &mut magic).map_err(io_error)?;
            magic == qcow2::MAGIC
        };
        let was = Fingerprint::of(&metadata);
        let path = path.to_owned();
        if format == Some(Format::Raw) || (format.is_none() && !is_qcow2) {
            if format.is_none()
                && let Some(format) = source::other_image_format(&blocks).map_err(io_error)?
            {
                return Err(ImageFileError::OtherFormat { name, format });
            }
            return Ok(Self { blocks: Arc::new(blocks), format: Format::Raw, name, remarks: Vec::new(), path, was });
        }
        let opened = Qcow2::open(Arc::new(blocks));
        let image = opened.map_err(|source| ImageFileError::Qcow2 { name: name.clone(), source })?;
        let remarks = image.remarks();
        Ok(Self { blocks: Arc::new(image), format: Format::Qcow2, name, remarks, path, was })
    }

    /// Where it is.
    pub(in crate::run) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that the file is still the one that was opened, and was not written to.
    pub fn check_unchanged(&self) -> Result<(), ImageFileError> {
        let now = File::open(&self.path).and_then(|file| file.metadata());
        match now {
            Ok(now) if Fingerprint::of(&now) == self.was => Ok(()),
            _ => Err(ImageFileError::Changed(self.name.clone())),
        }
    }
}
