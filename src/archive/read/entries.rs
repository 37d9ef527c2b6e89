//! Walks the entries of a tar stream in pieces, some of which may be lost.
//!
//! With an index, each piece comes with the entries that start in it: damage costs only the entries it touches, and
//! the walk resumes at the next entry in the index. Without one, it resumes at the next block with a valid header
//! checksum; in volbak's own archives at the next member, where an entry is likely to start.

use sha2::{Digest, Sha256};

pub use super::cursor::ChunkSource;
use super::cursor::{Cursor, Trouble};
use super::head::{EntryHead, FirstData, HeadBuilder, HeadStep};
use super::header::BLOCK;
use super::header_error::{HeaderError, HolesError};
pub use super::item::{DataLost, Item, StreamEnd, TarPlace};
use super::sparse::{Keep, MapReader};
use crate::archive::index::EntryLine;
use crate::archive::pax::padding_after;

/// A walk.
#[expect(clippy::struct_excessive_bools, reason = "each says something of its own about where the walk is")]
pub struct EntryReader<S> {
    tar: Cursor<S>,
    /// Only part of the archive is read, so gaps are intended.
    partial: bool,
    hashing: bool,
    keep_maps: Keep,
    head: HeadBuilder,
    /// The rest of the current entry's stored data, and the padding after it.
    data_left: u64,
    padding_left: u64,
    content: Option<Sha256>,
    data_lost: bool,
    zero_blocks: u64,
    /// The end-of-archive marker was read.
    ended: bool,
    entries: u64,
    /// Searching for the next entry after invalid data.
    searching: bool,
}

impl<S: ChunkSource> EntryReader<S> {
    /// Starts with the source's first piece. `partial`: the stream is not complete. `hashing`: digests of the
    /// entries' data are needed.
    pub fn new(source: S, partial: bool, hashing: bool) -> Self {
        Self {
            tar: Cursor::new(source),
            partial,
            hashing,
            keep_maps: Keep::Runs,
            head: HeadBuilder::default(),
            data_left: 0,
            padding_left: 0,
            content: None,
            data_lost: false,
            zero_blocks: 0,
            ended: false,
            entries: 0,
            searching: false,
        }
    }

    /// Checks maps of holes without keeping them.
    #[must_use]
    pub fn without_maps(mut self) -> Self {
        self.keep_maps = Keep::Nothing;
        self
    }

    /// Returns the source.
    pub fn into_source(self) -> (S, StreamEnd) {
        let end = StreamEnd { complete: self.zero_blocks >= 2, entries: self.entries, tar_bytes: self.tar.position };
        (self.tar.source, end)
    }

    /// The position of the walk.
    pub fn place(&self) -> TarPlace {
        self.tar.place()
    }

    /// The next entry; `None` at the end of the stream. Skips the rest of the previous entry's data.
    pub fn next_item(&mut self) -> Option<Item> {
        self.skip_data();
        loop {
            if let Some((line, place, what)) = self.tar.lost.pop_front() {
                return Some(Item::Lost { line: Some(Box::new(line)), place, what, member_lost: true });
            }
            if let Some(line) = self.tar.expected.pop_front() {
                return Some(self.expected_entry(line));
            }
            match self.tar.load() {
                Ok(()) => {}
                Err(Trouble::End) => return None,
                Err(Trouble::Gap { place, what, .. }) => {
                    if !self.tar.lost.is_empty() || self.tar.indexed() {
                        continue;
                    }
                    self.searching = true;
                    self.head = HeadBuilder::default();
                    return Some(Item::Lost { line: None, place, what, member_lost: true });
                }
            }
            if self.tar.expected.front().is_some() {
                continue;
            }
            if self.tar.indexed() {
                if let Some(stray) = self.pass_unexpected() {
                    return Some(stray);
                }
            } else if let Some(item) = self.sequential_entry() {
                return Some(item);
            }
        }
    }

    /// More of the current entry's stored data, without sparse maps; `None` at its end.
    pub fn next_data(&mut self) -> Result<Option<&[u8]>, DataLost> {
        if self.data_left == 0 {
            return Ok(None);
        }
        match self.tar.load() {
            Ok(()) => {}
            Err(trouble) => return Err(self.lose_data(trouble)),
        }
        let bytes = self.tar.take_at_most(self.data_left);
        self.data_left -= bytes.len() as u64;
        if let Some(content) = &mut self.content {
            content.update(bytes);
        }
        Ok(Some(bytes))
    }

    /// After the last data: the SHA-256 of the whole data area, including the sparse map. `None` if part of it was
    /// lost or skipped, or without hashing.
    pub fn content_sha256(&mut self) -> Option<[u8; 32]> {
        let whole = self.data_left == 0 && !self.data_lost;
        self.content.take().filter(|_| whole).map(|content| content.finalize().into())
    }

    /// The entry that starts in this piece according to the index.
    fn expected_entry(&mut self, line: EntryLine) -> Item {
        let place = TarPlace { member: self.place().member, tar_offset: line.tar_offset };
        let lost = |line: EntryLine, what: String, member_lost: bool| Item::Lost {
            line: Some(Box::new(line)),
            place,
            what,
            member_lost,
        };
        let skip = line.tar_offset.checked_sub(self.tar.position).and_then(|skip| usize::try_from(skip).ok());
        let Some(skip) = skip.filter(|skip| *skip < self.tar.available()) else {
            let what = format!(
                "the index puts it at byte {} of the tar stream, which is at {}",
                line.tar_offset, self.tar.position
            );
            return lost(line, what, false);
        };
        self.tar.advance(skip);
        // In an index, entries are adjacent. So the skipped bytes belong to an earlier entry, whose wrong length
        // was reported.
        self.head = HeadBuilder::default();
        let end = line.tar_offset.saturating_add(line.tar_length);
        loop {
            if self.tar.position >= end {
                return lost(line, "its headers are longer than it is in the index".to_owned(), false);
            }
            let block = match self.tar.block() {
                Ok(block) => block,
                Err(Trouble::Gap { what, .. }) => return lost(line, what, true),
                Err(Trouble::End) => return lost(line, "the archive ends in its headers".to_owned(), true),
            };
            match self.head.add(&block) {
                Ok(HeadStep::More) => {}
                Ok(HeadStep::Zero) => return lost(line, "there are only zeros".to_owned(), false),
                Ok(HeadStep::Done) => break,
                Err(error) => return lost(line, error.to_string(), false),
            }
        }
        match self.begin_entry() {
            Ok(head) => {
                let found = self.tar.position.saturating_add(self.data_left).saturating_add(self.padding_left);
                if found == end {
                    Item::Entry(head, Some(Box::new(line)))
                } else {
                    (self.data_left, self.padding_left) = (0, 0);
                    let what =
                        format!("it ends at byte {found} of the tar stream by its header, at {end} by the index");
                    lost(line, what, false)
                }
            }
            Err(error) => {
                // Only its end in the index shows where the next one starts.
                (self.data_left, self.padding_left) = (0, 0);
                lost(line, error.to_string(), false)
            }
        }
    }

    /// Skips bytes without an entry in the index: in a complete archive, only the zeros at the end.
    fn pass_unexpected(&mut self) -> Option<Item> {
        let place = self.place();
        let rest = self.tar.rest();
        let (len, zeros) = (rest.len(), rest.iter().all(|byte| *byte == 0));
        self.tar.advance(len);
        if self.partial {
            return None;
        }
        if zeros {
            self.zero_blocks += (len / BLOCK) as u64;
            return None;
        }
        let what = format!("{len} bytes of the tar stream belong to no entry of the index");
        Some(Item::Lost { line: None, place, what, member_lost: false })
    }

    /// The next entry according to the stream itself.
    fn sequential_entry(&mut self) -> Option<Item> {
        let place = self.place();
        let lost = |what: String, member_lost| Some(Item::Lost { line: None, place, what, member_lost });
        let block = match self.tar.block() {
            Ok(block) => block,
            Err(Trouble::End) => {
                return if self.head.is_empty() {
                    None
                } else {
                    lost("the archive ends in a header".to_owned(), false)
                };
            }
            Err(Trouble::Gap { what, .. }) => {
                self.head = HeadBuilder::default();
                self.searching = true;
                return lost(what, true);
            }
        };
        if self.ended {
            // GNU tar fills its last record; no tar reads what follows.
            let zero = block == [0; BLOCK];
            self.zero_blocks += u64::from(zero);
            if zero || std::mem::replace(&mut self.searching, true) {
                return None;
            }
            let what = match super::header::parse(&block) {
                Ok(_) => {
                    "another archive follows behind this one's end, as cat(1) puts them together: it is not read, as by \
                          tar and bsdtar; `tar --ignore-zeros` reads it"
                }
                Err(_) => "there is something behind the archive's end that is no archive",
            };
            return lost(what.to_owned(), false);
        }
        match self.head.add(&block) {
            Ok(HeadStep::More) => None,
            Ok(HeadStep::Zero) => {
                self.zero_blocks += 1;
                self.ended = self.zero_blocks >= 2;
                None
            }
            Ok(HeadStep::Done) => {
                let alone = std::mem::replace(&mut self.zero_blocks, 0) > 0;
                match self.begin_entry() {
                    Ok(mut head) => {
                        self.searching = false;
                        if alone {
                            // tar(1) warns of "A lone zero block" and continues.
                            head.problems.push("a block of zeros stands before it".to_owned());
                        }
                        Some(Item::Entry(head, None))
                    }
                    Err(error) => self.search_on(&error, place),
                }
            }
            Err(error) => self.search_on(&error, place),
        }
    }

    /// After invalid data: reports it once, then searches for the next header.
    fn search_on(&mut self, error: &HeaderError, place: TarPlace) -> Option<Item> {
        self.head = HeadBuilder::with_globals_of(&self.head);
        if std::mem::replace(&mut self.searching, true) {
            return None;
        }
        Some(Item::Lost { line: None, place, what: error.to_string(), member_lost: false })
    }

    /// After the last header: prepares the data. Reads a map of holes.
    fn begin_entry(&mut self) -> Result<Box<EntryHead>, HeaderError> {
        let (mut head, first_data) = self.head.finish()?;
        if let FirstData::OfLink { is_sure } = first_data
            && !self.data_follows()
        {
            if is_sure {
                let what = "what follows it may be its data or the next entry, and is taken for its data";
                head.problems.push(what.to_owned());
            } else {
                (head.size, head.stored_bytes) = (0, 0);
            }
        }
        self.entries += 1;
        self.data_left = head.stored_bytes;
        self.padding_left = padding_after(head.stored_bytes);
        self.content = self.hashing.then(Sha256::new);
        self.data_lost = false;
        if first_data == FirstData::MapOfHoles {
            let mut map = MapReader::new(head.size, self.keep_maps);
            loop {
                if self.data_left < BLOCK as u64 {
                    return Err(HolesError::CutOff.into());
                }
                let block = match self.tar.block() {
                    Ok(block) => block,
                    Err(Trouble::Gap { what, .. }) => return Err(HolesError::Lost(what).into()),
                    Err(Trouble::End) => return Err(HolesError::ArchiveEnds.into()),
                };
                self.data_left -= BLOCK as u64;
                if let Some(content) = &mut self.content {
                    content.update(block);
                }
                if map.add_block(&block)? {
                    break;
                }
            }
            head.stored_bytes = self.data_left;
            head.runs = Some(map.finish(self.data_left)?);
        }
        Ok(head)
    }

    /// Whether the next block is neither an entry's header nor the end of the archive.
    fn data_follows(&mut self) -> bool {
        let next = if self.tar.load().is_ok() { self.tar.rest() } else { &[] };
        let block = next.first_chunk::<BLOCK>();
        block.is_some_and(|block| super::header::parse(block).is_err())
    }

    fn lose_data(&mut self, trouble: Trouble) -> DataLost {
        self.data_lost = true;
        match trouble {
            Trouble::Gap { place, bytes, what } => {
                let of_entry = bytes.min(self.data_left);
                self.data_left -= of_entry;
                let rest = bytes - of_entry;
                if bytes == 0 {
                    // The length of the gap is unknown, so the rest of the entry cannot be located.
                    let bytes = std::mem::take(&mut self.data_left);
                    self.padding_left = 0;
                    self.searching = true;
                    return DataLost { place, bytes, what };
                }
                self.padding_left -= rest.min(self.padding_left);
                DataLost { place, bytes: of_entry, what }
            }
            Trouble::End => {
                let place = self.place();
                let bytes = std::mem::take(&mut self.data_left);
                self.padding_left = 0;
                DataLost { place, bytes, what: "the archive ends before it does".to_owned() }
            }
        }
    }

    /// Skips the rest of the current entry.
    fn skip_data(&mut self) {
        self.content = None;
        while self.data_left > 0 {
            // Lost parts of skipped data do not matter.
            let _ = self.next_data();
        }
        while self.padding_left > 0 {
            match self.tar.load() {
                Ok(()) => {
                    self.padding_left -= self.tar.take_at_most(self.padding_left).len() as u64;
                }
                Err(_) => self.padding_left = 0,
            }
        }
    }
}
