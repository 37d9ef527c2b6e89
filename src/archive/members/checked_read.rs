//! Reads members of the previous archive, and compares each with its line of the index.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::archive::codec::CodecRef;
use crate::archive::index::MemberLine;
use crate::outside::{BlockRead, let_go_of_pages};

/// Why a member of the previous archive is not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(in crate::archive) enum MemberFault {
    #[error("it is longer than a member can be")]
    TooLong,
    #[error("the archive ends before its end")]
    CutOff,
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    #[error("its digest is not the one in the index")]
    Digest,
    #[error("the lengths in its header differ from those in the index")]
    Frame,
    #[error("the digest of its data is not the one in the index")]
    Data,
    #[error("it was not asked for")]
    NotAsked,
}

/// The archive that is read from.
pub(super) struct Source {
    pub(super) codec: CodecRef,
    pub(super) archive: Arc<dyn BlockRead>,
    /// Whether to read from the disk and ignore the page cache.
    from_disk: bool,
    /// Whether all reads so far hit the page cache: then other programs use these pages, and they are kept.
    is_in_memory: AtomicBool,
}

impl Source {
    /// `from_disk`: read from the disk and ignore the page cache.
    pub(super) fn new(codec: CodecRef, archive: Arc<dyn BlockRead>, from_disk: bool) -> Self {
        if let Some(file) = archive.file().filter(|_| from_disk) {
            // All pages at once: those at the ends of a range that is read are not dropped with it, and a large one that is
            // only partly in it is not either. But several ranges are shared as one.
            let_go_of_pages(file, 0, None);
        }
        Self { codec, archive, from_disk, is_in_memory: AtomicBool::new(true) }
    }

    /// Fills `buffer` from `offset`; false on failure.
    fn read(&self, buffer: &mut [u8], offset: u64) -> bool {
        let len = buffer.len() as u64;
        if self.from_disk {
            self.archive.let_go(offset, len);
        } else if self.is_in_memory.load(Ordering::Relaxed) {
            if self.archive.file().is_some_and(|file| read_from_memory(file, buffer, offset)) {
                return true;
            }
            self.is_in_memory.store(false, Ordering::Relaxed);
        }
        let is_read = self.archive.read_at(offset, buffer).is_ok();
        self.archive.let_go(offset, len);
        is_read
    }
}

/// Reads adjacent members into the start of `buffer`; returns for each its end there and its fault.
pub(super) fn read_checked(
    source: &Source,
    lines: &[MemberLine],
    buffer: &mut [u8],
) -> Vec<(usize, Result<(), MemberFault>)> {
    let mut end = 0_usize;
    let places: Vec<Range<usize>> = lines
        .iter()
        .map(|line| {
            let start = end;
            end = usize::try_from(line.length).map_or(usize::MAX, |len| end.saturating_add(len));
            start..end
        })
        .collect();
    let is_read = match (lines.first(), buffer.get_mut(..end)) {
        (Some(first), Some(all)) => source.read(all, first.offset),
        _ => false,
    };
    let checked = places.into_iter().zip(lines).map(|(place, line)| {
        let end = place.end;
        let fault = buffer.get_mut(place).ok_or(MemberFault::TooLong).and_then(|bytes| {
            if !is_read {
                // A bad sector concerns only one member.
                source.archive.read_at(line.offset, bytes).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => MemberFault::CutOff,
                    _ => MemberFault::Read(error),
                })?;
            }
            check_member(source.codec, bytes, line)
        });
        (end, fault)
    });
    checked.collect()
}

/// Reads from the page cache only; false if not all of it is cached.
fn read_from_memory(archive: &File, mut buffer: &mut [u8], mut offset: u64) -> bool {
    while !buffer.is_empty() {
        match preadv2(archive, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
            Ok(0) => return false,
            Ok(len) => {
                buffer = &mut buffer[len..];
                offset += len as u64;
            }
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

fn check_member(codec: CodecRef, bytes: &[u8], line: &MemberLine) -> Result<(), MemberFault> {
    if !line.digest.is_of(bytes) {
        return Err(MemberFault::Digest);
    }
    let is_framed = codec.frame(bytes).is_some_and(|frame| frame.is(line.length, line.tar_length));
    if is_framed { Ok(()) } else { Err(MemberFault::Frame) }
}
