//! Reads many small files of a destination in parallel. On a network share each file takes several round trips
//! without CPU work, so there are more threads than processors.
//!
//! The threads are rayon's and end with the work; `docs/decisions/0020` gives the reason why none are kept while
//! backups are made.

use std::sync::OnceLock;

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::process::{Resource, getrlimit};

/// The number of parallel requests that a share answers without delaying any of them much.
const THREADS: usize = 16;
/// Fewer files are read faster without threads.
const FEW: usize = 8;
/// The maximum number of descriptors that one thread has open: a quick check needs up to ten more.
const DESCRIPTORS_EACH: u64 = 24;
/// Descriptors open in the rest of the process.
const DESCRIPTORS_BESIDE: u64 = 64;
/// Enough: serde_json recurses at most 128 levels, and nothing else here recurses.
const STACK_BYTES: usize = 1 << 20;

/// A pool of threads, created when there are enough items for it.
#[derive(Debug)]
pub struct AtOnce {
    threads: usize,
    /// `None` if the threads cannot be created.
    pool: OnceLock<Option<ThreadPool>>,
}

impl Default for AtOnce {
    fn default() -> Self {
        Self { threads: threads_allowed(), pool: OnceLock::new() }
    }
}

impl AtOnce {
    /// The maximum number of items processed in parallel.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Maps `items` with `work`, keeping their order. Runs sequentially if there are few items, if threads cannot
    /// be created, or if a limit of the process could make parallel work fail where sequential work does not.
    pub fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
        let is_worth_it = items.len() >= FEW && self.threads > 1;
        match is_worth_it.then(|| self.pool.get_or_init(|| self.make_pool())).and_then(Option::as_ref) {
            // One item may take a thousand times as long as another, so no item waits in a fixed queue behind
            // another.
            Some(pool) => pool.install(|| items.into_par_iter().with_max_len(1).map(work).collect()),
            None => items.into_iter().map(work).collect(),
        }
    }

    fn make_pool(&self) -> Option<ThreadPool> {
        let builder = ThreadPoolBuilder::new().num_threads(self.threads).stack_size(STACK_BYTES);
        builder.thread_name(|number| format!("read-{number}")).build().ok()
    }
}

/// Checked in advance: a lack of descriptors or memory would make a good backup look unreadable.
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
        // Each item waits until all threads are running, so the test would hang with fewer.
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
