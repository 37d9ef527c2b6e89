//! Counts the names of inodes during the walk, to find directories with two names and wrong link counts.

use std::collections::HashMap;

use super::marks::Marks;
use super::orphans;
use super::remark::Remark;
use super::volume::Volume;
use crate::events::Severity;
use crate::shown::counted;

/// The maximum number of inodes with several names to remember.
const MAX_REMEMBERED: usize = 1 << 20;
/// The maximum number of inodes in a message.
const NAMED: usize = 5;

/// The names met so far.
#[derive(Default)]
pub(super) struct Names {
    inodes: Marks,
    inode_count: u64,
    listed: Marks,
    /// Inodes with several names: how many were met, and the link count.
    several: HashMap<u32, (u32, u32)>,
}

impl Names {
    /// Notes a directory. False if another name led to it before.
    pub(super) fn directory(&mut self, number: u32) -> bool {
        let is_new = self.inodes.add(number.into());
        self.inode_count += u64::from(is_new);
        is_new
    }

    /// Notes that a directory's names are read. False if they were read before.
    pub(super) fn list(&mut self, number: u32) -> bool {
        self.listed.add(number.into())
    }

    /// Notes a name of an inode that is not a directory. True if it is the first.
    pub(super) fn name(&mut self, number: u32, nlink: u32) -> bool {
        if self.inodes.add(number.into()) {
            self.inode_count += 1;
            if nlink > 1 && self.several.len() < MAX_REMEMBERED {
                self.several.insert(number, (1, nlink));
            }
            return true;
        }
        // An inode whose names were all met is forgotten.
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

    /// What is wrong after all names were met. `used_inodes` is the filesystem's own count.
    pub(super) fn at_end(&mut self, volume: &Volume, used_inodes: u64) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut wrong: Vec<_> = std::mem::take(&mut self.several).into_iter().collect();
        if !wrong.is_empty() {
            wrong.sort_unstable();
            let named: Vec<String> = wrong
                .iter()
                .take(NAMED)
                .map(|(number, (found, nlink))| {
                    format!("inode {number}: {}, link count {nlink}", counted(u64::from(*found), "name", "names"))
                })
                .collect();
            let more = if wrong.len() > NAMED { ", …" } else { "" };
            let what = format!(
                "{} link counts differ from the \
                 number of names ({}{more})",
                wrong.len(),
                named.join("; ")
            );
            remarks.push((Severity::Warning, what));
        }
        let superblock = &volume.superblock;
        // The root is one of the reserved inodes.
        let reserved = u64::from(superblock.first_inode).saturating_sub(2);
        let own = superblock.own_inodes.iter().filter(|number| **number >= superblock.first_inode).count() as u64;
        let known = self.inode_count + reserved + own;
        if used_inodes != known {
            let known = known + orphans::unnamed(volume);
            if used_inodes > known {
                let count = used_inodes - known;
                let what = format!(
                    "{count} inodes in use have no name: files may be missing; e2fsck moves them to lost+found"
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
