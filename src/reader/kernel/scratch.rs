//! A temporary copy of a region, for a filesystem whose journal must be replayed and whose source must not be written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::outside::Cancel;
use crate::outside::zeros::is_zero;
use crate::units::{ByteLen, ByteRange};

/// Room for blocks that a journal replay may allocate in addition to the copied data. ext4's largest default
/// journal is 1 GiB, and most of its blocks overwrite blocks that are already in the copy.
const REPLAY_ROOM_BYTES: u64 = 64 << 20;
const COPY_BYTES: usize = 1 << 20;
const ZERO_BLOCK_BYTES: usize = 4096;

/// Why no copy could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScratchError {
    /// Not enough free space in the scratch directory.
    #[error(
        "replaying the journal needs a copy of {needed}, and {} has only {available} free; free some, or name another \
         directory with --scratch", directory.display()
    )]
    NoRoom {
        /// The scratch directory.
        directory: PathBuf,
        /// The size of the data to copy, plus room for the replay.
        needed: ByteLen,
        /// The free space.
        available: ByteLen,
    },
    /// Reading the source or writing the copy failed.
    #[error("a copy for replaying the journal could not be made in {}", directory.display())]
    Io {
        /// The scratch directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The operation was cancelled.
    #[error("interrupted")]
    Cancelled,
}

/// An unnamed copy: the kernel removes it with its last user, also after kill -9.
#[derive(Debug)]
pub struct ScratchCopy {
    /// The copy, open for reading and writing.
    pub file: File,
    /// The region's bytes in `file`.
    pub range: ByteRange,
}

/// Copies `range` of `backing` to an unnamed file in `directory`: as a reflink where the filesystem supports it,
/// otherwise without the holes, after a check of the free space.
pub fn copy_region(
    backing: &File,
    range: ByteRange,
    directory: &Path,
    cancel: &Cancel,
) -> Result<ScratchCopy, ScratchError> {
    let io_error = |source: io::Error| ScratchError::Io { directory: directory.to_owned(), source };
    let copy = unnamed_file(directory).map_err(io_error)?;
    let is_file = FileType::from_raw_mode(rustix::fs::fstat(backing).map_err(|e| io_error(e.into()))?.st_mode)
        == FileType::RegularFile;
    if is_file && rustix::fs::ioctl_ficlone(&copy, backing).is_ok() {
        return Ok(ScratchCopy { file: copy, range });
    }

    let data_bytes = if is_file { data_bytes(backing, range).map_err(io_error)? } else { range.len };
    let space = rustix::fs::fstatvfs(&copy).map_err(|e| io_error(e.into()))?;
    let available = space.f_bavail.saturating_mul(space.f_frsize);
    let needed = data_bytes.saturating_add(REPLAY_ROOM_BYTES);
    if available < needed {
        return Err(ScratchError::NoRoom {
            directory: directory.to_owned(),
            needed: ByteLen(needed),
            available: ByteLen(available),
        });
    }

    copy.set_len(range.len).map_err(io_error)?;
    let mut buf = vec![0; COPY_BYTES];
    let end = range.start.saturating_add(range.len);
    let mut offset = range.start;
    while offset < end {
        if cancel.is_cancelled() {
            return Err(ScratchError::Cancelled);
        }
        if is_file {
            offset = match next_data(backing, offset).map_err(io_error)? {
                Some(data) if data < end => data,
                _ => break,
            };
        }
        let len = usize::try_from(end - offset).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
        backing.read_exact_at(&mut buf[..len], offset).map_err(io_error)?;
        let mut at = offset - range.start;
        for block in buf[..len].chunks(ZERO_BLOCK_BYTES) {
            if !is_zero(block) {
                copy.write_all_at(block, at).map_err(io_error)?;
            }
            at += block.len() as u64;
        }
        offset += len as u64;
    }
    Ok(ScratchCopy { file: copy, range: ByteRange::new(0, range.len) })
}

/// A file without a name (`O_TMPFILE`), or one unlinked at once where the filesystem does not support that.
pub(crate) fn unnamed_file(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    // The open flags fit in 31 bits.
    let tmpfile = i32::try_from(OFlags::TMPFILE.bits()).unwrap_or_default();
    match options.clone().custom_flags(tmpfile).open(directory) {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTSUP | Errno::ISDIR | Errno::INVAL)) => {}
        opened => return opened,
    }
    let path = directory.join(format!(".volbak-tmp.scratch-{}", std::process::id()));
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// The first byte of data at or after `from` in a regular file.
fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL) => Ok(Some(from)),
        Err(error) => Err(error.into()),
    }
}

/// The bytes of `range` outside holes.
fn data_bytes(file: &File, range: ByteRange) -> io::Result<u64> {
    let end = range.start.saturating_add(range.len);
    let (mut offset, mut sum) = (range.start, 0_u64);
    while offset < end {
        let Some(data) = next_data(file, offset)?.filter(|data| *data < end) else { break };
        let hole = match rustix::fs::seek(file, SeekFrom::Hole(data)) {
            Ok(hole) => hole.min(end),
            Err(Errno::NXIO | Errno::INVAL) => end,
            Err(error) => return Err(error.into()),
        };
        sum += hole - data;
        offset = hole.max(data + 1);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::{ScratchError, copy_region};
    use crate::outside::Cancel;
    use crate::units::ByteRange;

    #[test]
    fn a_copy_has_the_regions_bytes_and_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::write(&image, [vec![7; 4096], vec![1; 100_000], vec![0; 1 << 20], vec![2; 4096]].concat()).unwrap();
        let range = ByteRange::new(4096, 100_000 + (1 << 20));
        let copy = copy_region(&File::open(&image).unwrap(), range, dir.path(), &Cancel::default()).unwrap();
        let mut bytes = vec![9; usize::try_from(range.len).unwrap()];
        copy.file.read_exact_at(&mut bytes, copy.range.start).unwrap();
        assert!(bytes[..100_000].iter().all(|byte| *byte == 1) && bytes[100_000..].iter().all(|byte| *byte == 0));
        assert!(copy.file.metadata().unwrap().blocks() * 512 < 300_000, "zeros are holes in the copy");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_room_is_said_with_figures() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let image = File::open("/proc/self/exe").unwrap();
        let range = ByteRange::new(0, 4096);
        // A missing directory stands for a full one: a full tmpfs would need a mount.
        let missing = dir.path().join("missing");
        assert!(matches!(
            copy_region(&image, range, &missing, &Cancel::default()),
            Err(ScratchError::Io { directory, .. }) if directory == missing
        ));
    }
}
