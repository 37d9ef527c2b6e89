//! Decrypts age files.

use std::fmt;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamReader;

use super::error::LockedError;
use super::keyring;
use super::segment::MAX_HEADER_BYTES;
use crate::outside::{BlockCursor, BlockRead};

fn refused() -> LockedError {
    if keyring::has_identities() { LockedError::NotForThese } else { LockedError::NoIdentity }
}

/// Decrypts a short age file; its content has at most `max_bytes`.
pub(crate) fn open(file: &[u8], max_bytes: u64, plain: &mut Vec<u8>) -> Result<(), LockedError> {
    plain.clear();
    let reader = keyring::with_identities(|identities| identities.open(file)).ok_or_else(refused)?;
    reader.take(max_bytes.saturating_add(1)).read_to_end(plain).map_err(|_| LockedError::Damaged)?;
    if plain.len() as u64 > max_bytes { Err(LockedError::Damaged) } else { Ok(()) }
}

type Reader = StreamReader<BufReader<BlockCursor>>;

/// The content of a long age file, read at any offset.
pub(crate) struct Opened {
    reader: Mutex<Reader>,
    len_bytes: u64,
}

impl Opened {
    /// Decrypts `file`.
    pub(crate) fn new(file: Arc<dyn BlockRead>) -> Result<Self, LockedError> {
        let input = BufReader::with_capacity(MAX_HEADER_BYTES, BlockCursor::new(file));
        let mut reader = keyring::with_identities(|identities| identities.open(input)).ok_or_else(refused)?;
        // Seeking to the end authenticates the last chunk: a truncated file is found.
        let len_bytes = reader.seek(SeekFrom::End(0)).map_err(|_| LockedError::Damaged)?;
        reader.seek(SeekFrom::Start(0)).map_err(|_| LockedError::Damaged)?;
        Ok(Self { reader: Mutex::new(reader), len_bytes })
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Opened({} bytes)", self.len_bytes)
    }
}

impl BlockRead for Opened {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.stream_position()? != offset {
            reader.seek(SeekFrom::Start(offset))?;
        }
        reader.read_exact(buf)
    }
}
