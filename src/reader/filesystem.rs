//! The seam between the readers of filesystems and the archive.
//!
//! A [`Reader`] opens the filesystems that it knows, each as a [`Filesystem`]. A new filesystem needs a folder
//! beside `ext4/` and `kernel/` and a line in [`open`](super::open).

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::FsReader;
use super::exclude::Excludes;
use crate::events::{Problem, Severity};
use crate::outside::{BlockRead, Cancel, RunCommand};
use crate::units::Extent;

/// An open filesystem. Dropping it releases its mounts, loop devices and device maps.
///
/// Defaults are those of a filesystem without the property.
pub trait Filesystem {
    /// The reader's name in the manifest: `ext4` or `kernel`.
    fn reader(&self) -> &'static str;

    /// Walks the whole filesystem except `excludes`.
    fn walk(&self, excludes: Excludes) -> io::Result<Box<dyn FsReader + Send>>;

    /// Calls `with` for each name in the root directory that can be read.
    fn for_each_root_name(&self, with: &mut dyn FnMut(&[u8]));

    /// Bytes used by files, as the filesystem counts them.
    fn used_bytes(&self) -> io::Result<u64>;

    /// Whether the filesystem was in use when the source was frozen; `None` if it does not record that.
    #[doc(hidden)]
    fn was_in_use(&self) -> Option<bool> {
        None
    }

    /// Damage recorded in the filesystem before it was opened.
    #[doc(hidden)]
    fn complaints(&self) -> &[String] {
        &[]
    }

    /// Damage found while the files of the last walk were read, in addition to the walk's own problems. Called
    /// once, after the last file was read.
    #[doc(hidden)]
    fn met(&self) -> Vec<Met> {
        Vec::new()
    }

    /// Whether the filesystem was crafted so that the last walk never ends. Called every few files while files are
    /// read.
    #[doc(hidden)]
    fn has_no_end(&self) -> bool {
        false
    }

    /// Bytes that its files need on a filesystem of the same kind without shared blocks; `None` if unknown.
    #[doc(hidden)]
    fn restored_bytes(&self) -> Option<u64> {
        None
    }

    /// The limits of its quotas; `None` if the reader cannot read them.
    #[doc(hidden)]
    fn quota_limits(&self) -> Option<io::Result<QuotaLimits>> {
        None
    }

    /// The top directory of a mounted btrfs, for queries about its subvolumes.
    #[doc(hidden)]
    fn btrfs_root(&self) -> Option<OwnedFd> {
        None
    }

    /// Whether files have FAT attributes.
    #[doc(hidden)]
    fn has_fat_attributes(&self) -> bool {
        false
    }

    /// Whether the journal was replayed into a temporary copy.
    #[doc(hidden)]
    fn is_copy(&self) -> bool {
        false
    }

    /// Releases the filesystem. The error names the resource that remains.
    fn finish(self: Box<Self>) -> Result<(), NotReleased>;
}

/// Damage found while files were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// Of the filesystem as a whole.
    Whole(Severity, String),
    /// Of one file; the problem's location is its path from the root.
    At(Problem),
}

/// Quota limits of a filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// The number of users, groups and projects with limits.
    pub count: u64,
    /// The first of these limits as arguments of setquota(8): kind, id, then soft and hard limits of blocks (1024
    /// bytes) and of inodes.
    pub kept: Vec<String>,
    /// The grace times that are not the usual week, as arguments of setquota(8): kind, then the seconds of blocks and of
    /// inodes.
    pub grace: Vec<String>,
}

/// A resource that could not be released, for example a device map.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NotReleased(pub Box<dyn Error + Send + Sync>);

/// A region that holds a filesystem.
pub struct FsRegion<'a> {
    /// The region's name; it becomes part of device names.
    pub name: &'a str,
    /// The filesystem type as mount(8) knows it: `ext4`, `xfs`, `vfat`.
    pub fs: &'a str,
    /// The region's bytes.
    pub blocks: Arc<dyn BlockRead>,
    /// The extents of the source that the region consists of, in order.
    pub pieces: &'a [Extent],
}

/// What a reader may use besides the region's bytes.
pub struct Means<'a> {
    /// The source that holds the region.
    pub backing: &'a dyn Backing,
    /// The directory for a temporary copy, if a journal must be replayed and the source is read-only.
    pub scratch: &'a Path,
    /// Whether read-only snapshots in a btrfs are included.
    pub with_snapshots: bool,
    /// Runs dmsetup.
    pub commands: &'a Arc<dyn RunCommand>,
    /// Cancels the opening.
    pub cancel: &'a Cancel,
}

/// A source that holds regions: a snapshot, a device or an image.
pub trait Backing {
    /// Opens it, also for writing if [`is_writable`](Self::is_writable).
    fn open(&self) -> io::Result<File>;

    /// Its path.
    fn path(&self) -> &Path;

    /// Whether a journal may be replayed into it.
    fn is_writable(&self) -> bool;
}

/// Opens filesystems of the kinds that it knows.
pub trait Reader: Sync {
    /// Opens the filesystem in `region`.
    fn open(&self, region: &FsRegion<'_>, means: &Means<'_>) -> Result<Box<dyn Filesystem>, NotOpened>;

    /// Checks whether this host and user can open the filesystem in `region`. Runs without a snapshot, so the
    /// source may be in use. `Ok` means that no obstacle is known.
    fn try_out(&self, region: &FsRegion<'_>) -> Result<(), NotOpened>;
}

/// Why a reader does not open a filesystem.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotOpened {
    /// The next reader may open it.
    #[error(transparent)]
    Passed(#[from] Passed),
    /// No other reader may try it.
    #[error(transparent)]
    Refused(Box<dyn Error + Send + Sync>),
    /// The source cannot be opened.
    #[error("the source cannot be opened")]
    Backing(#[source] io::Error),
    /// The operation was cancelled.
    #[error("interrupted")]
    Cancelled,
}

/// Why a reader leaves a filesystem to the next one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Passed {
    /// This reader does not read this kind of filesystem.
    #[error("{0} is of another kind")]
    Foreign(String),
    /// The filesystem has a feature that this reader does not know.
    #[error(transparent)]
    Unsupported(Box<dyn Error + Send + Sync>),
    /// The filesystem is too damaged for this reader.
    #[error(transparent)]
    Damaged(io::Error),
}
