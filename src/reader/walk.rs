//! Walks a directory tree from its root, through the kernel or volbak's own reader.
//!
//! In each directory files come before subdirectories, both sorted by inode number and name. This is close to their
//! order on the disk, and the same every night. Memory holds one listing per level of the current path; if they
//! grow too large, outer listings are dropped and read again when the walk returns to them. The number of open
//! directories is bounded.

mod tree;

use std::collections::VecDeque;
use std::io;

pub use self::tree::{LookError, Looked, OpenDirectory, Position, Tree};
use super::exclude::Excludes;
use super::listing::{Listing, Twin};
use super::{Found, FsReader};
use crate::entry::{Entry, EntryKind, Metadata, Xattr};
use crate::events::{Problem, Severity};
use crate::shown;

/// The maximum length of a directory's path, in bytes. Deeper directories are reported and skipped, so that a
/// crafted endless chain of directories does not make an endless archive.
const MAX_PATH_BYTES: usize = 64 * 1024;
/// The maximum number of names in the listings of the current path; beyond that, outer listings are dropped.
const MAX_LISTED_NAMES: usize = 1 << 20;

/// A walk; see the module.
pub struct Walk<T: Tree> {
    tree: T,
    is_started: bool,
    is_ended: bool,
    /// Whether an entry was left out.
    is_partial: bool,
    excludes: Excludes,
    frames: Vec<Frame<T::Directory>>,
    /// The path of the current entry of the innermost frame.
    path: Vec<u8>,
    /// Whether the listing has that entry as a directory, and its inode number.
    current: (bool, u64),
    ready: VecDeque<Found>,
    complaints: Vec<String>,
    listed_names: usize,
    directories_left: Option<u64>,
}

/// A directory on the current path.
struct Frame<D> {
    /// `None` while the directory is closed.
    directory: Option<D>,
    dev: u64,
    ino: u64,
    path_len: usize,
    /// `None` before the first read, and while it is dropped to save memory.
    listing: Option<Listing>,
    /// The index of the next name in `listing`.
    position: usize,
    /// The last handled name, to resume when the listing is read again.
    last_done: Option<(bool, u64, Vec<u8>)>,
}

impl<T: Tree> Walk<T> {
    /// Walks all of `tree`. After `max_directories` the walk ends with a problem: a damaged filesystem can show one
    /// directory in many places.
    pub fn over(tree: T, excludes: Excludes, max_directories: Option<u64>) -> Self {
        Self {
            tree,
            is_started: false,
            is_ended: false,
            is_partial: false,
            excludes,
            frames: Vec::new(),
            path: Vec::new(),
            current: (false, 0),
            ready: VecDeque::new(),
            complaints: Vec::new(),
            listed_names: 0,
            directories_left: max_directories,
        }
    }

    fn problem(&mut self, what: impl Into<String>) {
        self.is_partial = true;
        self.ready.push_back(Found::Problem(Problem::new(Severity::Error, shown::path(&self.path), what)));
    }

    fn sealed(&mut self, what: &str) {
        self.is_partial = true;
        self.ready.push_back(Found::Sealed(Problem::new(Severity::Notice, shown::path(&self.path), what)));
    }

    fn tell_complaints(&mut self) {
        let location = &self.path;
        let problem = |what| Found::Problem(Problem::new(Severity::Error, shown::path(location), what));
        self.ready.extend(self.complaints.drain(..).map(problem));
    }

    fn tell_remarks(&mut self, remarks: Vec<(Severity, String)>) {
        let location = &self.path;
        let problem = |(severity, what)| Found::Problem(Problem::new(severity, shown::path(location), what));
        self.ready.extend(remarks.into_iter().map(problem));
    }

    fn start(&mut self) {
        match self.tree.root(&mut self.complaints) {
            Ok(root) => self.enter(root),
            Err(error) => self.problem(format!("the root directory cannot be read: {error}")),
        }
    }

    /// Queues the directory's own entry and makes it the innermost frame.
    fn enter(&mut self, opened: OpenDirectory<T::Directory>) {
        let OpenDirectory { directory, metadata, xattrs, is_sealed } = opened;
        self.queue(EntryKind::Directory, metadata, xattrs);
        if is_sealed {
            return self.sealed("the content of this directory is encrypted, and its key is not available");
        }
        self.frames.push(Frame {
            directory: Some(directory),
            dev: metadata.dev,
            ino: metadata.ino,
            path_len: self.path.len(),
            listing: None,
            position: 0,
            last_done: None,
        });
        if let Some(outermost_open) = self.frames.len().checked_sub(T::OPEN_DIRECTORIES.saturating_add(1)) {
            self.frames[outermost_open].directory = None;
        }
    }

    /// Handles the next name of the innermost directory. False if there is none.
    fn step(&mut self) -> bool {
        let Some(frame) = self.frames.last_mut() else { return false };
        self.path.truncate(frame.path_len);
        if frame.listing.is_none() && !self.read_listing() {
            return true;
        }
        let Some(frame) = self.frames.last_mut() else { return false };
        let Some(listing) = &frame.listing else { return true };
        let Some(item) = listing.items.get(frame.position) else {
            self.leave();
            return true;
        };
        let Some(directory) = &frame.directory else { return false };
        self.tree.look_ahead(directory, listing, Position::At(frame.position));
        frame.position += 1;
        let (is_directory, ino) = (item.is_directory, item.ino);
        let name = listing.stored_name(item);
        self.current = (is_directory, ino);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        let name_at = self.path.len();
        self.path.extend_from_slice(name);
        if self.excludes.leaves_out(&self.path, is_directory) {
            // An empty `lost+found`, excluded by default, does not make the walk partial.
            self.is_partial |= self.path != b"lost+found" || !self.tree.is_empty_directory(ino);
            return true;
        }
        if let Some(twin) = item.twin {
            let what = twin.what(listing.name(item));
            let problem = Problem::new(Severity::Error, shown::path(&self.path), what);
            // The entry exists in the region's image.
            self.ready.push_back(if twin == Twin::Hidden { Found::Sealed(problem) } else { Found::Problem(problem) });
            if twin != Twin::Renamed {
                self.is_partial = true;
                return true;
            }
            self.path.truncate(name_at);
            self.path.extend_from_slice(listing.name(item));
        }
        self.tree.expect_type(item.stored_type);
        let looked = self.tree.look_at(directory, name, ino, &self.path, &mut self.complaints);
        let remarks = self.tree.remarks();
        if !remarks.is_empty() {
            self.tell_remarks(remarks);
        }
        match looked {
            Ok(Looked::Directory(opened)) => self.visit_directory(opened),
            Ok(Looked::Other(kind, metadata, xattrs)) => self.queue(kind, metadata, xattrs),
            Ok(Looked::Sealed) => {
                self.tell_complaints();
                self.sealed("is encrypted, and its key is not available");
            }
            Ok(Looked::LeftOut) => {}
            Err(error) => {
                self.is_partial = true;
                self.tell_complaints();
                self.problem(error.to_string());
            }
        }
        true
    }

    fn visit_directory(&mut self, opened: OpenDirectory<T::Directory>) {
        self.tell_complaints();
        if self.path.len() >= MAX_PATH_BYTES {
            return self.problem(format!("lies deeper than {MAX_PATH_BYTES} bytes of path, left out with all in it"));
        }
        let Metadata { dev, ino, .. } = opened.metadata;
        if self.frames.iter().any(|frame| (frame.dev, frame.ino) == (dev, ino)) {
            return self.problem("this directory contains itself: the filesystem is damaged, left out");
        }
        if let Some(left) = &mut self.directories_left {
            let Some(one_less) = left.checked_sub(1) else {
                self.problem("more directories than the filesystem has inodes: it is damaged, the rest is left out");
                self.frames.clear();
                return;
            };
            *left = one_less;
        }
        // The listing may be dropped while the directory is walked.
        let (is_directory, listed_ino) = self.current;
        if let Some(frame) = self.frames.last_mut() {
            let name_at = frame.path_len + usize::from(frame.path_len > 0);
            frame.last_done = Some((is_directory, listed_ino, self.path[name_at..].to_vec()));
        }
        self.enter(opened);
    }

    fn queue(&mut self, kind: EntryKind, metadata: Metadata, xattrs: Vec<Xattr>) {
        self.tell_complaints();
        self.ready.push_back(Found::Entry(Entry { path: self.path.clone(), kind, metadata, xattrs }));
    }

    /// Reads the innermost directory's names. False if that failed and the directory was left.
    fn read_listing(&mut self) -> bool {
        let Some(frame) = self.frames.last_mut() else { return false };
        let Some(directory) = &frame.directory else { return false };
        let listing = match self.tree.list(directory) {
            Ok(listing) => listing,
            Err((listing, error)) => {
                self.is_partial = true;
                let problem = format!("the directory cannot be read, names may be missing: {error}");
                let location = shown::path(&self.path);
                self.ready.push_back(Found::Problem(Problem::new(Severity::Error, location, problem)));
                listing
            }
        };
        frame.position = match &frame.last_done {
            Some((is_directory, ino, name)) => {
                let done = (*is_directory, *ino, name.as_slice());
                listing.items.partition_point(|item| listing.key(item) <= done)
            }
            None => 0,
        };
        for (severity, what) in self.tree.remarks() {
            self.ready.push_back(Found::Problem(Problem::new(severity, shown::path(&self.path), what)));
        }
        self.listed_names += listing.items.len();
        self.tree.look_ahead(directory, &listing, Position::Start(frame.position));
        frame.listing = Some(listing);
        let innermost = self.frames.len() - 1;
        for outer in &mut self.frames[..innermost] {
            if self.listed_names <= MAX_LISTED_NAMES {
                break;
            }
            if let Some(dropped) = outer.listing.take() {
                self.listed_names -= dropped.items.len();
            }
        }
        true
    }

    /// Leaves the innermost directory, and reopens its parent if that was closed.
    fn leave(&mut self) {
        let Some(left) = self.frames.pop() else { return };
        self.listed_names -= left.listing.map_or(0, |listing| listing.items.len());
        let Some(frame) = self.frames.last_mut() else { return };
        if frame.directory.is_some() {
            return;
        }
        let child = left.directory.ok_or_else(|| io::Error::other("it was closed"));
        match child.and_then(|child| self.tree.parent_of(child, frame.dev, frame.ino)) {
            Ok(directory) => frame.directory = Some(directory),
            Err(error) => {
                self.path.truncate(frame.path_len);
                self.problem(format!("the way back to this directory is lost, the rest is left out: {error}"));
                self.frames.clear();
            }
        }
    }
}

impl<T: Tree> FsReader for Walk<T> {
    fn next_found(&mut self) -> Option<Found> {
        if !self.is_started {
            self.is_started = true;
            self.start();
        }
        while self.ready.is_empty() {
            if !self.step() {
                if !std::mem::replace(&mut self.is_ended, true) {
                    self.path.clear();
                    let remarks = self.tree.at_end(!self.is_partial);
                    self.tell_remarks(remarks);
                }
                break;
            }
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use crate::entry::EntryKind;
    use crate::reader::exclude::Excludes;
    use crate::reader::kernel::tree::TreeWalk;
    use crate::reader::{Found, FsReader};

    fn walk(root: &Path, max_directories: Option<u64>) -> (Vec<String>, Vec<String>) {
        let root = OwnedFd::from(fs::File::open(root).unwrap());
        let mut walk = TreeWalk::new(root, Excludes::new::<&str>(&[]).unwrap(), max_directories);
        let (mut paths, mut problems) = (Vec::new(), Vec::new());
        while let Some(found) = walk.next_found() {
            match found {
                Found::Entry(entry) => paths.push(crate::shown::path(&entry.path)),
                Found::Problem(problem) | Found::Sealed(problem) => problems.push(problem.to_string()),
            }
        }
        (paths, problems)
    }

    #[test]
    fn files_come_before_directories_and_parents_before_children() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/deep"), "x").unwrap();
        fs::write(dir.path().join("top"), "x").unwrap();
        let (paths, problems) = walk(dir.path(), None);
        assert_eq!(paths, ["/", "top", "a", "a/b", "a/b/deep"]);
        assert!(problems.is_empty());
    }

    #[test]
    fn a_path_deeper_than_the_open_directories_is_walked_to_its_end_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut deepest = dir.path().to_owned();
        for level in 0..200 {
            deepest.push(format!("d{level}"));
            fs::create_dir(&deepest).unwrap();
            fs::write(deepest.join("file"), "x").unwrap();
            fs::create_dir(deepest.join("z")).unwrap();
        }
        let (paths, problems) = walk(dir.path(), None);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(paths.len(), 1 + 200 * 3);
    }

    #[test]
    fn more_directories_than_allowed_end_the_walk_with_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..5 {
            fs::create_dir(dir.path().join(name.to_string())).unwrap();
        }
        let (paths, problems) = walk(dir.path(), Some(3));
        assert_eq!(paths.len(), 1 + 3);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn a_fifo_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let root = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        let mut walk = TreeWalk::new(root, Excludes::nothing(), None);
        walk.next_found();
        assert!(matches!(walk.next_found(), Some(Found::Entry(entry)) if matches!(entry.kind, EntryKind::Fifo)));
    }
}
