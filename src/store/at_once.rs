//! Many small files of a destination, read at once. On a network share each takes several round trips, during which the
//! processors have nothing to do: so there are more readers than processors.
//!
//! The threads are rayon's, and end with the work: `docs/decisions/0020` says why none are kept while backups are made.

use std::sync::OnceLock;

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::process::{Resource, getrlimit};

/// A share answers so many requests at once without making any of them wait for long.
const THREADS: usize = 16;
/// Fewer files than this are read sooner than threads are made.
const FEW: usize = 8;
/// What one thread has open at most: a quick check looks whether it can have ten more.
const DESCRIPTORS_EACH: u64 = 24;
/// What the rest of the process has open.
const DESCRIPTORS_BESIDE: u64 = 64;
/// serde_json goes no deeper than 128 levels, and nothing else here recurses.
const STACK_BYTES: usize = 1 << 20;

/// Threads that work on many pieces at a time, made when there are enough pieces for that.
#[derive(Debug)]
pub struct AtOnce {
    threads: usize,
    /// `None`: they cannot be made.
    pool: OnceLock<Option<ThreadPool>>,
}

impl Default for AtOnce {
    fn default() -> Self {
        Self { threads: threads_allowed(), pool: OnceLock::new() }
    }
}

impl AtOnce {
    /// How many pieces are worked on at a time, at most.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What `work` makes of each, in their order. It is one after another when there are few, when no threads can be made, or
    /// where the process has a limit by which several at once could fail where one does not.
    pub fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
        let is_worth_it = items.len() >= FEW && self.threads > 1;
        match is_worth_it.then(|| self.pool.get_or_init(|| self.make_pool())).and_then(Option::as_ref) {
            // One piece may take a thousand times as long as another: none waits behind it in a queue of its own.
            Some(pool) => pool.install(|| items.into_par_iter().with_max_len(1).map(work).collect()),
            None => items.into_iter().map(work).collect(),
        }
    }

    fn make_pool(&self) -> Option<ThreadPool> {
        let builder = ThreadPoolBuilder::new().num_threads(self.threads).stack_size(STACK_BYTES);
        builder.thread_name(|number| format!("read-{number}")).build().ok()
    }
}

/// A descriptor or memory that is missing would make a good backup look like one that cannot be read.
fn threads_allowed() -> usize {
    if getrlimit(Resource::As).current.is_some() || getrlimit(Resource::Data).current.is_some() {
        return 1;
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let threads = descriptors.saturating_sub(DESCRIPTORS_BESIDE) / DESCRIPTORS_EACH;
    usize::try_from(threads).unwrap_or(THREADS).clamp(1, THREADS)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{AtOnce, FEW, THREADS};

    #[test]
    fn the_order_is_that_of_the_items() {
        let items: Vec<usize> = (0..5000).collect();
        let doubled = AtOnce::default().map(items.clone(), |item| item * 2);
        assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(AtOnce::default().map(Vec::<u8>::new(), |item| item), Vec::<u8>::new());
    }

    #[test]
    fn many_are_worked_on_at_a_time_and_no_more_than_that() {
        let at_once = AtOnce::default();
        let threads = at_once.threads();
        assert!((2..=THREADS).contains(&threads), "{threads}");
        // Each waits until all threads are at it: with fewer this would never end.
        let (barrier, running, most) = (Barrier::new(threads), AtomicUsize::new(0), AtomicUsize::new(0));
        at_once.map((0..threads * 4).collect::<Vec<_>>(), |_| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            barrier.wait();
            running.fetch_sub(1, Ordering::SeqCst);
        });
        assert!(most.into_inner() <= THREADS);
        let few = AtOnce::default();
        few.map((1..FEW).collect(), |_| {
            assert!(std::thread::current().name().is_none_or(|name| !name.starts_with("read-")));
        });
        assert!(few.pool.get().is_none());
    }
}
