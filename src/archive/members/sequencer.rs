//! Puts members into order, writes and hashes them, and writes their index lines.
//!
//! There is no writer thread: the worker that delivers the next member writes it, and any that were waiting behind
//! it. So a member is usually written by a thread that has it in its cache, and no thread has to be woken for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::job::Ready;
use super::output::{KnownMembersOf, WrittenMembers};
use super::sink::Sink;
use crate::outside::BlockRead;

/// Takes what was put in order, one item after the other.
pub(in crate::archive) trait InOrder: Send {
    /// What is put in order.
    type Item: Send;
    /// The result of all of it.
    type Done;

    /// Takes the next item.
    fn write(&mut self, item: Self::Item) -> io::Result<()>;

    /// Ends after the last item.
    fn finish(self) -> io::Result<Self::Done>;
}

impl InOrder for Sink {
    type Item = Ready;
    type Done = WrittenMembers;

    fn write(&mut self, item: Ready) -> io::Result<()> {
        Self::write(self, item)
    }

    fn finish(self) -> io::Result<WrittenMembers> {
        Self::finish(self)
    }
}

/// Accepts members in any order.
pub(in crate::archive) struct Sequencer<S: InOrder> {
    state: Mutex<State<S>>,
    /// Signalled when a thread has stopped writing.
    rested: Condvar,
}

struct State<S: InOrder> {
    early: BTreeMap<u64, S::Item>,
    next: u64,
    sink: Sinking<S>,
    /// The number of threads that wait for this.
    waiting: usize,
    /// The error that ended writing; taken by the thread that reports it.
    error: Option<io::Error>,
}

/// The state of the sink.
enum Sinking<S> {
    /// It waits for the next member.
    Idle(Box<S>),
    /// A thread is writing.
    Busy,
    /// Writing has ended.
    Ended,
}

/// Whether a member is ready that no thread is writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::archive) enum Delivered {
    /// Call [`Sequencer::write_on`].
    ToWrite,
    /// Earlier members are missing, or another thread is about to write it.
    Waits,
}

/// Writing has ended with an error, see [`Sequencer::error`].
pub(in crate::archive) struct Failed;

impl<S: InOrder> Sequencer<S> {
    /// Gives everything to `sink`.
    pub(in crate::archive) fn new(sink: S) -> Self {
        let sink = Sinking::Idle(Box::new(sink));
        let state = State { early: BTreeMap::new(), next: 0, sink, waiting: 0, error: None };
        Self { state: Mutex::new(state), rested: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts the member, or carried members, with this number.
    pub(in crate::archive) fn deliver(&self, number: u64, ready: S::Item) -> Result<Delivered, Failed> {
        let mut state = self.lock();
        let is_next = match state.sink {
            Sinking::Ended => return Err(Failed),
            Sinking::Busy => false,
            Sinking::Idle(_) => number == state.next,
        };
        state.early.insert(number, ready);
        Ok(if is_next { Delivered::ToWrite } else { Delivered::Waits })
    }

    /// Writes all members that are ready, unless another thread does. An error is kept for [`Sequencer::error`].
    pub(in crate::archive) fn write_on(&self) {
        let mut state = self.lock();
        let Some(mut sink) = state.take_sink() else { return };
        loop {
            let next = state.next;
            let Some(ready) = state.early.remove(&next) else {
                state.sink = Sinking::Idle(sink);
                break;
            };
            state.next += 1;
            drop(state);
            let written = sink.write(ready);
            state = self.lock();
            if let Err(error) = written {
                state.error = Some(error);
                state.sink = Sinking::Ended;
                state.early.clear();
                break;
            }
        }
        let is_waited_for = state.waiting > 0;
        drop(state);
        // Notifying costs a system call even if no thread waits.
        if is_waited_for {
            self.rested.notify_all();
        }
    }

    /// Waits until the writing thread has stopped.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State<S>>) -> MutexGuard<'a, State<S>> {
        state.waiting += 1;
        let mut state = self.rested.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Ends writing, after the members being written now.
    pub(in crate::archive) fn give_up(&self) {
        let mut state = self.lock();
        // The writing thread then finds no further members.
        state.early.clear();
        while matches!(state.sink, Sinking::Busy) {
            state = self.wait(state);
        }
        state.sink = Sinking::Ended;
    }

    /// The error that ended writing.
    pub(in crate::archive) fn error(&self) -> io::Error {
        self.lock().error.take().unwrap_or_else(|| io::Error::other("writing the archive has ended"))
    }

    /// Waits until all members before this number are written, and ends the archive.
    pub(in crate::archive) fn finish(&self, end: u64) -> io::Result<S::Done> {
        let mut state = self.lock();
        while !matches!(state.sink, Sinking::Ended) {
            if state.next == end
                && let Some(sink) = state.take_sink()
            {
                state.sink = Sinking::Ended;
                drop(state);
                return (*sink).finish();
            }
            state = self.wait(state);
        }
        drop(state);
        Err(self.error())
    }
}

impl Sequencer<Sink> {
    /// Sets the previous archive and its members. Returns whether the archive can share blocks with it.
    pub(super) fn refer_to(&self, previous: &Arc<dyn BlockRead>, members: KnownMembersOf) -> bool {
        self.when_written(0, |sink| sink.refer_to(previous, members)).unwrap_or(false)
    }

    /// Asks the sink once all members before this number are written.
    pub(super) fn when_written<T>(&self, end: u64, ask: impl FnOnce(&mut Sink) -> T) -> Result<T, Failed> {
        let mut state = self.lock();
        loop {
            let is_written = state.next >= end;
            match &mut state.sink {
                Sinking::Idle(sink) if is_written => return Ok(ask(sink)),
                Sinking::Ended => return Err(Failed),
                Sinking::Idle(_) | Sinking::Busy => state = self.wait(state),
            }
        }
    }
}

impl<S: InOrder> State<S> {
    fn take_sink(&mut self) -> Option<Box<S>> {
        match std::mem::replace(&mut self.sink, Sinking::Busy) {
            Sinking::Idle(sink) => Some(sink),
            other => {
                self.sink = other;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};

    use super::{Delivered, Ready, Sequencer, Sink};
    use crate::archive::codec;
    use crate::archive::level::{CompressionLevel, LevelControl, LevelNow};
    use crate::archive::members::job::Job;
    use crate::archive::members::output::{ArchiveFile, Outputs};

    /// Accepts `left` bytes and no more.
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

    fn sequencer(left: usize) -> (Sequencer<Sink>, Bounded, Receiver<Job>) {
        let archive = Bounded { taken: Arc::default(), left };
        let outputs = Outputs { archive: Box::new(archive.clone()), index: Box::new(io::sink()), segments: None };
        let (give_back, free) = channel();
        let control = LevelControl::new(CompressionLevel::Fixed(6), LevelNow::new(CompressionLevel::Fixed(6)), 1);
        (Sequencer::new(Sink::new(codec::WRITTEN, outputs, give_back, control).unwrap()), archive, free)
    }

    fn member(number: u64) -> Ready {
        let mut job = Job::empty();
        job.member[0] = u8::try_from(number).unwrap();
        (job.member_len, job.data_len) = (1, 512);
        Ready::Compressed(job)
    }

    #[test]
    fn members_are_written_once_and_in_order_by_any_thread() {
        let (order, archive, free) = sequencer(usize::MAX);
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
    fn after_an_error_nothing_is_written_and_no_thread_waits() {
        let (order, archive, free) = sequencer(2);
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
    fn members_given_up_are_not_written() {
        let (order, archive, _free) = sequencer(usize::MAX);
        assert_eq!(order.deliver(1, member(1)).ok(), Some(Delivered::Waits));
        order.give_up();
        assert!(order.deliver(0, member(0)).is_err());
        order.write_on();
        assert!(archive.taken.lock().unwrap().is_empty() && order.finish(2).is_err());
    }
}
