//! Makes an image of a disk.

use std::io;

use crate::events::{Event, Observer};
use crate::image::copy::{Copied, Copy, CopyError};
use crate::image::format::Qcow2Options;
use crate::image::qcow2::{Layout, Qcow2Writer, TooLarge};
use crate::image::raw::RawWriter;
use crate::image::runs::{Amount, DataRuns};
use crate::image::sink::Sink;
use crate::outside::{BlockRead, Cancel};
use crate::units::ByteRange;

/// More threads than this do not help, and each needs memory.
const THREADS_MAX: usize = 16;

/// The kind of image to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// The bytes of the disk.
    Raw,
    /// qcow2, made in this way.
    Qcow2(Qcow2Options),
}

/// The disk to copy.
pub struct Disk<'a> {
    /// Its bytes.
    pub blocks: &'a dyn BlockRead,
    /// Which of them are used, in ascending order. All others become zeros.
    pub used: &'a [ByteRange],
}

/// Options for making an image.
pub struct Making<'a> {
    /// Threads that compress.
    pub threads: usize,
    /// Whether a digest of the disk's content is made on the way.
    pub digest: bool,
    /// Gets how much is read, and may delay it.
    pub observer: &'a dyn Observer,
    /// Ends the work.
    pub cancel: &'a Cancel,
}

/// Why no image was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// The disk does not fit in such an image.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// It was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

impl Disk<'_> {
    /// The length of the disk's data in bytes.
    pub fn data_bytes(&self) -> io::Result<u64> {
        Ok(Amount::of(self.runs(), 1, 1)?.bytes)
    }

    fn runs(&self) -> DataRuns<'_> {
        DataRuns::new(self.blocks, self.used)
    }

    /// Writes an image of the disk. Nothing is synced.
    pub fn write_image(&self, kind: ImageKind, sink: Sink, how: &Making<'_>) -> Result<Copied, MakeError> {
        let bytes = self.data_bytes().map_err(CopyError::Runs)?;
        how.observer.on_event(&Event::ExpectedBytes { bytes });
        let threads = how.threads.clamp(1, THREADS_MAX);
        let copy = |chunk_bytes| Copy {
            blocks: self.blocks,
            runs: self.runs(),
            chunk_bytes,
            digest: how.digest,
            observer: how.observer,
            cancel: how.cancel,
        };
        match kind {
            ImageKind::Raw => Ok(copy(0).run(&mut RawWriter::new(sink, self.blocks.len_bytes()))?),
            ImageKind::Qcow2(options) => {
                let layout = Layout::of(options, self.blocks.len_bytes(), self.runs()).map_err(CopyError::Runs)??;
                let chunk_bytes = Qcow2Writer::chunk_bytes(&layout, threads);
                let mut writer = Qcow2Writer::new(layout, sink, threads).map_err(CopyError::Write)?;
                Ok(copy(chunk_bytes).run(&mut writer)?)
            }
        }
    }
}
