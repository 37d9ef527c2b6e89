//! Directories: ext4 layout, "Directory Entries". Index nodes look like blocks with one unused entry, so all blocks
//! are read in sequence.

use std::collections::HashSet;
use std::io;

use super::dir_index::DirIndex;
use super::error::{cut_off, damaged};
use super::inode::{Inode, Type};
use super::map::run_at;
use super::volume::Volume;
use crate::field::{crc32c, le16, le32};
use crate::reader::listing::{Listing, Reach};

/// The length of an entry without its name.
const ENTRY_HEAD_BYTES: usize = 8;
/// The minimum length of an entry.
const MIN_ENTRY_BYTES: usize = 12;
/// The length of the fake entry at the end of a block that holds its checksum (`struct ext4_dir_entry_tail`).
const TAIL_BYTES: usize = 12;
/// `file_type` of that fake entry.
const TAIL_TYPE: u8 = 0xDE;
const TYPE_UNKNOWN: u8 = 0;
const TYPE_DIRECTORY: u8 = 2;

/// A directory's names in the order of the walk. An error comes with the names that could be read. Names are
/// compared with `index`, if there is one.
pub(super) fn list(
    volume: &Volume,
    directory: &Inode,
    mut index: Option<&mut DirIndex>,
) -> Result<Listing, (Listing, io::Error)> {
    let mut listing = Listing::default();
    let mut first_error = None;
    let block_bytes = volume.superblock.block_bytes;
    let blocks = directory.size.div_ceil(block_bytes);
    // A map that repeats one block would yield names without end.
    let mut seen = HashSet::new();
    let mut at = 0;
    while at < blocks {
        let run = match run_at(volume, directory, at) {
            Ok(run) => run,
            Err(error) => {
                first_error.get_or_insert(error);
                break;
            }
        };
        let end = run.first.saturating_add(run.blocks).min(blocks);
        let Some(start) = run.start else {
            first_error.get_or_insert_with(|| damaged(format!("block {at} of the directory is missing")));
            at = end;
            continue;
        };
        for (number, block) in (at..end).zip(start..) {
            if blocks > 1 && !seen.insert(block) {
                first_error.get_or_insert_with(|| damaged(format!("block {block} is in the directory twice")));
                return listing.finish(first_error, &Reach::ByInode);
            }
            if let Some(index) = &mut index {
                index.enter(number);
            }
            let mut note = |name: &[u8]| {
                if let Some(index) = &mut index {
                    index.note(name);
                }
            };
            if let Err(error) = list_block(volume, directory, (number, block), &mut listing, &mut note) {
                first_error.get_or_insert(error);
            }
        }
        at = end;
    }
    listing.finish(first_error, &Reach::ByInode)
}

/// What is wrong with the entries `.` and `..`, which come first.
pub(super) fn dots_complaint(volume: &Volume, directory: &Inode, parent: u32) -> Option<String> {
    let start = run_at(volume, directory, 0).ok()?.start?;
    let bytes = volume.block(start).ok()?;
    let mut at = 0;
    for (name, right) in [(&b"."[..], directory.number), (b"..", parent)] {
        let shown = std::str::from_utf8(name).unwrap_or_default();
        let head = le32(&bytes, at).zip(le16(&bytes, at + 4)).zip(bytes.get(at + 6).copied().map(usize::from));
        let Some(((number, len), name_len)) = head else { return Some(format!("its entry {shown} is missing")) };
        if bytes.get(at + ENTRY_HEAD_BYTES..at + ENTRY_HEAD_BYTES + name_len) != Some(name) {
            return Some(format!("its entry {shown} is missing"));
        }
        if number != right {
            return Some(format!("its entry {shown} leads to inode {number}, and it should to {right}"));
        }
        at += entry_len(len, bytes.len());
    }
    None
}

/// Whether an entry's type matches the type of its inode. An entry without a type always matches.
pub(super) fn is_type_right(stored: u8, found: Option<Type>) -> bool {
    let right = match found {
        Some(Type::File) => 1,
        Some(Type::Directory) => TYPE_DIRECTORY,
        Some(Type::CharDevice) => 3,
        Some(Type::BlockDevice) => 4,
        Some(Type::Fifo) => 5,
        Some(Type::Socket) => 6,
        Some(Type::Symlink) => 7,
        None => TYPE_UNKNOWN,
    };
    stored == TYPE_UNKNOWN || stored == right
}

/// Adds the names in a block, up to the first damage.
fn list_block(
    volume: &Volume,
    directory: &Inode,
    (number, block): (u64, u64),
    listing: &mut Listing,
    note: &mut impl FnMut(&[u8]),
) -> io::Result<()> {
    let bytes = volume.block(block)?;
    check(directory, &bytes, number == 0)?;
    let superblock = &volume.superblock;
    let mut at = 0;
    while at + ENTRY_HEAD_BYTES <= bytes.len() {
        let wrong = |what: &str| Err(damaged(format!("its block {block} is damaged at byte {at}: {what}")));
        let ino = le32(&bytes, at).ok_or_else(cut_off)?;
        let len = entry_len(le16(&bytes, at + 4).ok_or_else(cut_off)?, bytes.len());
        let name_len = usize::from(bytes[at + 6]);
        // Without `filetype` this byte is the upper half of `name_len`, which is always 0.
        let file_type = if superblock.has_file_types { bytes[at + 7] } else { TYPE_UNKNOWN };
        if len < MIN_ENTRY_BYTES
            || !len.is_multiple_of(4)
            || at + len > bytes.len()
            || ENTRY_HEAD_BYTES + name_len > len
        {
            return wrong("an entry's length makes no sense");
        }
        if ino != 0 {
            let name = &bytes[at + ENTRY_HEAD_BYTES..at + ENTRY_HEAD_BYTES + name_len];
            // A fold over all bytes vectorises; an early exit would be slower.
            let has_wrong_byte = name.iter().fold(false, |wrong, byte| wrong | matches!(byte, 0 | b'/'));
            if name.is_empty() || has_wrong_byte {
                return wrong("a name is invalid");
            }
            if ino > superblock.inodes {
                return wrong("a name leads to no inode");
            }
            if name != b"." && name != b".." {
                let is_directory = match file_type {
                    TYPE_UNKNOWN => Inode::read(volume, ino).is_ok_and(|inode| inode.is_directory()),
                    known => known == TYPE_DIRECTORY,
                };
                listing.add(name, u64::from(ino), is_directory)?;
                listing.note_type(file_type);
                note(name);
            }
        }
        at += len;
    }
    Ok(())
}

/// Decodes `rec_len`: with 64 KiB blocks, 0xFFFF and 0 mean the whole block, and the lowest two bits are the
/// highest bits of the length.
fn entry_len(stored: u16, block_len: usize) -> usize {
    let stored = usize::from(stored);
    match stored {
        _ if block_len < 0x1_0000 => stored,
        0 | 0xFFFF => block_len,
        _ => (stored & 0xFFFC) | (stored & 3) << 16,
    }
}

/// Verifies the checksum of a block. Index nodes are skipped: they hold no names.
fn check(directory: &Inode, bytes: &[u8], is_first: bool) -> io::Result<()> {
    let Some(seed) = directory.checksum_seed() else { return Ok(()) };
    // An index root has only the entries `.` and `..`, the latter up to the end of the block. Another index node
    // has one unused entry as long as the block. Both may still hold the tail of an earlier leaf.
    let len_at = |at: usize| le16(bytes, at + 4).map(|len| entry_len(len, bytes.len()));
    let is_root = is_first && len_at(0) == Some(MIN_ENTRY_BYTES) && len_at(12) == Some(bytes.len() - MIN_ENTRY_BYTES);
    let is_node = bytes.starts_with(&[0; 4]) && len_at(0) == Some(bytes.len());
    if is_root || is_node {
        return Ok(());
    }
    let tail_at = bytes.len().checked_sub(TAIL_BYTES).ok_or_else(cut_off)?;
    let (covered, tail) = bytes.split_at(tail_at);
    let has_tail = tail[..4] == [0; 4] && le16(tail, 4) == Some(12) && tail[6] == 0 && tail[7] == TAIL_TYPE;
    if has_tail && le32(tail, 8) == Some(crc32c(seed, covered)) {
        Ok(())
    } else {
        Err(damaged("the checksum of one of its blocks is wrong"))
    }
}

#[cfg(test)]
mod tests {
    use super::entry_len;

    #[test]
    fn lengths_in_blocks_of_64_kib_have_their_highest_bits_at_the_bottom() {
        assert_eq!(entry_len(4096, 4096), 4096);
        assert_eq!(entry_len(0, 4096), 0);
        assert_eq!(entry_len(0xFFFF, 0x1_0000), 0x1_0000);
        assert_eq!(entry_len(0, 0x1_0000), 0x1_0000);
        assert_eq!(entry_len(12, 0x1_0000), 12);
        assert_eq!(entry_len(0xFFFC, 0x1_0000), 0xFFFC);
    }
}
