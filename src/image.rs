//! Disk images in files: qcow2, which is written and read here, and raw files with holes.
//!
//! A disk is copied in one pass. [`runs::DataRuns`] says which bytes of it hold data, [`copy::Copy`] reads them piece by
//! piece, and an [`ImageWriter`] writes them to a [`sink::Sink`] in ascending order. A [`digest::DiskDigest`], made on the way,
//! shows afterwards that the image holds the same. `docs/decisions/0050-own-qcow2.md` says why the files look as they do.

pub mod copy;
pub mod digest;
pub mod format;
pub mod make;
pub mod qcow2;
pub mod raw;
pub mod runs;
pub mod sink;

use std::io;

/// Writes a disk as an image: gets its data in ascending order, and drops what is all zeros.
pub trait ImageWriter {
    /// Chunks begin and end at multiples of this number of bytes. A power of two.
    fn granule_bytes(&self) -> usize;

    /// Writes what lies at `start`: a multiple of the granule, in ascending order; the last one is filled up with zeros.
    fn write_chunk(&mut self, start: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes what is left, and gives how long the image is. Nothing is synced.
    fn finish(&mut self) -> io::Result<u64>;
}
