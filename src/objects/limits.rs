//! What a client may take.

use std::time::Duration;

/// Limits of a client.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time for one request with all its repetitions.
    pub deadline: Duration,
    /// The time for one attempt, and a second more for each 128 KiB that it moves, or 4 MiB that the store copies.
    pub attempt: Duration,
    /// The pause before the second attempt; it doubles from then on.
    pub pause: Duration,
    /// Bytes per second that are sent at most, over all connections.
    pub upload_rate: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(300),
            attempt: Duration::from_secs(60),
            pause: Duration::from_millis(200),
            upload_rate: None,
        }
    }
}
