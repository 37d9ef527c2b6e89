//! The volume in an image archive, read at any offset.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::check::{Faulty, MemberDecoder};
use super::index::{Holds, ImageIndexError, ImageIndexReader, ImageMember, IndexPlace};
use crate::outside::BlockRead;

/// One of this number of members has an entry point into the index.
const EACH: u64 = 64;
/// How many decompressed members are kept: 16 MiB.
const KEPT: usize = 16;

/// Why the volume in an image archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageOpenError {
    /// Its index is wrong.
    #[error("its index: {0}")]
    Index(#[from] ImageIndexError),
    /// The archive is not the one of the index.
    #[error("its archive has {found} bytes, and its index says {said}")]
    ArchiveLength {
        /// The length found.
        found: u64,
        /// The length in the index.
        said: u64,
    },
    /// There is no memory to decompress it.
    #[error("it cannot be decompressed here")]
    Decoder(#[source] io::Error),
}

/// The volume. Each member is checked with its digests when it is read.
pub struct ImageBlocks {
    archive: Arc<dyn BlockRead>,
    index: Arc<dyn BlockRead>,
    volume_bytes: u64,
    /// Where every 64th member is in the index.
    places: Vec<IndexPlace>,
    state: Mutex<State>,
}

struct State {
    decoder: MemberDecoder,
    /// Continues behind the member that was looked up last.
    ahead: Option<(ImageMember, ImageIndexReader)>,
    /// Decompressed members by number, the last used at the end.
    kept: VecDeque<(u64, Arc<Vec<u8>>)>,
}

impl ImageBlocks {
    /// Reads through the index.
    pub fn open(archive: Arc<dyn BlockRead>, index: Arc<dyn BlockRead>) -> Result<Self, ImageOpenError> {
        let mut reader = ImageIndexReader::new(Arc::clone(&index))?;
        let mut places = Vec::new();
        loop {
            let place = reader.place();
            let Some(member) = reader.next_member()? else { break };
            if member.number.is_multiple_of(EACH) {
                places.push(place);
            }
        }
        let (totals, found) = (reader.seen(), archive.len_bytes());
        if totals.archive_bytes != found {
            return Err(ImageOpenError::ArchiveLength { found, said: totals.archive_bytes });
        }
        let decoder = MemberDecoder::new().map_err(ImageOpenError::Decoder)?;
        let state = Mutex::new(State { decoder, ahead: None, kept: VecDeque::with_capacity(KEPT + 1) });
        Ok(Self { archive, index, volume_bytes: totals.volume_bytes, places, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The member that a byte of the volume is in, which must be below its length.
    fn member_of(&self, state: &mut State, offset: u64) -> io::Result<ImageMember> {
        let (mut member, mut reader) = match state.ahead.take() {
            Some((member, reader)) if self.is_near(&member, offset) => (Some(member), reader),
            _ => {
                let after = self.places.partition_point(|place| place.seen.volume_bytes <= offset);
                let place = after.checked_sub(1).and_then(|at| self.places.get(at)).ok_or_else(changed)?;
                (None, ImageIndexReader::at(Arc::clone(&self.index), *place)?)
            }
        };
        loop {
            if let Some(member) = member.filter(|member| member.volume_end() > offset) {
                state.ahead = Some((member, reader));
                return Ok(member);
            }
            member = reader.next_member().map_err(io::Error::other)?;
            if member.is_none() {
                return Err(changed());
            }
        }
    }

    /// Whether a byte is in this member or soon after it, so that going on is nearer than the place to enter.
    fn is_near(&self, member: &ImageMember, offset: u64) -> bool {
        let after = self.places.partition_point(|place| place.seen.volume_bytes <= offset) as u64;
        offset >= member.volume_offset && after <= member.number / EACH + 2
    }

    /// The content of a member with data.
    fn content(&self, state: &mut State, member: &ImageMember) -> io::Result<Arc<Vec<u8>>> {
        if let Some(at) = state.kept.iter().position(|(number, _)| *number == member.number)
            && let Some(kept) = state.kept.remove(at)
        {
            let data = Arc::clone(&kept.1);
            state.kept.push_back(kept);
            return Ok(data);
        }
        let mut bytes = vec![0; usize::try_from(member.length).map_err(io::Error::other)?];
        self.archive.read_at(member.offset, &mut bytes)?;
        let mut data = Vec::new();
        state.decoder.check(member, &bytes, &mut data).map_err(|Faulty(what)| {
            let (number, at) = (member.number, member.offset);
            let what = format!("member {number} of the archive, at its byte {at}, is damaged: {what}");
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        let data = Arc::new(data);
        state.kept.push_back((member.number, Arc::clone(&data)));
        if state.kept.len() > KEPT {
            state.kept.pop_front();
        }
        Ok(data)
    }

    /// The first byte at or after `offset` that is in a member of data, or of zeros.
    fn find(&self, offset: u64, data: bool) -> io::Result<Option<u64>> {
        let mut at = offset;
        while at < self.volume_bytes {
            let member = self.member_of(&mut self.lock(), at)?;
            if matches!(member.holds, Holds::Data(_)) == data {
                return Ok(Some(at));
            }
            at = member.volume_end();
        }
        Ok(None)
    }
}

/// The index is no longer what it was when it was opened.
fn changed() -> io::Error {
    io::Error::other("the index of the backup was changed while it was read")
}

impl BlockRead for ImageBlocks {
    fn len_bytes(&self) -> u64 {
        self.volume_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.volume_bytes);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut state = self.lock();
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let member = self.member_of(&mut state, at)?;
            let left = usize::try_from(member.volume_end() - at).unwrap_or(usize::MAX).min(buf.len() - done);
            let into = &mut buf[done..done + left];
            match member.holds {
                Holds::Zeros => into.fill(0),
                Holds::Data(_) => {
                    let data = self.content(&mut state, &member)?;
                    let from = usize::try_from(at - member.volume_offset).unwrap_or(usize::MAX);
                    into.copy_from_slice(data.get(from..from.saturating_add(left)).ok_or_else(changed)?);
                }
            }
            done += left;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.find(offset, true)
    }

    fn next_hole(&self, offset: u64) -> io::Result<u64> {
        Ok(self.find(offset, false)?.unwrap_or(self.volume_bytes))
    }
}
