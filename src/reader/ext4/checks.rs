//! What of a filesystem contradicts itself: blocks that two files map, directories with two names, link counts that are
//! not those of the names. Found while it is walked and read, from what is read anyway.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::file::read_at;
use super::inode::{Inode, Type, raw_links_and_next};
use super::marks::Marks;
use super::volume::Volume;
use crate::events::{Problem, Severity};
use crate::field::le32;
use crate::shown;

/// So many times a block of a map may be met again. With more the filesystem was made so that it has no end.
const MAX_MET_AGAIN: u32 = 1024;
/// Inodes with several names, and attribute blocks, are remembered up to this many.
const MAX_REMEMBERED: usize = 1 << 20;
/// Inodes on the way to be deleted are looked for up to this many.
const MAX_ORPHANS: usize = 1 << 16;
/// Problems of files' maps that wait to be told.
const MAX_WAITING: usize = 1000;
/// So many inodes are named.
const NAMED: usize = 5;

/// Something that contradicts itself, and how bad that is: an error where the archive may not hold what the filesystem
/// should, a warning where only its own accounts are wrong.
pub(super) type Remark = (Severity, String);

/// What was met of a filesystem so far.
#[derive(Default)]
pub(super) struct Checks {
    state: Mutex<State>,
    orphans: OnceLock<HashSet<u32>>,
}

#[derive(Default)]
struct State {
    /// Blocks that are mapped, and those of the filesystem itself.
    blocks: Marks,
    attribute_blocks: HashSet<u64>,
    inodes: Marks,
    inode_count: u64,
    listed: Marks,
    /// Of inodes with several names: how many were met, and how many there should be.
    names: HashMap<u32, (u32, u32)>,
    met_again: u32,
    waiting: Vec<Problem>,
}

impl Checks {
    /// Knows the blocks that belong to the filesystem itself.
    pub(super) fn with_own_blocks(runs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let checks = Self::default();
        {
            let mut state = checks.lock();
            for (start, len) in runs {
                state.blocks.add_run(start, len);
            }
        }
        checks
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a file maps these blocks. Gives the first that something else has, and how many such there are.
    pub(super) fn map(&self, start: u64, len: u64) -> Option<(u64, u64)> {
        self.lock().blocks.add_run(start, len)
    }

    /// Notes that a block is part of a file's map. False when something else has it.
    pub(super) fn map_node(&self, block: u64) -> bool {
        let mut state = self.lock();
        let is_new = state.blocks.add(block);
        if !is_new {
            state.met_again = state.met_again.saturating_add(1);
        }
        is_new
    }

    /// Notes that an inode has its attributes there, which others may share. False when it is a file's block.
    pub(super) fn attribute_block(&self, block: u64) -> bool {
        let mut state = self.lock();
        if state.attribute_blocks.contains(&block) {
            return true;
        }
        if state.attribute_blocks.len() < MAX_REMEMBERED {
            state.attribute_blocks.insert(block);
            return state.blocks.add(block);
        }
        true
    }

    /// Whether it was made so that reading it has no end.
    pub(super) fn has_no_end(&self) -> bool {
        self.lock().met_again > MAX_MET_AGAIN
    }

    /// Notes a directory. False when another name led to it.
    pub(super) fn directory(&self, number: u32) -> bool {
        let mut state = self.lock();
        let is_new = state.inodes.add(number.into());
        state.inode_count += u64::from(is_new);
        is_new
    }

    /// Notes that a directory's names are read; false when they were before.
    pub(super) fn list(&self, number: u32) -> bool {
        self.lock().listed.add(number.into())
    }

    /// Notes a name of something else; true when it is the first.
    pub(super) fn name(&self, number: u32, nlink: u32) -> bool {
        let mut state = self.lock();
        if state.inodes.add(number.into()) {
            state.inode_count += 1;
            if nlink > 1 && state.names.len() < MAX_REMEMBERED {
                state.names.insert(number, (1, nlink));
            }
            return true;
        }
        // One that has all its names was forgotten.
        let has_room = state.names.len() < MAX_REMEMBERED;
        match state.names.get_mut(&number) {
            Some((found, nlink)) => {
                *found = found.saturating_add(1);
                if found == nlink {
                    state.names.remove(&number);
                }
            }
            None if has_room => {
                state.names.insert(number, (nlink.saturating_add(1), nlink));
            }
            None => {}
        }
        false
    }

    /// Keeps what was found of a file's map while it was read.
    pub(super) fn tell(&self, path: &[u8], remarks: Vec<Remark>) {
        let mut state = self.lock();
        for (severity, what) in remarks {
            if state.waiting.len() < MAX_WAITING {
                state.waiting.push(Problem::new(severity, shown::path(path), what));
            }
        }
    }

    /// What was kept by [`Checks::tell`].
    pub(super) fn take_waiting(&self) -> Vec<Problem> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// Whether an inode is on the way to be deleted or cut, as a guest that is in use has some.
    pub(super) fn is_orphan(&self, volume: &Volume, number: u32) -> bool {
        self.orphans(volume).contains(&number)
    }

    fn orphans(&self, volume: &Volume) -> &HashSet<u32> {
        self.orphans.get_or_init(|| orphans(volume))
    }

    /// What all names together say, when all were met. `used_inodes` is what the filesystem counts.
    pub(super) fn at_end(&self, volume: &Volume, used_inodes: u64) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let (inode_count, names) = {
            let mut state = self.lock();
            (state.inode_count, std::mem::take(&mut state.names))
        };
        let mut wrong: Vec<_> = names.into_iter().collect();
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
        let known = inode_count + reserved + own;
        if used_inodes != known {
            let unnamed = |number: &&u32| raw_links_and_next(volume, **number).is_ok_and(|(links, _)| links == 0);
            let deleted = self.orphans(volume).iter().filter(unnamed).count() as u64;
            let known = known + deleted;
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

/// ext4 layout, "Orphan file" and `s_last_orphan`: the inodes on the way to be deleted or cut.
fn orphans(volume: &Volume) -> HashSet<u32> {
    let mut found = HashSet::new();
    let mut next = volume.superblock.last_orphan;
    while next != 0 && found.len() < MAX_ORPHANS && found.insert(next) {
        let Ok((_, after)) = raw_links_and_next(volume, next) else { break };
        next = after;
    }
    // What cannot be read of it has no inodes that are known.
    let _ = add_orphan_file(volume, &mut found);
    found
}

fn add_orphan_file(volume: &Volume, found: &mut HashSet<u32>) -> io::Result<()> {
    let number = volume.superblock.orphan_file;
    if number == 0 {
        return Ok(());
    }
    let inode = Inode::read_own(volume, number)?;
    if inode.file_type() != Some(Type::File) {
        return Ok(());
    }
    let mut block = vec![0; volume.superblock.block_len()];
    let mut offset = 0;
    while offset < inode.size && found.len() < MAX_ORPHANS {
        let len = read_at(volume, &inode, offset, &mut block)?;
        if len == 0 {
            break;
        }
        // Behind the numbers of each block are 8 bytes: magic and checksum.
        let numbers = block[..len.saturating_sub(8)].chunks_exact(4).filter_map(|word| le32(word, 0));
        found.extend(numbers.filter(|number| *number != 0));
        offset += len as u64;
    }
    Ok(())
}
