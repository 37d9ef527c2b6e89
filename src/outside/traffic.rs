//! What was exchanged with a store over a network.

use std::fmt;

use crate::units::ByteLen;

/// Requests and bytes of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, each repetition included.
    pub requests: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes that the store copied by itself.
    pub copied_bytes: u64,
}

impl Traffic {
    /// What came after an earlier state.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            sent_bytes: self.sent_bytes.saturating_sub(earlier.sent_bytes),
            received_bytes: self.received_bytes.saturating_sub(earlier.received_bytes),
            copied_bytes: self.copied_bytes.saturating_sub(earlier.copied_bytes),
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, sent_bytes, received_bytes, copied_bytes } = *self;
        let [sent, received, copied] = [sent_bytes, received_bytes, copied_bytes].map(ByteLen);
        write!(formatter, "{requests} requests to the store: {sent} sent, {received} received, {copied} copied there")
    }
}
