//! Restores an archive into a filesystem of its own, a detached ext4 on an image in a temporary directory.
//!
//! The result is then compared completely, see [`compare`].

pub mod compare;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

use crate::archive::index::Line;
use crate::archive::read::index_file::{IndexError, IndexReader};
use crate::error::with_causes;
use crate::events::{Event, Observer, Severity};
use crate::outside::{Cancel, RunCommand, shown_command};
use crate::reader::kernel::loop_device::LoopDevice;
use crate::report::CheckLevel;
use crate::run::check::{BackupFile, CheckError, Finding, Findings};
use crate::run::restore::attributes::NO_FAT;
use crate::run::restore::names::IdWish;
use crate::run::restore::{RestoreError, RestoreOptions, restore};
use crate::run::temporary::{TemporaryDirectory, Use};
use crate::shown;
use crate::shown::counted;
use crate::store::Backup;
use crate::store::open::OpenError;
use crate::units::{ByteLen, ByteRange};

/// Space for the filesystem's metadata, in addition to a share of the data.
const SPARE_BYTES: u64 = 256 << 20;

/// Options of a restore test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RehearseOptions<'a> {
    /// The directory for the image, which takes as much space as the files.
    pub(crate) scratch: &'a Path,
    /// The number of decompression threads.
    pub(crate) threads: usize,
    /// Cancels the operation.
    pub(crate) cancel: &'a Cancel,
}

/// See the module. If this machine cannot do it (no root, no mkfs, no space), `findings.not_checked` says so.
pub(crate) fn check(
    files: &Backup,
    options: RehearseOptions<'_>,
    observer: &dyn Observer,
    commands: &dyn RunCommand,
    findings: &mut Findings,
) -> Result<(), CheckError> {
    let image = match Image::make(files, options.scratch, commands, observer) {
        Ok(image) => image,
        Err(what) => {
            findings.not_restored(what);
            return Ok(());
        }
    };
    let mounted = match image.mount() {
        Ok(mounted) => mounted,
        Err(what) => {
            findings.not_restored(what);
            return Ok(());
        }
    };
    let told = Errors { inner: observer, findings: std::sync::Mutex::default() };
    let name = "the filesystem of the test";
    let into =
        RestoreOptions::into_new_filesystem(name, mounted.as_fd(), &IdWish::default(), options.threads, options.cancel);
    let restored = restore(files, &into, &told);
    let told = told.findings.into_inner().unwrap_or_default();
    // Sparse files may need more here: holes shorter than a block of this filesystem are data in it.
    if restored.as_ref().is_ok_and(|report| report.without_room > 0) {
        findings.not_restored(format_args!("its files do not fit into an image of {}", ByteLen(image.size)));
        return Ok(());
    }
    for finding in told {
        findings.add(finding);
    }
    let mut attributes_whole = true;
    match restored {
        Ok(report) => {
            // A limit of the test's filesystem is no fault of the backup.
            attributes_whole = report.shortfalls.keys().all(|what| what == NO_FAT);
            for (what, count) in &report.shortfalls {
                let what = format!("restored for a test, {what} ({})", counted(*count, "time", "times"));
                findings.not_checked(what);
            }
        }
        Err(RestoreError::Stopped) => return Err(CheckError::Stopped),
        // This says nothing about the backup.
        Err(error @ RestoreError::Target { .. }) => {
            findings.not_restored(with_causes(&error));
            return Ok(());
        }
        Err(error) => findings.about(BackupFile::Archive, format!("it cannot be restored: {error}")),
    }
    let how = compare::How { attributes: attributes_whole, threads: options.threads, cancel: options.cancel.clone() };
    match compare::compare(files, mounted.as_fd(), &how, findings) {
        Ok(()) => {}
        Err(compare::CompareError::Stopped) => return Err(CheckError::Stopped),
        Err(compare::CompareError::Failed(what)) => findings.not_beyond(CheckLevel::Full, what),
    }
    drop(mounted);
    image.fsck(commands, findings);
    Ok(())
}

/// Why this machine cannot make a restore test.
#[derive(Debug, thiserror::Error)]
enum NotRehearsed {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("its image cannot be made in {}: {source}", path.display())]
    Image { path: PathBuf, source: io::Error },
    #[error("its image cannot be made: {0}")]
    Length(io::Error),
    #[error("{} has no room for its image of {needed}", path.display())]
    NoRoom { path: PathBuf, needed: ByteLen },
    #[error("{command} failed: {said}")]
    MkfsFailed { command: String, said: String },
    #[error("mkfs.ext4 cannot be run: {0}")]
    MkfsNotRun(io::Error),
    #[error("no loop device can be made: {0}")]
    Loop(io::Error),
    #[error("its filesystem cannot be mounted: {0}")]
    Mount(Errno),
}

/// Converts restore errors to findings, and forwards other events.
struct Errors<'a> {
    inner: &'a dyn Observer,
    findings: std::sync::Mutex<Vec<Finding>>,
}

impl Observer for Errors<'_> {
    fn on_event(&self, event: &Event) {
        match event {
            Event::Problem(problem) if problem.severity == Severity::Error => {
                let path = Some(problem.location.clone());
                let what = problem.what.clone();
                let finding = Finding { file: BackupFile::Archive, member: None, offset: None, path, what };
                self.findings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(finding);
            }
            Event::Problem(_) => {}
            other => self.inner.on_event(other),
        }
    }
}

/// A filesystem in a file of a temporary directory.
struct Image {
    path: PathBuf,
    file: File,
    size: u64,
    _directory: TemporaryDirectory,
}

/// The size of a filesystem that takes the files of an archive. An entry has an inode, and part of a block that its data do
/// not fill.
pub(crate) fn image_bytes(tar_bytes: u64, entries: u64) -> u64 {
    let data = tar_bytes.saturating_add(tar_bytes / 4);
    data.saturating_add(entries.saturating_mul(8192)).saturating_add(SPARE_BYTES)
}

impl Image {
    fn make(
        files: &Backup,
        scratch: &Path,
        commands: &dyn RunCommand,
        observer: &dyn Observer,
    ) -> Result<Self, NotRehearsed> {
        let index = files.open_index()?;
        let (mut entries, mut tar_bytes) = (0, 0);
        let mut reader = IndexReader::new(index)?;
        while let Some(line) = reader.next_line()? {
            if let Line::End(totals) = line {
                (entries, tar_bytes) = (totals.entries, totals.tar_bytes);
            }
        }
        let size = image_bytes(tar_bytes, entries);
        let failed = |source| NotRehearsed::Image { path: scratch.to_owned(), source };
        let directory = TemporaryDirectory::new(scratch, files.stem(), Use::Test, observer).map_err(failed)?;
        let path = directory.path().join("image");
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let image = Self { path, file, size, _directory: directory };
        image.file.set_len(size).map_err(NotRehearsed::Length)?;
        let inodes = entries.saturating_add(1000).to_string();
        let args = [
            "-q",
            "-F",
            "-b",
            "4096",
            "-I",
            "256",
            "-O",
            "ea_inode,large_dir,^has_journal",
            "-E",
            "lazy_itable_init=1",
            "-m",
            "0",
            "-N",
            &inodes,
        ];
        let mut args: Vec<OsString> = args.map(OsString::from).to_vec();
        args.push(image.path.clone().into_os_string());
        match commands.run("mkfs.ext4", &args) {
            Ok(output) if output.status.success() => image.with_room(scratch),
            Ok(output) => {
                let said = shown::bytes(output.stderr.trim_ascii());
                Err(NotRehearsed::MkfsFailed { command: shown_command("mkfs.ext4", &args), said })
            }
            Err(error) => Err(NotRehearsed::MkfsNotRun(error)),
        }
    }

    /// Reserves its blocks. If the scratch directory filled during the test, its errors would look like those of the backup.
    /// After mkfs, which punches holes into the file.
    fn with_room(self, scratch: &Path) -> Result<Self, NotRehearsed> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, self.size) {
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                let (path, needed) = (scratch.to_owned(), ByteLen(self.size));
                Err(NotRehearsed::NoRoom { path, needed })
            }
            // Some filesystems cannot reserve.
            _ => Ok(self),
        }
    }

    /// Mounts it; returns its root directory. Closing the descriptor unmounts it.
    fn mount(&self) -> Result<OwnedFd, NotRehearsed> {
        let device = LoopDevice::attach(&self.file, ByteRange::new(0, self.size), true).map_err(NotRehearsed::Loop)?;
        mount_writable(device.path()).map_err(NotRehearsed::Mount)
    }

    fn fsck(&self, commands: &dyn RunCommand, findings: &mut Findings) {
        let args = [OsString::from("-fn"), self.path.clone().into_os_string()];
        match commands.run("e2fsck", &args) {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let said = shown::bytes(output.stdout.trim_ascii());
                findings.not_checked(format!("the filesystem of the restore test has errors: {said}"));
            }
            Err(error) => findings.not_checked(format!("e2fsck cannot be run: {error}")),
        }
    }
}

fn mount_writable(device: &Path) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", device)?;
    fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    rustix::fs::openat(&mount, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
