//! A limit for what is sent: the bytes of a body leave no faster, over all connections together.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The bytes between two pauses.
const PIECE_BYTES: usize = 64 << 10;

/// So many bytes per second.
#[derive(Debug)]
pub(crate) struct Rate {
    bytes_per_second: u64,
    /// When the bytes sent so far are due.
    due: Mutex<Instant>,
}

impl Rate {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), due: Mutex::new(Instant::now()) }
    }

    /// The time that so many bytes take alone.
    pub(crate) fn time_for(&self, bytes: u64) -> Duration {
        let seconds = bytes / self.bytes_per_second;
        let rest = bytes % self.bytes_per_second * 1_000_000 / self.bytes_per_second;
        Duration::from_secs(seconds) + Duration::from_micros(rest)
    }

    /// Waits until so many more bytes may be sent.
    fn pass(&self, bytes: usize) {
        let now = Instant::now();
        let until = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*due).max(now);
            *due = begin + self.time_for(bytes as u64);
            *due
        };
        sleep(until.saturating_duration_since(now));
    }
}

/// A body that is read no faster than its rate.
pub(super) struct Slowed<'a> {
    left: &'a [u8],
    rate: &'a Rate,
}

impl<'a> Slowed<'a> {
    pub(super) fn new(body: &'a [u8], rate: &'a Rate) -> Self {
        Self { left: body, rate }
    }
}

impl Read for Slowed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.left.len()).min(PIECE_BYTES);
        self.rate.pass(len);
        buf[..len].copy_from_slice(&self.left[..len]);
        self.left = &self.left[len..];
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::{Duration, Instant};

    use super::{Rate, Slowed};

    #[test]
    fn two_bodies_share_a_rate() {
        let rate = Rate::new(1 << 20);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut read = Vec::new();
                    let body = vec![7; 256 << 10];
                    Slowed::new(&body, &rate).read_to_end(&mut read).unwrap();
                    assert_eq!(read, body);
                });
            }
        });
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(480), "{took:?}");
        assert_eq!(rate.time_for(3 << 19), Duration::from_millis(1500));
    }
}
