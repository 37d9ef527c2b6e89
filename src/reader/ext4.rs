//! Reads ext2, ext3 and ext4 from the region's bytes, without a mount.
//!
//! Shows what the kernel would show after a mount. The journal is replayed in memory: newer copies of blocks are
//! read from the journal, and neither the source nor a copy of it is written. No data of a tenant's disk reaches
//! the kernel's drivers. Metadata checksums are verified where the filesystem has them. A filesystem with a feature
//! that this reader does not know is left to the kernel as a whole ([`NotRead`]). Damage inside a filesystem is
//! reported per file.
//!
//! All offsets are from the kernel's `Documentation/filesystems/ext4/`, called "ext4 layout" here. The journal is
//! described in its `journal.rst`.

mod attributes;
mod audit;
mod checks;
mod data;
mod dir_index;
mod directory;
mod error;
mod file;
pub(super) mod filesystem;
mod groups;
mod inode;
mod journal;
mod map;
mod marks;
mod name_hash;
mod names;
mod orphans;
mod quota;
mod remark;
mod replayed;
mod superblock;
mod tree;
mod volume;

use std::io;
use std::sync::Arc;

use self::checks::Checks;
pub use self::error::NotRead;
use self::error::damaged;
pub(crate) use self::groups::DescriptorChecksum;
pub use self::inode::Inode;
pub(crate) use self::name_hash::{Kind, NameHash};
pub(crate) use self::replayed::Replayed;
pub(crate) use self::superblock::Superblock;
pub(super) use self::superblock::recorded_errors;
use self::tree::Ext4Tree;
use self::volume::Volume;
use super::exclude::Excludes;
use super::filesystem::QuotaLimits;
use super::walk::Walk;
use crate::events::{Problem, Severity};
use crate::field::ext;
use crate::outside::BlockRead;

/// An ext2, ext3 or ext4 filesystem.
pub struct Ext4 {
    volume: Arc<Volume>,
    used_bytes: u64,
    used_inodes: u64,
    complaints: Vec<String>,
}

impl Ext4 {
    /// Opens the filesystem that starts at the first byte of `region`.
    pub fn open(region: Arc<dyn BlockRead>) -> Result<Self, NotRead> {
        let found = Superblock::read(region.as_ref())?;
        let mut volume = Volume::new(region, found);
        if volume.superblock.needs_replay {
            volume.inode_tables = groups::read(&volume, false)?.inode_tables;
            let replayed = journal::replay(&volume)?;
            volume.overlay(replayed);
            // The journal may hold newer copies of the superblock and the group descriptors.
            let mut newer = vec![0; ext::LEN];
            volume.read(ext::START, &mut newer)?;
            let newer = Superblock::parse(&newer, volume.len_bytes())?;
            if newer.block_bytes != volume.superblock.block_bytes {
                return Err(NotRead::LeftToKernel("another block size in its journal".to_owned()));
            }
            let was_clean = volume.superblock.was_clean && newer.was_clean;
            volume.superblock = Superblock { was_clean, ..newer };
        }
        let groups = groups::read(&volume, true)?;
        volume.checks = Checks::with_own_blocks(groups.own_blocks);
        let mut complaints: Vec<String> = volume.superblock.recorded_errors.take().into_iter().collect();
        if let Some((group, count)) = groups.misplaced {
            complaints.push(format!(
                "the bitmaps or inodes of {count} groups (the first is {group}) are in impossible places: no kernel \
                 mounts it before e2fsck repairs it"
            ));
        }
        let superblock = &volume.superblock;
        if superblock.groups.checked_mul(superblock.inodes_per_group.into()) != Some(superblock.inodes.into()) {
            complaints.push(
                "its numbers of groups and of inodes contradict each other: no kernel \
                 mounts it before e2fsck repairs it"
                    .to_owned(),
            );
        }
        volume.inode_tables = groups.inode_tables;
        complaints.extend(note_own_inodes(&volume));
        let root = Inode::read(&volume, inode::ROOT)?;
        if !root.is_directory() {
            return Err(NotRead::Damaged(damaged("its root is no directory")));
        }
        let overhead = volume.superblock.overhead_blocks;
        let used_blocks = volume.superblock.blocks.saturating_sub(overhead).saturating_sub(groups.free_blocks);
        Ok(Self {
            complaints,
            used_bytes: used_blocks.saturating_mul(volume.superblock.block_bytes),
            used_inodes: u64::from(volume.superblock.inodes).saturating_sub(groups.free_inodes),
            volume: Arc::new(volume),
        })
    }

    /// The quota limits that are stored in hidden quota inodes (feature `quota`).
    pub fn quota_limits(&self) -> io::Result<QuotaLimits> {
        let mut limits = QuotaLimits::default();
        let superblock = &self.volume.superblock;
        for number in superblock.own_inodes.iter().filter(|number| **number != superblock.orphan_file) {
            limits.read(&self.volume, *number)?;
        }
        Ok(limits)
    }

    /// Walks the whole filesystem except `excludes`.
    pub fn walk(&self, excludes: Excludes) -> Walk<Ext4Tree> {
        Walk::over(Ext4Tree::new(Arc::clone(&self.volume), self.used_inodes), excludes, Some(self.used_inodes))
    }

    /// Calls `with` for each name in the root directory that can be read.
    pub fn for_each_root_name(&self, mut with: impl FnMut(&[u8])) {
        let listed = Inode::read(&self.volume, inode::ROOT).map(|root| directory::list(&self.volume, &root, None));
        let Ok(Ok(listing) | Err((listing, _))) = listed else { return };
        listing.items.iter().for_each(|item| with(listing.name(item)));
    }

    /// Bytes used by files, as the filesystem counts them.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Errors that the guest's kernel recorded in the superblock and e2fsck has not cleared, and damage found in
    /// the group descriptors.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Problems found in the block maps of files since the last call.
    pub fn take_problems(&self) -> Vec<Problem> {
        self.volume.checks.take_waiting()
    }

    /// Whether the filesystem was crafted so that reading it never ends: the maps of its files lead to the same
    /// blocks again and again.
    pub fn has_no_end(&self) -> bool {
        self.volume.checks.has_no_end()
    }

    /// Whether it was in use when the source was frozen: its journal needs a replay, or it is not marked clean.
    pub fn was_in_use(&self) -> bool {
        !self.volume.superblock.was_clean
    }
}

/// Marks the blocks of the journal and of other inodes that belong to the filesystem itself. Returns what is wrong
/// with their maps. Inode 7 (reserved descriptors) is skipped: its blocks follow from the superblock.
fn note_own_inodes(volume: &Volume) -> Vec<String> {
    let superblock = &volume.superblock;
    let journal = Some(superblock.journal_inode).filter(|number| superblock.has_journal && *number != 0);
    let mut complaints = Vec::new();
    for number in journal.into_iter().chain(superblock.own_inodes.iter().copied()) {
        // Nothing of these inodes is archived, so an unreadable one does not matter here.
        let Ok(inode) = Inode::read_own(volume, number) else { continue };
        let errors = audit::audit(volume, &inode).into_iter().filter(|(severity, _)| *severity == Severity::Error);
        complaints
            .extend(errors.map(|(_, what)| format!("inode {number}, which belongs to the filesystem itself: {what}")));
    }
    complaints
}
