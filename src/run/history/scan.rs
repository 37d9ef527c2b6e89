//! Searches one index for paths. Lines without the pattern's literal bytes are not parsed: a thousand indexes of a
//! hundred thousand lines are 20 GB.

use std::io::{self, Read};

use memchr::{memchr, memmem, memrchr};
use sha2::{Digest, Sha256};

use super::pattern::PathPattern;
use crate::archive::index::{EntryLine, IndexVersion, Line, parse_line};
use crate::archive::read::index_file::MAX_LINE_BYTES;
use crate::manifest::Manifest;
use crate::outside::{BlockCursor, Cancel};
use crate::run::restore::part_of_region::base_in;
use crate::shown::hex;
use crate::store::Backup;
use crate::store::open::OpenError;

const PIECE_BYTES: usize = 1 << 20;
/// The longest line fits into what is kept of a piece.
const _: () = assert!(MAX_LINE_BYTES < PIECE_BYTES as u64);

/// Why an index could not be searched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error("the index cannot be read")]
    Io(#[from] io::Error),
    /// Not an index of a known version, cut off, or a line is invalid.
    #[error("the index is damaged: {0}")]
    Damaged(&'static str),
    /// Its digest is not the one in the manifest.
    #[error("the index was changed since it was written: its SHA-256 is not the one in the manifest")]
    Changed,
    /// The command was interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// Calls `hit` for each entry that matches, in the archive's order. What was found counts only if this returns `Ok`: the
/// digest of the index is compared at its end.
pub(super) fn scan(
    files: &Backup,
    manifest: &Manifest,
    pattern: &PathPattern,
    cancel: &Cancel,
    mut hit: impl FnMut(EntryLine),
) -> Result<(), ScanError> {
    let index = files.open_index()?;
    if index.len_bytes() != manifest.sizes.index_bytes {
        return Err(ScanError::Changed);
    }
    let base = base_in(manifest);
    let finder = (!pattern.needle().is_empty()).then(|| memmem::Finder::new(pattern.needle()));
    let mut input = BlockCursor::new(index);
    let mut sha256 = Sha256::new();
    let mut version = None;
    let mut last_line = Vec::new();
    let mut buf = vec![0; PIECE_BYTES];
    // The beginning of `buf` that is kept: a line whose end was not read yet.
    let mut kept = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(ScanError::Interrupted);
        }
        let len = input.read(&mut buf[kept..])?;
        if len == 0 {
            break;
        }
        sha256.update(&buf[kept..kept + len]);
        let filled = kept + len;
        let Some(end) = memrchr(b'\n', &buf[..filled]) else {
            if filled == buf.len() {
                return Err(ScanError::Damaged("a line is longer than a line can be"));
            }
            kept = filled;
            continue;
        };
        let mut lines = &buf[..end];
        let version = if let Some(version) = version {
            version
        } else {
            let first = memchr(b'\n', lines).unwrap_or(lines.len());
            let found = IndexVersion::of_header(&lines[..first]);
            lines = lines.get(first + 1..).unwrap_or_default();
            *version.insert(found.ok_or(ScanError::Damaged("its version is not known"))?)
        };
        let mut look_at = |line: &[u8]| -> Result<(), ScanError> {
            if !line.starts_with(b"E\t") || !may_match(line, pattern) {
                return Ok(());
            }
            let Ok(Line::Entry(entry)) = parse_line(line, version) else {
                return Err(ScanError::Damaged("a line is invalid"));
            };
            if pattern.matches(&entry.path, &base) {
                hit(entry);
            }
            Ok(())
        };
        match &finder {
            None => lines.split(|byte| *byte == b'\n').try_for_each(&mut look_at)?,
            Some(finder) => {
                let mut at = 0;
                while let Some(found) = finder.find(&lines[at..]) {
                    let found = at + found;
                    let start = memrchr(b'\n', &lines[..found]).map_or(0, |before| before + 1);
                    let end = memchr(b'\n', &lines[found..]).map_or(lines.len(), |behind| found + behind);
                    look_at(&lines[start..end])?;
                    at = end;
                }
            }
        }
        let last = memrchr(b'\n', &buf[..end]).map_or(0, |before| before + 1);
        last_line.clear();
        last_line.extend_from_slice(&buf[last..end]);
        buf.copy_within(end + 1..filled, 0);
        kept = filled - end - 1;
    }
    if kept > 0 || !last_line.starts_with(b"Z\t") {
        return Err(ScanError::Damaged("it is cut off"));
    }
    let digest: [u8; 32] = sha256.finalize().into();
    if hex(&digest) == manifest.digests.index_sha256 { Ok(()) } else { Err(ScanError::Changed) }
}

/// Whether the path of this line has the pattern's literal bytes: they may be in another field.
fn may_match(line: &[u8], pattern: &PathPattern) -> bool {
    let path = memrchr(b'\t', line).map_or(line, |tab| &line[tab + 1..]);
    memmem::find(path, pattern.needle()).is_some()
}
