//! Entries on their way into the archive, with archive name and hard link state, and used entries on their way
//! back.

use super::index::EntryLine;
use crate::entry::{Entry, EntryKind, Timestamp};
use crate::events::{Event, Observer, Problem, Severity};
use crate::shown;

/// Used entries are returned in batches of this many.
const SPENT_ENTRIES: usize = 256;

/// An entry with its name in the archive and its hard link state.
pub(super) struct Placed {
    pub(super) entry: Entry,
    pub(super) path: Vec<u8>,
    pub(super) link: Link,
    /// The entry's line in the previous index, if its times are unchanged.
    pub(super) previous: Option<PreviousLine>,
    /// Whether it is read because that is due today: nothing of it is copied without being compared.
    pub(super) is_due: bool,
    /// Where it was in a member of the previous archive.
    pub(super) place: MemberPlace,
}

/// Where an entry was in the member of the previous archive that it shares with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MemberPlace {
    /// It is new, or unknown.
    #[default]
    Unknown,
    /// Others followed.
    Within,
    /// It was the last one.
    Last,
}

impl MemberPlace {
    /// Of an entry with so many others behind it.
    pub(super) fn before(others: usize) -> Self {
        if others == 0 { Self::Last } else { Self::Within }
    }
}

/// The hard link state of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// No other names, or unknown.
    None,
    /// The first name; others may follow.
    First,
    /// A further name; the first one is this path.
    Further(Vec<u8>),
}

/// The part of a previous index line that reveals a change that the times do not show.
pub(super) struct PreviousLine {
    pub(super) head: [u8; 16],
    pub(super) ino: u64,
    pub(super) ctime: Timestamp,
    pub(super) content: Option<[u8; 32]>,
}

/// The facts to count and report about a copied entry.
pub(super) struct Same {
    pub(super) is_sparse: bool,
    pub(super) data_bytes: u64,
    pub(super) left_out_xattrs: Vec<Vec<u8>>,
}

impl PreviousLine {
    pub(super) fn of(line: &EntryLine) -> Self {
        Self { head: line.head, ino: line.ino, ctime: line.ctime, content: line.content }
    }
}

impl Placed {
    /// Whether it is a further name of an inode in the archive.
    pub(super) fn is_further_name(&self) -> bool {
        matches!(self.link, Link::Further(_))
    }

    /// Queries an open file for its flags. True if they differ from those of the walk.
    pub(super) fn take_flags(&mut self) -> bool {
        let EntryKind::File(content) = &self.entry.kind else { return false };
        let Some((flags, project)) = content.inode_flags() else { return false };
        let metadata = &mut self.entry.metadata;
        let is_new = (flags, project) != (metadata.flags, metadata.project);
        (metadata.flags, metadata.project) = (flags, project);
        is_new
    }

    /// Closes the file; it is reopened when it is read.
    pub(super) fn close(&self) {
        if let EntryKind::File(content) = &self.entry.kind {
            content.close();
        }
    }
}

/// Reports a problem of the entry at `path`.
pub(super) fn tell(observer: &dyn Observer, severity: Severity, path: &[u8], what: impl Into<String>) {
    observer.on_event(&Event::Problem(Problem::new(severity, shown::path(path), what)));
}

/// Used entries, whose memory the walk may reuse.
#[derive(Default)]
pub(super) struct Spent(Vec<Entry>);

impl Spent {
    pub(super) fn add(&mut self, mut entry: Entry) {
        if let EntryKind::File(content) = &entry.kind {
            content.close();
        }
        // Their size is not bounded.
        entry.xattrs = Vec::new();
        if self.0.len() == SPENT_ENTRIES {
            self.0.clear();
        }
        self.0.push(entry);
    }

    /// A full batch; `None` until there is one.
    pub(super) fn take(&mut self) -> Option<Vec<Entry>> {
        (self.0.len() >= SPENT_ENTRIES).then(|| std::mem::replace(&mut self.0, Vec::with_capacity(SPENT_ENTRIES)))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
