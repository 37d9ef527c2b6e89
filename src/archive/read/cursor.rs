//! A tar stream in pieces, some of which may be lost: the input of the walk over entries.

use std::collections::VecDeque;

use super::header::BLOCK;
use super::item::TarPlace;
use super::stream::{Chunk, MemberStream};
use crate::archive::index::EntryLine;

/// A source of pieces.
pub trait ChunkSource {
    /// The next piece; `None` after the last. `done_with` returns the previous one.
    fn next_chunk(&mut self, done_with: Option<Chunk>) -> Option<Chunk>;
}

impl ChunkSource for MemberStream {
    fn next_chunk(&mut self, done_with: Option<Chunk>) -> Option<Chunk> {
        Self::next_chunk(self, done_with)
    }
}

/// Why bytes are not available.
pub(super) enum Trouble {
    End,
    Gap { place: TarPlace, bytes: u64, what: String },
}

/// The position of the walk, in the stream and in the current piece.
pub(super) struct Cursor<S> {
    pub(super) source: S,
    chunk: Option<Chunk>,
    /// The number of consumed bytes of the piece.
    used: usize,
    pub(super) position: u64,
    /// Entries that start in the piece and were not reached yet.
    pub(super) expected: VecDeque<EntryLine>,
    /// Entries of lost pieces.
    pub(super) lost: VecDeque<(EntryLine, TarPlace, String)>,
}

impl<S: ChunkSource> Cursor<S> {
    pub(super) fn new(source: S) -> Self {
        Self { source, chunk: None, used: 0, position: 0, expected: VecDeque::new(), lost: VecDeque::new() }
    }

    pub(super) fn place(&self) -> TarPlace {
        TarPlace { member: self.chunk.as_ref().map_or(0, |chunk| chunk.number), tar_offset: self.position }
    }

    /// Whether the current piece came with index lines.
    pub(super) fn indexed(&self) -> bool {
        self.chunk.as_ref().is_some_and(|chunk| chunk.entries.is_some())
    }

    pub(super) fn available(&self) -> usize {
        self.chunk.as_ref().map_or(0, |chunk| chunk.data.len() - self.used)
    }

    pub(super) fn advance(&mut self, len: usize) {
        self.used += len;
        self.position += len as u64;
    }

    /// Loads a piece, if the current one is used up.
    pub(super) fn load(&mut self) -> Result<(), Trouble> {
        while self.available() == 0 {
            let done_with = self.chunk.take();
            self.used = 0;
            let Some(mut chunk) = self.source.next_chunk(done_with) else { return Err(Trouble::End) };
            if chunk.entries.is_some() {
                // Without an index, offsets after a gap of unknown length would be wrong anyway.
                self.position = chunk.tar_offset;
            }
            let place = TarPlace { member: chunk.number, tar_offset: self.position };
            let entries = chunk.entries.as_mut().map(std::mem::take).unwrap_or_default();
            if let Some(what) = chunk.lost.take() {
                if chunk.is_padding() {
                    // A damaged piece without data, already reported by the stream.
                    continue;
                }
                self.lost.extend(entries.into_iter().map(|line| (line, place, what.clone())));
                let bytes = chunk.tar_length;
                chunk.data.clear();
                self.position = self.position.saturating_add(bytes);
                self.chunk = Some(chunk);
                return Err(Trouble::Gap { place, bytes, what });
            }
            self.expected.extend(entries);
            self.chunk = Some(chunk);
        }
        Ok(())
    }

    /// Consumes the next block. Pieces are whole blocks, except for the last of a truncated archive.
    pub(super) fn block(&mut self) -> Result<[u8; BLOCK], Trouble> {
        self.load()?;
        let bytes = self.chunk.as_ref().and_then(|chunk| chunk.data[self.used..].first_chunk().copied());
        let Some(block) = bytes else {
            let rest = self.available();
            self.advance(rest);
            return Err(Trouble::End);
        };
        self.advance(BLOCK);
        Ok(block)
    }

    /// The rest of the current piece.
    pub(super) fn rest(&self) -> &[u8] {
        self.chunk.as_ref().map_or(&[][..], |chunk| &chunk.data[self.used..])
    }

    /// Consumes at most `most_bytes` of the current piece.
    pub(super) fn take_at_most(&mut self, most_bytes: u64) -> &[u8] {
        let len = self.available().min(usize::try_from(most_bytes).unwrap_or(usize::MAX));
        let start = self.used;
        self.advance(len);
        self.chunk.as_ref().map_or(&[][..], |chunk| &chunk.data[start..start + len])
    }
}
