//! Limits the rate at which volumes are read: readers report each read to the observer, which delays them.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::events::{Event, Observer};
use crate::outside::Cancel;
use crate::outside::rate::Rate;

/// The maximum length of one sleep, and so of the reaction to a cancellation.
const SLICE: Duration = Duration::from_millis(100);
/// The maximum time of idle reading that is caught up.
const BURST: Duration = Duration::from_secs(1);

/// Wraps `observer` to limit the rate to `rate` bytes per second, if it is set.
pub fn throttled(observer: Arc<dyn Observer>, rate: Option<u64>, cancel: &Cancel) -> Arc<dyn Observer> {
    match rate {
        None => observer,
        Some(rate) => Arc::new(Throttle::new(observer, rate, cancel.clone())),
    }
}

/// Forwards events, and delays readers that exceed the rate.
pub(super) struct Throttle {
    next: Arc<dyn Observer>,
    rate: Rate,
    cancel: Cancel,
}

impl Throttle {
    pub(super) fn new(next: Arc<dyn Observer>, bytes_per_second: u64, cancel: Cancel) -> Self {
        Self { next, rate: Rate::new(bytes_per_second, BURST), cancel }
    }
}

impl Observer for Throttle {
    fn on_event(&self, event: &Event) {
        self.next.on_event(event);
        let Event::Read { bytes } = event else { return };
        let due = self.rate.due_after(*bytes, Instant::now());
        while !self.cancel.is_cancelled() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(SLICE));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::Throttle;
    use crate::events::{Event, Observer, Silent};
    use crate::outside::Cancel;

    #[test]
    fn reading_takes_as_long_as_the_rate_says() {
        let throttle = Throttle::new(Arc::new(Silent), 10 << 20, Cancel::default());
        let started = Instant::now();
        for _ in 0..6 {
            throttle.on_event(&Event::Read { bytes: 1 << 20 });
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(590) && took < Duration::from_secs(60), "{took:?}");
    }

    #[test]
    fn a_pause_is_made_up_for_within_bounds() {
        let throttle = Throttle::new(Arc::new(Silent), 100, Cancel::default());
        let later = Instant::now() + Duration::from_secs(60);
        assert!(throttle.rate.due_after(100, later) <= later, "one second's worth is free");
        assert!(throttle.rate.due_after(100, later) > later + Duration::from_millis(900));
    }

    #[test]
    fn a_wish_to_stop_is_heard() {
        let cancel = Cancel::default();
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        let started = Instant::now();
        Throttle::new(Arc::new(Silent), 1, cancel).on_event(&Event::Read { bytes: 1 << 30 });
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
