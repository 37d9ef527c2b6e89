//! Checks members of the previous archive: reads each once and writes the bytes that were checked. If blocks are
//! shared, the check reads from the disk rather than the page cache.
//!
//! Adjacent members are read, written and hashed as one piece, and checked individually: handing one small member
//! from thread to thread takes longer than checking it.
//!
//! A buffer is taken before the work is handed to a thread, and returned when its last member was hashed or given
//! up. So threads never wait for a buffer, and taking results in order cannot deadlock.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use super::checked_read::{MemberFault, Source, read_checked};
use super::spares::Spares;
use crate::archive::codec::{CodecRef, MAX_MEMBER_DATA, WIDEST};
use crate::archive::index::{KeptEntries, MemberLine};
use crate::archive::level::LevelNow;
use crate::archive::read::index_file::MAX_MEMBER_BYTES;
use crate::archive::workers::Workers;
use crate::outside::BlockRead;

/// The number of pieces in progress per thread, plus a few. With much fewer, all threads wait whenever the disk
/// takes a moment to write.
const PIECES_A_THREAD: usize = 3;
const SPARE_PIECES: usize = 6;
/// The maximum weight of members that are checked together.
pub(in crate::archive) const RUN_BYTES: usize = MAX_MEMBER_DATA;
/// The maximum length of a piece: a run, or one member.
const PIECE_BYTES: usize = WIDEST.max_member_bytes;

/// Adjacent members of the previous archive, with the result of their checks.
pub(in crate::archive) struct CheckedPiece {
    archive: Arc<dyn BlockRead>,
    buffer: Arc<Buffer>,
    spent: Sender<Vec<CarriedMember>>,
    /// Each member's end in the buffer, and its fault.
    members: Vec<(usize, Result<(), MemberFault>)>,
}

impl CheckedPiece {
    /// The fault of a member, if any.
    pub(in crate::archive) fn fault(&self, member: usize) -> Option<&MemberFault> {
        match self.members.get(member) {
            Some((_, Ok(()))) => None,
            Some((_, Err(what))) => Some(what),
            None => Some(&MemberFault::NotAsked),
        }
    }

    /// The members from index `first`, ready to be written.
    pub(in crate::archive) fn carry(&self, first: usize, members: Vec<CarriedMember>) -> Carried {
        let end_of = |count: usize| count.checked_sub(1).and_then(|at| self.members.get(at)).map_or(0, |(end, _)| *end);
        let range = end_of(first)..end_of(first + members.len());
        let (archive, buffer) = (Arc::clone(&self.archive), Arc::clone(&self.buffer));
        Carried { archive, buffer, spent: self.spent.clone(), range, members }
    }
}

/// A carried member, and the entries that end in it.
pub(in crate::archive) struct CarriedMember {
    pub(in crate::archive) line: MemberLine,
    pub(in crate::archive) entries: KeptEntries,
}

/// Adjacent members that match the previous index.
pub(in crate::archive) struct Carried {
    /// The archive they were read from.
    pub(super) archive: Arc<dyn BlockRead>,
    buffer: Arc<Buffer>,
    spent: Sender<Vec<CarriedMember>>,
    range: Range<usize>,
    pub(super) members: Vec<CarriedMember>,
}

impl Drop for Carried {
    fn drop(&mut self) {
        // Returned to the thread that allocated them: freeing memory of another thread makes both contend for
        // the allocator's lock. Fails only after the end of carrying.
        let _ = self.spent.send(std::mem::take(&mut self.members));
    }
}

impl Carried {
    /// Their bytes in the archive.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer.bytes[self.range.clone()]
    }

    /// Their offset in the archive they were read from.
    pub(super) fn offset(&self) -> u64 {
        self.members.first().map_or(0, |member| member.line.offset)
    }
}

/// A buffer that returns to its pool when dropped.
struct Buffer {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Fails only after the end of carrying.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

/// A fixed number of buffers. Each can hold the largest piece, and uses as much memory as was ever read into it.
struct Buffers {
    spares: Spares<Vec<u8>>,
    home: Sender<Vec<u8>>,
}

impl Buffers {
    fn new(count: usize) -> Self {
        let (home, back) = channel();
        Self { spares: Spares::new(count, back), home }
    }

    /// A buffer; `None` while all are in use.
    fn take(&mut self) -> Option<Buffer> {
        let bytes = self.spares.take(|| vec![0; PIECE_BYTES])?;
        Some(Buffer { bytes, home: self.home.clone() })
    }

    /// Waits until one is returned. At least one must be in use.
    fn wait(&mut self) {
        // Never fails: this struct holds a sender.
        let _ = self.spares.wait();
    }
}

/// Reads and checks members.
pub(super) struct Carrier {
    source: Arc<Source>,
    buffers: Buffers,
    checked: Receiver<(u64, CheckedPiece)>,
    report: Sender<(u64, CheckedPiece)>,
    /// The results from number `oldest` on, as far as available.
    results: VecDeque<Option<CheckedPiece>>,
    oldest: u64,
    /// Written members to be freed.
    spent: Receiver<Vec<CarriedMember>>,
    spent_home: Sender<Vec<CarriedMember>>,
}

impl Carrier {
    /// `from_disk`: read from the disk and ignore the page cache.
    pub(super) fn new(codec: CodecRef, archive: Arc<dyn BlockRead>, threads: usize, from_disk: bool) -> Self {
        let (report, checked) = channel();
        let buffers = Buffers::new(threads.saturating_mul(PIECES_A_THREAD) + SPARE_PIECES);
        let source = Arc::new(Source::new(codec, archive, from_disk));
        let (spent_home, spent) = channel();
        Self { source, buffers, checked, report, results: VecDeque::new(), oldest: 0, spent, spent_home }
    }

    pub(super) fn check(&mut self, pool: &Workers, level: &Arc<LevelNow>, lines: &[MemberLine]) -> bool {
        self.spent.try_iter().for_each(drop);
        let Some(mut buffer) = self.buffers.take() else { return false };
        let spent = self.spent_home.clone();
        let level = Arc::clone(level);
        let (source, report, lines) = (Arc::clone(&self.source), self.report.clone(), lines.to_vec());
        let number = self.oldest + self.results.len() as u64;
        self.results.push_back(None);
        pool.give(move || {
            let began = Instant::now();
            let members = read_checked(&source, &lines, &mut buffer.bytes);
            let archive = Arc::clone(&source.archive);
            level.note_busy(began.elapsed());
            // Fails only after the end of carrying.
            let _ = report.send((number, CheckedPiece { archive, buffer: Arc::new(buffer), spent, members }));
        });
        true
    }

    pub(super) fn wait(&mut self) {
        self.buffers.wait();
    }

    /// The oldest submitted piece; `None` if there is none.
    pub(super) fn take(&mut self) -> Option<CheckedPiece> {
        loop {
            match self.results.front_mut() {
                None => return None,
                Some(Some(_)) => break,
                Some(None) => {
                    // Never fails: this struct holds a sender.
                    let Ok((number, result)) = self.checked.recv() else { break };
                    let place = usize::try_from(number - self.oldest).ok().and_then(|at| self.results.get_mut(at));
                    if let Some(place) = place {
                        *place = Some(result);
                    }
                }
            }
        }
        self.oldest += 1;
        self.results.pop_front().flatten()
    }
}

/// The weight of a member in a run. Its entry lines wait with it and grow with its data, so the weight is the
/// larger of the two lengths. Both were checked when the index was first read.
pub(in crate::archive) fn weight(line: &MemberLine) -> usize {
    let len = line.length.min(MAX_MEMBER_BYTES).max(line.tar_length.min(MAX_MEMBER_DATA as u64));
    usize::try_from(len).unwrap_or(MAX_MEMBER_DATA)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::{Buffers, CarriedMember, Carrier, KeptEntries, LevelNow, Workers};
    use crate::archive::codec::WRITTEN;
    use crate::archive::index::{MemberDigest, MemberLine};
    use crate::archive::level::CompressionLevel;
    use crate::outside::FileBlocks;

    #[test]
    fn members_come_in_their_order_and_only_whole_ones() {
        let mut encoder = WRITTEN.encoder(1).unwrap();
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
                digest: MemberDigest::of(&member[..len]),
                heads: None,
                data: None,
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
        let level = LevelNow::new(CompressionLevel::Fixed(6));
        let mut carrier = Carrier::new(WRITTEN, Arc::new(FileBlocks::of_file(file).unwrap()), 2, false);
        let pieces: Vec<&[MemberLine]> = lines.chunks(3).collect();
        let mut taken: Vec<bool> = Vec::new();
        let (mut done, mut asked) = (0, 0);
        while done < pieces.len() {
            while asked < pieces.len() && carrier.check(&pool, &level, pieces[asked]) {
                asked += 1;
            }
            let piece = carrier.take().unwrap();
            for (number, line) in pieces[done].iter().enumerate() {
                let is_whole = piece.fault(number).is_none();
                if is_whole {
                    let at = usize::try_from(line.offset).unwrap();
                    let member = CarriedMember { line: line.clone(), entries: KeptEntries::default() };
                    let carried = piece.carry(number, vec![member]);
                    assert_eq!(carried.bytes(), &archive[at..][..usize::try_from(line.length).unwrap()]);
                }
                taken.push(is_whole);
            }
            done += 1;
        }
        let damaged: Vec<usize> = (0..taken.len()).filter(|at| !taken[*at]).collect();
        assert_eq!(damaged, [7, 9, 39]);
    }

    #[test]
    fn there_are_so_many_buffers_and_the_last_is_used_first() {
        let mut buffers = Buffers::new(3);
        let mut taken: Vec<_> = (0..3).map(|_| buffers.take().unwrap()).collect();
        assert!(buffers.take().is_none());
        taken[1].bytes[0] = 7;
        drop(taken.remove(0));
        drop(taken.remove(0));
        buffers.wait();
        assert_eq!(buffers.take().unwrap().bytes[0], 7);
    }
}
