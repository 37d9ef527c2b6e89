//! Boot code at the start of filesystems.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::units::Extent;

/// Writes boot code at the start of a new filesystem.
pub(super) fn put_boot_block(file: &File, fs: &str, extents: &[Extent], boot: &[u8]) -> io::Result<()> {
    let Some(start) = extents.first().map(|extent| extent.source_offset) else { return Ok(()) };
    if fs != "vfat" {
        return file.write_all_at(boot, start);
    }
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, start)?;
    let Some(boot) = boot.get(..512) else { return Ok(()) };
    // Microsoft's FAT specification, section 3: the jump and the OEM name, then the BPB, then code. FAT32 has a
    // longer BPB, recognised by a 16-bit FAT size of 0.
    let is_fat32 = sector[22..24] == [0, 0];
    let code_at = if is_fat32 { 90 } else { 62 };
    sector[..11].copy_from_slice(&boot[..11]);
    sector[code_at..510].copy_from_slice(&boot[code_at..510]);
    file.write_all_at(&sector, start)?;
    let backup = u64::from(u16::from_le_bytes([sector[50], sector[51]]));
    let sector_bytes = u64::from(u16::from_le_bytes([sector[11], sector[12]]));
    if is_fat32 && backup > 0 && backup < 64 {
        file.write_all_at(&sector, start + backup * sector_bytes)?;
    }
    Ok(())
}
