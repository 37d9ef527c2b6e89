//! Reads an inode's data.

use std::io;

use super::inode::Inode;
use super::map::run_at;
use super::volume::Volume;

/// The maximum length of a file that is prefetched.
pub(super) const AHEAD_BYTES: u64 = 1 << 20;

/// Reads from byte `offset` of a file. Returns fewer bytes than requested at the end of the file or before
/// unreadable data.
pub(super) fn read_at(volume: &Volume, inode: &Inode, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let block_bytes = volume.superblock.block_bytes;
    let len = usize::try_from(inode.size.saturating_sub(offset)).map_or(buf.len(), |left| left.min(buf.len()));
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        match read_piece(volume, inode, block_bytes, at, &mut buf[done..len]) {
            Ok(read) => done += read,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Reads up to the end of the run that holds byte `at`: at least one byte.
fn read_piece(volume: &Volume, inode: &Inode, block_bytes: u64, at: u64, buf: &mut [u8]) -> io::Result<usize> {
    let run = run_at(volume, inode, at / block_bytes)?;
    let in_block = at % block_bytes;
    let in_run = run.blocks.saturating_mul(block_bytes) - in_block;
    let len = usize::try_from(in_run).map_or(buf.len(), |in_run| in_run.min(buf.len()));
    let piece = &mut buf[..len];
    match run.start {
        Some(start) => {
            let offset = start * block_bytes + in_block;
            volume.read_data(offset, piece)?;
            let read = len as u64;
            if in_run > read && inode.size.saturating_sub(at) > read {
                let rest = (in_run - read).min(inode.size - at - read);
                volume.will_read_data(offset + read, rest.min(AHEAD_BYTES));
            }
        }
        None => piece.fill(0),
    }
    Ok(len)
}
