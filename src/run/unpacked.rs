//! The disk in an image of another form than its own bytes, in a file for the kernel.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::outside::BlockRead;
use crate::outside::zeros::is_zero;
use crate::reader::filesystem::Backing;
use crate::reader::kernel::scratch::unnamed_file;
use crate::units::ByteRange;

/// What is copied at once.
const COPIED_BYTES: u64 = 1 << 20;
const HOLE_BYTES: usize = 4096;

/// A disk that is copied to a file without a name when the kernel needs it: volbak's own readers do without.
pub(super) struct Unpacked {
    blocks: Arc<dyn BlockRead>,
    /// Where the file is made.
    scratch: PathBuf,
    /// The image, for messages.
    path: PathBuf,
    copy: Mutex<Option<File>>,
}

impl Unpacked {
    pub(super) fn new(blocks: Arc<dyn BlockRead>, scratch: &Path, path: &Path) -> Self {
        Self { blocks, scratch: scratch.to_owned(), path: path.to_owned(), copy: Mutex::default() }
    }

    fn make(&self) -> io::Result<File> {
        let file = unnamed_file(&self.scratch)?;
        copy_data(&*self.blocks, [ByteRange::new(0, self.blocks.len_bytes())].into_iter(), &file)?;
        Ok(file)
    }
}

impl Backing for Unpacked {
    fn open(&self) -> io::Result<File> {
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match copy.take() {
            Some(file) => file,
            None => self.make()?,
        };
        copy.insert(file).try_clone()
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// It has no name by which a journal could be replayed into several pieces of it.
    fn is_writable(&self) -> bool {
        false
    }
}

/// Copies these ranges of a disk to an empty file as long as the disk, with holes where they have none but zeros.
pub(super) fn copy_data(
    blocks: &dyn BlockRead,
    ranges: impl Iterator<Item = ByteRange>,
    file: &File,
) -> io::Result<()> {
    file.set_len(blocks.len_bytes())?;
    let mut buf = Vec::new();
    for range in ranges {
        copy_range(blocks, range, file, &mut buf)?;
    }
    Ok(())
}

fn copy_range(blocks: &dyn BlockRead, range: ByteRange, file: &File, buf: &mut Vec<u8>) -> io::Result<()> {
    let range_end = range.end().unwrap_or(u64::MAX);
    let mut at = range.start;
    while let Some(start) = blocks.next_data(at)?.filter(|start| *start < range_end) {
        let end = blocks.next_hole(start)?.min(range_end);
        at = start;
        while at < end {
            let len = (end - at).min(COPIED_BYTES);
            // At most COPIED_BYTES.
            buf.resize(usize::try_from(len).unwrap_or(0), 0);
            blocks.read_at(at, buf)?;
            for (number, block) in (0_u64..).zip(buf.chunks(HOLE_BYTES)) {
                if !is_zero(block) {
                    file.write_all_at(block, at + number * HOLE_BYTES as u64)?;
                }
            }
            at += len;
        }
    }
    Ok(())
}
