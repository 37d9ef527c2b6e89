//! Options for restoring a backup into a directory.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::names::IdWish;
use crate::outside::Cancel;
use crate::outside::host::processors;

/// The treatment of existing entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// They are kept and reported. Existing directories are entered but not changed.
    #[default]
    Keep,
    /// Equal ones are kept: files of the same size, time and content. Directories get their attributes again.
    /// Others as with `Keep`.
    Resume,
    /// They are replaced. Directories are never removed.
    Overwrite,
}

/// Options for restoring a backup.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct RestoreOptions {
    /// The target directory; created if missing.
    pub to: PathBuf,
    /// The only region whose files are restored, by its name: its root becomes `to`. All regions without one.
    pub region: Option<String>,
    /// Patterns of entries to restore, see [`super::select::Selection`]; all without any.
    pub paths: Vec<String>,
    /// The treatment of existing entries.
    pub existing: Existing,
    /// Whether each file is compared with its digest in the index, and a whole archive with its checksum.
    pub verify: bool,
    /// Whether devices are created, which requires root.
    pub devices: bool,
    /// Whether the target directory gets the attributes of the archive's root. Otherwise it keeps its own; a new
    /// one is accessible only to its owner (0700).
    pub top: bool,
    /// Whether files keep set-user-id and set-group-id bits and capabilities even if other users of this host can
    /// reach them.
    pub keep_set_id: bool,
    /// The mapping of owners and groups.
    pub ids: IdWish,
    /// The number of decompression threads.
    pub threads: usize,
    /// Cancels the operation.
    pub cancel: Cancel,
    /// The path of the target, if `to` is only what messages call it.
    opened: Option<PathBuf>,
}

impl RestoreOptions {
    /// Restores everything into the directory `to`: existing files are kept, digests are compared, devices are
    /// skipped, and set-id bits are dropped if other users of the host could use them.
    pub fn into_directory(to: impl Into<PathBuf>) -> Self {
        Self {
            to: to.into(),
            region: None,
            paths: Vec::new(),
            existing: Existing::default(),
            verify: true,
            devices: false,
            top: false,
            keep_set_id: false,
            ids: IdWish::default(),
            threads: processors(),
            cancel: Cancel::default(),
            opened: None,
        }
    }

    /// Restores everything into the root of a new filesystem, which messages call `name`: with devices, the root's
    /// attributes and set-id bits. What mkfs left there is replaced: ext4 has a lost+found.
    pub(crate) fn into_new_filesystem(
        name: impl Into<PathBuf>,
        root: BorrowedFd<'_>,
        ids: &IdWish,
        threads: usize,
        cancel: &Cancel,
    ) -> Self {
        let opened = Some(format!("/proc/self/fd/{}", root.as_raw_fd()).into());
        Self { opened, ..Self::into_unmounted(name, ids, threads, cancel) }
    }

    /// Whether the target has only what its mkfs put there.
    pub(super) fn is_new_filesystem(&self) -> bool {
        self.opened.is_some()
    }

    /// The path of the target directory.
    pub(super) fn target(&self) -> &Path {
        self.opened.as_deref().unwrap_or(&self.to)
    }

    /// The same for a filesystem that is not mounted, which messages call `name`.
    pub(crate) fn into_unmounted(name: impl Into<PathBuf>, ids: &IdWish, threads: usize, cancel: &Cancel) -> Self {
        Self {
            existing: Existing::Overwrite,
            devices: true,
            top: true,
            keep_set_id: true,
            ids: ids.clone(),
            threads,
            cancel: cancel.clone(),
            ..Self::into_directory(name)
        }
    }
}
