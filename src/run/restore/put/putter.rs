//! The tree, what works on it, and what all kinds of entries need.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::error::{EXISTS, NameError, in_words};
use crate::run::restore::attributes::{Restorer, Rules};
use crate::run::restore::locks::Locks;
use crate::run::restore::options::Existing;
use crate::run::restore::path::{BadPath, parts_of};
use crate::run::restore::tree::{Tree, is_directory, stat_here};

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there as it was.
    Restored,
    /// It was there already, equal.
    Present,
    /// It was left out, as it was asked for; why.
    LeftOut(String),
    /// It was there already, and stays as it is although it differs; how.
    Kept(String),
    /// Something else of that name was there already, and stays.
    InTheWay,
    /// A link to something that is not there: not restored, or not asked for.
    TargetMissing {
        /// The path that it links to, as in the archive.
        target: Vec<u8>,
    },
    /// It is not there, or something else is; why.
    Failed(String),
}

/// How entries are put.
#[derive(Clone, Copy, Debug)]
pub struct PutOptions {
    /// What happens with what is there already.
    pub existing: Existing,
    /// Whether digests are compared with the index's.
    pub verify: bool,
    /// Whether devices are made.
    pub devices: bool,
    /// Whether the tree's own directory gets the attributes that the archive's root has.
    pub top: bool,
}

/// The tree and who works on it.
#[derive(Debug)]
pub struct Putter {
    /// The tree.
    pub tree: Tree,
    /// Who works on it.
    pub restorer: Restorer,
    /// How.
    pub options: PutOptions,
    /// What attributes become.
    pub rules: Rules,
    /// The directory of the archive that is the tree's root; empty for the archive's own root.
    pub below: Vec<u8>,
    /// What becomes immutable or append-only when all is done.
    pub locks: Locks,
}

impl Putter {
    /// Where an entry goes in the tree.
    pub fn parts<'a>(&self, path: &'a [u8]) -> Result<Vec<&'a [u8]>, BadPath> {
        let mut parts = parts_of(path)?;
        let below = parts_of(&self.below)?;
        if !parts.starts_with(&below) {
            return Err(BadPath::Elsewhere);
        }
        parts.drain(..below.len());
        Ok(parts)
    }

    /// Whether a complete file may take the place of what has its name, as `Overwrite` has it; an error says
    /// why not. `is_indexed`: the archive is volbak's own, in which each name is there once.
    pub(super) fn may_replace(&self, name: &[u8], is_indexed: bool) -> Result<bool, NameError> {
        self.tree.check_own_name(name).map_err(NameError::Look)?;
        if self.tree.is_fresh() && is_indexed {
            return Err(NameError::Twice);
        }
        Ok(self.options.existing == Existing::Overwrite)
    }

    /// For an entry whose name is taken by something that stays.
    pub(super) fn in_the_way(&self) -> Outcome {
        if self.keeps_others() { Outcome::InTheWay } else { Outcome::Failed(EXISTS.to_owned()) }
    }

    /// Whether what is in an entry's place can be somebody else's, and stays.
    pub(super) fn keeps_others(&self) -> bool {
        self.options.existing != Existing::Overwrite && !self.tree.was_empty
    }

    /// Removes what is in a directory's place, if that is no directory.
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

/// The outcome of an entry that cannot be put.
pub(super) fn not_restored(error: Errno) -> Outcome {
    Outcome::Failed(format!("not restored: {}", in_words(error)))
}
