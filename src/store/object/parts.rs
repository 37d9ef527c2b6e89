//! The bytes of one object: in memory while they are few, otherwise an upload in parts, two of them on their way at a time.
//! A part may be a range of another object, which the store copies.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::archive::members::OpenPart;
use crate::manifest::ObjectRecord;
use crate::objects::{CopySource, Found, LockHeaders, ObjectClient, Part, PartLimits, Written};
use crate::outside::StoredObject;

/// Parts on their way while the next one is filled.
const IN_FLIGHT: usize = 2;
/// What is expected of a store until its own limits are known: what every one allows.
const USUAL: PartLimits = PartLimits { most: 1000, least_bytes: 5 << 20 };
/// Lengths of parts, each for a quarter of them: nobody knows how long an archive will be, and memory grows only with
/// it. A thousand of them are 166 GiB.
const PART_BYTES: [usize; 4] = [8 << 20, 32 << 20, 128 << 20, 512 << 20];

/// The fewest bytes of a part beside a copy, for each quarter but the first, which has the store's own limit: so the parts
/// that an archive needs stay few, however often copies and fresh data alternate.
const LEAST_BYTES: [u64; 4] = [0, 32 << 20, 128 << 20, 512 << 20];
/// The longest copy of a part, for each quarter. The S3 API allows 5 GiB.
const COPY_BYTES: [u64; 4] = [2 << 30, 2 << 30, 5 << 30, 5 << 30];

type Running = JoinHandle<io::Result<Part>>;

pub(super) struct Parts {
    client: Arc<ObjectClient>,
    key: String,
    lock: Option<LockHeaders>,
    /// `None` until the first part is sent.
    limits: Option<PartLimits>,
    /// `None` while all bytes are in memory.
    upload: Option<String>,
    done: Vec<Part>,
    running: VecDeque<Running>,
    sent_bytes: u64,
    /// What was not sent yet.
    tail: Vec<u8>,
    /// The object that ranges are copied from.
    source: Option<Arc<StoredObject>>,
    /// The range of it that was not copied yet; `tail` is empty then.
    copying: Option<Range<u64>>,
    /// Whether more was copied since that object was last seen to be as it was.
    is_source_unchecked: bool,
    /// Whether copies are expected: a part is sent only when as much is left as the next one needs.
    holds_back: bool,
    is_settled: bool,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts of {}", self.key)
    }
}

impl Parts {
    pub(super) fn new(client: Arc<ObjectClient>, key: String, lock: Option<LockHeaders>) -> Self {
        Self {
            client,
            key,
            lock,
            limits: None,
            upload: None,
            done: Vec::new(),
            running: VecDeque::new(),
            sent_bytes: 0,
            tail: Vec::new(),
            source: None,
            copying: None,
            is_source_unchecked: false,
            holds_back: false,
            is_settled: false,
        }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        let copying = self.copying.as_ref().map_or(0, |range| range.end - range.start);
        self.sent_bytes + copying + self.tail.len() as u64
    }

    /// All bytes, if none was sent.
    pub(super) fn in_memory(&self) -> io::Result<&[u8]> {
        let unsent = || io::Error::new(io::ErrorKind::Unsupported, "an upload in parts is read after it is published");
        if self.upload.is_none() && self.copying.is_none() { Ok(&self.tail) } else { Err(unsent()) }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.upload.is_some() && self.is_settled {
            return Err(io::Error::other("the last part was sent"));
        }
        self.is_settled = false;
        self.send_copies(0)?;
        while !bytes.is_empty() {
            let part_bytes = self.part_bytes(self.number())?;
            let held_back = if self.holds_back { self.least_bytes(self.number() + 1) } else { 0 };
            let most = part_bytes + usize::try_from(held_back).unwrap_or(0);
            let (now, later) = bytes.split_at(bytes.len().min(most - self.tail.len()));
            self.tail.extend_from_slice(now);
            bytes = later;
            if self.tail.len() == most {
                let held_back = self.tail.split_off(part_bytes);
                self.send()?;
                self.tail = held_back;
            }
        }
        Ok(())
    }

    /// What is filled now. From now on parts are cut so that a copy may follow at any time but soon after another one.
    pub(super) fn open_part(&mut self) -> OpenPart {
        self.holds_back = true;
        // What cannot be asked now is asked again with the first part, and is an error then.
        self.limits = self.limits.or_else(|| self.client.part_limits().ok());
        OpenPart { bytes: self.tail.len() as u64, least_bytes: self.least_bytes(self.number() + 1) }
    }

    /// Appends a range of an object of the same store.
    pub(super) fn copy(&mut self, source: &Arc<StoredObject>, range: Range<u64>) -> io::Result<()> {
        if source.store != store_of(&self.client) || range.is_empty() || range.end > source.len_bytes {
            return Err(io::Error::other(format!("{} cannot be copied from", source.key)));
        }
        if self.source.as_ref().is_some_and(|from| from != source) {
            return Err(io::Error::other("parts are copied from one object alone"));
        }
        self.is_settled = false;
        (self.source, self.is_source_unchecked) = (Some(Arc::clone(source)), true);
        if !self.tail.is_empty() {
            self.send()?;
        }
        match &mut self.copying {
            Some(before) if before.end == range.start => before.end = range.end,
            _ => {
                self.send_copies(0)?;
                self.copying = Some(range);
            }
        }
        // The store copies while the walk goes on. What stays is long enough to be a part.
        self.send_copies(self.copy_bytes())
    }

    /// Lets the store copy what was asked for, but for the last `but` bytes and less than as many again.
    fn send_copies(&mut self, but: u64) -> io::Result<()> {
        while let Some((source, range)) = self.source.clone().zip(self.copying.clone()) {
            let (len, most) = (range.end - range.start, self.copy_bytes());
            if but > 0 && len < most.saturating_add(but) {
                return Ok(());
            }
            // Equal parts: none is shorter than a part may be.
            let now = len.div_ceil(len.div_ceil(most).max(1)).min(most);
            let rest = range.start + now..range.end;
            self.copying = Some(rest).filter(|rest| !rest.is_empty());
            self.begin_copy(source, range.start..range.start + now)?;
        }
        Ok(())
    }

    fn begin_copy(&mut self, source: Arc<StoredObject>, range: Range<u64>) -> io::Result<()> {
        let bytes = range.end - range.start;
        self.begin(bytes, move |client, key, id, number| {
            let from = CopySource { key: &source.key, etag: &source.etag, range: range.clone() };
            client.copy_part(key, id, number, &from).map_err(|error| match error.status() {
                // Also a store that copies no ranges, or not from there.
                Some(400..=499 | 501) if error.code() != Some("NoSuchUpload") => changed(&source, error.to_string()),
                _ => io::Error::other(error),
            })
        })
    }

    /// The number of the next part.
    fn number(&self) -> u32 {
        u32::try_from(self.done.len() + self.running.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The length of a part; an error beyond the last.
    fn part_bytes(&self, number: u32) -> io::Result<usize> {
        let limits = self.limits.unwrap_or(USUAL);
        part_bytes(number, limits).ok_or_else(|| too_many(limits))
    }

    fn least_bytes(&self, number: u32) -> u64 {
        let limits = self.limits.unwrap_or(USUAL);
        LEAST_BYTES[quarter(number, limits)].max(limits.least_bytes)
    }

    fn copy_bytes(&self) -> u64 {
        COPY_BYTES[quarter(self.number(), self.limits.unwrap_or(USUAL))]
    }

    fn send(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.tail);
        self.begin(bytes.len() as u64, move |client, key, id, number| {
            client.put_part(key, id, number, &bytes).map_err(io::Error::other)
        })
    }

    /// Begins a part of this length in a thread of its own.
    fn begin(
        &mut self,
        bytes: u64,
        make: impl FnOnce(&ObjectClient, &str, &str, u32) -> io::Result<Part> + Send + 'static,
    ) -> io::Result<()> {
        let number = self.number();
        if self.limits.is_none() {
            self.limits = Some(self.client.part_limits().map_err(io::Error::other)?);
        }
        self.part_bytes(number)?;
        let id = if let Some(id) = &self.upload {
            id.clone()
        } else {
            let begun = self.client.begin_upload_locked(&self.key, self.lock.as_ref());
            self.upload.insert(begun.map_err(io::Error::other)?).clone()
        };
        while self.running.len() >= IN_FLIGHT {
            self.join_first()?;
        }
        let (client, key) = (Arc::clone(&self.client), self.key.clone());
        self.sent_bytes += bytes;
        let making = move || make(&client, &key, &id, number);
        self.running.push_back(Builder::new().name("part".to_owned()).spawn(making)?);
        Ok(())
    }

    fn join_first(&mut self) -> io::Result<()> {
        let Some(first) = self.running.pop_front() else { return Ok(()) };
        let part = first.join().map_err(|_| io::Error::other("the thread that sends a part panicked"))?;
        self.done.push(part?);
        Ok(())
    }

    /// Sends what is left, and waits until the store has all parts. Few bytes stay in memory until they are published.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.send_copies(0)?;
        if self.upload.is_some() && !self.tail.is_empty() {
            self.send()?;
        }
        self.end_copies()?;
        self.is_settled = true;
        Ok(())
    }

    /// Waits until all parts that were begun are there, and checks that what was copied is what was asked for.
    pub(super) fn end_copies(&mut self) -> io::Result<()> {
        self.send_copies(0)?;
        while !self.running.is_empty() {
            self.join_first()?;
        }
        self.check_source()
    }

    /// Fails if the object that was copied from is not there any more as it was. Not every store heeds the condition of
    /// a copy (the RADOS gateway 16 does not).
    fn check_source(&mut self) -> io::Result<()> {
        let Some(source) = self.source.as_ref().filter(|_| self.is_source_unchecked) else { return Ok(()) };
        let found = self.client.head(&source.key).map_err(io::Error::other)?;
        if found.is_none_or(|found| found.etag != source.etag || found.len != source.len_bytes) {
            return Err(changed(source, "it was replaced or removed".to_owned()));
        }
        self.is_source_unchecked = false;
        Ok(())
    }

    /// Makes the object. No object of the key may be there.
    pub(super) fn publish(&mut self) -> io::Result<ObjectRecord> {
        if !self.is_settled {
            return Err(io::Error::other("it is not settled"));
        }
        let Some(id) = &self.upload else {
            let written = match &self.lock {
                Some(lock) => self.client.put_locked(&self.key, &self.tail, lock),
                None => self.client.put(&self.key, &self.tail, false),
            };
            return written.map(recorded).map_err(io::Error::other);
        };
        let completed = self.client.complete_upload(&self.key, id, &self.done, false);
        // The answer may be lost, and an answer is no proof: what counts is the object.
        let found = self.client.head(&self.key).map_err(io::Error::other)?;
        match (completed, found) {
            (Ok(Written { version: Some(made), .. }), Some(Found { version: Some(found), .. })) if made != found => {
                Err(io::Error::other(format!("it was overwritten by others: version {made} is no longer the newest")))
            }
            (_, Some(found)) if found.len == self.sent_bytes => {
                self.upload = None;
                Ok(ObjectRecord { etag: found.etag, version: found.version })
            }
            (Err(error), _) => Err(io::Error::other(error)),
            (Ok(_), found) => {
                let found = found.map_or(0, |found| found.len);
                Err(io::Error::other(format!("the object has {found} bytes where {} were sent", self.sent_bytes)))
            }
        }
    }

    /// Aborts the upload, and forgets all bytes.
    pub(super) fn start_over(&mut self) -> io::Result<()> {
        // An upload is aborted after its last part arrived or failed, since a late part would stay.
        for running in std::mem::take(&mut self.running) {
            let _ = running.join();
        }
        self.done.clear();
        self.tail = Vec::new();
        (self.source, self.copying, self.holds_back) = (None, None, false);
        (self.sent_bytes, self.is_settled) = (0, false);
        match self.upload.take() {
            Some(id) => self.client.abort_upload(&self.key, &id).map_err(io::Error::other),
            None => Ok(()),
        }
    }
}

pub(super) fn recorded(Written { etag, version }: Written) -> ObjectRecord {
    ObjectRecord { etag, version }
}

/// The object that parts were copied from has changed, or its store refuses to copy.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot copy from {key}: {why}")]
struct SourceChanged {
    key: String,
    why: String,
}

/// An error of a kind that nothing else here has.
fn changed(source: &StoredObject, why: String) -> io::Error {
    let key = source.key.clone();
    io::Error::new(io::ErrorKind::StaleNetworkFileHandle, SourceChanged { key, why })
}

fn too_many(limits: PartLimits) -> io::Error {
    let gibibytes = (1..=limits.most).filter_map(|number| part_bytes(number, limits)).sum::<usize>() >> 30;
    let what = format!("the archive has more than {gibibytes} GiB, which is the most in {} parts", limits.most);
    io::Error::new(io::ErrorKind::FileTooLarge, what)
}

/// The store of a client, which tells it from others.
pub(super) fn store_of(client: &ObjectClient) -> String {
    format!("{} in {}", client.address().bucket, client.settings().endpoint)
}

/// The quarter of all parts that a part lies in.
fn quarter(number: u32, limits: PartLimits) -> usize {
    let quarter = number.saturating_sub(1) / (limits.most / 4).max(1);
    usize::try_from(quarter).unwrap_or(usize::MAX).min(PART_BYTES.len() - 1)
}

/// The length of a part; `None` beyond the last.
fn part_bytes(number: u32, limits: PartLimits) -> Option<usize> {
    (number <= limits.most).then(|| PART_BYTES[quarter(number, limits)])
}

#[cfg(test)]
mod tests {
    use super::{PartLimits, USUAL, part_bytes, too_many};

    #[test]
    fn a_thousand_parts_hold_166_gib_and_500_mib_need_little_memory() {
        let all: u64 = (1..=1000).map(|number| part_bytes(number, USUAL).unwrap() as u64).sum();
        assert_eq!(all >> 30, 166);
        assert_eq!((part_bytes(1001, USUAL), part_bytes(63, USUAL)), (None, Some(8 << 20)));
        assert!(too_many(USUAL).to_string().contains("166 GiB, which is the most in 1000 parts"));
        let few = PartLimits { most: 100, ..USUAL };
        assert_eq!((part_bytes(101, few), part_bytes(26, few)), (None, Some(32 << 20)));
        assert!(too_many(few).to_string().contains("16 GiB, which is the most in 100 parts"));
    }
}
