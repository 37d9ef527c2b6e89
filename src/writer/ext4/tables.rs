//! The inode tables: ext4 layout, "Index Nodes".
//!
//! Pieces of the tables are kept in memory and written when there are too many.

use std::collections::{BTreeMap, VecDeque};

use super::bitmap::Run;
use super::error::WriteError;
use super::groups::Groups;
use super::output::Output;
use super::volume::Volume;

/// The number of inodes of a piece: 64 KiB with inodes of 256 bytes.
const PIECE_INODES: u32 = 256;
/// The maximum length of all pieces in memory, in bytes.
const KEPT_BYTES: usize = 16 << 20;
/// About so many of them are written when there are too many.
const WRITTEN_BYTES: usize = 1 << 20;

/// A group, and a piece of its table.
type Piece = (usize, u32);

pub(super) struct Tables {
    pieces: BTreeMap<Piece, Vec<u8>>,
    /// In the order in which they were read.
    order: VecDeque<Piece>,
    kept_bytes: usize,
    /// One bit for each piece that was written: it has no inode of an older filesystem.
    written: Vec<u8>,
    in_group: u32,
    pieces_per_group: u32,
}

impl Tables {
    pub(super) fn new(volume: &Volume) -> Self {
        let in_group = volume.facts.inodes_per_group;
        let pieces_per_group = in_group.div_ceil(PIECE_INODES);
        // An inode's number has 32 bits: at most 2 MiB.
        let pieces = volume.facts.groups.saturating_mul(pieces_per_group.into());
        let written = vec![0; usize::try_from(pieces.div_ceil(8)).unwrap_or(0)];
        Self { pieces: BTreeMap::new(), order: VecDeque::new(), kept_bytes: 0, written, in_group, pieces_per_group }
    }

    fn place(&self, number: u32) -> (Piece, usize) {
        let number = number.saturating_sub(1);
        let (group, index) = (number / self.in_group, number % self.in_group);
        ((group as usize, index / PIECE_INODES), (index % PIECE_INODES) as usize)
    }

    fn bit(&self, (group, piece): Piece) -> (usize, u8) {
        let bit = group * self.pieces_per_group as usize + piece as usize;
        (bit / 8, 1 << (bit % 8))
    }

    /// Where a piece is: its first byte, and its length.
    fn bytes_of(&self, (group, piece): Piece, volume: &Volume, groups: &Groups) -> (u64, usize) {
        let inode_bytes = volume.facts.inode_bytes;
        let first = piece * PIECE_INODES;
        let count = (self.in_group - first).min(PIECE_INODES) as usize;
        let start = volume.byte_of(groups.inode_table(group)) + u64::from(first) * inode_bytes as u64;
        (start, count * inode_bytes)
    }

    fn load(
        &mut self,
        piece: Piece,
        volume: &Volume,
        groups: &Groups,
        output: &mut Output,
    ) -> Result<&mut Vec<u8>, WriteError> {
        if !self.pieces.contains_key(&piece) {
            let (start, len) = self.bytes_of(piece, volume, groups);
            if self.kept_bytes + len > KEPT_BYTES {
                // Several at once: mostly they are adjacent.
                while self.kept_bytes + len + WRITTEN_BYTES > KEPT_BYTES
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.write(oldest, volume, groups, output)?;
                }
            }
            let mut bytes = vec![0; len];
            let (at, bit) = self.bit(piece);
            let known = if self.written[at] & bit != 0 {
                len
            } else {
                let known = groups.written_inodes(piece.0).saturating_sub(piece.1 * PIECE_INODES);
                (known as usize * volume.facts.inode_bytes).min(len)
            };
            if known > 0 {
                output.read(start, &mut bytes[..known])?;
            }
            self.kept_bytes += len;
            self.order.push_back(piece);
            self.pieces.insert(piece, bytes);
        }
        Ok(self.pieces.entry(piece).or_default())
    }

    fn write(&mut self, piece: Piece, volume: &Volume, groups: &Groups, output: &mut Output) -> Result<(), WriteError> {
        let Some(bytes) = self.pieces.remove(&piece) else { return Ok(()) };
        self.kept_bytes -= bytes.len();
        let (at, bit) = self.bit(piece);
        self.written[at] |= bit;
        let (start, _) = self.bytes_of(piece, volume, groups);
        Ok(output.write(start, &bytes)?)
    }

    /// An inode's bytes.
    pub(super) fn get(
        &mut self,
        number: u32,
        volume: &Volume,
        groups: &Groups,
        output: &mut Output,
    ) -> Result<Vec<u8>, WriteError> {
        let (piece, index) = self.place(number);
        let len = volume.facts.inode_bytes;
        let bytes = self.load(piece, volume, groups, output)?;
        Ok(bytes[index * len..(index + 1) * len].to_vec())
    }

    /// Replaces an inode's bytes.
    pub(super) fn set(
        &mut self,
        number: u32,
        inode: &[u8],
        volume: &Volume,
        groups: &mut Groups,
        output: &mut Output,
    ) -> Result<(), WriteError> {
        let (piece, index) = self.place(number);
        let len = volume.facts.inode_bytes;
        let bytes = self.load(piece, volume, groups, output)?;
        bytes[index * len..(index + 1) * len].copy_from_slice(inode);
        groups.use_inode(piece.0, piece.1 * PIECE_INODES + u32::try_from(index).unwrap_or(0), self.in_group);
        Ok(())
    }

    /// Writes all pieces, and empties those before them that no inode was put into.
    pub(super) fn finish(
        &mut self,
        volume: &Volume,
        groups: &mut Groups,
        output: &mut Output,
    ) -> Result<(), WriteError> {
        for group in 0..groups.count() {
            let used = self.in_group - groups.unused_inodes(group);
            if used <= groups.written_inodes(group) {
                continue;
            }
            for piece in 0..used.div_ceil(PIECE_INODES) {
                let (at, bit) = self.bit((group, piece));
                if self.written[at] & bit == 0 {
                    self.load((group, piece), volume, groups, output)?;
                }
            }
        }
        let all: Vec<Piece> = self.pieces.keys().copied().collect();
        self.order.clear();
        for piece in all {
            self.write(piece, volume, groups, output)?;
        }
        Ok(())
    }

    /// The group of an inode.
    pub(super) fn group_of(&self, number: u32) -> usize {
        self.place(number).0.0
    }
}

/// The number of the inode in a run of one.
pub(super) fn number_of(run: Run) -> u32 {
    u32::try_from(run.start + 1).unwrap_or(0)
}
