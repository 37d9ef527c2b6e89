//! Image archives: a whole volume, byte for byte, in gzip members, with an index. `docs/format.md` describes both.
//!
//! [`mod@write`] makes them, with members of the previous archive ([`parent`]) where the content is the same. [`blocks`] reads
//! them at any offset, [`check`] from the first to the last byte. Used are the codec, the threads and the order of members of
//! the `tar` archives. Members of zeros are not compressed: they are known (`zeros`).

pub mod blocks;
pub mod check;
pub mod index;
pub mod mapping;
pub mod parent;
mod sink;
mod volume;
pub mod write;
mod zeros;

/// Where members of a volume are cut.
pub const BORDER_BYTES: u64 = super::codec::MAX_MEMBER_DATA as u64;
/// A member of zeros holds at most this much, and ends where such a piece of the volume ends.
pub const MAX_ZERO_BYTES: u64 = 64 << 20;
