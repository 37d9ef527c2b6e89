//! Images that an interrupted export began.
//!
//! The temporary name of an image says what it is made of and how. That only keeps an export from going on with something
//! else: what is in the file is compared with the source in any case ([`Sink::to_begun_file`](crate::image::sink::Sink)).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::ExportFrom;
use super::error::{ExportError, io_error};
use crate::image::format::Format;
use crate::image::make::ImageKind;
use crate::reader::kernel::scratch::unnamed_file;
use crate::run::rebuild::target::{LeftImage, directory_of, temporaries_of};
use crate::shown;
use crate::source::SourceKind;

/// What an image is made of, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    source: String,
    how: String,
}

impl Mark {
    /// The mark of an export; `None` if it cannot be resumed, since each one reads a new snapshot.
    pub(super) fn of(from: &ExportFrom, kind: ImageKind, all_blocks: bool) -> Result<Option<Self>, ExportError> {
        let source = match from {
            ExportFrom::Source(source) => match source.kind() {
                SourceKind::Volume(_) => return Ok(None),
                SourceKind::Device { .. } => {
                    format!("device {} {}", source.path().display(), source.size_bytes())
                }
                SourceKind::Image => file_facts(source.path())?,
            },
            ExportFrom::ImageFile(image) => file_facts(image.path())?,
            ExportFrom::Backup { files, .. } => match files.read_manifest() {
                Ok(manifest) => format!("backup {}", manifest.identity()),
                Err(_) => file_facts(&files.archive_path())?,
            },
        };
        let digest = |text: &str, len: usize| shown::hex(&blake3::hash(text.as_bytes()).as_bytes()[..len]);
        let read_as = match from {
            ExportFrom::Source(source) if source.format() == Format::Qcow2 => " of qcow2",
            _ => "",
        };
        let how = digest(&format!("{kind:?} {all_blocks}{read_as}"), 4);
        Ok(Some(Self { source: digest(&source, 8), how }))
    }

    /// As it is in a temporary name.
    pub(super) fn text(&self) -> String {
        format!("{}-{}", self.source, self.how)
    }
}

/// What shows that a file is the same, and was not written to.
fn file_facts(path: &Path) -> Result<String, ExportError> {
    let facts = fs::metadata(path).map_err(io_error(path.display().to_string()))?;
    Ok(format!("file {} {} {}.{}", facts.ino(), facts.len(), facts.mtime(), facts.mtime_nsec()))
}

/// An image that was begun. It is locked.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// Finds what an export to `path` with this mark has begun: of several, the one with most data.
///
/// Fails when there is only something else, or another process writes it.
pub(super) fn find(path: &Path, mark: &Mark) -> Result<Option<Begun>, ExportError> {
    let mut best: Option<(u64, Begun)> = None;
    let mut other = None;
    for left in temporaries_of(path) {
        let Some(text) = &left.mark else { continue };
        let Some(found) = open(&left)? else { continue };
        let name = shown::path(left.path.as_os_str().as_encoded_bytes());
        if *text != mark.text() {
            let is_same_source = text.split('-').next() == Some(mark.source.as_str());
            other = Some(if is_same_source { ExportError::OtherOptions(name) } else { ExportError::OtherSource(name) });
            continue;
        }
        let facts = found.file.metadata().map_err(io_error(name.clone()))?;
        check_owner(&facts, directory_of(path), &name)?;
        let data = facts.blocks();
        if best.as_ref().is_none_or(|(most, _)| data > *most) {
            best = Some((data, found));
        }
    }
    match (best, other) {
        (Some((_, begun)), _) => Ok(Some(begun)),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(None),
    }
}

/// Opens and locks one; `None` if it is gone, is no file, or has no data.
fn open(left: &LeftImage) -> Result<Option<Begun>, ExportError> {
    let name = || shown::path(left.path.as_os_str().as_encoded_bytes());
    let file = match open_for_lock(&left.path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(name())(error)),
    };
    let facts = file.metadata().map_err(io_error(name()))?;
    // One without data may be of an export that has not locked it yet.
    if !facts.is_file() || facts.blocks() == 0 {
        return Ok(None);
    }
    lock(&file, &name())?;
    Ok(Some(Begun { path: left.path.clone(), file }))
}

/// Opens a temporary file, and no link and no pipe. An exclusive flock(2) on NFS needs a file that is open for writing.
pub(super) fn open_for_lock(path: &Path) -> io::Result<File> {
    #[expect(clippy::cast_possible_wrap, reason = "flags of open(2)")]
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// Locks an image until its last descriptor is closed: other exports see by this that it is under way, those on other hosts
/// of an NFS share, too.
pub(super) fn lock(file: &File, name: &str) -> Result<(), ExportError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(ExportError::UnderWay(name.to_owned())),
        Err(error) => Err(io_error(format!("{name}: it cannot be locked"))(error.into())),
    }
}

/// Others must not be able to write to the file after it was compared. New files of this process show which owner its files have:
/// on NFS it need not be root.
fn check_owner(facts: &fs::Metadata, directory: &Path, name: &str) -> Result<(), ExportError> {
    let untrusted = |what: &str| ExportError::Untrusted { left: name.to_owned(), what: what.to_owned() };
    let own =
        unnamed_file(directory).and_then(|file| file.metadata()).map_err(io_error(directory.display().to_string()))?;
    if facts.uid() != own.uid() {
        return Err(untrusted("it belongs to another user"));
    }
    if facts.mode() & 0o022 != 0 {
        return Err(untrusted("others can write to it"));
    }
    if facts.nlink() != 1 {
        return Err(untrusted("it has a second name"));
    }
    Ok(())
}
