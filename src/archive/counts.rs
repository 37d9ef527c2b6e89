//! Counts of an archive's content.

use serde::{Deserialize, Serialize};

use crate::entry::EntryKind;

/// Counts of an archive's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Regular files, without hard links.
    pub files: u64,
    /// Of these, sparse files.
    pub sparse_files: u64,
    /// Directories, including roots.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of entries counted elsewhere.
    pub hard_links: u64,
    /// Character and block devices.
    pub devices: u64,
    /// Named pipes.
    pub fifos: u64,
    /// Sockets, which an archive cannot hold.
    pub sockets_left_out: u64,
    /// Raw images of regions.
    pub raw_images: u64,
    /// Stored bytes of files and images; holes and hard links need none.
    pub data_bytes: u64,
}

impl Counts {
    /// Inodes: all entries but further names.
    pub(crate) fn inodes(&self) -> u64 {
        let all = [self.files, self.directories, self.symlinks, self.devices, self.fifos];
        all.into_iter().fold(0, u64::saturating_add)
    }

    /// Counts an entry that is not a further name of an inode.
    pub(super) fn note(&mut self, kind: &EntryKind) {
        match kind {
            EntryKind::File(_) => self.files += 1,
            EntryKind::Directory => self.directories += 1,
            EntryKind::Symlink(_) => self.symlinks += 1,
            EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) => self.devices += 1,
            EntryKind::Fifo => self.fifos += 1,
            EntryKind::Socket => self.sockets_left_out += 1,
        }
    }
}

/// Counts of content carried forward from the previous backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarryCounts {
    /// Copied members.
    pub members: u64,
    /// Their bytes in the archive.
    pub bytes: u64,
    /// Their entries.
    pub entries: u64,
    /// Unchanged groups that were re-read because they were due.
    pub groups_reread: u64,
    /// Members of the previous archive that did not match its index; their entries were read.
    pub mismatches: u64,
    /// Files that were read and had other data than in the previous backup, with the same times.
    pub changed_unseen: u64,
}
