//! Puts entries into the tree.

mod error;
mod file;
mod link;
mod putter;
mod special;

use rustix::fs::FileType;
use rustix::io::Errno;

pub(super) use self::error::{FileError, in_words};
use super::attributes::Attributes;
use super::options::Existing;
use crate::archive::index::EntryLine;
use crate::archive::read::entries::{ChunkSource, EntryReader};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::entry::DeviceNumber;
use crate::run::check::content::contradiction;

pub use self::putter::{Outcome, PutOptions, Putter};

impl Putter {
    /// Restores an entry, whose data follows in `reader`. `path` is its place relative to the tree.
    pub fn put<S: ChunkSource>(
        &mut self,
        path: &[u8],
        head: &EntryHead,
        line: Option<&EntryLine>,
        reader: &mut EntryReader<S>,
    ) -> Outcome {
        if let (Some(line), true) = (line, self.options.verify)
            && let Some(what) = contradiction(head, line, line.content)
        {
            // Its data was not read yet.
            return Outcome::Failed(format!("not restored, since {what}"));
        }
        let parts = match self.parts(path) {
            Ok(parts) => parts,
            Err(error) => return Outcome::Failed(format!("not restored: {error}")),
        };
        let attributes = Box::new(Attributes::of(head, &self.rules, &mut self.restorer));
        let Some((name, parents)) = parts.split_last() else {
            return match head.kind {
                HeadKind::Directory => {
                    if self.options.top {
                        if attributes.locks() != 0 {
                            self.locks.note(&[], attributes.locks(), &mut self.restorer);
                        }
                        self.tree.set_root_attributes(attributes);
                        Outcome::Restored
                    } else {
                        self.keep_top(&attributes)
                    }
                }
                _ => Outcome::Failed("not restored: its path names nothing".to_owned()),
            };
        };
        match self.tree.enter(parents, &mut self.restorer) {
            Ok(()) => {}
            Err(Errno::NOTDIR) if self.keeps_others() => return Outcome::InTheWay,
            Err(error) => {
                return Outcome::Failed(format!("not restored, its directory cannot be entered: {}", in_words(error)));
            }
        }
        let locks = attributes.locks();
        let outcome = match &head.kind {
            HeadKind::File => self.put_file(name, head, line, &attributes, reader),
            HeadKind::Directory => self.put_directory(name, attributes),
            HeadKind::HardLink(target) if head.stored_bytes > 0 => {
                self.put_link_with_data(name, target, head, &attributes, reader)
            }
            HeadKind::HardLink(target) => self.put_link(name, target),
            HeadKind::Symlink(target) => self.put_symlink(name, target, &attributes),
            HeadKind::Fifo => self.put_special(name, FileType::Fifo, DeviceNumber { major: 0, minor: 0 }, &attributes),
            HeadKind::CharDevice(number) => self
                .refuses_devices()
                .unwrap_or_else(|| self.put_special(name, FileType::CharacterDevice, *number, &attributes)),
            HeadKind::BlockDevice(number) => self
                .refuses_devices()
                .unwrap_or_else(|| self.put_special(name, FileType::BlockDevice, *number, &attributes)),
            HeadKind::Other(b'V') => Outcome::LeftOut("is the volume's label".to_owned()),
            HeadKind::Other(b'M') => Outcome::Failed(
                "not restored: it began in another volume of a multi-volume archive (type M)".to_owned(),
            ),
            // POSIX: unknown types are treated as regular files.
            HeadKind::Other(flag) if flag.is_ascii_alphanumeric() => {
                let what = format!("its type {} is not known: restored as a regular file", flag.escape_ascii());
                match self.put_file(name, head, line, &attributes, reader) {
                    Outcome::Restored | Outcome::Present => Outcome::Failed(what),
                    other => other,
                }
            }
            HeadKind::Other(flag) => {
                Outcome::Failed(format!("not restored: its type {} is not known", flag.escape_ascii()))
            }
        };
        if !matches!(head.kind, HeadKind::Directory) && matches!(outcome, Outcome::Restored | Outcome::Present) {
            self.note_ours(name);
        }
        let has_flags = matches!(head.kind, HeadKind::File | HeadKind::Directory);
        if locks != 0 && has_flags && matches!(outcome, Outcome::Restored | Outcome::Present) {
            self.locks.note(&parts, locks, &mut self.restorer);
        }
        outcome
    }

    /// The outcome for the archive's root if the tree's own directory is not changed.
    fn keep_top(&self, attributes: &Attributes) -> Outcome {
        let Some(facts) = self.tree.root().and_then(|root| rustix::fs::fstat(root).ok()) else {
            return Outcome::Present;
        };
        if attributes.are_of(&facts) {
            return Outcome::Present;
        }
        let made = if self.tree.was_made { "was made with" } else { "keeps" };
        let (mode, uid, gid) = (facts.st_mode & 0o7777, facts.st_uid, facts.st_gid);
        Outcome::Kept(format!(
            "the directory {made} mode {mode:04o} and owner {uid}:{gid}; --top gives it {attributes} of the backup's root"
        ))
    }

    fn put_directory(&mut self, name: &[u8], attributes: Box<Attributes>) -> Outcome {
        if self.options.existing == Existing::Overwrite
            && let Err(error) = self.remove_other(name)
        {
            return Outcome::Failed(format!("not restored, what is in its place cannot be removed: {error}"));
        }
        let keep = self.options.existing == Existing::Keep && !self.tree.was_empty;
        let mut was_there = false;
        let made = self.tree.make_directory(name, |fresh| {
            was_there = !fresh;
            (fresh || !keep).then_some(attributes)
        });
        match made {
            Ok(()) if was_there => {
                if self.options.existing == Existing::Resume
                    && let Err(error) = self.tree.remove_remains()
                {
                    return Outcome::Failed(format!("what an interrupted restore left cannot be removed: {error}"));
                }
                Outcome::Present
            }
            Ok(()) => Outcome::Restored,
            Err(Errno::NOTDIR) if self.keeps_others() => Outcome::InTheWay,
            Err(error) => Outcome::refused(Some(error), format!("the directory cannot be made: {}", in_words(error))),
        }
    }
}
