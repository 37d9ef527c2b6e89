//! Threads that do one piece of work after the other, in the order in which it came.
//!
//! In place of rayon's pool, whose threads look for work in a loop for a while before they sleep: with as many threads as
//! cores that takes time from those that read and write (docs/decisions/0020).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    /// Threads that sleep, and were not woken since.
    idle: usize,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The threads. Dropping it waits until all that was given to them is done.
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Work that panics would be missing without anybody noticing, and whoever waits for it would wait for ever.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Workers {
    /// Starts `threads` of them, named `name-0`, …; `at_start` is called first in each.
    pub(super) fn new(threads: usize, name: &str, at_start: fn()) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut workers = Self { shared: Arc::clone(&shared), threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
                at_start();
                work(&shared);
            })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Has `work` done after all that was given before it was begun. A panic in it ends the process.
    pub(super) fn give(&self, work: impl FnOnce() + Send + 'static) {
        self.put(|waiting| waiting.push_back(Box::new(work)));
    }

    /// Has `work` done before all that was not begun yet.
    pub(super) fn give_first(&self, work: impl FnOnce() + Send + 'static) {
        self.put(|waiting| waiting.push_front(Box::new(work)));
    }

    fn put(&self, put: impl FnOnce(&mut VecDeque<Work>)) {
        let mut queue = self.lock();
        put(&mut queue.waiting);
        // To wake nobody asks the kernel all the same.
        let wakes = queue.idle > 0;
        queue.idle -= usize::from(wakes);
        drop(queue);
        if wakes {
            self.shared.changed.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.lock().is_closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // They end by themselves or take the process with them.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared) {
    let _abort = AbortOnPanic;
    loop {
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let next = loop {
            match queue.waiting.pop_front() {
                Some(next) => break next,
                None if queue.is_closed => return,
                None => {
                    queue.idle += 1;
                    queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        drop(queue);
        next();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::Workers;

    #[test]
    fn all_work_is_done_and_begun_in_its_order() {
        for threads in [1, 3] {
            let (done, results) = channel();
            let workers = Workers::new(threads, "test", || {}).unwrap();
            for number in 0..1000 {
                let done = done.clone();
                workers.give(move || done.send(number).unwrap());
            }
            drop((workers, done));
            let mut numbers: Vec<i32> = results.iter().collect();
            if threads > 1 {
                numbers.sort_unstable();
            }
            assert!(numbers.into_iter().eq(0..1000));
        }
    }
}
