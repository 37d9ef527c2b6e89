//! Errors that end a restore.

use std::path::{Path, PathBuf};

use super::names::IdError;
use super::select::BadPattern;
use crate::run::check::CheckError;
use crate::store::open::OpenError;
use crate::store::{Backup, IsImage, ReadError};
use crate::writer::ext4::WriteError;

/// Why a restore is not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The archive cannot be opened.
    #[error(transparent)]
    Archive(#[from] OpenError),
    /// It is an image.
    #[error(transparent)]
    Image(#[from] IsImage),
    /// The files of an image cannot be read.
    #[error(transparent)]
    ImageFiles(Box<dyn std::error::Error + Send + Sync>),
    /// The target cannot be used.
    #[error("{} cannot be restored into", to.display())]
    Target {
        /// The target.
        to: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The filesystem cannot be filled without a mount.
    #[error("the kernel must restore the files: {0}")]
    LeftToKernel(String),
    /// What is there are backups, which files of the guest would replace. Nothing was written.
    #[error(
        "{} has the backups, which files of the same names would replace: restore into another directory, or without \
         --overwrite", .0.display()
    )]
    AmongBackups(PathBuf),
    /// Another restore is running there.
    #[error("another restore is running in {}: wait until it ends", .0.display())]
    Busy(PathBuf),
    /// Owners and groups cannot be mapped as requested. Nothing was written.
    #[error(transparent)]
    Ids(#[from] IdError),
    /// An invalid pattern.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// The manifest, which has the regions, cannot be read.
    #[error("the regions of a backup are in its manifest, which cannot be read")]
    Manifest(#[source] ReadError),
    /// The backup has no region of that name.
    #[error("the backup has no region {name}; its regions are: {there}")]
    NoRegion {
        /// The name, as messages show it.
        name: String,
        /// The names that it has, separated by commas.
        there: String,
    },
    /// A region whose files are not in the archive.
    #[error("{name} has no files in the backup{}", with_image(image.as_deref()))]
    RegionWithoutFiles {
        /// The region.
        name: String,
        /// The path of its raw image in the archive.
        image: Option<String>,
    },
    /// No entry of the archive matches.
    #[error("the archive has nothing that matches {}: `volbak browse` lists its paths", .0.join(", "))]
    NothingMatches(Vec<String>),
    /// The operation was cancelled.
    #[error("interrupted before everything was restored: continue with --resume")]
    Stopped,
    /// This process lacks resources to read a backup.
    #[error("this host lacks the resources to read the backup")]
    Here(#[source] std::io::Error),
}

impl RestoreError {
    pub(super) fn of_check(error: CheckError) -> Self {
        match error {
            CheckError::Stopped => Self::Stopped,
            CheckError::Here(source) => Self::Here(source),
            CheckError::Unread { path, source } => Self::Archive(OpenError::Io { path, source }),
            CheckError::Gone(path) => Self::Archive(OpenError::Missing(path)),
        }
    }

    /// The error of volbak's own writer of the filesystem `to`.
    pub(super) fn of_writer(error: WriteError, to: &Path) -> Self {
        let target = |source| Self::Target { to: to.to_owned(), source };
        match error {
            WriteError::LeftToKernel(why) => Self::LeftToKernel(why),
            WriteError::Io(source) => target(source),
            WriteError::Refused(error) => target(error.into()),
        }
    }

    /// The error for a backup whose archive cannot be opened or read.
    pub(super) fn cannot_open(files: &Backup, source: std::io::Error) -> Self {
        Self::Archive(OpenError::Io { path: files.archive_path(), source })
    }
}

/// What to do with a region that was archived as an image.
fn with_image(image: Option<&str>) -> String {
    image.map_or_else(String::new, |image| {
        format!(", but a raw image: restore that with --to-device or --to-image, or as a file with --path {image}")
    })
}
