//! Reads an archive a second time with independent libraries: flate2 or ruzstd, and the `tar` crate.
//!
//! The crate gets one entry at a time, located by the index, and `opinion` compares its results. Entries that the
//! crate is known to misread are not given to it; the decompressed data is still compared with the index. See
//! docs/decisions/0042.

mod frames;
mod inflated;
mod opinion;

use std::io::Read;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::inflated::{Ended, Inflated};
use self::opinion::{ask, disagreement};
use super::error::CheckError;
use super::finding::{BackupFile, Finding, Findings};
use super::library::without_panic;
use super::side_files::SideFiles;
use crate::archive::index::{EntryLine, Line, Totals, escape_path};
use crate::archive::kind::Compression;
use crate::archive::pax::padding_after;
use crate::archive::read::head::{EntryHead, FirstData, HeadBuilder, HeadStep};
use crate::archive::read::header::{self, BLOCK, Block};
use crate::archive::read::header_error::HeaderError;
use crate::archive::read::index_file::IndexReader;
use crate::archive::read::records::has_line_feed;
use crate::archive::read::unsealed::Unsealed;
use crate::error::with_causes;
use crate::events::{Event, Observer};
use crate::outside::{BlockRead, Cancel, memory};
use crate::shown::counted;

/// Longer headers are not given to the crate. The attributes of an inode take at most 8 MiB.
const MAX_HEADER_BYTES: usize = 16 << 20;
/// Headers in raw form and as parsed by volbak and the crate, and buffers.
const MEMORY_BYTES: usize = 4 * MAX_HEADER_BYTES;
const PIECE_BYTES: usize = 64 << 10;
/// The end-of-archive marker: two blocks of zeros.
const END_BYTES: u64 = 2 * BLOCK as u64;

/// The number of entries compared with the `tar` crate. The decompressed data was compared with the index for all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecondOpinion {
    /// Entries read by the crate.
    pub asked: u64,
    /// Entries without an opinion: all of the following, and those on which it panicked.
    pub not_asked: u64,
    /// Sparse files and raw images: the crate does not support GNU tar's map of holes.
    pub not_asked_holes: u64,
    /// Entries with a newline in an attribute or a long name: the crate takes it for the record's end.
    pub not_asked_line_feeds: u64,
    /// Entries with longer headers than volbak writes.
    pub not_asked_long_headers: u64,
}

impl SecondOpinion {
    /// A summary on one line.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!("second opinion on {}", counted(self.asked, "entry", "entries"));
        let reasons = [
            (self.not_asked_holes, "with holes"),
            (self.not_asked_line_feeds, "with line feeds in attributes or long names"),
            (self.not_asked_long_headers, "with long headers"),
        ];
        let reasons = reasons.iter().filter(|(count, _)| *count > 0);
        let reasons: Vec<String> = reasons.map(|(count, why)| format!("{count} {why}")).collect();
        if !reasons.is_empty() {
            text.push_str(&format!(", not asked about {}", reasons.join(" and ")));
        }
        text
    }
}

/// Compares the whole archive. Call it only after [`super::content::check`] without findings: it would only find
/// the same problems again. `None` without an index, which is noted in `findings.not_checked`.
pub fn check(
    sides: &SideFiles,
    compression: Compression,
    cancel: &Cancel,
    observer: &dyn Observer,
    findings: &mut Findings,
) -> Result<Option<SecondOpinion>, CheckError> {
    let (Some(archive), Some(index)) = (&sides.archive, &sides.index) else {
        findings.not_checked("no second opinion was asked: only an index says where each entry is");
        return Ok(None);
    };
    memory::require(MEMORY_BYTES).map_err(CheckError::Here)?;
    if let Some(manifest) = &sides.manifest {
        observer.on_event(&Event::ExpectedBytes { bytes: manifest.sizes.tar_bytes });
    }
    let unsealed = sides.signed.is_some().then(|| Unsealed::new(Arc::clone(archive))).transpose();
    let archive = match unsealed {
        Ok(Some(unsealed)) => Arc::new(unsealed) as Arc<dyn BlockRead>,
        Ok(None) => Arc::clone(archive),
        Err(error) => {
            findings.about(BackupFile::Archive, error.to_string());
            return Ok(None);
        }
    };
    let stream =
        Inflated::new(compression, &*archive, archive.len_bytes(), cancel, observer).map_err(CheckError::Here)?;
    let step = format!("reading it with {} and the tar crate, for a second opinion", stream.library());
    observer.on_event(&Event::Step { step });
    let mut walk = Walk { stream, buffer: vec![0; PIECE_BYTES], opinion: SecondOpinion::default(), findings };
    let ended = IndexReader::new(Arc::clone(index)).map_err(Ended::Index).and_then(|index| walk.all(index));
    walk.stream.report();
    let (opinion, library) = (walk.opinion, walk.stream.library());
    match ended {
        _ if cancel.is_cancelled() => return Err(CheckError::Stopped),
        Ok(tar_bytes) => {
            let said = sides.manifest.as_ref().map_or(tar_bytes, |manifest| manifest.sizes.tar_bytes);
            if tar_bytes != said {
                let what = format!("{library} decompresses {tar_bytes} bytes, and the manifest says {said}");
                findings.about(BackupFile::Archive, what);
            }
        }
        Err(Ended::Archive(what)) => findings.about(BackupFile::Archive, what),
        Err(Ended::Index(error)) => {
            findings.about(BackupFile::Index, format!("read again for a second opinion: {}", with_causes(&error)));
        }
    }
    Ok(Some(opinion))
}

struct Walk<'a> {
    stream: Inflated<'a>,
    buffer: Vec<u8>,
    opinion: SecondOpinion,
    findings: &'a mut Findings,
}

/// An entry's headers, as decompressed by the library.
struct Headers {
    head: Box<EntryHead>,
    /// `None` if they are too long for the crate.
    bytes: Option<Vec<u8>>,
    has_holes: bool,
}

/// Why an entry's headers cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum BadHeaders {
    #[error("its headers are longer than it is in the index")]
    TooLong,
    #[error("there are zeros in place of its header")]
    Zeros,
    #[error(transparent)]
    Head(#[from] HeaderError),
}

/// Why the crate is not asked about an entry.
enum NotAsked {
    Holes,
    LineFeeds,
    LongHeaders,
}

impl Walk<'_> {
    /// Returns the length of the tar stream, which equals that in the index.
    fn all(&mut self, mut index: IndexReader) -> Result<u64, Ended> {
        while let Some(line) = index.next_line().map_err(Ended::Index)? {
            match line {
                Line::Entry(line) => {
                    if let Some(what) = self.entry(&line)? {
                        let path = Some(escape_path(&line.path));
                        let file = BackupFile::Archive;
                        self.findings.add(Finding { file, member: None, offset: None, path, what });
                    }
                    let end = line.tar_offset.saturating_add(line.tar_length);
                    self.pass(end.saturating_sub(self.stream.at()), |_| {})?;
                }
                Line::End(totals) => return self.end(totals),
                Line::Member(_) => {}
            }
        }
        Ok(self.stream.at())
    }

    /// Reads an entry, up to its end at most. Returns its problem.
    fn entry(&mut self, line: &EntryLine) -> Result<Option<String>, Ended> {
        let Headers { head, bytes, has_holes } = match self.headers(line)? {
            Ok(headers) => headers,
            Err(error) => return Ok(Some(format!("read with {}: {error}", self.stream.library()))),
        };
        let stored = head.stored_bytes;
        let found = head.header_bytes.saturating_add(stored).saturating_add(padding_after(stored));
        if found != line.tar_length {
            let what = format!(
                "read with {}, it takes {found} bytes, and the index says {}",
                self.stream.library(),
                line.tar_length
            );
            return Ok(Some(what));
        }
        if head.digest != line.head {
            return Ok(Some(format!(
                "read with {}, its headers have another digest than in the index",
                self.stream.library()
            )));
        }
        let asked = if has_holes {
            Err(NotAsked::Holes)
        } else {
            match bytes {
                Some(bytes) if has_line_feeds(&bytes) => Err(NotAsked::LineFeeds),
                Some(bytes) => Ok(bytes),
                None => Err(NotAsked::LongHeaders),
            }
        };
        match asked {
            Ok(headers) => self.ask(&headers, &head, line),
            Err(why) => {
                self.opinion.not_asked += 1;
                *match why {
                    NotAsked::Holes => &mut self.opinion.not_asked_holes,
                    NotAsked::LineFeeds => &mut self.opinion.not_asked_line_feeds,
                    NotAsked::LongHeaders => &mut self.opinion.not_asked_long_headers,
                } += 1;
                let mut hash = Sha256::new();
                self.pass(stored, |piece| hash.update(piece))?;
                let same = line.content.is_none_or(|content| content == <[u8; 32]>::from(hash.finalize()));
                Ok((!same)
                    .then(|| format!("read with {}, it has another SHA-256 than in the index", self.stream.library())))
            }
        }
    }

    /// Asks the crate, which gets the bytes of this entry alone.
    fn ask(&mut self, headers: &[u8], head: &EntryHead, line: &EntryLine) -> Result<Option<String>, Ended> {
        let data_bytes = line.tar_length - headers.len() as u64;
        let one_entry = headers.chain((&mut self.stream).take(data_bytes));
        // The crate shares only the reader of the tar stream with us, which counts the bytes that it returned.
        let told = without_panic(|| ask(one_entry, line.size, &mut self.buffer));
        if let Some(what) = self.stream.take_failure() {
            return Err(Ended::Archive(what));
        }
        let told_something = u64::from(told.is_some());
        self.opinion.asked += told_something;
        self.opinion.not_asked += 1 - told_something;
        Ok(match told {
            Some(Ok(opinion)) => disagreement(&opinion, head, line),
            Some(Err(error)) => Some(format!("the tar crate cannot read it, and volbak can: {error}")),
            None => {
                let path = escape_path(&line.path);
                self.findings.not_checked(format!("the tar crate panics over {path}: it has no opinion on it"));
                None
            }
        })
    }

    /// Reads an entry's headers, within the entry's length in the index. The inner error is a problem of the
    /// headers.
    fn headers(&mut self, line: &EntryLine) -> Result<Result<Headers, BadHeaders>, Ended> {
        let mut builder = HeadBuilder::default();
        let mut bytes = Some(Vec::with_capacity(3 * BLOCK));
        let mut left = line.tar_length;
        loop {
            let Some(rest) = left.checked_sub(BLOCK as u64) else {
                return Ok(Err(BadHeaders::TooLong));
            };
            left = rest;
            let mut block = [0; BLOCK];
            self.stream.fill(&mut block)?;
            bytes = bytes.filter(|bytes| bytes.len() < MAX_HEADER_BYTES);
            if let Some(bytes) = &mut bytes {
                bytes.extend_from_slice(&block);
            }
            match builder.add(&block) {
                Ok(HeadStep::More) => {}
                Ok(HeadStep::Zero) => return Ok(Err(BadHeaders::Zeros)),
                Ok(HeadStep::Done) => break,
                Err(error) => return Ok(Err(error.into())),
            }
        }
        Ok(builder.finish().map_err(BadHeaders::from).map(|(head, first_data)| {
            let has_holes = head.runs.is_some() || first_data == FirstData::MapOfHoles;
            Headers { head, bytes, has_holes }
        }))
    }

    /// Passes the next `bytes` of the tar stream to `with`.
    fn pass(&mut self, mut bytes: u64, mut with: impl FnMut(&[u8])) -> Result<(), Ended> {
        while bytes > 0 {
            let most = usize::try_from(bytes).map_or(self.buffer.len(), |bytes| bytes.min(self.buffer.len()));
            match self.stream.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(self.stream.cut_off()),
                Ok(len) => {
                    with(&self.buffer[..len]);
                    bytes -= len as u64;
                }
                Err(_) => return Err(self.stream.failed()),
            }
        }
        Ok(())
    }

    /// Reads the zeros after the last entry, as many as the index says.
    fn end(&mut self, totals: Totals) -> Result<u64, Ended> {
        let zeros = totals.tar_bytes.saturating_sub(self.stream.at());
        let mut are_zeros = zeros >= END_BYTES;
        self.pass(zeros, |piece| are_zeros &= piece.iter().all(|byte| *byte == 0))?;
        if !are_zeros {
            let what = format!(
                "read with {}, the two blocks of zeros at the end of the tar stream are missing",
                self.stream.library()
            );
            return Err(Ended::Archive(what));
        }
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(self.stream.at()),
            Ok(_) => {
                let what = format!(
                    "{} decompresses more than the {} bytes that the index says",
                    self.stream.library(),
                    totals.tar_bytes
                );
                Err(Ended::Archive(what))
            }
            Err(_) => Err(self.stream.failed()),
        }
    }
}

/// Whether a record in an entry's extended headers has a newline in its key or value. The crate splits records at
/// newlines, and would read the rest as another record: `user.x` with the value `\n16 path=./x/y/z\n`.
fn has_line_feeds(mut headers: &[u8]) -> bool {
    while let Some((block, rest)) = headers.split_first_chunk::<BLOCK>() {
        let Ok(Block::Header(header)) = header::parse(block) else { return false };
        if !matches!(header.flag, b'x' | b'X' | b'g' | b'L' | b'K') {
            return false;
        }
        let len = usize::try_from(header.size).unwrap_or(usize::MAX).min(rest.len());
        if !matches!(header.flag, b'L' | b'K') && has_line_feed(&rest[..len]) {
            return true;
        }
        headers = &rest[len.next_multiple_of(BLOCK).min(rest.len())..];
    }
    false
}
