//! The journal's superblock: ext4 layout, "Journal (jbd2)". Its numbers are big-endian.
//!
//! The kernel turns on the journal's features when it first mounts a filesystem for writing. The journal stays empty.

use super::bytes::put;
use super::error::WriteError;
use super::extents;
use super::groups::Groups;
use super::output::Output;
use super::tables::Tables;
use super::volume::Volume;
use crate::field::{be32, crc32c_without};

const LEN: usize = 1024;
/// `JBD2_MAGIC_NUMBER`, `JBD2_SUPERBLOCK_V2`.
const MAGIC: u32 = 0xC03B_3998;
const SUPERBLOCK: u32 = 4;
/// `JBD2_FEATURE_INCOMPAT_64BIT`, `JBD2_FEATURE_INCOMPAT_CSUM_V3`.
const HAS_64_BITS: u32 = 0x2;
const CHECKSUMS: u32 = 0x10;
/// `JBD2_CRC32C_CHKSUM`.
const CRC32C: u8 = 4;

/// Turns on the features that the kernel would turn on.
pub(super) fn set_features(
    volume: &Volume,
    groups: &Groups,
    tables: &mut Tables,
    output: &mut Output,
) -> Result<(), WriteError> {
    if !volume.facts.has_journal {
        return Ok(());
    }
    let wrong = || WriteError::left("its journal is not an empty one in the filesystem itself");
    let inode = tables.get(volume.facts.journal_inode, volume, groups, output)?;
    let (extents, _) = extents::decode(inode.get(0x28..0x64).ok_or_else(wrong)?, volume, output)?;
    let first = extents.first().filter(|first| first.logical == 0).ok_or_else(wrong)?;
    let place = volume.byte_of(first.physical);
    let mut superblock = [0; LEN];
    output.read(place, &mut superblock)?;
    let word = |at| be32(&superblock, at).ok_or_else(wrong);
    // s_start is 0 in an empty journal.
    if word(0)? != MAGIC || word(4)? != SUPERBLOCK || word(0x1C)? != 0 {
        return Err(wrong());
    }
    let mut features = word(0x28)?;
    if volume.facts.has_64_bits {
        features |= HAS_64_BITS;
    }
    if volume.seed.is_some() {
        features |= CHECKSUMS;
        superblock[0x50] = CRC32C;
    }
    put(&mut superblock, 0x28, features.to_be_bytes());
    if volume.seed.is_some() {
        let checksum = crc32c_without(!0, &superblock, 0xFC..0x100).unwrap_or(0);
        put(&mut superblock, 0xFC, checksum.to_be_bytes());
    }
    Ok(output.write(place, &superblock)?)
}
