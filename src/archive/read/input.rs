//! An archive's bytes in order, and the counts and findings of reading.

use std::io::{self, Read};

use sha1::{Digest, Sha1};

use super::decode::Over;
use super::job::{Findings, Form, StreamFinding, StreamOutcome};
use crate::archive::codec::{CodecRef, MemberFrame};
use crate::outside::BlockRead;

pub(super) const PIECE_BYTES: usize = 256 << 10;
/// How much is read at once where all of an archive is read.
const AHEAD_BYTES: usize = 1 << 20;

/// An archive that is read from its start and hashed.
pub(super) struct Input<'a> {
    file: &'a dyn BlockRead,
    codec: CodecRef,
    /// The offset of the next byte.
    pub(super) at: u64,
    pub(super) len: u64,
    sha1: Option<Sha1>,
    /// `None` if each read is as long as what is asked for.
    ahead: Option<Ahead>,
}

/// A stretch that was read at once.
#[derive(Default)]
struct Ahead {
    start: u64,
    bytes: Vec<u8>,
    /// Up to here a stretch cannot be read as a whole: each part is read on its own.
    unreadable_until: u64,
}

impl Ahead {
    /// Fills `buf` with the bytes at `at`; reads the next stretch if they are not in this one. False if that fails,
    /// which says nothing about the bytes that are asked for.
    fn fill(&mut self, file: &dyn BlockRead, len: u64, at: u64, buf: &mut [u8]) -> bool {
        if self.copy(at, buf) {
            return true;
        }
        if buf.len() >= AHEAD_BYTES || at < self.unreadable_until {
            return false;
        }
        let left = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX);
        self.start = at;
        self.bytes.resize(left.min(AHEAD_BYTES), 0);
        if let Ok(filled) = read_at_most(file, at, &mut self.bytes) {
            self.bytes.truncate(filled);
        } else {
            self.bytes.clear();
            self.unreadable_until = at.saturating_add(AHEAD_BYTES as u64);
        }
        self.copy(at, buf)
    }

    fn copy(&self, at: u64, buf: &mut [u8]) -> bool {
        let skip = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let part = skip.and_then(|skip| self.bytes.get(skip..)?.get(..buf.len()));
        part.map(|part| buf.copy_from_slice(part)).is_some()
    }
}

impl<'a> Input<'a> {
    pub(super) fn new(file: &'a dyn BlockRead, codec: CodecRef, hash: bool) -> Self {
        Self { file, codec, at: 0, len: file.len_bytes(), sha1: hash.then(Sha1::new), ahead: None }
    }

    /// From now on reads more than is asked for, since all of the archive is needed.
    pub(super) fn read_ahead(&mut self) {
        self.ahead = Some(Ahead::default());
    }

    /// Reads the next `len` bytes into `buf`; fewer only at the end of the file.
    pub(super) fn next(&mut self, len: u64, buf: &mut Vec<u8>) -> io::Result<()> {
        // Limits reads to a member's length, whatever a header claims.
        let len = usize::try_from(len.min(self.len.saturating_sub(self.at))).unwrap_or(usize::MAX).min(4 << 20);
        buf.resize(len, 0);
        let is_filled = self.ahead.as_mut().is_some_and(|ahead| ahead.fill(self.file, self.len, self.at, buf));
        let read = if is_filled { Ok(len) } else { read_at_most(self.file, self.at, buf) };
        let filled = *read.as_ref().unwrap_or(&0);
        if read.is_err() {
            // With an unreadable part, the archive's SHA-1 is unknown.
            self.sha1 = None;
            self.at = self.at.saturating_add(len as u64);
        } else {
            buf.truncate(filled);
            self.at += filled as u64;
            if let Some(sha1) = &mut self.sha1 {
                sha1.update(&*buf);
            }
        }
        read.map(|_| ())
    }

    /// Reads up to offset `to`, for the hash only.
    pub(super) fn skip_to(&mut self, to: u64) -> io::Result<()> {
        let to = to.min(self.len);
        let mut buf = Vec::new();
        while self.sha1.is_some() && self.at < to {
            self.next((to - self.at).min(PIECE_BYTES as u64), &mut buf)?;
            if buf.is_empty() {
                break;
            }
        }
        self.at = to;
        Ok(())
    }

    /// Peeks at the next bytes, as many as a member's header has.
    pub(super) fn peek_header(&self) -> io::Result<Vec<u8>> {
        self.peek(self.at, self.codec.bounds().header_bytes)
    }

    /// Parses a member's header; `None` if there is none.
    pub(super) fn frame_of(&self, bytes: &[u8]) -> Option<MemberFrame> {
        self.codec.frame(bytes)
    }

    /// Peeks at the bytes at `offset`; fewer than `len` only at the end of the file.
    pub(super) fn peek(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let len = read_at_most(self.file, offset, &mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// The offset of the next member, from `from` and below `before`.
    pub(super) fn find_member(&self, from: u64, before: u64) -> io::Result<Option<u64>> {
        let (header_bytes, signature) = (self.codec.bounds().header_bytes, self.codec.signature());
        let mut window = vec![0; PIECE_BYTES];
        let mut at = from;
        while at < before.min(self.len) {
            let len = read_at_most(self.file, at, &mut window)?;
            let mut starts = memchr::memmem::find_iter(&window[..len], signature);
            if let Some(found) = starts.find(|found| self.codec.frame(&window[*found..len]).is_some()) {
                return Ok(Some(at + found as u64));
            }
            // A header that does not fit into the window is found in the next one; at the end there is none.
            if len < window.len() || len < header_bytes {
                break;
            }
            at += (len - header_bytes + 1) as u64;
        }
        Ok(None)
    }

    pub(super) fn outcome(self, form: Form, tally: Tally) -> StreamOutcome {
        StreamOutcome {
            form,
            archive_sha1: self
                .sha1
                .map(|sha1| sha1.finalize().into())
                .filter(|_| self.at == self.len && !tally.stopped),
            archive_bytes: self.len,
            members: tally.members,
            tar_bytes: tally.tar_bytes,
            findings: tally.findings.first,
            findings_total: tally.findings.total,
            stopped: tally.stopped,
        }
    }
}

/// The counts and findings of the reading thread.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) members: u64,
    pub(super) tar_bytes: u64,
    findings: Findings,
    stopped: bool,
    /// The consumer needs no more.
    pub(super) over: bool,
}

impl Tally {
    pub(super) fn find(&mut self, in_index: bool, member: Option<u64>, offset: u64, what: impl Into<String>) {
        self.findings.add(StreamFinding { in_index, member, offset, what: what.into() });
    }

    pub(super) fn end(&mut self, over: &Over) {
        self.stopped = over.stopped;
        self.over = true;
    }
}

fn read_at_most(file: &dyn BlockRead, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_some(offset.saturating_add(done as u64), &mut buf[done..]) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// An archive as a [`Read`].
pub(super) struct HashingInput<'a>(pub(super) Input<'a>);

impl Read for HashingInput<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut piece = Vec::new();
        self.0.next(buf.len() as u64, &mut piece)?;
        buf[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}
