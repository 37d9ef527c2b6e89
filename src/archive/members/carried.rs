//! Members of the previous archive: read once, checked, and written as they were read.
//!
//! A buffer is taken before the work is handed to a thread, and goes back when the member was written or found damaged. So
//! no thread waits for a buffer, and whoever takes the results in their order always gets the next one.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::archive::gzip::parse_header;
use crate::archive::index::{EntryLine, MemberLine};
use crate::archive::level::LevelNow;
use crate::archive::read::index_file::MAX_MEMBER_BYTES;
use crate::archive::workers::Workers;

/// Buffers beyond two for each thread: what waits for its turn in the archive.
const SPARE_BUFFERS: usize = 2;

/// A member that is as the previous index says.
pub(in crate::archive) struct Carried {
    /// Its first `len` bytes count.
    buffer: Buffer,
    len: usize,
    pub(super) tar_length: u64,
    pub(super) sha256: [u8; 32],
    pub(super) entries: Vec<EntryLine>,
}

impl Carried {
    /// Its bytes in the archive.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer.bytes[..self.len]
    }

    /// How many they are.
    pub(in crate::archive) fn len_bytes(&self) -> u64 {
        self.len as u64
    }
}

/// Bytes that go back to where they came from.
struct Buffer {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Fails only when nothing is carried any more.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

/// Reads and checks members.
pub(super) struct Carrier {
    archive: Arc<File>,
    free: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
    /// One that came free while it was waited for.
    kept: Option<Vec<u8>>,
    checked: Receiver<(u64, Result<Carried, String>)>,
    report: Sender<(u64, Result<Carried, String>)>,
    /// The results from the number `oldest` on, as far as they came.
    results: VecDeque<Option<Result<Carried, String>>>,
    oldest: u64,
}

impl Carrier {
    pub(super) fn new(archive: Arc<File>, threads: usize) -> Self {
        let (home, free) = channel();
        let (report, checked) = channel();
        for _ in 0..2 * threads + SPARE_BUFFERS {
            // The receiver lives in this function.
            let _ = home.send(Vec::new());
        }
        Self { archive, free, home, kept: None, checked, report, results: VecDeque::new(), oldest: 0 }
    }

    pub(super) fn check(&mut self, pool: &Workers, level: &Arc<LevelNow>, line: &MemberLine) -> bool {
        let Some(bytes) = self.kept.take().or_else(|| self.free.try_recv().ok()) else { return false };
        let mut buffer = Buffer { bytes, home: self.home.clone() };
        let level = Arc::clone(level);
        let (archive, report, line) = (Arc::clone(&self.archive), self.report.clone(), line.clone());
        let number = self.oldest + self.results.len() as u64;
        self.results.push_back(None);
        pool.give(move || {
            let began = Instant::now();
            let checked = read_checked(&archive, &line, &mut buffer.bytes).map(|len| Carried {
                buffer,
                len,
                tar_length: line.tar_length,
                sha256: line.sha256,
                entries: Vec::new(),
            });
            level.note_busy(began.elapsed());
            // Fails only when nobody wants it any more.
            let _ = report.send((number, checked));
        });
        true
    }

    pub(super) fn wait(&mut self) {
        if self.kept.is_none() {
            // Never fails: this struct holds a sender.
            self.kept = self.free.recv().ok();
        }
    }

    pub(super) fn take(&mut self) -> Result<Carried, String> {
        loop {
            match self.results.front_mut() {
                None => return Err("it was not asked for".to_owned()),
                Some(Some(_)) => break,
                Some(None) => {
                    let Ok((number, result)) = self.checked.recv() else { break };
                    let place = usize::try_from(number - self.oldest).ok().and_then(|at| self.results.get_mut(at));
                    if let Some(place) = place {
                        *place = Some(result);
                    }
                }
            }
        }
        self.oldest += 1;
        self.results.pop_front().flatten().unwrap_or_else(|| Err("its result was lost".to_owned()))
    }
}

/// Reads a member to the start of `buffer`, and says how long it is.
fn read_checked(archive: &File, line: &MemberLine, buffer: &mut Vec<u8>) -> Result<usize, String> {
    // The index was checked for this when it was read first.
    let len = usize::try_from(line.length.min(MAX_MEMBER_BYTES)).unwrap_or(0);
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let bytes = &mut buffer[..len];
    archive.read_exact_at(bytes, line.offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "the archive ends before its end".to_owned(),
        _ => format!("it cannot be read: {error}"),
    })?;
    if <[u8; 32]>::from(Sha256::digest(&*bytes)) != line.sha256 {
        return Err("its SHA-256 is not the one in the index".to_owned());
    }
    let is_framed = parse_header(bytes).is_some_and(|frame| {
        (u64::from(frame.member_bytes), u64::from(frame.data_bytes)) == (line.length, line.tar_length)
    });
    if is_framed { Ok(len) } else { Err("its own header says other lengths than the index".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use sha2::{Digest, Sha256};

    use super::{Carrier, LevelNow, Workers};
    use crate::archive::gzip::MemberEncoder;
    use crate::archive::index::MemberLine;
    use crate::archive::level::Level;

    #[test]
    fn members_come_in_their_order_and_only_whole_ones() {
        let mut encoder = MemberEncoder::new(1).unwrap();
        let (mut archive, mut lines) = (Vec::new(), Vec::new());
        for number in 0..40_u8 {
            let mut member = Vec::new();
            let len = encoder.encode(&vec![number; 512 * usize::from(number + 1)], &mut member);
            lines.push(MemberLine {
                number: u64::from(number),
                offset: archive.len() as u64,
                length: len as u64,
                tar_offset: 0,
                tar_length: 512 * u64::from(number + 1),
                sha256: Sha256::digest(&member[..len]).into(),
            });
            archive.extend_from_slice(&member[..len]);
        }
        let flipped = usize::try_from(lines[7].offset).unwrap() + 30;
        archive[flipped] ^= 1;
        lines[9].tar_length += 512;
        lines[39].length += 1;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&archive).unwrap();

        let pool = Workers::new(2, "check", || {}).unwrap();
        let level = LevelNow::new(Level::Fixed(6));
        let mut carrier = Carrier::new(Arc::new(file), 2);
        let mut taken = Vec::new();
        let mut next = lines.iter();
        let mut asked = 0;
        while taken.len() < lines.len() {
            while asked < lines.len() && carrier.check(&pool, &level, &lines[asked]) {
                asked += 1;
            }
            let line = next.next().unwrap();
            match carrier.take() {
                Ok(carried) => {
                    let at = usize::try_from(line.offset).unwrap();
                    assert_eq!(carried.bytes(), &archive[at..][..carried.len]);
                    taken.push(true);
                }
                Err(_) => taken.push(false),
            }
        }
        let damaged: Vec<usize> = (0..taken.len()).filter(|at| !taken[*at]).collect();
        assert_eq!(damaged, [7, 9, 39]);
    }
}
