//! A target open for writing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::error::{TargetError, io_error};
use super::left::directory_of;
use crate::outside::{Cancel, RunCommand};
use crate::run::rebuild::put_bytes::clear_ends;
use crate::shown;

/// A target open for writing.
#[derive(Debug)]
pub struct OpenTarget {
    /// The file or device, open for reading and writing.
    pub file: File,
    /// Whether it is a new file of zeros.
    pub is_new: bool,
    /// The image's final path, and its temporary path.
    image: Option<(PathBuf, PathBuf)>,
    /// A device's node and length.
    device: Option<(PathBuf, u64)>,
}

impl OpenTarget {
    pub(super) fn of_image(file: File, path: PathBuf, temporary: PathBuf) -> Self {
        Self { file, is_new: true, image: Some((path, temporary)), device: None }
    }

    pub(super) fn of_device(file: File, node: PathBuf, size_bytes: u64) -> Self {
        Self { file, is_new: false, image: None, device: Some((node, size_bytes)) }
    }

    /// Keeps an incomplete image under its temporary name, which is returned; `None` for a device.
    pub(in crate::run) fn keep_begun(mut self) -> Option<PathBuf> {
        self.image.take().map(|(_, temporary)| temporary)
    }

    /// The node of a device.
    pub(in crate::run) fn device(&self) -> Option<&Path> {
        self.device.as_ref().map(|(node, _)| node.as_path())
    }

    /// From now on there is no disk on it, also after a power failure.
    pub(in crate::run) fn clear(&self, cancel: &Cancel) -> io::Result<()> {
        self.device.as_ref().map_or(Ok(()), |(_, size_bytes)| clear_ends(&self.file, *size_bytes, cancel))
    }

    /// Gives back the blocks of a device, where it can; there is no disk on it any more.
    pub(in crate::run) fn discard(&self, commands: &dyn RunCommand) -> io::Result<()> {
        let Some(device) = self.device() else { return Ok(()) };
        // Where it cannot, as on a disk, what is not zero is overwritten later.
        let _ = commands.run_on(&self.file, "blkdiscard", &["-f".into(), device.as_os_str().to_owned()]);
        // A thin pool can use discarded chunks only after it committed its metadata, as a flush makes it do: a full one would
        // refuse what is written next (the kernel's dm-space-map-disk.c: a block has to be free in both transactions).
        self.file.sync_all()
    }

    /// Syncs it. A complete image gets its final name, and with `replace` replaces an existing file. Returns the
    /// device's node, if it is a device; afterwards it is no longer held exclusively.
    pub fn finish(mut self, replace: bool) -> Result<Option<PathBuf>, TargetError> {
        let shown =
            self.image.as_ref().map(|(path, _)| path.as_path()).or(self.device()).unwrap_or(Path::new("")).to_owned();
        self.file.sync_all().map_err(|error| TargetError::Unfit {
            name: shown::path(shown.as_os_str().as_encoded_bytes()),
            what: format!("it cannot be synced ({error}), so that what was written may be lost; repeat it"),
        })?;
        if let Some((path, temporary)) = self.image.take() {
            if replace {
                take_over_owner(&self.file, &path).map_err(io_error(&path))?;
            }
            give_name(&temporary, &path, replace).map_err(|error| TargetError::Unfit {
                name: shown::path(path.as_os_str().as_encoded_bytes()),
                what: format!(
                    "the new image cannot get its name ({error}); it is complete as {}",
                    shown::path(temporary.as_os_str().as_encoded_bytes())
                ),
            })?;
            let directory = directory_of(&path);
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| TargetError::Unfit {
                name: shown::path(path.as_os_str().as_encoded_bytes()),
                what: format!("the image is complete, and a power failure now may lose its name: {error}"),
            })?;
        }
        Ok(self.device.take().map(|(node, _)| node))
    }

    /// Syncs an image and keeps its temporary name, which is returned; `None` for a device.
    pub fn keep_temporary(mut self) -> Result<Option<PathBuf>, TargetError> {
        let Some((path, temporary)) = self.image.take() else { return Ok(None) };
        self.file.sync_all().map_err(io_error(&path))?;
        Ok(Some(temporary))
    }
}

impl Drop for OpenTarget {
    fn drop(&mut self) {
        if let Some((_, temporary)) = &self.image {
            // If this fails, its name identifies the remains.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Renames an image to its final name.
fn give_name(temporary: &Path, path: &Path, replace: bool) -> rustix::io::Result<()> {
    let cwd = rustix::fs::CWD;
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match rustix::fs::renameat_with(cwd, temporary, cwd, path, flags) {
        // Not every filesystem supports the flag (NFS, CIFS, FUSE). A hard link does not replace an existing file
        // either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if !replace => {
            rustix::fs::linkat(cwd, temporary, cwd, path, AtFlags::empty())?;
            rustix::fs::unlinkat(cwd, temporary, AtFlags::empty())
        }
        renamed => renamed,
    }
}

/// An image that replaces another gets its owner and mode.
fn take_over_owner(file: &File, replaced: &Path) -> io::Result<()> {
    let was = fs::symlink_metadata(replaced)?;
    std::os::unix::fs::fchown(file, Some(was.uid()), Some(was.gid()))?;
    file.set_permissions(was.permissions())
}
