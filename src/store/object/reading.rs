//! An object as bytes at any offset: ranged reads, which grow while they are sequential.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::objects::{Found, ObjectClient};
use crate::outside::{BlockRead, StoredObject};
use crate::store::object::parts::store_of;

/// What is read when an object is opened: all of most indexes and manifests, and the head of an archive.
pub(super) const FIRST_BYTES: u64 = 256 << 10;
/// The longest read.
const MOST_BYTES: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct ObjectBlocks {
    client: Arc<ObjectClient>,
    object: Arc<StoredObject>,
    /// The first bytes, which stay.
    first: Vec<u8>,
    window: Mutex<Window>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// An object that the store found.
pub(super) fn stored(client: &ObjectClient, key: String, found: Found) -> StoredObject {
    let Found { len, etag, is_cold, .. } = found;
    StoredObject { store: store_of(client), key, etag, len_bytes: len, is_cold }
}

impl ObjectBlocks {
    /// `first`: the first bytes of the object, which were read.
    pub(super) fn new(client: &Arc<ObjectClient>, object: StoredObject, first: Vec<u8>) -> Self {
        let window = Mutex::new(Window { start: first.len() as u64, bytes: Vec::new() });
        Self { client: Arc::clone(client), object: Arc::new(object), first, window }
    }

    /// Copies what `bytes`, which begin at `start`, have of `buf` at `offset`; returns how much.
    fn copied(bytes: &[u8], start: u64, offset: u64, buf: &mut [u8]) -> usize {
        let Some(skip) = offset.checked_sub(start).and_then(|skip| usize::try_from(skip).ok()) else { return 0 };
        let from = bytes.get(skip..).unwrap_or_default();
        let len = from.len().min(buf.len());
        buf[..len].copy_from_slice(&from[..len]);
        len
    }
}

impl BlockRead for ObjectBlocks {
    fn object(&self) -> Option<&Arc<StoredObject>> {
        Some(&self.object)
    }

    fn len_bytes(&self) -> u64 {
        self.object.len_bytes
    }

    fn read_once(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.object.len_bytes);
        let range = offset..end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let read = self.client.get_range_of(&self.object.key, &range, &self.object.etag).map_err(io::Error::other)?;
        if read.len() != buf.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf.copy_from_slice(&read);
        Ok(())
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.object.len_bytes);
        if end.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !buf.is_empty() {
            let mut len = Self::copied(&self.first, 0, offset, buf);
            if len == 0 {
                let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
                len = Self::copied(&window.bytes, window.start, offset, buf);
                if len == 0 {
                    // Whoever goes on where the last read ended reads on.
                    let ahead = if offset == window.end() { window.bytes.len() as u64 * 2 } else { 0 };
                    let most = ahead.max(buf.len() as u64).clamp(FIRST_BYTES, MOST_BYTES);
                    let range = offset..self.object.len_bytes.min(offset.saturating_add(most));
                    // The memory of the last read is free before the next one comes.
                    window.bytes = Vec::new();
                    window.start = offset;
                    window.bytes = self
                        .client
                        .get_range_of(&self.object.key, &range, &self.object.etag)
                        .map_err(io::Error::other)?;
                    continue;
                }
            }
            offset += len as u64;
            buf = &mut buf[len..];
        }
        Ok(())
    }
}
