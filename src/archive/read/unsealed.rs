//! The members of an encrypted archive as one stream of bytes: the archive as it would be without encryption.
//!
//! For readers that take a plain archive in order. The header of each segment is read first; a segment is decrypted when it
//! is read.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::encryption::{open, segment};
use crate::outside::BlockRead;

/// A segment: its place in the archive, and where its member begins in the stream.
#[derive(Clone, Copy)]
struct Place {
    at: u64,
    offset: u64,
    length: u64,
}

/// The stream.
pub(crate) struct Unsealed {
    archive: Arc<dyn BlockRead>,
    places: Vec<Place>,
    len_bytes: u64,
    /// The number of the segment that was decrypted last, and its member.
    last: Mutex<(usize, Vec<u8>)>,
}

impl Unsealed {
    /// Finds the segments. Fails if something else is among them.
    pub(crate) fn new(archive: Arc<dyn BlockRead>) -> io::Result<Self> {
        let end = archive.len_bytes();
        let (mut at, mut offset, mut places) = (0, 0, Vec::new());
        let (mut header, mut signature) = (vec![0; segment::MAX_HEADER_BYTES], None);
        while offset < end {
            let len = archive.read_some(offset, &mut header)?;
            // All segments have the signature of the first.
            let signature = *signature.get_or_insert_with(|| {
                let is_zstd = header.starts_with(segment::ZSTD_SIGNATURE);
                if is_zstd { segment::ZSTD_SIGNATURE } else { segment::GZIP_SIGNATURE }
            });
            let frame = segment::frame(&header[..len], signature);
            let length = frame.map(|frame| frame.segment_bytes);
            let (Some(frame), Some(length)) = (frame, length.filter(|length| *length <= end - offset)) else {
                let what = format!("there is no segment at byte {offset}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            };
            places.push(Place { at, offset, length });
            at += frame.member_bytes;
            offset += length;
        }
        Ok(Self { archive, places, len_bytes: at, last: Mutex::new((usize::MAX, Vec::new())) })
    }
}

impl BlockRead for Unsealed {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        while !buf.is_empty() {
            let number = self.places.partition_point(|place| place.at <= offset);
            let number = number.checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?;
            let place = self.places[number];
            if last.0 != number {
                let damaged = || {
                    let what = format!("the segment at byte {} cannot be decrypted", place.offset);
                    io::Error::new(io::ErrorKind::InvalidData, what)
                };
                // A header has at most 8 digits for a length.
                let mut sealed = vec![0; usize::try_from(place.length).map_err(io::Error::other)?];
                self.archive.read_at(place.offset, &mut sealed)?;
                last.0 = usize::MAX;
                open(&sealed, place.length, &mut last.1).map_err(|_| damaged())?;
                last.0 = number;
            }
            let from = usize::try_from(offset - place.at).map_err(io::Error::other)?;
            let piece = last.1.get(from..).filter(|piece| !piece.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
            let len = piece.len().min(buf.len());
            buf[..len].copy_from_slice(&piece[..len]);
            offset += len as u64;
            buf = &mut buf[len..];
        }
        Ok(())
    }
}
