//! What went into an archive, counted.

use serde::{Deserialize, Serialize};

use crate::entry::EntryKind;

/// What went into an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Regular files, hard links to them not counted.
    pub files: u64,
    /// Of these, files with holes.
    pub sparse_files: u64,
    /// Directories, roots included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of what is counted elsewhere.
    pub hard_links: u64,
    /// Character and block devices.
    pub devices: u64,
    /// Named pipes.
    pub fifos: u64,
    /// Sockets, which are not in the archive.
    pub sockets_left_out: u64,
    /// Raw images of regions.
    pub raw_images: u64,
    /// Bytes of files and images that were stored; holes and hard links cost none.
    pub data_bytes: u64,
}

impl Counts {
    /// Counts an entry that is no further name of an inode.
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

/// What was carried forward from the previous backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarryCounts {
    /// Members that were copied.
    pub members: u64,
    /// Their bytes in the archive.
    pub bytes: u64,
    /// The entries in them.
    pub entries: u64,
    /// Groups that were read although nothing pointed at a change: it was their day.
    pub groups_reread: u64,
    /// Members of the previous archive that were not what its index says; what is in them was read.
    pub mismatches: u64,
    /// Files that were read and had other data than in the previous backup, with the same times.
    pub changed_unseen: u64,
}
