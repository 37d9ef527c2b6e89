//! Gives a filesystem's entries, with their metadata and data, one after the other.
//!
//! [`FsReader`] is the seam: an ext4 that is read here ([`ext4::Ext4`]), the kernel's view of a mounted filesystem
//! ([`kernel::tree::TreeWalk`]) and a region's bytes as one large file ([`raw::RawImage`]) are read alike by whoever
//! archives them.

pub mod ahead;
pub mod exclude;
pub mod ext4;
pub mod filesystem;
pub mod kernel;
mod listing;
mod name_digest;
pub mod open;
pub mod raw;
pub mod walk;

use crate::entry::Entry;
use crate::events::Problem;

/// One thing that a reader found, in the order in which it is to be archived.
pub enum Found {
    /// An entry.
    Entry(Entry),
    /// Something that could not be read, or not wholly. What follows is still good.
    Problem(Problem),
    /// Something that the reader cannot give as a file, since it is encrypted or its name leads to another one: only the
    /// region's bytes have it.
    Sealed(Problem),
}

/// Reads a filesystem, or something that looks like one, from its root on.
///
/// The root itself comes first, every directory before what lies in it. The same tree gives the same order each time.
pub trait FsReader {
    /// The next thing, or `None` after the last.
    fn next_found(&mut self) -> Option<Found>;
}

impl<R: FsReader + ?Sized> FsReader for Box<R> {
    fn next_found(&mut self) -> Option<Found> {
        (**self).next_found()
    }
}
