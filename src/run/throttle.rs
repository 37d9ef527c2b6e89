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
    limited(observer, rate.map(self::rate).as_ref(), cancel)
}

/// The limit of all observers that share it.
pub(super) fn rate(bytes_per_second: u64) -> Arc<Rate> {
    Arc::new(Rate::new(bytes_per_second, BURST))
}

/// As [`throttled`], with a limit that other observers may share.
pub(super) fn limited(observer: Arc<dyn Observer>, rate: Option<&Arc<Rate>>, cancel: &Cancel) -> Arc<dyn Observer> {
    match rate {
        None => observer,
        Some(rate) => Arc::new(Throttle::new(observer, Arc::clone(rate), cancel.clone())),
    }
}

/// Forwards events, and delays readers that exceed the rate.
pub(super) struct Throttle {
    next: Arc<dyn Observer>,
    rate: Arc<Rate>,
    cancel: Cancel,
}

impl Throttle {
    pub(super) fn new(next: Arc<dyn Observer>, rate: Arc<Rate>, cancel: Cancel) -> Self {
        Self { next, rate, cancel }
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

    use super::{Throttle, rate};
    use crate::events::{Event, Observer, Silent};
    use crate::outside::Cancel;

    #[test]
    fn reading_takes_as_long_as_the_rate_says() {
        let throttle = Throttle::new(Arc::new(Silent), rate(10 << 20), Cancel::default());
        let started = Instant::now();
        for _ in 0..6 {
            throttle.on_event(&Event::Read { bytes: 1 << 20 });
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(590) && took < Duration::from_secs(60), "{took:?}");
    }

    #[test]
    fn readers_that_share_a_rate_are_limited_together() {
        let shared = rate(10 << 20);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let throttle = Throttle::new(Arc::new(Silent), Arc::clone(&shared), Cancel::default());
                    for _ in 0..3 {
                        throttle.on_event(&Event::Read { bytes: 1 << 20 });
                    }
                });
            }
        });
        assert!(started.elapsed() >= Duration::from_millis(590), "{:?}", started.elapsed());
    }

    #[test]
    fn a_pause_is_made_up_for_within_bounds() {
        let throttle = Throttle::new(Arc::new(Silent), rate(100), Cancel::default());
        let later = Instant::now() + Duration::from_secs(60);
        assert!(throttle.rate.due_after(100, later) <= later, "one second's worth is free");
        assert!(throttle.rate.due_after(100, later) > later + Duration::from_millis(900));
    }

    #[test]
    fn a_wish_to_stop_is_heard() {
        let cancel = Cancel::default();
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        let started = Instant::now();
        Throttle::new(Arc::new(Silent), rate(1), cancel).on_event(&Event::Read { bytes: 1 << 30 });
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
