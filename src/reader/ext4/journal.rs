//! The journal: ext4 layout, "Journal (jbd2)". All its numbers are big-endian.
//!
//! Nothing is written. The replay yields a map of the blocks that have newer copies in the journal. If anything in
//! the journal is invalid, the filesystem is left to the kernel.

use std::collections::HashMap;
use std::io;

use super::error::{NotRead, crc32c_without, cut_off, damaged};
use super::inode::Inode;
use super::map::run_at;
use super::volume::{JOURNAL_MAGIC, Logged, Volume};
use crate::field::{array, be32, be64, crc32c};

/// `h_blocktype`.
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK_V1: u32 = 3;
const SUPERBLOCK_V2: u32 = 4;
const REVOKE: u32 = 5;
/// Header of each of the journal's own blocks: magic, type, sequence number.
const HEADER_BYTES: usize = 12;

/// `s_feature_compat`: CHECKSUM.
const COMPAT_CHECKSUM: u32 = 0x1;
/// `s_feature_incompat`: REVOKE, 64BIT, CSUM_V3.
const INCOMPAT_REVOKE: u32 = 0x1;
const INCOMPAT_64BIT: u32 = 0x2;
const INCOMPAT_CSUM_V3: u32 = 0x10;

/// `t_flags` of a tag: the block's magic number was escaped; the tag has no UUID; it is the last tag of the block.
const TAG_ESCAPED: u32 = 0x1;
const TAG_SAME_UUID: u32 = 0x2;
const TAG_LAST: u32 = 0x8;
const UUID_BYTES: usize = 16;
/// The checksum at the end of descriptor and revoke blocks.
const TAIL_BYTES: usize = 4;

/// A longer journal is left to the kernel, since the replay keeps a record of each block in memory.
const MAX_BLOCKS: u64 = 1 << 19;

/// The blocks that have newer copies in the journal.
pub(super) fn replay(volume: &Volume) -> Result<HashMap<u64, Logged>, NotRead> {
    let journal = Journal::open(volume)?;
    if journal.start == 0 {
        return Ok(HashMap::new());
    }
    journal.scan()
}

/// A tag and the logged block.
struct Tag {
    target: u64,
    is_escaped: bool,
    checksum: Option<u32>,
}

struct Journal<'a> {
    volume: &'a Volume,
    /// The filesystem block of each journal block.
    places: Vec<u64>,
    /// `s_first`: the first block of the log.
    first: u64,
    /// `s_start`: where the oldest transaction that needs a replay begins; 0 if there is none.
    start: u64,
    /// `s_sequence`: the sequence number of that transaction.
    sequence: u32,
    has_64_bits: bool,
    /// Seed of the checksums; `None` without checksums.
    seed: Option<u32>,
}

impl<'a> Journal<'a> {
    fn open(volume: &'a Volume) -> Result<Self, NotRead> {
        let left = |what: &str| Err(NotRead::LeftToKernel(what.to_owned()));
        let number = volume.superblock.journal_inode;
        if number == 0 {
            return left("its journal on another device");
        }
        let inode = Inode::read(volume, number)?;
        let all = inode.size / volume.superblock.block_bytes;
        if all > MAX_BLOCKS {
            return left("a journal of more than half a million blocks");
        }
        let mut journal =
            Self { volume, places: Vec::new(), first: 0, start: 0, sequence: 0, has_64_bits: false, seed: None };
        while (journal.places.len() as u64) < all {
            let run = run_at(volume, &inode, journal.places.len() as u64)?;
            let start = run.start.ok_or_else(|| damaged("its journal has a hole"))?;
            let left = all - journal.places.len() as u64;
            journal.places.extend(start..start + run.blocks.min(left));
        }
        // A map that repeats a block could make the journal longer than any disk.
        let mut sorted = journal.places.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(NotRead::Endless);
        }
        let head = journal.read(0)?;
        let word = |at: usize| be32(&head, at).ok_or_else(cut_off);
        let kind = word(4)?;
        if !head.starts_with(&JOURNAL_MAGIC) || !matches!(kind, SUPERBLOCK_V1 | SUPERBLOCK_V2) {
            return Err(damaged("its journal has no superblock").into());
        }
        if u64::from(word(0xC)?) != volume.superblock.block_bytes {
            return left("another block size in its journal");
        }
        let (compat, incompat, ro_compat) =
            if kind == SUPERBLOCK_V2 { (word(0x24)?, word(0x28)?, word(0x2C)?) } else { (0, 0, 0) };
        let known = INCOMPAT_REVOKE | INCOMPAT_64BIT | INCOMPAT_CSUM_V3;
        if compat & COMPAT_CHECKSUM != 0 || incompat & !known != 0 || ro_compat != 0 {
            return left(&format!("a journal with the features {compat:#x}, {incompat:#x} and {ro_compat:#x}"));
        }
        if incompat & INCOMPAT_CSUM_V3 != 0 {
            let uuid: [u8; UUID_BYTES] = array(&head, 0x30).ok_or_else(cut_off)?;
            journal.seed = Some(crc32c(!0, &uuid));
            let covered = head.get(..1024).ok_or_else(cut_off)?;
            if crc32c_without(!0, covered, 0xFC..0x100)? != word(0xFC)? {
                return Err(damaged("the checksum of its journal's superblock is wrong").into());
            }
        }
        journal.has_64_bits = incompat & INCOMPAT_64BIT != 0;
        (journal.first, journal.start) = (u64::from(word(0x14)?), u64::from(word(0x1C)?));
        journal.sequence = word(0x18)?;
        let len = u64::from(word(0x10)?);
        if len > all || journal.first == 0 || journal.first >= len || journal.start >= len {
            return Err(damaged("its journal's superblock makes no sense").into());
        }
        if journal.start != 0 && journal.start < journal.first {
            return Err(damaged("its journal begins before its first block").into());
        }
        // Blocks past `s_maxlen` are not used.
        journal.places.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(journal)
    }

    /// Reads journal block `at` from the disk.
    fn read(&self, at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.volume.superblock.block_len()];
        self.volume.read(self.volume.superblock.offset_of(self.place(at)?)?, &mut bytes)?;
        Ok(bytes)
    }

    fn place(&self, at: u64) -> io::Result<u64> {
        let place = usize::try_from(at).ok().and_then(|at| self.places.get(at)).copied();
        place.ok_or_else(|| damaged("its journal leads behind its own end"))
    }

    /// The block after `at`; the first block of the log follows the last.
    fn after(&self, at: u64) -> u64 {
        if at + 1 >= self.places.len() as u64 { self.first } else { at + 1 }
    }

    /// Goes through all complete transactions. A transaction without a commit block ends the journal, whatever else
    /// is wrong with it.
    fn scan(&self) -> Result<HashMap<u64, Logged>, NotRead> {
        let mut newest: HashMap<u64, Logged> = HashMap::new();
        // State of the current transaction: logged blocks, positions of revoke blocks, and what is wrong.
        let (mut logged_now, mut revokes_now) = (Vec::new(), Vec::new());
        let mut wrong: io::Result<()> = Ok(());
        let mut sequence = self.sequence;
        let mut at = self.start;
        // Each block of the log belongs to at most one transaction; a longer scan would run in circles.
        let mut left = self.places.len() as u64;
        loop {
            left = left.checked_sub(1).ok_or(NotRead::Endless)?;
            let block = self.read(at)?;
            if !block.starts_with(&JOURNAL_MAGIC) || be32(&block, 8) != Some(sequence) {
                break;
            }
            let block_at = at;
            at = self.after(at);
            match be32(&block, 4) {
                Some(DESCRIPTOR) => {
                    wrong = wrong.and_then(|()| self.check_tail(&block));
                    for tag in self.tags(&block)? {
                        left = left.checked_sub(1).ok_or(NotRead::Endless)?;
                        wrong = wrong.and_then(|()| self.check_logged(&tag, at, sequence));
                        let Tag { target, is_escaped, .. } = tag;
                        logged_now.push((target, Logged { block: self.place(at)?, is_escaped }));
                        at = self.after(at);
                    }
                }
                Some(COMMIT) => {
                    std::mem::replace(&mut wrong, Ok(()))?;
                    self.check_commit(&block)?;
                    newest.extend(logged_now.drain(..));
                    // A revoke applies to blocks logged up to here, not to later ones.
                    for revoke_at in revokes_now.drain(..) {
                        self.for_each_revoked(&self.read(revoke_at)?, |block| {
                            newest.remove(&block);
                        })?;
                    }
                    sequence = sequence.wrapping_add(1);
                }
                Some(REVOKE) => {
                    wrong = wrong.and_then(|()| self.check_tail(&block));
                    revokes_now.push(block_at);
                }
                _ => break,
            }
        }
        Ok(newest)
    }

    /// The tags of a descriptor block.
    fn tags(&self, block: &[u8]) -> io::Result<Vec<Tag>> {
        let end = block.len() - if self.seed.is_some() { TAIL_BYTES } else { 0 };
        let tag_bytes = match (self.seed.is_some(), self.has_64_bits) {
            (true, _) => 16,
            (false, true) => 12,
            (false, false) => 8,
        };
        let mut tags = Vec::new();
        let mut at = HEADER_BYTES;
        while at + tag_bytes <= end {
            let word = |field: usize| be32(block, at + field).ok_or_else(cut_off);
            let (flags, high) = if self.seed.is_some() {
                (word(4)?, word(8)?)
            } else {
                // The upper half is the checksum of a version that is left to the kernel.
                (word(4)? & 0xFFFF, if self.has_64_bits { word(8)? } else { 0 })
            };
            let high = if self.has_64_bits { u64::from(high) << 32 } else { 0 };
            tags.push(Tag {
                target: high | u64::from(word(0)?),
                is_escaped: flags & TAG_ESCAPED != 0,
                checksum: if self.seed.is_some() { Some(word(12)?) } else { None },
            });
            at += tag_bytes;
            if flags & TAG_SAME_UUID == 0 {
                at += UUID_BYTES;
            }
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        Ok(tags)
    }

    fn for_each_revoked(&self, block: &[u8], mut with: impl FnMut(u64)) -> io::Result<()> {
        let used = be32(block, HEADER_BYTES).and_then(|used| usize::try_from(used).ok()).ok_or_else(cut_off)?;
        let numbers = block.get(HEADER_BYTES + 4..used).ok_or_else(cut_off)?;
        if self.has_64_bits {
            numbers.chunks_exact(8).filter_map(|number| be64(number, 0)).for_each(with);
        } else {
            numbers.chunks_exact(4).filter_map(|number| be32(number, 0)).for_each(|number| with(u64::from(number)));
        }
        Ok(())
    }

    /// Verifies the checksum at the end of a descriptor or revoke block. It covers the block with the checksum
    /// field zeroed.
    fn check_tail(&self, block: &[u8]) -> io::Result<()> {
        let Some(seed) = self.seed else { return Ok(()) };
        let tail_at = block.len() - TAIL_BYTES;
        let crc = crc32c_without(seed, block, tail_at..block.len())?;
        if be32(block, tail_at) == Some(crc) { Ok(()) } else { Err(damaged("a checksum in its journal is wrong")) }
    }

    fn check_commit(&self, block: &[u8]) -> io::Result<()> {
        const CHECKSUM_AT: usize = 16;
        let Some(seed) = self.seed else { return Ok(()) };
        let crc = crc32c_without(seed, block, CHECKSUM_AT..CHECKSUM_AT + 4)?;
        if be32(block, CHECKSUM_AT) == Some(crc) {
            Ok(())
        } else {
            Err(damaged("the checksum of a commit in its journal is wrong"))
        }
    }

    /// Verifies the checksum of a logged block. It covers the sequence number and the block as stored in the
    /// journal.
    fn check_logged(&self, tag: &Tag, at: u64, sequence: u32) -> io::Result<()> {
        // The filesystem may have grown; then the newer superblock is in the journal.
        if tag.target >= self.volume.len_bytes() / self.volume.superblock.block_bytes {
            return Err(damaged("its journal has a block that lies behind the region's end"));
        }
        let Some((seed, checksum)) = self.seed.zip(tag.checksum) else { return Ok(()) };
        let crc = crc32c(crc32c(seed, &sequence.to_be_bytes()), &self.read(at)?);
        if crc == checksum { Ok(()) } else { Err(damaged("the checksum of a block in its journal is wrong")) }
    }
}
