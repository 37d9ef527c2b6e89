//! Serves backups as a read-only file system, through FUSE: all of a destination, or one backup.

mod attributes;
mod contents;
mod entries;
mod error;
mod filesystem;
mod served;
mod shelf;
mod tree;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fuser::{Config, MountOption, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

pub use self::error::ContentsError;
pub use self::tree::TooManyEntries;

use self::served::Served;
use self::shelf::Shelf;
use crate::archive::read::anywhere::MemberCache;
use crate::error::with_causes;
use crate::events::{Observer, Severity};
use crate::outside::Cancel;
use crate::outside::host::processors;
use crate::run::collect::tell;
use crate::store::{Backup, Destination, StoreError};

/// The most decompressed data that are kept.
const CACHE_BYTES: usize = 64 << 20;
/// How long a request to end waits at most until it is heeded.
const LOOK: Duration = Duration::from_millis(100);

/// Why backups cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The destination cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The backup cannot be read.
    #[error("{backup} cannot be mounted")]
    Contents {
        /// The backup.
        backup: String,
        /// The cause.
        source: ContentsError,
    },
    /// The directory cannot be used.
    #[error("{} cannot be used", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An earlier mount whose process was killed is still there.
    #[error("{} has a mount whose process has ended: `umount {}` first", .0.display(), .0.display())]
    Stale(PathBuf),
    /// The mount would serve itself: a listing of it would wait for itself.
    #[error("{} is in the destination {}: mount it on a directory outside", directory.display(), destination.display())]
    InDestination {
        /// The directory.
        directory: PathBuf,
        /// The destination.
        destination: PathBuf,
    },
    /// The directory has entries, which the mount would hide.
    #[error("{} is not an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// The kernel refused.
    #[error("{} cannot be mounted on{}", directory.display(), hint(source))]
    Fuse {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => ": FUSE is needed (`modprobe fuse`), and fusermount3 for users other than root",
        io::ErrorKind::PermissionDenied => ": FUSE mounts need root, or fusermount3 of the package fuse3",
        _ => "",
    }
}

/// What is mounted.
#[derive(Debug)]
pub enum Mounted {
    /// All backups of a destination: `VOLUME/DATE/…`.
    Destination(Destination),
    /// One backup.
    Backup(Backup),
}

/// Options of [`mount`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct MountOptions {
    /// Other users may look, too, as far as the modes of the files permit.
    pub allow_other: bool,
}

/// Mounts on `directory`, calls `ready`, and serves until the directory is unmounted or `cancel` is set. Then it is unmounted; if it is in use,
/// it vanishes from the tree at once, and the call returns when the last file is closed. What cannot be read is an error of that
/// file (EIO) and goes to `observer`.
///
/// Memory: 64 MiB of decompressed members, and for each backup that is looked into about 60 bytes and the name for each entry and 64
/// bytes for each member; of backups with more than four million entries in all, the one looked into longest ago is dropped.
pub fn mount(
    what: Mounted,
    directory: &Path,
    options: MountOptions,
    observer: Arc<dyn Observer>,
    cancel: &Cancel,
    ready: impl FnOnce(),
) -> Result<(), MountError> {
    check(directory)?;
    if let Mounted::Destination(destination) = &what {
        check_outside(directory, destination)?;
    }
    let cache = Arc::new(MemberCache::new(CACHE_BYTES));
    let name = match &what {
        Mounted::Destination(destination) => destination.root().display().to_string(),
        Mounted::Backup(backup) => backup.archive_path().display().to_string(),
    };
    let shelf = match what {
        Mounted::Destination(destination) => Shelf::of_destination(destination, cache, Arc::clone(&observer)),
        Mounted::Backup(backup) => {
            let stem = backup.stem().to_owned();
            let opened = Shelf::of_backup(backup, cache, Arc::clone(&observer), cancel);
            opened.map_err(|source| MountError::Contents { backup: stem, source })?
        }
    };
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoAtime,
        MountOption::FSName(name.replace([',', '\\'], "_")),
        MountOption::Subtype("volbak".to_owned()),
    ];
    if options.allow_other {
        config.acl = SessionACL::All;
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    config.n_threads = Some(processors().clamp(2, 8));
    let refused = |source| MountError::Fuse { directory: directory.to_owned(), source };
    let mut session = Session::new(Served::new(shelf, Arc::clone(&observer)), directory, &config).map_err(refused)?;
    let mut unmounter = session.unmount_callable();
    let (cancel, place) = (cancel.clone(), directory.to_owned());
    let watch = move || {
        while !cancel.is_cancelled() {
            thread::sleep(LOOK);
        }
        if let Err(error) = unmounter.unmount() {
            // A process still has a file open: the mount vanishes from the tree now, and ends with the last of these.
            let what = format!("it is in use ({}); volbak ends when its last file is closed", with_causes(&error));
            tell(&*observer, Severity::Warning, place.display().to_string(), what);
            let _ = unmount(&place, UnmountFlags::DETACH);
        }
    };
    thread::Builder::new().name("unmount".to_owned()).spawn(watch).map_err(refused)?;
    ready();
    session.run().map_err(refused)
}

fn check_outside(directory: &Path, destination: &Destination) -> Result<(), MountError> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if !destination.is_local() || !real(directory).starts_with(real(destination.root())) {
        return Ok(());
    }
    Err(MountError::InDestination { directory: directory.to_owned(), destination: destination.root().to_owned() })
}

/// Checks that the directory can be mounted on.
fn check(directory: &Path) -> Result<(), MountError> {
    let unusable = |source: io::Error| match Errno::from_io_error(&source) {
        Some(Errno::NOTCONN) => MountError::Stale(directory.to_owned()),
        _ => MountError::Directory { directory: directory.to_owned(), source },
    };
    match std::fs::read_dir(directory).map_err(unusable)?.next() {
        None => Ok(()),
        // The root of a filesystem of its own has this.
        Some(Ok(entry)) if entry.file_name().as_bytes() == b"lost+found" => Ok(()),
        Some(_) => Err(MountError::NotEmpty(directory.to_owned())),
    }
}
