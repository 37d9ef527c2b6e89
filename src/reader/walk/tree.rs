//! The interface between a walk and a filesystem.

use std::io;

use crate::entry::{EntryKind, Metadata, Xattr};
use crate::events::Severity;
use crate::reader::listing::Listing;

/// The directories and inodes of a filesystem, for a [`Walk`](super::Walk).
pub trait Tree {
    /// A directory that can be listed.
    type Directory;

    /// How many directories of the current path stay open. Outer ones are closed, and reopened by
    /// [`Tree::parent_of`].
    const OPEN_DIRECTORIES: usize;

    /// Opens the root. Problems that do not prevent this are added to `complaints`.
    fn root(&mut self, complaints: &mut Vec<String>) -> io::Result<OpenDirectory<Self::Directory>>;

    /// Lists a directory. An error comes with the names read before it.
    fn list(&mut self, directory: &Self::Directory) -> Result<Listing, (Listing, io::Error)>;

    /// Looks up `name`, with the inode number from the listing, at `path` from the root. An error means that it is
    /// left out. Other problems are added to `complaints`.
    fn look_at(
        &mut self,
        directory: &Self::Directory,
        name: &[u8],
        ino: u64,
        path: &[u8],
        complaints: &mut Vec<String>,
    ) -> Result<Looked<Self::Directory>, LookError>;

    /// Reopens the parent of `child`. `dev` and `ino` are those of the parent.
    fn parent_of(&mut self, child: Self::Directory, dev: u64, ino: u64) -> io::Result<Self::Directory>;

    /// Further problems found by the last call, about the listed directory or the name looked up.
    fn remarks(&mut self) -> Vec<(Severity, String)> {
        Vec::new()
    }

    /// The type that the directory stores for the name looked up next; see `Listing::note_type`.
    fn expect_type(&mut self, _stored_type: u8) {}

    /// Whether this excluded inode is an empty directory. It then counts as met.
    fn is_empty_directory(&mut self, _ino: u64) -> bool {
        false
    }

    /// Problems of the filesystem as a whole at the end of the walk. `is_whole`: no entry was left out.
    fn at_end(&mut self, _is_whole: bool) -> Vec<(Severity, String)> {
        Vec::new()
    }

    /// A hint that the walk is at `position` of the listing and goes on from there.
    fn look_ahead(&mut self, _directory: &Self::Directory, _listing: &Listing, _position: Position) {}
}

/// A position of the walk in a listing.
#[derive(Clone, Copy)]
pub enum Position {
    /// Before this index; nothing of the listing was looked up yet.
    Start(usize),
    /// At this index.
    At(usize),
}

/// An open directory.
pub struct OpenDirectory<D> {
    /// The directory, for listing.
    pub directory: D,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Its names are encrypted, so a listing would show none of the real ones.
    pub is_sealed: bool,
}

/// Why a name is left out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// The name contains a NUL byte, so no system call accepts it.
    #[error("its name holds a zero byte, left out")]
    ZeroByte,
    /// Its inode cannot be read.
    #[error("cannot be read, left out: {0}")]
    Inode(io::Error),
    /// The kernel resolves the name to another inode than the listing has.
    #[error("its directory says inode {listed}, and the kernel finds {found} by its name, left out")]
    OtherInode {
        /// The number in the listing.
        listed: u64,
        /// The number from the kernel.
        found: u64,
    },
    /// The listing's inode number is invalid.
    #[error("leads to no inode, left out")]
    NoInode,
    /// The inode is reserved by ext.
    #[error("leads to inode {0}, which is not for files; left out")]
    ReservedInode(u32),
    /// Two names lead to one directory.
    #[error("leads to directory {0}, to which another name led before; left out: the filesystem is damaged")]
    SecondName(u32),
    /// A directory that cannot be opened.
    #[error("the directory cannot be opened, left out: {0}")]
    Directory(io::Error),
    /// A symbolic link whose target cannot be read.
    #[error("the symbolic link cannot be read, left out: {0}")]
    Symlink(io::Error),
    /// Its inode has an invalid type.
    #[error("has an unknown type, left out")]
    UnknownType,
}

/// The result of a lookup.
pub enum Looked<D> {
    /// A directory.
    Directory(OpenDirectory<D>),
    /// An entry of another type.
    Other(EntryKind, Metadata, Vec<Xattr>),
    /// An entry of another type whose content is encrypted.
    Sealed,
    /// An entry that is not archived; [`Tree::at_end`] reports it.
    LeftOut,
}
