//! The seam between what reads a filesystem and what archives it.
//!
//! A [`Reader`] opens the filesystems that it knows, each as a [`Filesystem`]. A new one is a folder beside `ext4/` and
//! `kernel/`, and a line in [`open`](super::open).

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

/// A filesystem that can be read. Dropping it releases what it holds of the system: mounts, loop devices, device maps.
///
/// What only some filesystems have is answered by default as by one that has it not.
pub trait Filesystem {
    /// The reader's name, for the manifest: `ext4`, `kernel`.
    fn reader(&self) -> &'static str;

    /// A walk over all of it but what `excludes` names.
    fn walk(&self, excludes: Excludes) -> io::Result<Box<dyn FsReader + Send>>;

    /// Calls `with` with each name in the root directory, as far as they can be read.
    fn for_each_root_name(&self, with: &mut dyn FnMut(&[u8]));

    /// How many bytes its files take, as the filesystem itself counts them.
    fn used_bytes(&self) -> io::Result<u64>;

    /// Whether it was in use when it was frozen; `None` where nothing on it says so.
    fn was_in_use(&self) -> Option<bool> {
        None
    }

    /// Damage that was recorded in it before it was opened.
    fn complaints(&self) -> &[String] {
        &[]
    }

    /// Damage that came up while the files of the last walk were read, beyond the problems that the walk gave. Asked once, after
    /// the last file was read.
    fn met(&self) -> Vec<Met> {
        Vec::new()
    }

    /// Whether it was made so that the last walk has no end. Asked while files are read, once for several files.
    fn has_no_end(&self) -> bool {
        false
    }

    /// How many bytes its files take on a filesystem of the same kind that shares no blocks; `None` where that is not known.
    fn restored_bytes(&self) -> Option<u64> {
        None
    }

    /// The limits of its quotas; `None` where the reader does not read them.
    fn quota_limits(&self) -> Option<io::Result<QuotaLimits>> {
        None
    }

    /// The top directory of a btrfs that is mounted, to ask the kernel for its subvolumes.
    fn btrfs_root(&self) -> Option<OwnedFd> {
        None
    }

    /// Whether files have the attributes of FAT.
    fn has_fat_attributes(&self) -> bool {
        false
    }

    /// Whether its journal was replayed into a temporary copy.
    fn is_copy(&self) -> bool {
        false
    }

    /// Releases it. The error says what stays behind.
    fn finish(self: Box<Self>) -> Result<(), NotReleased>;
}

/// Damage that came up while files were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// Of the filesystem as a whole.
    Whole(Severity, String),
    /// Of one file, whose path from the root is the problem's location.
    At(Problem),
}

/// The limits that a filesystem's quotas set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// How many users, groups and projects have limits.
    pub count: u64,
    /// The first of them, as arguments of setquota(8): kind, number, then blocks of 1024 bytes and inodes, soft and hard.
    pub kept: Vec<String>,
}

/// Something of the system that could not be released, a device map for example.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NotReleased(pub Box<dyn Error + Send + Sync>);

/// A region that holds a filesystem.
pub struct FsRegion<'a> {
    /// Its name, which becomes a part of the names of devices.
    pub name: &'a str,
    /// The filesystem as mount(8) knows it: `ext4`, `xfs`, `vfat`.
    pub fs: &'a str,
    /// Its bytes.
    pub blocks: Arc<dyn BlockRead>,
    /// Where they lie in the source, in their order.
    pub pieces: &'a [Extent],
}

/// What a reader may use besides the region's bytes.
pub struct Means<'a> {
    /// What the region lies on.
    pub backing: &'a dyn Backing,
    /// Where a copy is made for replaying a journal when the source must not be written.
    pub scratch: &'a Path,
    /// Whether read-only snapshots in a btrfs are walked.
    pub with_snapshots: bool,
    /// Runs dmsetup.
    pub commands: &'a Arc<dyn RunCommand>,
    /// Ends the opening early.
    pub cancel: &'a Cancel,
}

/// The source that regions lie on: a snapshot, a device or an image.
pub trait Backing {
    /// Opens it, for writing too where [`is_writable`](Self::is_writable) says so.
    fn open(&self) -> io::Result<File>;

    /// Its path.
    fn path(&self) -> &Path;

    /// Whether a journal may be replayed into it.
    fn is_writable(&self) -> bool;
}

/// Opens the filesystems that it knows.
pub trait Reader: Sync {
    /// Opens the filesystem in `region`.
    fn open(&self, region: &FsRegion<'_>, means: &Means<'_>) -> Result<Box<dyn Filesystem>, NotOpened>;

    /// Why this host, and this user, could not open the filesystem in `region`: said without a snapshot, so that the source
    /// may be in use. `Ok`: nothing is known that speaks against it.
    fn try_out(&self, region: &FsRegion<'_>) -> Result<(), NotOpened>;
}

/// Why a reader does not open a filesystem.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotOpened {
    /// Another reader may open it.
    #[error(transparent)]
    Passed(#[from] Passed),
    /// No other reader is to try it.
    #[error(transparent)]
    Refused(Box<dyn Error + Send + Sync>),
    /// The source cannot be opened.
    #[error("the source cannot be opened")]
    Backing(#[source] io::Error),
    /// The work is to end.
    #[error("interrupted")]
    Cancelled,
}

/// Why a reader leaves a filesystem to the next one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Passed {
    /// It is of a kind that this reader does not read.
    #[error("{0} is of another kind")]
    Foreign(String),
    /// It has something that this reader does not know.
    #[error(transparent)]
    Unsupported(Box<dyn Error + Send + Sync>),
    /// It is damaged so that this reader cannot begin.
    #[error(transparent)]
    Damaged(io::Error),
}
