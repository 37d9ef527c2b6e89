//! Restores further names of files.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::{DIRECTORY_IN_THE_WAY, in_words};
use super::putter::{Outcome, Putter};
use crate::archive::read::entries::{ChunkSource, EntryReader};
use crate::archive::read::head::EntryHead;
use crate::run::restore::attributes::Attributes;
use crate::run::restore::data::is_equal;
use crate::run::restore::options::Existing;
use crate::run::restore::tree::{is_directory, stat_here};

impl Putter {
    /// Like [`Self::put_link`], for an archive in which each name of a file has the data. If the target is missing,
    /// it becomes a file.
    pub(super) fn put_link_with_data<S: ChunkSource>(
        &mut self,
        name: &[u8],
        target: &[u8],
        head: &EntryHead,
        attributes: &Attributes,
        reader: &mut EntryReader<S>,
    ) -> Outcome {
        match self.put_link(name, target) {
            Outcome::Restored => {}
            Outcome::TargetMissing { .. } => return self.put_file(name, head, None, attributes, reader),
            other => return other,
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = self.tree.here().and_then(|here| rustix::fs::openat(here, name, flags, Mode::empty()));
        let equal = opened
            .map(File::from)
            .map_err(io::Error::from)
            .and_then(|file| Ok(file.metadata()?.len() == head.size && is_equal(&file, head, reader)?));
        match equal {
            Ok(true) => Outcome::Restored,
            Ok(false) => Outcome::Failed(
                "it is a hard link in the archive, but the archive's data for it differs from its target".to_owned(),
            ),
            Err(error) => Outcome::Failed(format!("it is a link, and its data cannot be compared: {error}")),
        }
    }

    /// Makes `path` another name of `target`.
    pub(crate) fn put_link_at(&mut self, path: &[u8], target: &[u8]) -> Outcome {
        match self.parts(path).ok().as_deref().and_then(<[&[u8]]>::split_last) {
            Some((name, parents)) => match self.tree.enter(parents, &mut self.restorer) {
                Ok(()) => self.put_link(name, target),
                Err(error) => Outcome::Failed(error.to_string()),
            },
            None => Outcome::Failed("its path names nothing".to_owned()),
        }
    }

    /// Links `name` in the current directory to `target`, a path in the archive.
    pub fn put_link(&mut self, name: &[u8], target: &[u8]) -> Outcome {
        let missing = || Outcome::TargetMissing { target: target.to_vec() };
        if target.last() == Some(&b'/') {
            return Outcome::Failed("not restored: what it links to is named as a directory".to_owned());
        }
        let parts = match self.parts(target) {
            Ok(parts) => parts,
            Err(error) => return Outcome::Failed(format!("not restored: of what it links to, {error}")),
        };
        let Some((target_name, target_parents)) = parts.split_last() else {
            return Outcome::Failed("not restored: what it links to names nothing".to_owned());
        };
        let target_at = match self.tree.open_path(target_parents) {
            Ok(target_at) => target_at,
            Err(Errno::NOENT | Errno::NOTUNIQ) => return missing(),
            Err(error) => return Outcome::Failed(format!("not restored, its target: {}", in_words(error))),
        };
        let linked = (|| {
            let here = self.tree.here()?;
            let Some(wanted) = stat_here(target_at.as_fd(), target_name)? else { return Err(Errno::NOENT) };
            if self.tree.check_name_in(target_at.as_fd(), target_name).is_err() {
                // The target's name now belongs to another entry.
                return Err(Errno::NOENT);
            }
            if !self.is_ours(&wanted) {
                return Err(Errno::NOENT);
            }
            let there = stat_here(here, name)?;
            if there.is_some() {
                self.tree.check_own_name(name)?;
            }
            match there {
                Some(facts) if (facts.st_dev, facts.st_ino) == (wanted.st_dev, wanted.st_ino) => Ok(Outcome::Present),
                Some(facts) if is_directory(&facts) => Ok(Outcome::Failed(DIRECTORY_IN_THE_WAY.to_owned())),
                Some(_) if self.options.existing != Existing::Overwrite => Ok(self.in_the_way()),
                Some(_) => {
                    let temporary = self.tree.temporary.as_slice();
                    rustix::fs::linkat(&target_at, *target_name, here, temporary, AtFlags::empty())?;
                    rustix::fs::renameat(here, temporary, here, name)?;
                    Ok(Outcome::Restored)
                }
                None => {
                    rustix::fs::linkat(&target_at, *target_name, here, name, AtFlags::empty())?;
                    self.tree.note_name(name);
                    Ok(Outcome::Restored)
                }
            }
        })();
        match linked {
            Ok(outcome) => outcome,
            Err(Errno::NOENT) => missing(),
            Err(error) => Outcome::refused(Some(error), format!("the link cannot be made: {}", in_words(error))),
        }
    }
}
