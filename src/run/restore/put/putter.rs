//! The tree, the restoring process, and common functions for all types of entries.

use std::collections::HashSet;

use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use super::error::{EXISTS, NameError, in_words};
use crate::run::restore::attributes::{Restorer, Rules};
use crate::run::restore::locks::Locks;
use crate::run::restore::options::Existing;
use crate::run::restore::path::{BadPath, parts_below};
use crate::run::restore::tree::{Tree, is_directory, stat_here};

/// The result for an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was restored exactly.
    Restored,
    /// It existed already and is equal.
    Present,
    /// It was skipped as requested, for this reason.
    LeftOut(String),
    /// It existed already, differs as described, and is kept.
    Kept(String),
    /// Another entry of that name existed already, and is kept.
    InTheWay,
    /// A link whose target was not restored or not selected.
    TargetMissing {
        /// The target's path in the archive.
        target: Vec<u8>,
    },
    /// It was not restored, or not exactly, for this reason.
    Failed(String),
    /// The same, and the reason is that the target has no room.
    NoRoom(String),
}

impl Outcome {
    /// The outcome of a failure that the system gave this number.
    pub(super) fn refused(errno: Option<Errno>, what: String) -> Self {
        if matches!(errno, Some(Errno::NOSPC | Errno::DQUOT)) { Self::NoRoom(what) } else { Self::Failed(what) }
    }
}

/// Options for putting entries.
#[derive(Clone, Copy, Debug)]
pub struct PutOptions {
    /// The treatment of existing entries.
    pub existing: Existing,
    /// Whether digests are compared with the index.
    pub verify: bool,
    /// Whether devices are created.
    pub devices: bool,
    /// Whether the tree's own directory gets the attributes of the archive's root.
    pub top: bool,
}

/// The tree and the restoring process.
#[derive(Debug)]
pub struct Putter {
    /// The tree.
    pub tree: Tree,
    /// The restoring process.
    pub restorer: Restorer,
    /// The options.
    pub options: PutOptions,
    /// The rules for attributes.
    pub rules: Rules,
    /// The directory of the archive that is the tree's root; empty for the archive's own root.
    pub below: Vec<u8>,
    /// Entries that become immutable or append-only at the end.
    pub locks: Locks,
    /// Device and inode of each file that has the backup's content; `None` if nothing else can be in the tree.
    pub ours: Option<HashSet<(u64, u64)>>,
}

/// The maximum number of files to remember; a link to a further one gets the data from the archive.
const MAX_OURS: usize = 1 << 20;

impl Putter {
    /// The components of an entry's place in the tree.
    pub fn parts<'a>(&self, path: &'a [u8]) -> Result<Vec<&'a [u8]>, BadPath> {
        parts_below(path, &self.below)
    }

    /// Whether a complete file may replace the existing entry of its name under `Overwrite`; the error gives the
    /// reason. `is_indexed`: a volbak archive, which contains each name once.
    pub(super) fn may_replace(&self, name: &[u8], is_indexed: bool) -> Result<bool, NameError> {
        self.tree.check_own_name(name).map_err(NameError::Look)?;
        if self.tree.is_fresh() && is_indexed {
            return Err(NameError::Twice);
        }
        Ok(self.options.existing == Existing::Overwrite)
    }

    /// Remembers that `name` in the current directory has the backup's content.
    pub(super) fn note_ours(&mut self, name: &[u8]) {
        let Some(ours) = self.ours.as_mut().filter(|ours| ours.len() < MAX_OURS) else { return };
        if let Ok(Some(facts)) = self.tree.here().and_then(|here| stat_here(here, name)) {
            ours.insert((facts.st_dev, facts.st_ino));
        }
    }

    /// Whether a file has the backup's content, and not only its name: what was there before may have another one.
    pub(super) fn is_ours(&self, facts: &Stat) -> bool {
        self.ours.as_ref().is_none_or(|ours| ours.contains(&(facts.st_dev, facts.st_ino)))
    }

    /// The outcome for an entry whose name is taken by one that is kept.
    pub(super) fn in_the_way(&self) -> Outcome {
        if self.keeps_others() { Outcome::InTheWay } else { Outcome::Failed(EXISTS.to_owned()) }
    }

    /// Whether an existing entry may be foreign and is kept.
    pub(super) fn keeps_others(&self) -> bool {
        self.options.existing != Existing::Overwrite && !self.tree.was_empty
    }

    /// Removes an entry in a directory's place, unless it is a directory.
    pub(super) fn remove_other(&self, name: &[u8]) -> Result<(), Errno> {
        let here = self.tree.here()?;
        match stat_here(here, name)? {
            Some(facts) if !is_directory(&facts) => {
                self.tree.check_own_name(name)?;
                rustix::fs::unlinkat(here, name, AtFlags::empty())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_directory(&self, name: &[u8]) -> bool {
        let facts = self.tree.here().and_then(|here| stat_here(here, name));
        facts.is_ok_and(|facts| facts.as_ref().is_some_and(is_directory))
    }
}

/// The outcome for an entry that cannot be put.
pub(super) fn not_restored(error: Errno) -> Outcome {
    Outcome::Failed(format!("not restored: {}", in_words(error)))
}
