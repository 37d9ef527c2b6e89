//! Writes an entry's data to its places in a file, or compares it with a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::archive::read::entries::{ChunkSource, EntryReader};
use crate::archive::read::head::EntryHead;
use crate::archive::read::sparse::{RunMap, RunReader};
use crate::outside::zeros::is_zero;
use crate::units::ByteRange;

/// The piece size for reading data inside an expected hole.
const PIECE_BYTES: usize = 256 << 10;

/// The places of stored data in the file.
pub(crate) struct Places<'a> {
    runs: RunReader<'a>,
    /// The rest of the current run.
    left: ByteRange,
}

impl<'a> Places<'a> {
    pub(crate) fn of(map: &'a RunMap) -> Self {
        Self { runs: map.runs(), left: ByteRange::new(0, 0) }
    }

    /// Splits off the part of `data` that is in one run. `None` if there is no run for it.
    pub(crate) fn next<'d>(&mut self, data: &'d [u8]) -> io::Result<Option<Placed<'d>>> {
        if self.left.len == 0 {
            let Some(run) = self.runs.next_run()? else { return Ok(None) };
            self.left = run;
        }
        let len = usize::try_from(self.left.len).map_or(data.len(), |left| left.min(data.len()));
        let at = self.left.start;
        self.left = ByteRange::new(at + len as u64, self.left.len - len as u64);
        let (now, later) = data.split_at(len);
        Ok(Some(Placed { at, now, later }))
    }
}

/// Data whose first part has a known place.
pub(crate) struct Placed<'d> {
    /// Its offset in the file.
    pub(crate) at: u64,
    pub(crate) now: &'d [u8],
    pub(crate) later: &'d [u8],
}

/// Why an entry's data was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The archive is damaged at the data.
    #[error("not restored, a part of it is lost in member {member}: {what}")]
    Lost {
        /// The archive's member, from 0.
        member: u64,
        /// The damage.
        what: String,
    },
    /// The file cannot be written.
    #[error("not restored, it cannot be written: {0}")]
    Write(io::Error),
    /// There is more data than its map of holes covers.
    #[error("not restored, its map of holes is too short")]
    MapTooShort,
}

/// Writes an entry's data to an empty file. Holes stay holes.
pub fn write_data<S: ChunkSource>(file: &File, head: &EntryHead, reader: &mut EntryReader<S>) -> Result<(), DataError> {
    place_data(head, reader, &mut |at, data| file.write_all_at(data, at))?;
    if head.runs.is_some() {
        file.set_len(head.size).map_err(DataError::Write)?;
    }
    Ok(())
}

/// Gives an entry's data to `write`, with its offset in the file, in ascending order.
pub(crate) fn place_data<S: ChunkSource>(
    head: &EntryHead,
    reader: &mut EntryReader<S>,
    write: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<(), DataError> {
    let mut places = head.runs.as_ref().map(Places::of);
    let mut end = 0;
    loop {
        let data = match reader.next_data() {
            Ok(Some(data)) => data,
            Ok(None) => return Ok(()),
            Err(lost) => {
                return Err(DataError::Lost { member: lost.place.member, what: lost.what });
            }
        };
        match &mut places {
            None => {
                write(end, data).map_err(DataError::Write)?;
                end += data.len() as u64;
            }
            Some(places) => {
                let mut rest = data;
                while !rest.is_empty() {
                    // The total length of the runs was checked to equal that of the data.
                    let Some(Placed { at, now, later }) = places.next(rest).map_err(DataError::Write)? else {
                        return Err(DataError::MapTooShort);
                    };
                    write(at, now).map_err(DataError::Write)?;
                    rest = later;
                }
            }
        }
    }
}

/// Whether a file of the entry's length has its data in the right places, and zeros elsewhere.
pub fn is_equal<S: ChunkSource>(file: &File, head: &EntryHead, reader: &mut EntryReader<S>) -> io::Result<bool> {
    let whole = RunMap::whole(head.size);
    let mut places = Places::of(head.runs.as_ref().unwrap_or(&whole));
    let mut buf = Vec::new();
    let mut end = 0;
    loop {
        let data = match reader.next_data() {
            Ok(Some(data)) => data,
            Ok(None) => return is_hole(file, end, head.size),
            Err(lost) => return Err(io::Error::other(lost.what)),
        };
        let mut rest = data;
        while !rest.is_empty() {
            let Some(Placed { at, now, later }) = places.next(rest)? else { return Ok(false) };
            if !is_hole(file, end, at)? {
                return Ok(false);
            }
            buf.resize(now.len(), 0);
            match file.read_exact_at(&mut buf, at) {
                Ok(()) if buf == now => {}
                Ok(()) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
            end = at + now.len() as u64;
            rest = later;
        }
    }
}

/// Whether a file reads as zeros in `from..to`. Holes are not read.
fn is_hole(file: &File, mut from: u64, to: u64) -> io::Result<bool> {
    let mut buf = Vec::new();
    while from < to {
        from = match rustix::fs::seek(file, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(true),
            // A filesystem without support for holes: the rest is data.
            Err(Errno::INVAL | Errno::NOTSUP) => from,
            Err(error) => return Err(error.into()),
        };
        let left = to.saturating_sub(from);
        buf.resize(usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES)), 0);
        let len = file.read_at(&mut buf, from)?;
        if len == 0 {
            break;
        }
        if !is_zero(&buf[..len]) {
            return Ok(false);
        }
        from += len as u64;
    }
    Ok(true)
}
