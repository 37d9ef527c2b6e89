//! The text of an index without what follows from the lines before it: then most lines are the same from night to night.
//!
//! The number and the offsets of a member are the sums of what is before it, and so is the offset of an entry. They are left
//! out where they are. What is stored is pieces of this text, each of a member and its entries.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use crate::archive::index::HEADER_LINE;
use crate::archive::members::{KnownMember, KnownMembersOf};
use crate::archive::read::index_file::MAX_LINE_BYTES;
use crate::outside::{BlockCursor, BlockRead};

/// A piece ends at a line behind which it is as long as this, or before the next member.
const PIECE_BYTES: usize = 64 << 10;
const BUFFER_BYTES: usize = 256 << 10;

/// The sums of the lines so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    members: u64,
    archive_bytes: u64,
    tar_bytes: u64,
    entry_at: u64,
}

/// From which form to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// From an index to the text that is stored.
    Stored,
    /// The other way round.
    Index,
}

impl Sums {
    /// Appends a line, which has its newline, in the other form. `None` if it is no line of an index.
    pub(super) fn add(&mut self, line: &[u8], to: To, out: &mut Vec<u8>) -> Option<()> {
        if line.starts_with(b"M\t") {
            let mut fields = line.splitn(7, |byte| *byte == b'\t');
            let (kind, number, offset) = (fields.next()?, fields.next()?, fields.next()?);
            let (length, tar_offset, tar_length, rest) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            out.extend_from_slice(kind);
            let number = put(number, self.members, to, out)?;
            let offset = put(offset, self.archive_bytes, to, out)?;
            let length = put_as_is(length, out)?;
            let tar_offset = put(tar_offset, self.tar_bytes, to, out)?;
            let tar_length = put_as_is(tar_length, out)?;
            put_rest(rest, out);
            self.members = number.checked_add(1)?;
            self.archive_bytes = offset.checked_add(length)?;
            self.tar_bytes = tar_offset.checked_add(tar_length)?;
        } else if line.starts_with(b"E\t") {
            let mut fields = line.splitn(5, |byte| *byte == b'\t');
            let (kind, letter, tar_offset) = (fields.next()?, fields.next()?, fields.next()?);
            let (tar_length, rest) = (fields.next()?, fields.next()?);
            out.extend_from_slice(kind);
            put_rest(letter, out);
            let tar_offset = put(tar_offset, self.entry_at, to, out)?;
            let tar_length = put_as_is(tar_length, out)?;
            put_rest(rest, out);
            self.entry_at = tar_offset.checked_add(tar_length)?;
        } else {
            out.extend_from_slice(line);
        }
        Some(())
    }
}

/// Appends a field in the other form; returns its number.
fn put(field: &[u8], expected: u64, to: To, out: &mut Vec<u8>) -> Option<u64> {
    let number = match (field, to) {
        (b"", To::Index) => expected,
        (field, _) => parsed(field)?,
    };
    out.push(b'\t');
    if to == To::Index || number != expected {
        out.extend_from_slice(number.to_string().as_bytes());
    }
    Some(number)
}

fn put_as_is(field: &[u8], out: &mut Vec<u8>) -> Option<u64> {
    put_rest(field, out);
    parsed(field)
}

fn put_rest(field: &[u8], out: &mut Vec<u8>) {
    out.push(b'\t');
    out.extend_from_slice(field);
}

fn parsed(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// The lines of a text, each with its newline.
pub(super) struct Lines {
    input: BufReader<BlockCursor>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn of(text: Arc<dyn BlockRead>) -> Self {
        Self { input: BufReader::with_capacity(BUFFER_BYTES, BlockCursor::new(text)), line: Vec::new() }
    }

    /// The next one; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let most = MAX_LINE_BYTES + 1;
        self.input.by_ref().take(most).read_until(b'\n', &mut self.line)?;
        match self.line.last() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(&self.line)),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a line has no end")),
        }
    }
}

/// Whether an index can be stored in this form: it has the version that is written now.
pub(super) fn is_of_this_version(index: &dyn BlockRead) -> bool {
    let mut head = vec![0; HEADER_LINE.len()];
    index.read_at(0, &mut head).is_ok() && head == HEADER_LINE.as_bytes()
}

/// Cuts the stored text into pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    piece: Vec<u8>,
}

impl Pieces {
    /// Adds a line; first calls `with` with the piece before it, if that ends there.
    pub(super) fn add(&mut self, line: &[u8], with: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if !self.piece.is_empty() && (line.starts_with(b"M\t") || self.piece.len() >= PIECE_BYTES) {
            with(&self.piece)?;
            self.piece.clear();
        }
        self.piece.extend_from_slice(line);
        Ok(())
    }

    /// The last piece.
    pub(super) fn last(&self) -> &[u8] {
        &self.piece
    }
}

/// The pieces of a stored text. They end where it cannot be read.
pub(super) fn pieces_of(text: &Arc<dyn BlockRead>) -> KnownMembersOf {
    let (mut lines, mut pieces, mut offset, mut is_last) = (Lines::of(Arc::clone(text)), Pieces::default(), 0, false);
    Box::new(std::iter::from_fn(move || {
        let mut known = |piece: &[u8]| {
            let (at, length) = (offset, piece.len() as u64);
            offset += length;
            KnownMember { offset: at, length, digest: blake3::hash(piece).into() }
        };
        while !is_last {
            let mut found = None;
            match lines.next() {
                Ok(Some(line)) => {
                    // The closure does not fail.
                    let _ = pieces.add(line, |piece| {
                        found = Some(known(piece));
                        Ok(())
                    });
                }
                Ok(None) if !pieces.last().is_empty() => {
                    is_last = true;
                    found = Some(known(pieces.last()));
                }
                Ok(None) | Err(_) => is_last = true,
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Lines, Sums, To, pieces_of};
    use crate::outside::BlockRead;

    fn turned(text: &[u8], to: To) -> Option<Vec<u8>> {
        let (mut sums, mut out) = (Sums::default(), Vec::new());
        text.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| sums.add(line, to, &mut out))?;
        Some(out)
    }

    const INDEX: &[u8] = b"volbak-index\t4\n\
        M\t0\t0\t30\t0\t1024\taa\tbb\t-\nE\tf\t0\t512\t7\tx\nE\td\t512\t512\t9\t./\\x09\n\
        M\t1\t30\t9\t1024\t0\taa\t-\t-\nM\t2\t39\t50\t1024\t512\taa\tbb\t-\nE\tf!\t1024\t512\t7\tx\n\
        M\t3\t1000\t50\t2000\t512\taa\tbb\t-\nE\tf\t2000\t512\t7\tx\n\
        Z\t4\t4\t1050\t2512\n";

    #[test]
    fn what_follows_is_left_out_and_comes_back() {
        let stored = turned(INDEX, To::Stored).unwrap();
        let text = String::from_utf8(stored.clone()).unwrap();
        assert!(text.contains("M\t\t\t50\t\t512\taa") && text.contains("E\tf!\t\t512\t7\tx\n"), "{text}");
        assert!(text.contains("M\t\t1000\t50\t2000\t512\t"), "{text}");
        assert_eq!(turned(&stored, To::Index).unwrap(), INDEX);
        for wrong in ["M\t\t\t\n", "M\tx\t0\t1\t0\t1\t\n", "E\tf\t0\t\tx\n", "M\t18446744073709551615\t0\t1\t0\t1\tx\n"]
        {
            assert_eq!(turned(wrong.as_bytes(), To::Index), None, "{wrong}");
        }
    }

    #[test]
    fn pieces_are_all_of_a_text() {
        let text: Arc<dyn BlockRead> = Arc::new(turned(INDEX, To::Stored).unwrap());
        let pieces: Vec<_> = pieces_of(&text).collect();
        assert_eq!(pieces.len(), 5);
        let mut at = 0;
        for piece in pieces {
            assert_eq!(piece.offset, at);
            at += piece.length;
        }
        assert_eq!(at, text.len_bytes());
        let cut: Arc<dyn BlockRead> = Arc::new(b"a line without end".to_vec());
        assert_eq!(pieces_of(&cut).count(), 0);
        assert!(Lines::of(cut).next().is_err());
    }
}
