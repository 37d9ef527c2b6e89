//! The front door of the library: a directory of backups as one value, and each backup as another.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::error::with_causes;
use crate::events::{Observer, Severity};
use crate::manifest::Manifest;
use crate::outside::{Cancel, Clock, SystemClock, SystemCommands};
use crate::run::backup::{BackupError, BackupOptions, BackupWorld};
use crate::run::browse::{self, BrowseError, Entries};
use crate::run::check::CheckError;
use crate::run::collect::tell;
use crate::run::locate::{self, LocateError};
use crate::run::restore::{self, RestoreError, RestoreOptions, RestoreReport};
use crate::run::snapshot::{Happened, Sources, snapshot};
use crate::run::verify::{self, Surroundings, VerifyOptions, VerifyReport};
use crate::source::SourceError;
use crate::store::catalog::{self, BackupState, CatalogEntry};
use crate::store::{self, Destination, StoreError};

/// Errors of [`Repository`] and [`Backup`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository cannot be read or written, or another run holds its lock.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No backup, or more than one, has the name.
    #[error(transparent)]
    Find(#[from] LocateError),
    /// The source does not exist or cannot be backed up.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The backup failed. Nothing was published.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The verification did not finish. Damage is no error: it is in [`VerifyReport::findings`].
    #[error(transparent)]
    Verify(#[from] CheckError),
    /// The result of a verification could not be stored beside the backup.
    #[error("{} cannot be written", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The restore failed, or was interrupted.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The index or the archive cannot be read, or the path is not in them.
    #[error(transparent)]
    Read(#[from] BrowseError),
}

/// A directory of backups with one subdirectory per volume, in the format of the program `volbak`
/// (`docs/format.md`).
pub struct Repository {
    destination: Destination,
}

impl Repository {
    /// Opens the directory, which must exist. An unmounted mount point opens as an empty repository.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self { destination: Destination::open(directory.as_ref())? })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.destination.root()
    }

    /// All backups, by volume and date, including damaged ones. Reads only manifests.
    pub fn backups(&self) -> Result<Vec<Backup>, Error> {
        Ok(catalog::list(&self.destination)?.into_iter().map(Backup::of_entry).collect())
    }

    /// Finds a backup by name: `VOLUME` for the newest that is not bad, `VOLUME@last`, `VOLUME@2026-11-28`,
    /// `VOLUME@2026-11-28_031500`, or the path of an archive.
    pub fn find(&self, name: &str) -> Result<Backup, Error> {
        let found = locate::find(name, Some(&self.destination), SystemClock.now())?;
        Ok(Backup { manifest: found.files.manifest().map(Box::new), files: found.files, notes: found.notes })
    }

    /// Backs up `source`: a disk image, a block device, or a logical volume (`VG/LV`), which requires root and is
    /// read from an LVM snapshot. Reports progress and problems to `observer`. Locks the repository.
    pub fn back_up(
        &self,
        source: impl AsRef<OsStr>,
        options: &BackupOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Backup, Error> {
        let world = BackupWorld {
            commands: Arc::new(SystemCommands),
            clock: Arc::new(SystemClock),
            observer,
            cancel: Cancel::default(),
        };
        let wanted = Sources { sources: &[source], name: None, format: None, options: &|_| options.clone() };
        let mut outcome = Err(BackupError::Cancelled);
        snapshot(&wanted, &self.destination, &world, &mut |report| match report {
            Happened::RemainsStay(error) => {
                tell(&*world.observer, Severity::Warning, "earlier runs".to_owned(), with_causes(&error));
            }
            Happened::Source { result, .. } => outcome = result,
        })?;
        let outcome = outcome.map_err(|error| match error {
            BackupError::Source(error) => Error::Source(error),
            error => Error::Backup(error),
        })?;
        let files = store::Backup::of_archive(&outcome.archive)
            .ok_or_else(|| LocateError::NotAnArchive(outcome.archive.clone()))?;
        Ok(Backup { files, manifest: Some(Box::new(outcome.manifest)), notes: Vec::new() })
    }
}

/// One backup of a [`Repository`].
pub struct Backup {
    files: store::Backup,
    manifest: Option<Box<Manifest>>,
    notes: Vec<String>,
}

impl Backup {
    fn of_entry(entry: CatalogEntry) -> Self {
        let files = entry.files();
        match entry.state {
            BackupState::Complete { manifest } => Self { files, manifest: Some(manifest), notes: Vec::new() },
            BackupState::Damaged { what } => Self { files, manifest: None, notes: vec![what] },
            BackupState::WithoutManifest => {
                let note = "it has no manifest: another program made it".to_owned();
                Self { files, manifest: None, notes: vec![note] }
            }
        }
    }

    /// The volume's name.
    pub fn volume(&self) -> String {
        self.files.volume()
    }

    /// The common start of its file names, unique in the repository: volume, local date and time.
    pub fn name(&self) -> &str {
        self.files.stem()
    }

    /// The `tar.gz` archive.
    pub fn archive_path(&self) -> PathBuf {
        self.files.archive_path()
    }

    /// The moment shown by the backup: when the snapshot was taken, or reading began. `None` without a manifest.
    pub fn taken_at(&self) -> Option<DateTime<Utc>> {
        self.manifest().map(|manifest| manifest.frozen_at)
    }

    /// The manifest; `None` if it is missing or damaged, see [`Backup::notes`].
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_deref()
    }

    /// Facts to know before the backup is used, one line each: newer backups that [`Repository::find`] passed over,
    /// damage of the manifest.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether it contains everything that was selected, and no verification found it bad.
    pub fn is_whole(&self) -> bool {
        self.manifest().is_some_and(|manifest| manifest.is_whole() && !locate::files_are_bad(&self.files, manifest))
    }

    /// Verifies the backup, and stores the result beside it, where [`Repository::find`], `volbak list` and `volbak
    /// restore` read it. Also reports each finding to `observer` as a problem.
    pub fn verify(&self, options: &VerifyOptions, observer: &dyn Observer) -> Result<VerifyReport, Error> {
        let around = Surroundings { observer, clock: &SystemClock, commands: &SystemCommands };
        let report = verify::verify(&self.files, options, around)?;
        report.save_record(&self.files).map_err(|source| Error::Record { path: self.files.record_path(), source })?;
        Ok(report)
    }

    /// The entries in the archive's order, read from the index alone.
    pub fn entries(&self) -> Result<Entries, Error> {
        Ok(Entries::of(&self.files, &Cancel::default())?)
    }

    /// Writes the content of the file at `path` to `out`, holes as zeros, and returns its length in bytes. The
    /// content is compared with its digest while it is read: after an error, discard the output. A file that was not read whole
    /// when it was backed up ([`ListedEntry::damaged`](crate::ListedEntry::damaged)) is read as it is in the archive.
    pub fn read(&self, path: &str, out: &mut impl Write) -> Result<u64, Error> {
        Ok(browse::cat(&self.files, path, &Cancel::default(), out)?.bytes)
    }

    /// Restores files into a directory. Reports problems with single entries to `observer` and restores the others:
    /// see [`RestoreReport::is_complete`].
    pub fn restore(&self, options: &RestoreOptions, observer: &dyn Observer) -> Result<RestoreReport, Error> {
        Ok(restore::restore(&self.files, options, observer)?)
    }
}
