//! Which inodes have names, and how many: directories with two, link counts that are not those of the names. Found while
//! the filesystem is walked.

use std::collections::HashMap;

use super::marks::Marks;
use super::orphans;
use super::remark::Remark;
use super::volume::Volume;
use crate::events::Severity;

/// Inodes with several names are remembered up to this many.
const MAX_REMEMBERED: usize = 1 << 20;
/// So many inodes are named.
const NAMED: usize = 5;

/// The names that were met so far.
#[derive(Default)]
pub(super) struct Names {
    inodes: Marks,
    inode_count: u64,
    listed: Marks,
    /// Of inodes with several names: how many were met, and how many there should be.
    several: HashMap<u32, (u32, u32)>,
}

impl Names {
    /// Notes a directory. False when another name led to it.
    pub(super) fn directory(&mut self, number: u32) -> bool {
        let is_new = self.inodes.add(number.into());
        self.inode_count += u64::from(is_new);
        is_new
    }

    /// Notes that a directory's names are read; false when they were before.
    pub(super) fn list(&mut self, number: u32) -> bool {
        self.listed.add(number.into())
    }

    /// Notes a name of something else; true when it is the first.
    pub(super) fn name(&mut self, number: u32, nlink: u32) -> bool {
        if self.inodes.add(number.into()) {
            self.inode_count += 1;
            if nlink > 1 && self.several.len() < MAX_REMEMBERED {
                self.several.insert(number, (1, nlink));
            }
            return true;
        }
        // One that has all its names was forgotten.
        let has_room = self.several.len() < MAX_REMEMBERED;
        match self.several.get_mut(&number) {
            Some((found, nlink)) => {
                *found = found.saturating_add(1);
                if found == nlink {
                    self.several.remove(&number);
                }
            }
            None if has_room => {
                self.several.insert(number, (nlink.saturating_add(1), nlink));
            }
            None => {}
        }
        false
    }

    /// What all names together say, when all were met. `used_inodes` is what the filesystem counts.
    pub(super) fn at_end(&mut self, volume: &Volume, used_inodes: u64) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut wrong: Vec<_> = std::mem::take(&mut self.several).into_iter().collect();
        if !wrong.is_empty() {
            wrong.sort_unstable();
            let named: Vec<String> = wrong
                .iter()
                .take(NAMED)
                .map(|(number, (found, nlink))| format!("inode {number}: {found} names, link count {nlink}"))
                .collect();
            let more = if wrong.len() > NAMED { ", …" } else { "" };
            let what = format!("{} link counts are not those of the names ({}{more})", wrong.len(), named.join("; "));
            remarks.push((Severity::Warning, what));
        }
        let superblock = &volume.superblock;
        // The root is one of the reserved ones.
        let reserved = u64::from(superblock.first_inode).saturating_sub(2);
        let own = superblock.own_inodes.iter().filter(|number| **number >= superblock.first_inode).count() as u64;
        let known = self.inode_count + reserved + own;
        if used_inodes != known {
            let known = known + orphans::unnamed(volume);
            if used_inodes > known {
                let count = used_inodes - known;
                let what = format!(
                    "{count} inodes are in use that no name leads to: files may be missing; e2fsck brings them to \
                     lost+found"
                );
                remarks.push((Severity::Error, what));
            } else if used_inodes < known {
                let what = format!("{} more inodes have names than are marked as in use", known - used_inodes);
                remarks.push((Severity::Warning, what));
            }
        }
        remarks
    }
}
