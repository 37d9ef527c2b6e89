//! Reads archives: volbak's own, and those of the documented script.
//!
//! [`stream`] finds members, decompresses them in parallel and yields their data in order; [`entries`] walks the
//! tar stream in that data ([`header`], [`records`], [`sparse`] and [`head`] are its formats); [`index_file`] reads
//! the index. Lengths, counts and offsets are never used without a check.
//!
//! Memory: the buffers of `2 × threads + 3` members, 2 MiB each, one index line or extended header of at most 12
//! MiB, and the entries of one member.

#[cfg(feature = "mount")]
pub(crate) mod anywhere;
mod cursor;
mod decode;
pub mod entries;
mod foreign;
pub mod head;
pub mod header;
pub mod header_error;
pub mod index_file;
pub mod index_plan;

mod input;
mod item;
mod job;
pub mod records;
mod scan;
pub mod sparse;
pub mod stream;
pub(crate) mod unsealed;
mod values;
