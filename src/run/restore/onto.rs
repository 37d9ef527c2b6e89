//! Where entries are put: through the kernel into a directory, or by volbak's own writer into a filesystem that is
//! not mounted.

use super::attributes::Rules;
use super::error::RestoreError;
use super::options::{Existing, RestoreOptions};
use super::put::{Outcome, Putter};
use super::unmounted::putter::Ext4Putter;
use crate::archive::index::EntryLine;
use crate::archive::read::entries::{ChunkSource, EntryReader};
use crate::archive::read::head::EntryHead;

pub(super) enum Onto {
    Directory(Box<Putter>),
    Ext4(Box<Ext4Putter>),
}

impl Onto {
    pub(super) fn rules(&self) -> &Rules {
        match self {
            Self::Directory(putter) => &putter.rules,
            Self::Ext4(putter) => &putter.rules,
        }
    }

    /// `only_leads`: a directory that only leads to what is wanted.
    pub(super) fn put<S: ChunkSource>(
        &mut self,
        path: &[u8],
        head: &EntryHead,
        line: Option<&EntryLine>,
        reader: &mut EntryReader<S>,
        only_leads: bool,
    ) -> Outcome {
        match self {
            // What was not asked for is made where it is missing, and not replaced.
            Self::Directory(putter) if only_leads && putter.options.existing == Existing::Overwrite => {
                putter.options.existing = Existing::Keep;
                let outcome = putter.put(path, head, line, reader);
                putter.options.existing = Existing::Overwrite;
                outcome
            }
            Self::Directory(putter) => putter.put(path, head, line, reader),
            Self::Ext4(putter) => putter.put(path, head, line, reader),
        }
    }

    /// Makes `path` another name of `target`, both without their place in the archive.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> Outcome {
        match self {
            Self::Directory(putter) => putter.put_link_at(path, target),
            Self::Ext4(putter) => putter.put_link_at(path, target),
        }
    }

    /// Why nothing more can be put, if so.
    pub(super) fn ended(&mut self, options: &RestoreOptions) -> Option<RestoreError> {
        match self {
            Self::Directory(_) => None,
            Self::Ext4(putter) => putter.take_end().map(|error| RestoreError::of_writer(error, &options.to)),
        }
    }

    /// Whether [`Self::ended`] has an answer.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Self::Ext4(putter) if putter.has_ended())
    }
}
