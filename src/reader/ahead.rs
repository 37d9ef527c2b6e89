//! A reader that runs ahead in a thread of its own, so that walking and archiving overlap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::{io, vec};

use super::{Found, FsReader};
use crate::entry::{Entry, EntryKind};

/// Entries per batch. Large batches keep the threads from waking each other often.
const BATCH: usize = 512;
/// Entries per batch while files are opened ahead: a process may have about a thousand open files.
const OPENED_BATCH: usize = 64;
/// A batch ends early when its attributes, paths and link targets reach this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// Batches in the queue.
const WAITING_BATCHES: usize = 2;

/// Yields what the inner reader yields, in the same order.
pub struct ReadAhead {
    taken: vec::IntoIter<Found>,
    /// `None` once the inner reader has ended.
    batches: Option<Receiver<Vec<Found>>>,
    /// Entries on their way back to the thread that allocated them.
    spent: Sender<Vec<Entry>>,
    thread: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Starts the thread. While `opens_files` is set, the thread also opens files and prefetches their first bytes,
    /// for a backup that reads nearly all files. At most 4 batches of 64 files are open then. A file that cannot be
    /// opened ahead is opened at its first use.
    pub fn new(reader: impl FsReader + Send + 'static, opens_files: Arc<AtomicBool>) -> io::Result<Self> {
        let (sender, batches) = sync_channel(WAITING_BATCHES);
        let (spent, to_free) = channel();
        let thread = std::thread::Builder::new()
            .name("walk".to_owned())
            .spawn(move || read(reader, &sender, &to_free, &opens_files))?;
        Ok(Self { taken: Vec::new().into_iter(), batches: Some(batches), spent, thread: Some(thread) })
    }

    /// Returns used entries to the thread that allocated them. Freeing memory that another thread allocated makes
    /// both contend for the allocator's lock.
    pub fn free(&self, spent: Vec<Entry>) {
        // After the thread has ended, `spent` is freed here.
        let _ = self.spent.send(spent);
    }
}

fn read(
    mut reader: impl FsReader,
    batches: &SyncSender<Vec<Found>>,
    to_free: &Receiver<Vec<Entry>>,
    opens_files: &AtomicBool,
) {
    let begin = || {
        to_free.try_iter().for_each(drop);
        let opens = opens_files.load(Ordering::Relaxed);
        let full = if opens { OPENED_BATCH } else { BATCH };
        (opens, full, Vec::with_capacity(full))
    };
    let (mut opens, mut full, mut batch) = begin();
    let mut bytes = 0;
    while let Some(found) = reader.next_found() {
        if let Found::Entry(entry) = &found {
            bytes += entry.xattr_bytes() + entry.path.len();
            match &entry.kind {
                EntryKind::Symlink(target) => bytes += target.len(),
                // An error shows again when the file is read.
                EntryKind::File(content) if opens => drop(content.prefetch()),
                _ => {}
            }
        }
        batch.push(found);
        if batch.len() == full || bytes >= BATCH_BYTES {
            bytes = 0;
            // The receiver is gone: the walk was cancelled.
            if batches.send(batch).is_err() {
                return;
            }
            (opens, full, batch) = begin();
        }
    }
    // As above.
    let _ = batches.send(batch);
}

impl FsReader for ReadAhead {
    fn next_found(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.taken.next() {
                return Some(found);
            }
            if let Ok(batch) = self.batches.as_ref()?.recv() {
                self.taken = batch.into_iter();
                continue;
            }
            self.batches = None;
            if let Some(thread) = self.thread.take()
                && let Err(panic) = thread.join()
            {
                // A panic of the walk must not look like the end of the tree.
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // Closing the channel ends the thread, which then releases the filesystem.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // The walk was cancelled; its result is not used.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{BATCH, ReadAhead, WAITING_BATCHES};
    use crate::events::{Problem, Severity};
    use crate::reader::{Found, FsReader};

    struct Counting {
        made: Arc<AtomicUsize>,
        end: usize,
    }

    impl FsReader for Counting {
        fn next_found(&mut self) -> Option<Found> {
            let number = self.made.fetch_add(1, Ordering::SeqCst);
            assert!(number < 20 * BATCH, "too far");
            (number < self.end).then(|| Found::Problem(Problem::new(Severity::Notice, number.to_string(), "")))
        }
    }

    fn ahead(end: usize) -> (ReadAhead, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        (ReadAhead::new(Counting { made: Arc::clone(&made), end }, Arc::default()).unwrap(), made)
    }

    #[test]
    fn everything_comes_in_order_and_the_end_comes_once() {
        for end in [0, 1, BATCH - 1, BATCH, BATCH + 1, 10 * BATCH + 7] {
            let (mut ahead, _) = ahead(end);
            for number in 0..end {
                let Some(Found::Problem(problem)) = ahead.next_found() else { panic!("{number} of {end}") };
                assert_eq!(problem.location, number.to_string());
            }
            assert!(ahead.next_found().is_none() && ahead.next_found().is_none());
        }
    }

    #[test]
    fn it_goes_no_further_than_its_room_and_ends_when_it_is_dropped() {
        let (mut ahead, made) = ahead(10 * BATCH);
        ahead.next_found().unwrap();
        drop(ahead);
        assert!(made.load(Ordering::SeqCst) <= BATCH * (WAITING_BATCHES + 2));
        assert_eq!(Arc::strong_count(&made), 1, "the thread has ended");
    }

    #[test]
    #[should_panic(expected = "too far")]
    fn a_reader_that_panics_does_not_pass_for_one_that_ended() {
        let (mut ahead, _) = ahead(21 * BATCH);
        while ahead.next_found().is_some() {}
    }
}
