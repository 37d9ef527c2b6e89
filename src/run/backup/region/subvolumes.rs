//! The subvolumes of a btrfs. A tar archive has only directories, so the manifest records which are subvolumes.

use std::os::fd::OwnedFd;

use crate::archive::index::escape_path;
use crate::entry::{Entry, EntryKind};
use crate::manifest::{BtrfsRecord, SubvolumeRecord};
use crate::reader::kernel::subvolumes::{ROOT_INODE, TOP_ID, default_id, has_quotas, subvolume_at};
use crate::shown;

/// The maximum number of subvolumes in a manifest, and of bytes in their paths.
const SUBVOLUMES_MAX: usize = 4096;
const PATHS_BYTES_MAX: usize = 1 << 20;

/// Subvolumes, collected during the walk.
pub(super) struct Subvolumes {
    root: OwnedFd,
    record: BtrfsRecord,
    paths_bytes: usize,
    left_out: u64,
    failures: Vec<String>,
}

impl Subvolumes {
    /// `root` is the top directory of a btrfs.
    pub(super) fn of(root: OwnedFd) -> Self {
        let mut failures = Vec::new();
        let default_subvolume = default_id(&root).unwrap_or_else(|error| {
            failures.push(format!("its default subvolume cannot be determined: {error}"));
            None
        });
        let quotas = has_quotas(&root).unwrap_or_else(|error| {
            failures.push(format!("whether it has quotas cannot be determined: {error}"));
            false
        });
        let default_subvolume = default_subvolume.filter(|id| *id != TOP_ID);
        let record = BtrfsRecord { default_subvolume, quotas, subvolumes: Vec::new() };
        Self { root, record, paths_bytes: 0, left_out: 0, failures }
    }

    /// Records an entry that goes into the archive.
    pub(super) fn note(&mut self, entry: &Entry) {
        let is_subvolume = matches!(entry.kind, EntryKind::Directory) && entry.metadata.ino == ROOT_INODE;
        if !is_subvolume || entry.path.is_empty() {
            return;
        }
        self.paths_bytes = self.paths_bytes.saturating_add(entry.path.len());
        if self.record.subvolumes.len() >= SUBVOLUMES_MAX || self.paths_bytes > PATHS_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        let uuid = |bytes: [u8; 16]| (bytes != [0; 16]).then(|| shown::hex(&bytes));
        match subvolume_at(&self.root, &entry.path) {
            Ok(found) => self.record.subvolumes.push(SubvolumeRecord {
                path: escape_path(&entry.path),
                id: found.id,
                read_only: found.read_only,
                uuid: uuid(found.uuid),
                parent_uuid: uuid(found.parent_uuid),
                received_uuid: uuid(found.received_uuid),
            }),
            Err(error) if self.failures.len() < 8 => {
                let path = shown::path(&entry.path);
                self.failures.push(format!("{path} is a subvolume whose properties cannot be read: {error}"));
            }
            Err(_) => self.left_out += 1,
        }
    }

    /// The record, and warnings.
    pub(super) fn finish(self) -> (BtrfsRecord, Vec<String>) {
        let Self { record, left_out, mut failures, .. } = self;
        if left_out > 0 {
            failures.push(format!(
                "{left_out} of its subvolumes are not in the manifest, which names {SUBVOLUMES_MAX} at most: a whole-disk \
                 restore makes directories of them"
            ));
        }
        (record, failures)
    }
}
