//! The tar stream of an archive, read at any offset: for a file system that serves a backup.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::head::{EntryHead, FirstData, HeadBuilder, HeadStep};
use super::header::BLOCK;
use super::sparse::{Keep, MapReader};
use crate::archive::codec::{self, CodecRef, Decode};
use crate::archive::index::{MemberDigest, MemberLine};
use crate::outside::BlockRead;

/// Decompressed members of several archives, the last used ones.
pub(crate) struct MemberCache {
    most_bytes: usize,
    state: Mutex<CacheState>,
    archives: AtomicU64,
}

/// An archive, and a member of it.
type Key = (u64, usize);
/// Empty while the first thread that wants it decompresses it, or after that failed.
type Slot = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

#[derive(Default)]
struct CacheState {
    slots: HashMap<Key, (Slot, u64, usize)>,
    /// By the time of the last use.
    order: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

impl MemberCache {
    /// An empty cache for at most `most_bytes` of data, or a single member.
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, state: Mutex::default(), archives: AtomicU64::new(0) }
    }

    fn slot(&self, key: Key, bytes: usize) -> Slot {
        let mut state = lock(&self.state);
        state.uses += 1;
        let now = state.uses;
        if let Some((slot, used, _)) = state.slots.get_mut(&key) {
            let (slot, before) = (Arc::clone(slot), std::mem::replace(used, now));
            state.order.remove(&before);
            state.order.insert(now, key);
            return slot;
        }
        let slot = Slot::default();
        state.slots.insert(key, (Arc::clone(&slot), now, bytes));
        state.order.insert(now, key);
        state.bytes += bytes;
        while state.bytes > self.most_bytes && state.slots.len() > 1 {
            let Some((_, oldest)) = state.order.pop_first() else { break };
            if let Some((_, _, freed)) = state.slots.remove(&oldest) {
                state.bytes -= freed;
            }
        }
        slot
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A member with data.
struct Member {
    tar_offset: u64,
    offset: u64,
    tar_length: u32,
    length: u32,
    digest: MemberDigest,
}

/// The tar stream. Each member is compared with its digest in the index when it is decompressed.
pub(crate) struct TarAnywhere {
    archive: Arc<dyn BlockRead>,
    codec: CodecRef,
    members: Vec<Member>,
    decoders: Mutex<Vec<Box<dyn Decode>>>,
    cache: Arc<MemberCache>,
    number: u64,
}

/// A header, and where the data behind it begin.
pub(crate) struct HeadAt {
    pub(crate) head: Box<EntryHead>,
    /// The offset in the stream, behind a map of holes.
    pub(crate) data_at: u64,
}

impl TarAnywhere {
    /// A stream whose members are added in their order.
    pub(crate) fn new(archive: Arc<dyn BlockRead>, cache: Arc<MemberCache>) -> Self {
        let number = cache.archives.fetch_add(1, Ordering::Relaxed);
        let codec = codec::of_archive(&*archive);
        Self { archive, codec, members: Vec::new(), decoders: Mutex::default(), cache, number }
    }

    /// Adds the next member, from a checked index. Members without data are left out.
    pub(crate) fn add(&mut self, line: &MemberLine) -> io::Result<()> {
        if line.is_padding() {
            return Ok(());
        }
        let short = |length: u64| u32::try_from(length).map_err(io::Error::other);
        let (length, tar_length) = (short(line.length)?, short(line.tar_length)?);
        let MemberLine { tar_offset, offset, digest, .. } = *line;
        self.members.push(Member { tar_offset, offset, tar_length, length, digest });
        Ok(())
    }

    /// The number of members with data.
    pub(crate) fn members(&self) -> usize {
        self.members.len()
    }

    fn content(&self, number: usize, member: &Member) -> io::Result<Arc<Vec<u8>>> {
        let slot = self.cache.slot((self.number, number), member.tar_length as usize);
        let mut content = lock(&slot);
        if let Some(content) = &*content {
            return Ok(Arc::clone(content));
        }
        let damaged = |what: String| {
            let what = format!("the member at byte {} of the archive is damaged: {what}", member.offset);
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        let mut bytes = vec![0; member.length as usize];
        self.archive.read_at(member.offset, &mut bytes)?;
        if !member.digest.is_of(&bytes) {
            return Err(damaged("its digest is not the one in the index".to_owned()));
        }
        let spare = lock(&self.decoders).pop();
        let mut decoder = spare.map_or_else(|| self.codec.decoder(), Ok)?;
        let mut data = Vec::new();
        let decoded = decoder.decode(&bytes, u64::from(member.tar_length), &mut data);
        lock(&self.decoders).push(decoder);
        decoded.map_err(|error| damaged(error.to_string()))?;
        let data = Arc::new(data);
        *content = Some(Arc::clone(&data));
        Ok(data)
    }

    /// Fills `buf` from `offset` of the stream on.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut number = self.members.partition_point(|member| member.tar_offset <= offset);
        number = number.checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let member = self.members.get(number).ok_or(io::ErrorKind::UnexpectedEof)?;
            let content = self.content(number, member)?;
            let from = usize::try_from(at - member.tar_offset).map_err(io::Error::other)?;
            let piece = content.get(from..).filter(|piece| !piece.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
            let len = piece.len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&piece[..len]);
            done += len;
            number += 1;
        }
        Ok(())
    }

    /// The entry whose first header is at `offset`.
    pub(crate) fn head_at(&self, offset: u64) -> io::Result<HeadAt> {
        let bad = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut builder = HeadBuilder::default();
        let mut at = offset;
        let mut block = [0; BLOCK];
        let mut next = |at: &mut u64| -> io::Result<[u8; BLOCK]> {
            self.read_at(*at, &mut block)?;
            *at += BLOCK as u64;
            Ok(block)
        };
        loop {
            match builder.add(&next(&mut at)?).map_err(|error| bad(error.to_string()))? {
                HeadStep::More => {}
                HeadStep::Done => break,
                HeadStep::Zero => return Err(bad("there is no header".to_owned())),
            }
        }
        let (mut head, first_data) = builder.finish().map_err(|error| bad(error.to_string()))?;
        if first_data == FirstData::MapOfHoles {
            let mut map = MapReader::new(head.size, Keep::Runs);
            loop {
                let left = head.stored_bytes.checked_sub(BLOCK as u64);
                head.stored_bytes = left.ok_or_else(|| bad("its map of holes is cut off".to_owned()))?;
                if map.add_block(&next(&mut at)?).map_err(|error| bad(error.to_string()))? {
                    break;
                }
            }
            head.runs = Some(map.finish(head.stored_bytes).map_err(|error| bad(error.to_string()))?);
        }
        Ok(HeadAt { head, data_at: at })
    }
}
