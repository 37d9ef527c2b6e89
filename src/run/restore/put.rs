//! Puts one entry after the other into the tree.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::Existing;
use super::attributes::{Attributes, Owner, Rules};
use super::data::{is_equal, write_data};
use super::locks::Locks;
use super::tree::{BadPath, Tree, is_directory, mtime_of, parts_of, stat_here};
use crate::archive::index::EntryLine;
use crate::archive::read::entries::{ChunkSource, EntryReader};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::entry::{DeviceNumber, Timestamp};
use crate::run::check::content::contradiction;

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
    pub owner: Owner,
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

    /// Restores an entry whose data comes next from `reader`. `path` is where it goes, relative to the tree.
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
            // Its data was not looked at yet.
            return Outcome::Failed(format!("not restored, since {what}"));
        }
        let parts = match self.parts(path) {
            Ok(parts) => parts,
            Err(error) => return Outcome::Failed(format!("not restored: {error}")),
        };
        let attributes = Box::new(Attributes::of(head, &self.rules, &mut self.owner));
        let Some((name, parents)) = parts.split_last() else {
            return match head.kind {
                HeadKind::Directory => {
                    if self.options.top {
                        if attributes.locks() != 0 {
                            self.locks.note(&[], attributes.locks(), &mut self.owner);
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
        match self.tree.enter(parents, &mut self.owner) {
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
            HeadKind::CharDevice(number) => self.put_device(name, FileType::CharacterDevice, *number, &attributes),
            HeadKind::BlockDevice(number) => self.put_device(name, FileType::BlockDevice, *number, &attributes),
            HeadKind::Other(b'V') => Outcome::LeftOut("is the volume's label".to_owned()),
            HeadKind::Other(b'M') => Outcome::Failed(
                "not restored: it began in another volume of a multi-volume archive (type M)".to_owned(),
            ),
            // POSIX: what is not known is a regular file.
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
        let has_flags = matches!(head.kind, HeadKind::File | HeadKind::Directory);
        if locks != 0 && has_flags && matches!(outcome, Outcome::Restored | Outcome::Present) {
            self.locks.note(&parts, locks, &mut self.owner);
        }
        outcome
    }

    /// For the archive's root, when the tree's own directory stays as it is.
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
            Err(error) => Outcome::Failed(format!("the directory cannot be made: {}", in_words(error))),
        }
    }

    /// Whether a complete file may take the place of what has its name, as `Overwrite` has it; an error in words says why
    /// not. `is_indexed`: the archive is volbak's own, in which each name is there once.
    fn may_replace(&self, name: &[u8], is_indexed: bool) -> Result<bool, String> {
        self.tree.check_own_name(name).map_err(|error| format!("not restored: {}", in_words(error)))?;
        if self.tree.is_fresh() && is_indexed {
            return Err("not restored: an entry of the same name was restored before it".to_owned());
        }
        Ok(self.options.existing == Existing::Overwrite)
    }

    /// For an entry whose name is taken by something that stays.
    fn in_the_way(&self) -> Outcome {
        if self.keeps_others() { Outcome::InTheWay } else { Outcome::Failed(EXISTS.to_owned()) }
    }

    /// Whether what is in an entry's place can be somebody else's, and stays.
    fn keeps_others(&self) -> bool {
        self.options.existing != Existing::Overwrite && !self.tree.was_empty
    }

    /// Removes what is in a directory's place, if that is no directory.
    fn remove_other(&self, name: &[u8]) -> Result<(), Errno> {
        let here = self.tree.here()?;
        match stat_here(here, name)? {
            Some(facts) if !is_directory(&facts) => {
                self.tree.check_own_name(name)?;
                rustix::fs::unlinkat(here, name, AtFlags::empty())
            }
            _ => Ok(()),
        }
    }

    fn put_file<S: ChunkSource>(
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
                        // It was restored by other rules, or somebody changed it.
                        Ok(Some(file)) if !attributes.are_of(&facts) => {
                            let set = attributes.set_open(&file.into(), &mut self.owner);
                            set.map_or_else(Outcome::Failed, |()| Outcome::Present)
                        }
                        Ok(Some(_)) => Outcome::Present,
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
            Err(error) => return Outcome::Failed(format!("the file cannot be made: {}", in_words(error))),
        };
        if self.tree.gives_acl() {
            // Fails where there is none, which is what is wanted.
            let _ = rustix::fs::fremovexattr(&file, "system.posix_acl_access");
        }
        attributes.prepare(&file);
        let written = write_data(&file, head, reader).and_then(|()| {
            let content = reader.content_sha256();
            match line {
                Some(line) if self.options.verify && line.content != content => {
                    Err("not restored, since its SHA-256 is not the one in the index".to_owned())
                }
                _ => Ok(()),
            }
        });
        let file = OwnedFd::from(file);
        let placed = written.and_then(|()| attributes.set_open(&file, &mut self.owner)).and_then(|()| {
            let here = self.tree.here().map_err(in_words)?;
            let is_twin = |name: &[u8]| self.may_replace(name, line.is_some());
            give_name(here, &temporary, name, is_twin)
        });
        match placed {
            Ok(()) => {
                self.tree.note_name(name);
                Outcome::Restored
            }
            Err(what) => {
                self.remove(&temporary);
                Outcome::Failed(what)
            }
        }
    }

    /// As [`Self::put_link`], for an archive in which each name of a file has the data. Without the target it is a file.
    fn put_link_with_data<S: ChunkSource>(
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
                "it is a link, as the archive says, and the data that the archive has for it is other data".to_owned(),
            ),
            Err(error) => Outcome::Failed(format!("it is a link, and its data cannot be compared: {error}")),
        }
    }

    /// Makes `name` here another name of `target`, a path in the archive.
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
                // What has this name is another entry.
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
            Err(error) => Outcome::Failed(format!("the link cannot be made: {}", in_words(error))),
        }
    }

    fn put_symlink(&mut self, name: &[u8], target: &[u8], attributes: &Attributes) -> Outcome {
        if target.is_empty() {
            return Outcome::Failed("not restored: its target is empty".to_owned());
        }
        if target.contains(&0) {
            return Outcome::Failed("not restored: its target holds a zero byte".to_owned());
        }
        let same = |putter: &Self| {
            let here = putter.tree.here()?;
            Ok(rustix::fs::readlinkat(here, name, Vec::new()).is_ok_and(|is| is.as_bytes() == target))
        };
        self.put_other(name, attributes, true, same, |here| rustix::fs::symlinkat(target, here, name))
    }

    fn put_device(
        &mut self,
        name: &[u8],
        file_type: FileType,
        number: DeviceNumber,
        attributes: &Attributes,
    ) -> Outcome {
        if !self.options.devices {
            return Outcome::LeftOut("is a device, and none are made unless asked for".to_owned());
        }
        if !self.owner.is_root() {
            return Outcome::LeftOut("is a device, which only root can make".to_owned());
        }
        self.put_special(name, file_type, number, attributes)
    }

    fn put_special(
        &mut self,
        name: &[u8],
        file_type: FileType,
        number: DeviceNumber,
        attributes: &Attributes,
    ) -> Outcome {
        let device = rustix::fs::makedev(number.major, number.minor);
        let same = |putter: &Self| {
            let facts = stat_here(putter.tree.here()?, name)?;
            Ok(facts.is_some_and(|facts| {
                FileType::from_raw_mode(facts.st_mode) == file_type
                    && (file_type == FileType::Fifo || facts.st_rdev == device)
            }))
        };
        let mode = Mode::RUSR | Mode::WUSR;
        self.put_other(name, attributes, false, same, |here| rustix::fs::mknodat(here, name, file_type, mode, device))
    }

    /// Makes what is neither file nor directory: it has its name from the start.
    fn put_other(
        &mut self,
        name: &[u8],
        attributes: &Attributes,
        is_symlink: bool,
        same: impl Fn(&Self) -> Result<bool, Errno>,
        make: impl Fn(std::os::fd::BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Outcome {
        let was_there = (|| {
            let here = self.tree.here()?;
            let made = make(here);
            if made == Err(Errno::EXIST) {
                self.tree.check_own_name(name)?;
            } else {
                self.tree.note_name(name);
            }
            match made {
                Err(Errno::EXIST) if self.options.existing == Existing::Resume && same(self)? => Ok(Some(true)),
                Err(Errno::EXIST) if self.options.existing == Existing::Overwrite => {
                    self.remove_other(name)?;
                    make(here).map(|()| Some(false))
                }
                Err(Errno::EXIST) => Ok(None),
                result => result.map(|()| Some(false)),
            }
        })();
        let was_there = match was_there {
            Ok(Some(was_there)) => was_there,
            Ok(None) if self.is_directory(name) => return Outcome::Failed(DIRECTORY_IN_THE_WAY.to_owned()),
            Ok(None) => return self.in_the_way(),
            Err(error) => return Outcome::Failed(format!("it cannot be made: {}", in_words(error))),
        };
        let here = match self.tree.here() {
            Ok(here) => here,
            Err(error) => return Outcome::Failed(in_words(error)),
        };
        match attributes.set_named(here, name, is_symlink, &mut self.owner) {
            Ok(()) if was_there => Outcome::Present,
            Ok(()) => Outcome::Restored,
            Err(what) => Outcome::Failed(what),
        }
    }

    fn is_directory(&self, name: &[u8]) -> bool {
        let facts = self.tree.here().and_then(|here| stat_here(here, name));
        facts.is_ok_and(|facts| facts.as_ref().is_some_and(is_directory))
    }

    fn remove(&self, name: &[u8]) {
        if let Ok(here) = self.tree.here() {
            // What went wrong before is told; a file that stays is known by its name.
            let _ = rustix::fs::unlinkat(here, name, AtFlags::empty());
        }
    }
}

/// For an entry whose name another one's stands for: on a filesystem that does not tell capital and small letters apart,
/// or spellings of Unicode.
const SAME_NAME: &str = "the target takes its name and that of another entry there for one";

fn not_restored(error: Errno) -> Outcome {
    Outcome::Failed(format!("not restored: {}", in_words(error)))
}

const EXISTS: &str =
    "not restored: another entry of the archive has its name; --overwrite takes the last one, as tar does";
/// What stays even with `Existing::Overwrite`.
const DIRECTORY_IN_THE_WAY: &str = "not restored: a directory of that name is there, and --overwrite removes none";

/// Whether a file that was restored with `wanted` has the time `found`: filesystems keep nanoseconds, or cut the time to
/// 100 ns (NTFS, CIFS), 1 µs (UDF), 10 ms (exFAT), 1 s (ext3, HFS+) or 2 s (FAT).
fn is_mtime(found: Timestamp, wanted: Timestamp) -> bool {
    let fraction_kept = [1, 100, 1_000, 10_000_000, 1_000_000_000];
    let seconds =
        found.sec == wanted.sec && fraction_kept.iter().any(|unit| found.nsec == wanted.nsec - wanted.nsec % unit);
    seconds || (found.nsec == 0 && found.sec == wanted.sec - wanted.sec.rem_euclid(2))
}

/// Makes an empty file under a temporary name; says which.
fn create_temporary(here: impl AsFd + Copy, name: &[u8]) -> Result<(File, Vec<u8>), Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut name = name.to_vec();
    loop {
        match rustix::fs::openat(here, name.as_slice(), flags, Mode::RUSR | Mode::WUSR) {
            // Somebody's file is called just so: it is not ours to remove.
            Err(Errno::EXIST) if name.len() < 200 => name.push(b'x'),
            opened => return opened.map(|fd| (File::from(fd), name)),
        }
    }
}

/// Gives the complete file its name. `may_replace` is asked when something has it.
fn give_name(
    here: BorrowedFd<'_>,
    temporary: &[u8],
    name: &[u8],
    may_replace: impl FnOnce(&[u8]) -> Result<bool, String>,
) -> Result<(), String> {
    let renamed = match rustix::fs::renameat_with(here, temporary, here, name, RenameFlags::NOREPLACE) {
        // A filesystem without such a rename: a link fails as well when the name is there.
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::linkat(here, temporary, here, name, AtFlags::empty())
            .and_then(|()| rustix::fs::unlinkat(here, temporary, AtFlags::empty())),
        renamed => renamed,
    };
    let renamed = match renamed {
        // One without links either: it has to be looked.
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
        Errno::EXIST => EXISTS.to_owned(),
        error => format!("it cannot get its name: {}", in_words(error)),
    })
}

/// An error number, with what it means here.
fn in_words(error: Errno) -> String {
    match error {
        Errno::LOOP => "a symbolic link is in the way".to_owned(),
        Errno::NOTDIR => "something that is no directory is in the way".to_owned(),
        Errno::EXIST => "something of that name is there already".to_owned(),
        Errno::NOTUNIQ => SAME_NAME.to_owned(),
        Errno::XDEV => "its path leads out of the directory".to_owned(),
        error => error.to_string(),
    }
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
