//! The bytes of one object: in memory while they are few, otherwise an upload in parts, two of them on their way at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::objects::{ObjectClient, ObjectError, Part};

/// Parts on their way while the next one is filled.
const IN_FLIGHT: usize = 2;
/// The most parts that every store takes (Swift).
const MOST_PARTS: u32 = 1000;
/// Lengths of parts, each for a quarter of them: nobody knows how long an archive will be, and memory grows only with
/// it. Together they are 166 GiB.
const PART_BYTES: [usize; 4] = [8 << 20, 32 << 20, 128 << 20, 512 << 20];

type Running = JoinHandle<Result<Part, ObjectError>>;

pub(super) struct Parts {
    client: Arc<ObjectClient>,
    key: String,
    /// `None` while all bytes are in memory.
    upload: Option<String>,
    done: Vec<Part>,
    running: VecDeque<Running>,
    sent_bytes: u64,
    /// What was not sent yet.
    tail: Vec<u8>,
    is_settled: bool,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts of {}", self.key)
    }
}

impl Parts {
    pub(super) fn new(client: Arc<ObjectClient>, key: String) -> Self {
        Self {
            client,
            key,
            upload: None,
            done: Vec::new(),
            running: VecDeque::new(),
            sent_bytes: 0,
            tail: Vec::new(),
            is_settled: false,
        }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.sent_bytes + self.tail.len() as u64
    }

    /// All bytes, if none was sent.
    pub(super) fn in_memory(&self) -> io::Result<&[u8]> {
        let unsent = || io::Error::new(io::ErrorKind::Unsupported, "an upload in parts is read after it is published");
        if self.upload.is_none() { Ok(&self.tail) } else { Err(unsent()) }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.upload.is_some() && self.is_settled {
            return Err(io::Error::other("the last part was sent"));
        }
        self.is_settled = false;
        while !bytes.is_empty() {
            let part_bytes = part_bytes(self.number()).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "the archive has more than 166 GiB, which is the most in 1000 parts",
                )
            })?;
            let (now, later) = bytes.split_at(bytes.len().min(part_bytes - self.tail.len()));
            self.tail.extend_from_slice(now);
            bytes = later;
            if self.tail.len() == part_bytes {
                self.send()?;
            }
        }
        Ok(())
    }

    /// The number of the next part.
    fn number(&self) -> u32 {
        u32::try_from(self.done.len() + self.running.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    fn send(&mut self) -> io::Result<()> {
        let id = match &self.upload {
            Some(id) => id.clone(),
            None => self.upload.insert(self.client.begin_upload(&self.key).map_err(io::Error::other)?).clone(),
        };
        while self.running.len() >= IN_FLIGHT {
            self.join_first()?;
        }
        let (client, key, number, bytes) =
            (Arc::clone(&self.client), self.key.clone(), self.number(), std::mem::take(&mut self.tail));
        self.sent_bytes += bytes.len() as u64;
        let sending = move || client.put_part(&key, &id, number, &bytes);
        self.running.push_back(Builder::new().name("part".to_owned()).spawn(sending)?);
        Ok(())
    }

    fn join_first(&mut self) -> io::Result<()> {
        let Some(first) = self.running.pop_front() else { return Ok(()) };
        let part = first.join().map_err(|_| io::Error::other("the thread that sends a part panicked"))?;
        self.done.push(part.map_err(io::Error::other)?);
        Ok(())
    }

    /// Sends what is left, and waits until the store has all parts. Few bytes stay in memory until they are published.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if self.upload.is_some() {
            if !self.tail.is_empty() {
                self.send()?;
            }
            while !self.running.is_empty() {
                self.join_first()?;
            }
        }
        self.is_settled = true;
        Ok(())
    }

    /// Makes the object. No object of the key may be there.
    pub(super) fn publish(&mut self) -> io::Result<()> {
        if !self.is_settled {
            return Err(io::Error::other("it is not settled"));
        }
        let Some(id) = &self.upload else {
            return self.client.put(&self.key, &self.tail, false).map(drop).map_err(io::Error::other);
        };
        let completed = self.client.complete_upload(&self.key, id, &self.done, false);
        // The answer may be lost, and an answer is no proof: what counts is the object.
        let found = self.client.head(&self.key).map_err(io::Error::other)?;
        match (completed, found) {
            (_, Some(found)) if found.len == self.sent_bytes => {
                self.upload = None;
                Ok(())
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
        (self.sent_bytes, self.is_settled) = (0, false);
        match self.upload.take() {
            Some(id) => self.client.abort_upload(&self.key, &id).map_err(io::Error::other),
            None => Ok(()),
        }
    }
}

/// The length of a part; `None` beyond the last.
fn part_bytes(number: u32) -> Option<usize> {
    if number > MOST_PARTS {
        return None;
    }
    PART_BYTES.get(usize::try_from((number - 1) / (MOST_PARTS / 4)).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::part_bytes;

    #[test]
    fn a_thousand_parts_hold_166_gib_and_500_mib_need_little_memory() {
        let all: u64 = (1..=1000).map(|number| part_bytes(number).unwrap() as u64).sum();
        assert_eq!(all >> 30, 166);
        assert_eq!((part_bytes(1001), part_bytes(63)), (None, Some(8 << 20)));
    }
}
