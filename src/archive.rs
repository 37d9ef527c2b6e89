//! Archives: a POSIX pax stream in gzip members, with an index and a manifest. `docs/format.md` describes all three
//! for people who read them without volbak.
//!
//! Writing goes [`mod@write`] (entries are named and queued) → [`carry`] (copied from the previous backup, or read)
//! → `tar` (the tar stream) → [`members`] (compressed in parallel, put in order, hashed and written). [`pax`],
//! [`gzip`] and [`index`] are the formats. [`read`] goes the other way.

pub mod acl;
pub mod carry;
pub mod codec;
pub mod counts;
mod data;
pub mod error;
pub mod gzip;
mod head_digest;
pub mod image;
pub mod index;
pub mod kind;
pub mod level;
mod links;
pub mod members;
pub mod pax;
mod placed;
pub mod read;
mod runs;
#[cfg(feature = "encryption")]
mod sealed;
mod tar;
mod workers;
pub mod write;
mod zstd;
