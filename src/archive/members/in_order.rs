//! Brings members into their order, writes and hashes them, and writes the index about them.
//!
//! Whoever delivers the next member writes it, and all that came early and follows it. So a member is written by a thread
//! that has it at hand mostly, and no thread has to be woken for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{ArchiveFile, Carried, CarriedMember, Job, LEAST_SHARED_BLOCKS, Outputs, Ready, WrittenMembers};
use crate::archive::gzip::{MIN_PADDING_BYTES, padding};
use crate::archive::index::{HEADER_LINE, MemberDigest, MemberLine, Totals};
use crate::archive::level::{HIGHEST_LEVEL, LevelControl};

/// So many times as long as the padding must be what is shared because of it.
const LEAST_SHARED_FOR_PADDING: usize = 64;

/// Takes members in any order.
pub(super) struct InOrder {
    state: Mutex<State>,
    /// Told when somebody has stopped writing.
    rested: Condvar,
}

struct State {
    early: BTreeMap<u64, Ready>,
    next: u64,
    sink: Place,
    /// So many wait until somebody has stopped writing.
    waiting: usize,
    /// Why nothing is written any more; taken by the one who tells it.
    error: Option<io::Error>,
}

/// Where the sink is.
enum Place {
    Here(Box<Sink>),
    /// Somebody writes.
    Taken,
    /// Nothing is written any more.
    Gone,
}

/// Whether something waits to be written that nobody writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// [`InOrder::write_on`] has something to do.
    ToWrite,
    /// Members before it are missing, or somebody is about to write it.
    Waits,
}

/// Nothing is written any more: [`InOrder::error`] says why.
pub(super) struct Failed;

impl InOrder {
    /// The buffers of what was written go to `give_back`.
    pub(super) fn new(outputs: Outputs, give_back: Sender<Job>, control: LevelControl) -> io::Result<Self> {
        let sink = Place::Here(Box::new(Sink::new(outputs, give_back, control)?));
        let state = State { early: BTreeMap::new(), next: 0, sink, waiting: 0, error: None };
        Ok(Self { state: Mutex::new(state), rested: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the member, or members that are carried together, with this number.
    pub(super) fn deliver(&self, number: u64, ready: Ready) -> Result<Delivered, Failed> {
        let mut state = self.lock();
        let is_next = match state.sink {
            Place::Gone => return Err(Failed),
            Place::Taken => false,
            Place::Here(_) => number == state.next,
        };
        state.early.insert(number, ready);
        Ok(if is_next { Delivered::ToWrite } else { Delivered::Waits })
    }

    /// Writes what can be written, unless somebody else does. An error is kept for [`InOrder::error`].
    pub(super) fn write_on(&self) {
        let mut state = self.lock();
        let Some(mut sink) = state.take_sink() else { return };
        loop {
            let next = state.next;
            let Some(ready) = state.early.remove(&next) else {
                state.sink = Place::Here(sink);
                break;
            };
            state.next += 1;
            drop(state);
            let written = sink.write(ready);
            state = self.lock();
            if let Err(error) = written {
                state.error = Some(error);
                state.sink = Place::Gone;
                state.early.clear();
                break;
            }
        }
        let is_waited_for = state.waiting > 0;
        drop(state);
        // To wake nobody asks the kernel all the same.
        if is_waited_for {
            self.rested.notify_all();
        }
    }

    /// Waits until somebody has stopped writing.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiting += 1;
        let mut state = self.rested.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Whether the archive can share blocks with this file.
    pub(super) fn shares_with(&self, source: &File) -> bool {
        let mut state = self.lock();
        loop {
            match &mut state.sink {
                Place::Here(sink) => return sink.archive.block_to_share(source).is_some(),
                Place::Taken => state = self.wait(state),
                Place::Gone => return false,
            }
        }
    }

    /// Lets nothing more be written. What is being written now is waited for.
    pub(super) fn give_up(&self) {
        let mut state = self.lock();
        // Whoever writes finds nothing more to do.
        state.early.clear();
        while matches!(state.sink, Place::Taken) {
            state = self.wait(state);
        }
        state.sink = Place::Gone;
    }

    /// Why nothing is written any more.
    pub(super) fn error(&self) -> io::Error {
        self.lock().error.take().unwrap_or_else(|| io::Error::other("the archive is not written any more"))
    }

    /// Waits until all members before this number are written, and ends the archive.
    pub(super) fn finish(&self, end: u64) -> io::Result<WrittenMembers> {
        let mut state = self.lock();
        while !matches!(state.sink, Place::Gone) {
            if state.next == end
                && let Some(sink) = state.take_sink()
            {
                state.sink = Place::Gone;
                drop(state);
                return sink.finish();
            }
            state = self.wait(state);
        }
        drop(state);
        Err(self.error())
    }
}

impl State {
    fn take_sink(&mut self) -> Option<Box<Sink>> {
        match std::mem::replace(&mut self.sink, Place::Taken) {
            Place::Here(sink) => Some(sink),
            other => {
                self.sink = other;
                None
            }
        }
    }
}

/// Where members go when their turn has come.
struct Sink {
    archive: Box<dyn ArchiveFile>,
    sha1: Sha1,
    index: io::BufWriter<Hashing>,
    /// Lines on their way there.
    lines: Vec<u8>,
    totals: Totals,
    levels: [u64; HIGHEST_LEVEL as usize + 1],
    control: LevelControl,
    give_back: Sender<Job>,
}

impl Sink {
    fn new(outputs: Outputs, give_back: Sender<Job>, control: LevelControl) -> io::Result<Self> {
        let mut index = io::BufWriter::with_capacity(256 * 1024, Hashing::new(outputs.index));
        index.write_all(HEADER_LINE.as_bytes())?;
        let (totals, levels) = (Totals::default(), [0; HIGHEST_LEVEL as usize + 1]);
        let (archive, lines) = (outputs.archive, Vec::new());
        Ok(Self { archive, sha1: Sha1::new(), index, lines, totals, levels, control, give_back })
    }

    fn write(&mut self, ready: Ready) -> io::Result<()> {
        if let Ready::Carried(carried) = &ready {
            self.pad_before(carried)?;
        }
        let Self { archive, sha1, index, lines, totals, levels, control, give_back } = self;
        // First written, then hashed: where the bytes are copied, that fetches them from memory faster than hashing does.
        let began = Instant::now();
        match &ready {
            Ready::Compressed(_) => archive.write_all(ready.bytes())?,
            Ready::Carried(carried) => archive.write_shared(carried.bytes(), &carried.archive, carried.offset())?,
        }
        let is_written = Instant::now();
        sha1.update(ready.bytes());
        control.note_writing(is_written - began);
        control.note_busy(is_written.elapsed());
        match ready {
            Ready::Compressed(mut job) => {
                totals.add_member(lines, job.member_len as u64, job.data_len as u64, job.digest, job.heads);
                totals.entries += job.entries.len() as u64;
                for entry in &job.entries {
                    entry.add_to(lines);
                }
                control.member_written();
                if let Some(count) = usize::try_from(job.level).ok().and_then(|level| levels.get_mut(level)) {
                    *count += 1;
                }
                job.entries.clear();
                job.data_len = 0;
                // Fails only when the producer is gone; what is still under way is written all the same.
                let _ = give_back.send(job);
            }
            // Its buffer goes back by itself.
            Ready::Carried(carried) => {
                for CarriedMember { line, entries } in &carried.members {
                    let begins_at = totals.tar_bytes;
                    totals.add_member(lines, line.length, line.tar_length, line.digest, line.heads);
                    totals.entries += entries.len() as u64;
                    entries.add_to(lines, line.tar_offset, begins_at);
                }
            }
        }
        index.write_all(lines)?;
        lines.clear();
        Ok(())
    }

    /// Puts padding before members that are carried, so that they lie as they did in the previous archive, where the
    /// destination then has their blocks once.
    fn pad_before(&mut self, carried: &Carried) -> io::Result<()> {
        let Self { archive, sha1, lines, totals, .. } = self;
        let Some(block) = archive.block_to_share(&carried.archive) else { return Ok(()) };
        let len = padding_len(carried.offset(), totals.archive_bytes, block);
        let least = len.saturating_mul(LEAST_SHARED_FOR_PADDING).max(block.get() * LEAST_SHARED_BLOCKS);
        if len == 0 || carried.bytes().len() < least {
            return Ok(());
        }
        let member = padding(len);
        archive.write_all(&member)?;
        sha1.update(&member);
        totals.add_member(lines, len as u64, 0, MemberDigest::of(&member), None);
        Ok(())
    }

    fn finish(self) -> io::Result<WrittenMembers> {
        let Self { mut archive, sha1, mut index, totals, levels, .. } = self;
        totals.write_to(&mut index)?;
        let mut index = index.into_inner().map_err(io::IntoInnerError::into_error)?;
        index.flush()?;
        archive.flush()?;
        Ok(WrittenMembers {
            totals,
            archive_sha1: sha1.finalize().into(),
            index_sha256: index.sha256.finalize().into(),
            index_bytes: index.bytes,
            levels,
        })
    }
}

/// How much padding at `to` makes what lay at `from` lie as before, seen from where a block begins.
fn padding_len(from: u64, to: u64, block: NonZero<usize>) -> usize {
    let within = |offset: u64| usize::try_from(offset % block.get() as u64).unwrap_or(0);
    let mut len = (within(from) + block.get() - within(to)) % block;
    while len > 0 && len < MIN_PADDING_BYTES {
        len += block.get();
    }
    len
}

impl Totals {
    /// Adds the next member's line to `out`.
    fn add_member(
        &mut self,
        out: &mut Vec<u8>,
        length: u64,
        tar_length: u64,
        digest: MemberDigest,
        heads: Option<[u8; 16]>,
    ) {
        let (number, offset, tar_offset) = (self.members, self.archive_bytes, self.tar_bytes);
        MemberLine { number, offset, length, tar_offset, tar_length, digest, heads }.add_to(out);
        self.members += 1;
        self.archive_bytes += length;
        self.tar_bytes += tar_length;
    }
}

/// Hashes and counts what the writer behind it has taken.
struct Hashing {
    inner: Box<dyn Write + Send>,
    sha256: Sha256,
    bytes: u64,
}

impl Hashing {
    fn new(inner: Box<dyn Write + Send>) -> Self {
        Self { inner, sha256: Sha256::new(), bytes: 0 }
    }
}

impl Write for Hashing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.sha256.update(&buf[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::num::NonZero;
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};

    use super::{ArchiveFile, Delivered, InOrder, Job, Outputs, Ready, padding_len};
    use crate::archive::gzip::{MAX_PADDING_BYTES, MIN_PADDING_BYTES};
    use crate::archive::level::{Level, LevelControl, LevelNow};
    use crate::archive::members::empty_job;

    /// Takes `left` bytes and no more.
    #[derive(Clone)]
    struct Bounded {
        taken: Arc<Mutex<Vec<u8>>>,
        left: usize,
    }

    impl Write for Bounded {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.left = self.left.checked_sub(buf.len()).ok_or(io::ErrorKind::StorageFull)?;
            self.taken.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl ArchiveFile for Bounded {}

    fn in_order(left: usize) -> (InOrder, Bounded, Receiver<Job>) {
        let archive = Bounded { taken: Arc::default(), left };
        let outputs = Outputs { archive: Box::new(archive.clone()), index: Box::new(io::sink()) };
        let (give_back, free) = channel();
        let control = LevelControl::new(Level::Fixed(6), LevelNow::new(Level::Fixed(6)), 1);
        (InOrder::new(outputs, give_back, control).unwrap(), archive, free)
    }

    fn member(number: u64) -> Ready {
        let mut job = empty_job();
        job.member[0] = u8::try_from(number).unwrap();
        (job.member_len, job.data_len) = (1, 512);
        Ready::Compressed(job)
    }

    #[test]
    fn members_are_written_once_and_in_order_whoever_delivers_them() {
        let (order, archive, free) = in_order(usize::MAX);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let order = &order;
                scope.spawn(move || {
                    for number in (0..50).rev().filter(|number| number % 4 == thread) {
                        if let Ok(Delivered::ToWrite) = order.deliver(number, member(number)) {
                            order.write_on();
                        }
                    }
                });
            }
            let totals = order.finish(50).unwrap().totals;
            assert_eq!((totals.members, totals.archive_bytes, totals.tar_bytes), (50, 50, 50 * 512));
        });
        assert!(archive.taken.lock().unwrap().iter().copied().eq(0..50));
        assert_eq!(free.iter().count(), 50, "all buffers came back, and no more will");
    }

    #[test]
    fn after_an_error_nothing_is_written_and_nobody_waits() {
        let (order, archive, free) = in_order(2);
        for number in [3, 1, 2] {
            assert_eq!(order.deliver(number, member(number)).ok(), Some(Delivered::Waits));
        }
        assert_eq!(order.deliver(0, member(0)).ok(), Some(Delivered::ToWrite));
        order.write_on();
        assert_eq!(*archive.taken.lock().unwrap(), [0, 1]);
        assert!(order.deliver(4, member(4)).is_err());
        assert_eq!(free.iter().count(), 2);
        assert_eq!(order.finish(5).unwrap_err().kind(), io::ErrorKind::StorageFull);
        order.give_up();
    }

    #[test]
    fn padding_makes_blocks_lie_alike() {
        for block in [1, 512, 4096].map(|block| NonZero::new(block).unwrap()) {
            for (from, to) in [(0, 0), (4096, 1), (1, 4096), (1 << 40, 4095), (60, 0), (61, 0), (4095, 70_000)] {
                let len = padding_len(from, to, block);
                assert!(
                    len == 0 || (MIN_PADDING_BYTES..=MAX_PADDING_BYTES).contains(&len),
                    "{from} {to} {block}: {len}"
                );
                assert_eq!((to + len as u64) % block.get() as u64, from % block.get() as u64);
            }
        }
    }

    #[test]
    fn what_is_given_up_is_not_written_any_more() {
        let (order, archive, _free) = in_order(usize::MAX);
        assert_eq!(order.deliver(1, member(1)).ok(), Some(Delivered::Waits));
        order.give_up();
        assert!(order.deliver(0, member(0)).is_err());
        order.write_on();
        assert!(archive.taken.lock().unwrap().is_empty() && order.finish(2).is_err());
    }
}
