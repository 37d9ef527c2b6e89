//! Names entries: their paths in the archive, and which are hard links.

use crate::archive::links::{Links, Name};
use crate::archive::placed::{Link, MemberPlace, Placed, tell};
use crate::entry::{Entry, EntryKind};
use crate::events::{Observer, Severity};

/// Linux' `PATH_MAX` without the final NUL: the longest path that a program can pass in one call.
const LONGEST_PATH_BYTES: usize = 4095;

/// Names the entries of a filesystem, in the order of the walk.
pub(super) struct Namer {
    /// `.`, or `./directory`.
    prefix: Vec<u8>,
    links: Links,
}

impl Namer {
    pub(super) fn new() -> Self {
        Self { prefix: b".".to_vec(), links: Links::default() }
    }

    /// Begins a filesystem whose root is `.` or `./directory`.
    pub(super) fn start_filesystem(&mut self, directory: Option<&str>) {
        self.prefix = b".".to_vec();
        if let Some(directory) = directory {
            self.prefix.push(b'/');
            self.prefix.extend_from_slice(directory.as_bytes());
        }
        // The next filesystem may use the same device and inode numbers.
        self.links.clear();
    }

    /// Gives an entry its path, and notes it among the names of its inode.
    pub(super) fn place(&mut self, mut entry: Entry, observer: &dyn Observer) -> Box<Placed> {
        let mut path = Vec::with_capacity(self.prefix.len() + 1 + entry.path.len());
        path.extend_from_slice(&self.prefix);
        if !entry.path.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&entry.path);
        }
        if path.len() > LONGEST_PATH_BYTES {
            let what = "its path is longer than 4095 bytes: archived, but tar restores it only with --strip-components";
            tell(observer, Severity::Warning, &path, what);
        }
        let mut link = Link::None;
        let may_have_links = !matches!(entry.kind, EntryKind::Directory | EntryKind::Socket);
        if may_have_links && entry.metadata.nlink > 1 {
            let key = (entry.metadata.dev, entry.metadata.ino);
            link = match self.links.note(key, entry.metadata.nlink, &path) {
                Name::First => Link::First,
                Name::Further(first) => {
                    // The first name carries them. A group may have thousands of further names.
                    entry.xattrs = Vec::new();
                    Link::Further(first)
                }
                Name::NotKept => {
                    let what = "there are too many hard links; archived, but its other names become files of their own";
                    tell(observer, Severity::Warning, &path, what);
                    Link::None
                }
            };
        }
        Box::new(Placed { entry, path, link, previous: None, is_due: false, place: MemberPlace::Unknown })
    }

    /// Tries to leave out an entry, as if its inode was not seen. False if hard links already refer to it.
    pub(super) fn leave_out(&mut self, placed: &Placed) -> bool {
        let metadata = &placed.entry.metadata;
        placed.link == Link::None || self.links.take_back((metadata.dev, metadata.ino), metadata.nlink)
    }
}
