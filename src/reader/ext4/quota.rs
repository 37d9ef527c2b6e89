//! The limits in hidden quota files (feature `quota`): `struct v2_disk_dqheader`, `v2r1_disk_dqblk`, and the tree
//! of the kernel's `fs/quota/quota_tree.c`.

use std::io;

use super::data::read_at;
use super::error::damaged;
use super::inode::Inode;
use super::volume::Volume;
use crate::field::{le32, le64};
use crate::reader::filesystem::QuotaLimits;

/// `V2_INITQMAGICS`, each with the option of setquota(8) for its kind.
const MAGICS: [(u32, &str); 3] = [(0xd9c0_1f11, "-u"), (0xd9c0_1927, "-g"), (0xd9c0_3f14, "-P")];
/// `V2_DQBLKSIZE_BITS`.
const BLOCK: usize = 1024;
/// `V2_DQTREEOFF`.
const ROOT: u32 = 1;
/// 256 references in a block, 32-bit ids.
const DEPTH: u32 = 4;
/// `MAX_DQ_TIME` and `MAX_IQ_TIME`: how long a soft limit may be exceeded where nothing else is set.
const USUAL_GRACE_SECONDS: u32 = 7 * 24 * 3600;
/// `struct qt_disk_dqdbheader` and `struct v2r1_disk_dqblk`.
const HEAD: usize = 16;
const ENTRY: usize = 72;
/// A longer quota file is not read; a million users need less.
const MAX_BYTES: u64 = 96 << 20;
/// The maximum number of blocks to read.
const MAX_VISITS: u32 = 1 << 20;
/// Further limits are counted and not kept.
const MAX_KEPT: usize = 1000;

/// The kernel takes zero for its default.
fn grace_of(seconds: u32) -> u32 {
    if seconds == 0 { USUAL_GRACE_SECONDS } else { seconds }
}

impl QuotaLimits {
    /// Reads the quota file in inode `number`. A file of another kind has no limits.
    pub(super) fn read(&mut self, volume: &Volume, number: u32) -> io::Result<()> {
        let inode = Inode::read_own(volume, number)?;
        if inode.size > MAX_BYTES {
            return Err(damaged(format!("the quota file in inode {number} has {} bytes", inode.size)));
        }
        let mut bytes = vec![0; usize::try_from(inode.size).unwrap_or(0)];
        let read = read_at(volume, &inode, 0, &mut bytes)?;
        bytes.truncate(read);
        self.parse(&bytes);
        Ok(())
    }

    fn parse(&mut self, bytes: &[u8]) {
        let magic = le32(bytes, 0).unwrap_or(0);
        let Some((_, kind)) = MAGICS.iter().find(|(known, _)| *known == magic) else { return };
        // `struct v2_disk_dqinfo` begins with dqi_bgrace and dqi_igrace.
        let [blocks_grace, inodes_grace] = [8, 12].map(|at| le32(bytes, at).unwrap_or(0)).map(grace_of);
        if [blocks_grace, inodes_grace] != [USUAL_GRACE_SECONDS; 2] {
            self.grace.push(format!("-t {kind} {blocks_grace} {inodes_grace}"));
        }
        let mut visits = MAX_VISITS;
        // The block, the number of levels above it, and the bytes of the id so far.
        let mut waiting = vec![(ROOT, 0, 0_u32)];
        while let Some((block, depth, id)) = waiting.pop() {
            let start = usize::try_from(block).unwrap_or(usize::MAX).saturating_mul(BLOCK);
            let Some(block) = bytes.get(start..start.saturating_add(BLOCK)).filter(|_| visits > 0) else { continue };
            visits -= 1;
            if depth == DEPTH {
                self.entry(block, kind, id);
                continue;
            }
            for at in (0..256_u32).rev() {
                let next = le32(block, at as usize * 4).unwrap_or(0);
                if next != 0 {
                    waiting.push((next, depth + 1, id << 8 | at));
                }
            }
        }
    }

    fn entry(&mut self, block: &[u8], kind: &str, id: u32) {
        let entries = block.get(HEAD..).unwrap_or_default().chunks_exact(ENTRY);
        let Some(entry) = entries.into_iter().find(|entry| le32(entry, 0) == Some(id)) else { return };
        let number = |at: usize| le64(entry, at).unwrap_or(0);
        // dqb_ihardlimit, dqb_isoftlimit, dqb_bhardlimit and dqb_bsoftlimit, the last two in blocks of 1024 bytes.
        let [inodes_hard, inodes_soft, blocks_hard, blocks_soft] = [8, 16, 32, 40].map(number);
        // Id 0 is not limited.
        if id == 0 || [inodes_hard, inodes_soft, blocks_hard, blocks_soft] == [0; 4] {
            return;
        }
        self.count += 1;
        if self.kept.len() < MAX_KEPT {
            self.kept.push(format!("{kind} {id} {blocks_soft} {blocks_hard} {inodes_soft} {inodes_hard}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::QuotaLimits;

    #[test]
    fn a_tree_that_leads_into_itself_has_an_end() {
        let mut bytes = vec![0; 3 * 1024];
        bytes[..4].copy_from_slice(&0xd9c0_1f11_u32.to_le_bytes());
        for word in bytes[1024..].chunks_exact_mut(4) {
            word.copy_from_slice(&1_u32.to_le_bytes());
        }
        let mut limits = QuotaLimits::default();
        limits.parse(&bytes);
        // Each block is also taken for a leaf in which id 1 has limits: once, since only one path leads to it.
        assert_eq!((limits.count, limits.kept.len()), (1, 1));
        limits.parse(&[]);
        assert_eq!(limits.count, 1);
    }
}
