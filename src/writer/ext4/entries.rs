//! Blocks of directory entries: ext4 layout, "Linear Directories".

use super::bytes::{low16, put};
use super::volume::Volume;
use crate::field::crc32c;

/// `struct ext4_dir_entry_2` without the name.
pub(super) const ENTRY_BYTES: usize = 8;
/// `struct ext4_dir_entry_tail`.
const TAIL_BYTES: usize = 12;
const TAIL_TYPE: u8 = 0xDE;
pub(super) const DIRECTORY_TYPE: u8 = 2;
/// A name may have so many bytes.
pub(super) const NAME_MAX: usize = 255;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) inode: u32,
    /// `file_type`.
    pub(super) file_type: u8,
}

impl Named {
    pub(crate) fn is_directory(self) -> bool {
        self.file_type == DIRECTORY_TYPE
    }

    pub(crate) fn is_symlink(self) -> bool {
        self.file_type == 7
    }
}

/// The length of an entry.
pub(super) fn entry_bytes(name: &[u8]) -> usize {
    (ENTRY_BYTES + name.len()).next_multiple_of(4)
}

/// The space for entries in a block.
pub(super) fn room(volume: &Volume) -> usize {
    volume.block_bytes - if volume.seed.is_some() { TAIL_BYTES } else { 0 }
}

/// A block of entries.
pub(super) struct Leaf {
    bytes: Vec<u8>,
    room: usize,
    at: usize,
    /// The last entry, which takes the rest.
    last: Option<usize>,
}

impl Leaf {
    pub(super) fn new(volume: &Volume) -> Self {
        Self { bytes: vec![0; volume.block_bytes], room: room(volume), at: 0, last: None }
    }

    pub(super) fn has_room(&self, name: &[u8]) -> bool {
        self.at + entry_bytes(name) <= self.room
    }

    pub(super) fn used(&self) -> usize {
        self.at
    }

    pub(super) fn add(&mut self, name: &[u8], named: Named) {
        put_entry(&mut self.bytes[self.at..], name, named, entry_bytes(name));
        self.last = Some(self.at);
        self.at += entry_bytes(name);
    }

    pub(super) fn finish(mut self, seed: Option<u32>) -> Vec<u8> {
        let last = self.last.unwrap_or(0);
        put(&mut self.bytes, last + 4, length(self.room - last));
        if let Some(seed) = seed {
            let tail = self.room;
            put(&mut self.bytes, tail + 4, length(TAIL_BYTES));
            self.bytes[tail + 7] = TAIL_TYPE;
            let checksum = crc32c(seed, &self.bytes[..tail]);
            put(&mut self.bytes, tail + 8, checksum.to_le_bytes());
        }
        self.bytes
    }
}

/// `rec_len` of blocks of at most 4 KiB.
pub(super) fn length(bytes: usize) -> [u8; 2] {
    low16(u32::try_from(bytes).unwrap_or(0))
}

pub(super) fn put_entry(place: &mut [u8], name: &[u8], named: Named, len: usize) {
    put(place, 0, named.inode.to_le_bytes());
    put(place, 4, length(len));
    place[6] = u8::try_from(name.len()).unwrap_or(0);
    place[7] = named.file_type;
    place[ENTRY_BYTES..ENTRY_BYTES + name.len()].copy_from_slice(name);
}
