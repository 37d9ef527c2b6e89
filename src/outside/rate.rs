//! A limit of bytes per second, over all who share it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many bytes per second.
#[derive(Debug)]
pub(crate) struct Rate {
    bytes_per_second: u64,
    /// The maximum idle time that is caught up.
    burst: Duration,
    /// When the bytes so far are due.
    due: Mutex<Instant>,
}

impl Rate {
    pub(crate) fn new(bytes_per_second: u64, burst: Duration) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), burst, due: Mutex::new(Instant::now()) }
    }

    /// The time that so many bytes take alone.
    pub(crate) fn time_for(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Adds bytes; returns when the next ones may follow.
    pub(crate) fn due_after(&self, bytes: u64, now: Instant) -> Instant {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = (*due).max(now.checked_sub(self.burst).unwrap_or(now)) + self.time_for(bytes);
        *due
    }
}
