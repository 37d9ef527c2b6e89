//! What a walk asks of a filesystem.

use std::io;

use crate::entry::{EntryKind, Metadata, Xattr};
use crate::events::Severity;
use crate::reader::listing::Listing;

/// A filesystem's directories and inodes, as a [`Walk`](super::Walk) asks for them.
pub trait Tree {
    /// A directory that can be listed.
    type Directory;

    /// How many directories of the current path are held open. Those further out are let go of, and come back by
    /// [`Tree::parent_of`].
    const OPEN_DIRECTORIES: usize;

    /// The root. What is wrong with it and does not keep it out is added to `complaints`.
    fn root(&mut self, complaints: &mut Vec<String>) -> io::Result<OpenDirectory<Self::Directory>>;

    /// A directory's names. With an error come those that were read before it.
    fn list(&mut self, directory: &Self::Directory) -> Result<Listing, (Listing, io::Error)>;

    /// What `name`, with the inode that the listing gave it, is. `path` leads to it from the root. An error is why it is left
    /// out; what is wrong and does not keep it out is added to `complaints`.
    fn look_at(
        &mut self,
        directory: &Self::Directory,
        name: &[u8],
        ino: u64,
        path: &[u8],
        complaints: &mut Vec<String>,
    ) -> Result<Looked<Self::Directory>, LookError>;

    /// The directory around `child`, which had these numbers.
    fn parent_of(&mut self, child: Self::Directory, dev: u64, ino: u64) -> io::Result<Self::Directory>;

    /// What the last call has noticed besides: for the directory that was listed, or the name that was looked at.
    fn remarks(&mut self) -> Vec<(Severity, String)> {
        Vec::new()
    }

    /// What the directory says of the type of the name that is looked at next; see `Listing::note_type`.
    fn expect_type(&mut self, _stored_type: u8) {}

    /// Whether this inode, which is left out, is a directory with nothing in it; it then counts as met.
    fn is_empty_directory(&mut self, _ino: u64) -> bool {
        false
    }

    /// What is to be said of the filesystem as a whole at the walk's end. `is_whole` says that nothing was left out.
    fn at_end(&mut self, _is_whole: bool) -> Vec<(Severity, String)> {
        Vec::new()
    }

    /// The walk has come to `position` of a listing, and will go on from there.
    fn look_ahead(&mut self, _directory: &Self::Directory, _listing: &Listing, _position: Position) {}
}

/// Where in a listing the walk is.
#[derive(Clone, Copy)]
pub enum Position {
    /// Before this one, and none was looked at.
    Start(usize),
    /// At this one.
    At(usize),
}

/// A directory that was opened.
pub struct OpenDirectory<D> {
    /// To list it by.
    pub directory: D,
    /// Its inode's facts.
    pub metadata: Metadata,
    /// Its attributes.
    pub xattrs: Vec<Xattr>,
    /// Its names are encrypted: what a listing would show are none of them.
    pub is_sealed: bool,
}

/// Why a name is left out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// No system call takes such a name.
    #[error("its name holds a zero byte, left out")]
    ZeroByte,
    /// Its inode cannot be read.
    #[error("cannot be read, left out: {0}")]
    Inode(io::Error),
    /// The kernel finds another inode by the name than the listing has.
    #[error("its directory says inode {listed}, and the kernel finds {found} by its name, left out")]
    OtherInode {
        /// The number in the listing.
        listed: u64,
        /// The number that the kernel gives.
        found: u64,
    },
    /// The listing has a number that no inode has.
    #[error("leads to no inode, left out")]
    NoInode,
    /// It is one of the inodes that ext keeps for itself.
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
    /// Its inode has a type that Linux does not have.
    #[error("is of a type that is not known, left out")]
    UnknownType,
}

/// What a name is.
pub enum Looked<D> {
    /// A directory.
    Directory(OpenDirectory<D>),
    /// Anything else.
    Other(EntryKind, Metadata, Vec<Xattr>),
    /// Anything else whose content is encrypted.
    Sealed,
    /// Nothing that is archived. [`Tree::at_end`] says so.
    LeftOut,
}
