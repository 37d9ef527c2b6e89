//! Restores files: data goes under a temporary name, and the final name follows when everything is right.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::error::{DIRECTORY_IN_THE_WAY, FileError, NameError, in_words};
use super::putter::{Outcome, Putter, not_restored};
use crate::archive::index::EntryLine;
use crate::archive::read::entries::{ChunkSource, EntryReader};
use crate::archive::read::head::EntryHead;
use crate::entry::Timestamp;
use crate::outside::inode_flags;
use crate::run::restore::attributes::Attributes;
use crate::run::restore::data::{is_equal, write_data};
use crate::run::restore::options::Existing;
use crate::run::restore::tree::{is_directory, mtime_of, stat_here};

/// Whether a file is immutable or append-only.
fn is_locked(file: &File) -> bool {
    inode_flags::of_open(file).0 & inode_flags::LOCKS != 0
}

impl Putter {
    pub(super) fn put_file<S: ChunkSource>(
        &mut self,
        name: &[u8],
        head: &EntryHead,
        line: Option<&EntryLine>,
        attributes: &Attributes,
        reader: &mut EntryReader<S>,
    ) -> Outcome {
        let here = match self.tree.here() {
            Ok(here) => here,
            Err(error) => return Outcome::Failed(in_words(error)),
        };
        if self.options.existing != Existing::Overwrite && !self.tree.is_fresh() {
            match stat_here(here, name) {
                Ok(None) => {}
                Ok(Some(_)) if let Err(error) = self.tree.check_own_name(name) => return not_restored(error),
                Ok(Some(facts)) if is_directory(&facts) => return Outcome::Failed(DIRECTORY_IN_THE_WAY.to_owned()),
                Ok(Some(facts)) => {
                    let same = self.options.existing == Existing::Resume
                        && FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile
                        && u64::try_from(facts.st_size) == Ok(head.size)
                        && is_mtime(mtime_of(&facts), head.mtime);
                    if !same {
                        return self.in_the_way();
                    }
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let opened = rustix::fs::openat(here, name, flags, Mode::empty()).map(File::from);
                    let compared = opened.map_err(io::Error::from).and_then(|file| {
                        let equal = is_equal(&file, head, reader)?;
                        Ok(equal.then_some(file))
                    });
                    return match compared {
                        // It is complete, and nothing in it can be changed.
                        Ok(Some(file)) if attributes.are_of(&facts) && is_locked(&file) => Outcome::Present,
                        // It was restored with other rules, was changed since, or could not get them all.
                        Ok(Some(file)) => {
                            let set = attributes.set_open(&file.into(), &mut self.restorer);
                            set.map_or_else(|error| Outcome::Failed(error.to_string()), |()| Outcome::Present)
                        }
                        Ok(None) => Outcome::Failed(
                            "not restored: a file with the same size and time and other content is there".to_owned(),
                        ),
                        Err(error) => Outcome::Failed(format!("what is there cannot be compared: {error}")),
                    };
                }
                Err(error) => return Outcome::Failed(format!("not restored: {}", in_words(error))),
            }
        }
        let (file, temporary) = match create_temporary(here, &self.tree.temporary) {
            Ok(created) => created,
            Err(error) => {
                return Outcome::refused(Some(error), format!("the file cannot be made: {}", in_words(error)));
            }
        };
        if self.tree.gives_acl() {
            // Fails if there is none, which is fine.
            let _ = rustix::fs::fremovexattr(&file, "system.posix_acl_access");
        }
        attributes.prepare(&file);
        let written = write_data(&file, head, reader).map_err(FileError::from).and_then(|()| {
            let content = reader.content_sha256();
            match line {
                Some(line) if self.options.verify && line.content != content => Err(FileError::Digest),
                _ => Ok(()),
            }
        });
        let file = OwnedFd::from(file);
        let placed = written.and_then(|()| Ok(attributes.set_open(&file, &mut self.restorer)?)).and_then(|()| {
            let here = self.tree.here().map_err(NameError::Here)?;
            let is_twin = |name: &[u8]| self.may_replace(name, line.is_some());
            Ok(give_name(here, &temporary, name, is_twin)?)
        });
        match placed {
            Ok(()) => {
                self.tree.note_name(name);
                Outcome::Restored
            }
            Err(error) => {
                self.remove(&temporary);
                Outcome::refused(error.errno(), error.to_string())
            }
        }
    }

    fn remove(&self, name: &[u8]) {
        if let Ok(here) = self.tree.here() {
            // The earlier error is reported; the name identifies the remains.
            let _ = rustix::fs::unlinkat(here, name, AtFlags::empty());
        }
    }
}

/// Whether `found` is `wanted` as stored by a filesystem: with nanoseconds, or truncated to 100 ns (NTFS, CIFS), 1
/// µs (UDF), 10 ms (exFAT), 1 s (ext3, HFS+) or 2 s (FAT).
fn is_mtime(found: Timestamp, wanted: Timestamp) -> bool {
    let fraction_kept = [1, 100, 1_000, 10_000_000, 1_000_000_000];
    let seconds =
        found.sec == wanted.sec && fraction_kept.iter().any(|unit| found.nsec == wanted.nsec - wanted.nsec % unit);
    seconds || (found.nsec == 0 && found.sec == wanted.sec - wanted.sec.rem_euclid(2))
}

/// Creates an empty file under a temporary name, which is returned.
fn create_temporary(here: impl AsFd + Copy, name: &[u8]) -> Result<(File, Vec<u8>), Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut name = name.to_vec();
    loop {
        match rustix::fs::openat(here, name.as_slice(), flags, Mode::RUSR | Mode::WUSR) {
            // An existing file of exactly this name is not ours to remove.
            Err(Errno::EXIST) if name.len() < 200 => name.push(b'x'),
            opened => return opened.map(|fd| (File::from(fd), name)),
        }
    }
}

/// Renames the complete file to its final name. Calls `may_replace` if the name is in use.
fn give_name(
    here: BorrowedFd<'_>,
    temporary: &[u8],
    name: &[u8],
    may_replace: impl FnOnce(&[u8]) -> Result<bool, NameError>,
) -> Result<(), NameError> {
    let renamed = match rustix::fs::renameat_with(here, temporary, here, name, RenameFlags::NOREPLACE) {
        // No RENAME_NOREPLACE: link(2) also fails if the name exists.
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::linkat(here, temporary, here, name, AtFlags::empty())
            .and_then(|()| rustix::fs::unlinkat(here, temporary, AtFlags::empty())),
        renamed => renamed,
    };
    let renamed = match renamed {
        // No hard links either: check before renaming.
        Err(Errno::PERM | Errno::NOTSUP | Errno::MLINK | Errno::NOSYS) => match stat_here(here, name) {
            Ok(Some(_)) => Err(Errno::EXIST),
            Ok(None) => rustix::fs::renameat(here, temporary, here, name),
            Err(error) => Err(error),
        },
        renamed => renamed,
    };
    match renamed {
        Err(Errno::EXIST) if may_replace(name)? => rustix::fs::renameat(here, temporary, here, name),
        renamed => renamed,
    }
    .map_err(|error| match error {
        Errno::EXIST => NameError::Exists,
        error => NameError::Rename(error),
    })
}

#[cfg(test)]
mod tests {
    use super::{Timestamp, is_mtime};

    #[test]
    fn times_as_filesystems_keep_them() {
        let at = |sec, nsec| Timestamp { sec, nsec };
        let wanted = at(1_700_000_001, 987_654_321);
        for kept in [987_654_321, 987_654_300, 987_654_000, 980_000_000, 0] {
            assert!(is_mtime(at(1_700_000_001, kept), wanted), "{kept}");
        }
        assert!(is_mtime(at(1_700_000_000, 0), wanted));
        assert!(is_mtime(at(-2, 0), at(-1, 5)));
        for other in [at(1_700_000_002, 0), at(1_699_999_998, 0), at(1_700_000_000, 1), at(1_700_000_001, 987_654_320)]
        {
            assert!(!is_mtime(other, wanted), "{other:?}");
        }
        assert!(!is_mtime(at(1_700_000_000, 0), at(1_700_000_002, 0)));
    }
}
