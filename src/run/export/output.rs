//! Where an image goes: a file with a temporary name until it is complete, or a stream.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::ExportTarget;
use super::begun::{self, Begun, Mark};
use super::error::{ExportError, io_error};
use crate::events::{Event, Observer, Severity};
use crate::image::digest::DiskDigest;
use crate::image::make::{Disk, ImageKind};
use crate::image::qcow2::Qcow2;
use crate::image::runs::DataRuns;
use crate::image::sink::Sink;
use crate::outside::file_lock::FileLock;
use crate::outside::{BlockRead, Cancel, FileBlocks, RunCommand};
use crate::run::collect::tell;
use crate::run::rebuild::target::{OpenTarget, Target, TargetSpec, directory_of, temporaries_of};
use crate::shown;
use crate::units::{ByteLen, ByteRange};

/// The mark of an export that cannot be resumed.
const ONCE: &str = "once";

/// What is read back at once: a multiple of the digest's granule.
const COMPARED_BYTES: u64 = 1 << 20;

/// A place for an image that was looked at.
pub(super) enum Output {
    File { path: PathBuf, overwrite: bool, mark: Option<Mark>, begun: Option<Begun> },
    Stream(File),
}

/// An image that is written.
pub(super) enum Writing {
    File { target: OpenTarget, name: String, replaces: bool, resume: Resume },
    Stream(File),
}

/// What becomes of an image that is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// It is removed.
    No,
    /// A later export can go on with it.
    Later,
    /// As before, and this one goes on with what an earlier one began.
    Now,
}

impl Output {
    /// Makes sure that the image can go there, and removes what exports to the same name left that were killed: all but what is
    /// resumed. An export without a mark cannot be resumed later.
    pub(super) fn look(
        to: ExportTarget,
        mark: Option<Mark>,
        observer: &dyn Observer,
        commands: &dyn RunCommand,
    ) -> Result<Self, ExportError> {
        match to {
            ExportTarget::Stream(file) => Ok(Self::Stream(file)),
            ExportTarget::File { path, overwrite, resume } => {
                look(&path, 512, overwrite, commands)?;
                let begun = match mark.as_ref().filter(|_| resume) {
                    Some(mark) => begun::find(&path, mark)?,
                    None => None,
                };
                remove_left(&path, begun.as_ref(), observer);
                Ok(Self::File { path, overwrite, mark, begun })
            }
        }
    }

    /// Opens it.
    pub(super) fn open(self, disk: &Disk<'_>, source: &str, observer: &dyn Observer) -> Result<Writing, ExportError> {
        let (path, overwrite, mark, begun) = match self {
            Self::Stream(file) => return Ok(Writing::Stream(file)),
            Self::File { path, overwrite, mark, begun } => (path, overwrite, mark.map(|mark| mark.text()), begun),
        };
        let name = shown::path(path.as_os_str().as_encoded_bytes());
        // It may have come into being meanwhile.
        let target = look(&path, disk.blocks.len_bytes(), overwrite, &crate::outside::SystemCommands)?;
        let replaces = !target.on_it.is_empty();
        if let (Ok(facts), Ok(data)) = (rustix::fs::statvfs(directory_of(&path)), disk.data_bytes()) {
            let there =
                begun.as_ref().and_then(|begun| begun.file.metadata().ok()).map_or(0, |facts| facts.blocks() * 512);
            let free = facts.f_bavail.saturating_mul(facts.f_frsize);
            if free < data.saturating_sub(there) {
                let what = format!(
                    "{} of data are read, and the filesystem of {name} has {} left",
                    ByteLen(data),
                    ByteLen(free)
                );
                tell(observer, Severity::Notice, source.to_owned(), what);
            }
        }
        let resume = match (&mark, &begun) {
            (None, _) => Resume::No,
            (Some(_), None) => Resume::Later,
            (Some(_), Some(_)) => Resume::Now,
        };
        if let Some(Begun { path, file }) = begun {
            let target = target.open_begun(file, &path, mark.as_deref())?;
            return Ok(Writing::File { target, name, replaces, resume });
        }
        let target = target.open_marked(0, Some(mark.as_deref().unwrap_or(ONCE)))?;
        target.file.set_len(0).map_err(io_error(format!("{name}: it cannot be made")))?;
        let locked = begun::lock(&target.file, &name);
        if matches!(locked, Err(ExportError::UnderWay(_))) {
            locked?;
        }
        // Without locks, nothing is resumed or removed later.
        Ok(Writing::File { target, name, replaces, resume })
    }
}

impl Writing {
    /// Where the image is written. The second value becomes the number of bytes that were there already.
    pub(super) fn sink(&self) -> Result<(Sink, Arc<AtomicU64>), ExportError> {
        let clone = |file: &File| file.try_clone().map_err(io_error("it cannot be written"));
        match self {
            Self::File { target, name, resume: Resume::Now, .. } => Sink::to_begun_file(clone(&target.file)?)
                .map_err(io_error(format!("{name}: what is there cannot be read"))),
            Self::File { target, .. } => Ok((Sink::to_file(clone(&target.file)?), Arc::default())),
            Self::Stream(file) => Ok((Sink::to_stream(clone(file)?), Arc::default())),
        }
    }

    /// Ends an export that failed: what can be resumed is kept under its temporary name.
    pub(super) fn give_up(self, error: ExportError, observer: &dyn Observer) -> ExportError {
        if let Self::File { target, name, resume: Resume::Later | Resume::Now, .. } = self
            && error.leaves_a_beginning()
            && target.file.metadata().is_ok_and(|facts| facts.blocks() > 0)
            && let Some(kept) = target.keep_begun()
        {
            let kept = shown::path(kept.as_os_str().as_encoded_bytes());
            let what = format!(
                "what was written is kept as {kept}; the same command with --resume continues it, and without it removes it"
            );
            tell(observer, Severity::Notice, name, what);
        }
        error
    }

    /// Whether an earlier run began it.
    pub(super) fn is_resumed(&self) -> bool {
        matches!(self, Self::File { resume: Resume::Now, .. })
    }

    /// Has all of it on the disk.
    pub(super) fn sync(&mut self) -> Result<(), ExportError> {
        match self {
            Self::File { target, name, .. } => {
                target.file.sync_all().map_err(io_error(format!("{name}: it cannot be synced")))
            }
            Self::Stream(_) => Ok(()),
        }
    }

    /// Reads it back, and compares what is in it with the digest of what was read from the source.
    pub(super) fn compare(
        &self,
        kind: ImageKind,
        digest: &[u8; 32],
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Result<(), ExportError> {
        let Self::File { target, name, .. } = self else { return Ok(()) };
        let again = || io_error(format!("{name}: it cannot be read back"));
        let file = target.file.try_clone().map_err(again())?;
        // From the disk, not from memory.
        crate::outside::let_go_of_pages(&file, 0, None);
        let raw = FileBlocks::of_file(file).map_err(again())?;
        let blocks: Arc<dyn BlockRead> = match kind {
            ImageKind::Raw => Arc::new(raw),
            ImageKind::Qcow2(_) => {
                let open = Qcow2::open(Arc::new(raw));
                Arc::new(open.map_err(|error| again()(std::io::Error::other(error)))?)
            }
        };
        match content_digest(&*blocks, observer, cancel).map_err(again())? {
            None => Err(ExportError::Stopped),
            Some(found) if found == *digest => Ok(()),
            Some(_) => Err(ExportError::Different(name.clone())),
        }
    }

    /// The room that a file takes.
    pub(super) fn stored_bytes(&self) -> Option<u64> {
        match self {
            Self::File { target, .. } => target.file.metadata().ok().map(|metadata| metadata.blocks() * 512),
            Self::Stream(_) => None,
        }
    }

    /// Gives a complete image its name, which this returns.
    pub(super) fn publish(self) -> Result<String, ExportError> {
        match self {
            Self::Stream(_) => Ok("-".to_owned()),
            Self::File { target, name, replaces, .. } => {
                target.finish(replaces)?;
                Ok(name)
            }
        }
    }
}

/// The digest of what a disk holds; `None` when it was cancelled.
pub(in crate::run) fn content_digest(
    blocks: &dyn BlockRead,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> std::io::Result<Option<[u8; 32]>> {
    let len = blocks.len_bytes();
    let used = [ByteRange::new(0, len)];
    let mut digest = DiskDigest::default();
    let mut buffer = Vec::new();
    let mut next = 0;
    for run in DataRuns::new(blocks, &used) {
        let run = run?;
        let granule = DiskDigest::GRANULE_BYTES as u64;
        let mut at = next.max(run.start / granule * granule);
        let end = (run.start + run.len).next_multiple_of(granule).min(len);
        while at < end {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            let now = (end - at).min(COMPARED_BYTES);
            // At most COMPARED_BYTES.
            buffer.resize(usize::try_from(now).unwrap_or(0), 0);
            blocks.read_at(at, &mut buffer)?;
            digest.update(at, &buffer);
            observer.on_event(&Event::Read { bytes: now });
            at += now;
        }
        next = next.max(end);
    }
    Ok(Some(digest.finish()))
}

fn look(path: &Path, bytes: u64, overwrite: bool, commands: &dyn RunCommand) -> Result<Target, ExportError> {
    let spec = TargetSpec::Image(path.to_owned(), None);
    let target = Target::look(&spec, bytes, Path::new("/"), commands)?;
    if !target.on_it.is_empty() && !overwrite {
        return Err(ExportError::Exists(target.name));
    }
    Ok(target)
}

/// Removes images under temporary names of exports to `path` that ended without removing them: their process is gone, and no
/// process of another host holds them. Those without a mark are of restores and imports: what one kept, and what another host may be
/// writing.
fn remove_left(path: &Path, but: Option<&Begun>, observer: &dyn Observer) {
    let left = temporaries_of(path)
        .into_iter()
        .filter(|left| left.mark.is_some() && left.is_left_here())
        .map(|left| left.path);
    for left in left.filter(|left| but.is_none_or(|begun| begun.path != *left)) {
        if !fs::symlink_metadata(&left).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let Ok(Ok(Some(_lock))) = begun::open_for_lock(&left).map(FileLock::try_take) else { continue };
        let shown = shown::path(left.as_os_str().as_encoded_bytes());
        match fs::remove_file(&left) {
            Ok(()) => tell(observer, Severity::Notice, shown, "was left by a run that was cut off; removed"),
            Err(error) => {
                tell(observer, Severity::Warning, shown, format!("was left by a run that was cut off: {error}"));
            }
        }
    }
}
