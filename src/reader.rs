//! Yields a filesystem's entries, with their metadata and data, in the order in which they are archived.
//!
//! [`FsReader`] is the seam. It has three implementations: volbak's own ext4 reader ([`ext4::Ext4`]), the kernel's
//! view of a mounted filesystem ([`kernel::tree::TreeWalk`]), and a region's bytes as one large file
//! ([`raw::RawImage`]).

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

/// An entry or a problem, in the order in which it is archived.
pub enum Found {
    /// A file, directory, link, device, FIFO or socket.
    Entry(Entry),
    /// An entry that could not be read, or only in part. The reader can go on after it.
    Problem(Problem),
    /// An entry that exists only in the image of the region: it is encrypted, or its name leads to another entry.
    Sealed(Problem),
}

/// Reads a filesystem, or an image that is read like one, from its root.
///
/// The root comes first, and each directory before its content. The same tree yields the same order each time.
pub trait FsReader {
    /// The next entry or problem, or `None` after the last.
    fn next_found(&mut self) -> Option<Found>;
}

impl<R: FsReader + ?Sized> FsReader for Box<R> {
    fn next_found(&mut self) -> Option<Found> {
        (**self).next_found()
    }
}
