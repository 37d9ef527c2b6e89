//! Threads that run tasks in the order of submission.
//!
//! This replaces rayon's pool, whose threads spin for a while before they sleep: with as many threads as cores this
//! takes time from the threads that read and write (docs/decisions/0020).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    /// Threads that sleep and were not woken since.
    idle: usize,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The threads. Dropping it waits for all submitted tasks.
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Aborts on a panic: the task's result would be missing, and the thread that waits for it would wait forever.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Workers {
    /// Starts `threads` threads named `name-0`, …; each calls `at_start` first.
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

    /// Submits a task, after all others. A panic in it ends the process.
    pub(super) fn give(&self, work: impl FnOnce() + Send + 'static) {
        self.put(|waiting| waiting.push_back(Box::new(work)));
    }

    /// Submits a task before all that have not started.
    pub(super) fn give_first(&self, work: impl FnOnce() + Send + 'static) {
        self.put(|waiting| waiting.push_front(Box::new(work)));
    }

    fn put(&self, put: impl FnOnce(&mut VecDeque<Work>)) {
        let mut queue = self.lock();
        put(&mut queue.waiting);
        // Notifying costs a system call even if no thread waits.
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
            // They end normally or abort the process.
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
