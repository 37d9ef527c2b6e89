//! Bodies that are sent no faster than a rate, over all connections together.

use std::io::{self, Read};
use std::thread::sleep;
use std::time::Instant;

use crate::outside::rate::Rate;

/// The bytes between two pauses.
const PIECE_BYTES: usize = 64 << 10;

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
        let now = Instant::now();
        sleep(self.rate.due_after(len as u64, now).saturating_duration_since(now));
        buf[..len].copy_from_slice(&self.left[..len]);
        self.left = &self.left[len..];
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::{Duration, Instant};

    use super::Slowed;
    use crate::outside::rate::Rate;

    #[test]
    fn two_bodies_share_a_rate() {
        let rate = Rate::new(1 << 20, Duration::ZERO);
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
