//! Puts entries into a filesystem that is not mounted.

use std::io;

use rustix::io::Errno;

use super::levels::{Levels, is_entered, too_large};
use crate::archive::index::EntryLine;
use crate::archive::read::entries::{ChunkSource, EntryReader};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::archive::read::sparse::RunMap;
use crate::run::check::content::contradiction;
use crate::run::restore::attributes::{Attributes, Restorer, Rules};
use crate::run::restore::data::place_data;
use crate::run::restore::path::{BadPath, parts_below};
use crate::run::restore::put::{FileError, Outcome, in_words};
use crate::writer::ext4::{Ext4Writer, Kind, Named, NewFile, WriteError};

/// The writer and the current path.
pub(crate) struct Ext4Putter {
    writer: Ext4Writer,
    levels: Levels,
    restorer: Restorer,
    pub(crate) rules: Rules,
    /// The directory of the archive that is the filesystem's root.
    below: Vec<u8>,
    verify: bool,
    /// Why nothing more can be put.
    end: Option<WriteError>,
}

/// A problem of one entry in words, or the end of all.
enum Trouble {
    Entry(String),
    End(WriteError),
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        Self::End(error)
    }
}

/// Makes a refusal a problem of one entry.
fn said(words: impl FnOnce(Errno) -> String) -> impl FnOnce(WriteError) -> Trouble {
    move |error| match error {
        WriteError::Refused(error) => Trouble::Entry(words(error)),
        other => Trouble::End(other),
    }
}

fn left(what: &str) -> Trouble {
    Trouble::End(WriteError::LeftToKernel(what.to_owned()))
}

impl Ext4Putter {
    pub(super) fn new(
        mut writer: Ext4Writer,
        restorer: Restorer,
        rules: Rules,
        below: Vec<u8>,
        verify: bool,
    ) -> Result<Self, WriteError> {
        let levels = Levels::new(writer.root()?);
        Ok(Self { writer, levels, restorer, rules, below, verify, end: None })
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(crate) fn take_end(&mut self) -> Option<WriteError> {
        self.end.take()
    }

    /// Closes all directories and completes the filesystem.
    pub(super) fn finish(mut self) -> Result<Restorer, WriteError> {
        while let Some(directory) = self.levels.pop() {
            let without_room = self.writer.close_directory(directory)?;
            self.restorer.xattrs_fell_short(&without_room);
        }
        self.writer.finish()?;
        Ok(self.restorer)
    }

    /// Restores an entry, whose data follows in `reader`.
    pub(crate) fn put<S: ChunkSource>(
        &mut self,
        path: &[u8],
        head: &EntryHead,
        line: Option<&EntryLine>,
        reader: &mut EntryReader<S>,
    ) -> Outcome {
        if let (Some(line), true) = (line, self.verify)
            && let Some(what) = contradiction(head, line, line.content)
        {
            return Outcome::Failed(format!("not restored, since {what}"));
        }
        let put = self.try_to_put(path, head, line, reader);
        self.outcome(put)
    }

    /// Makes `path` another name of `target`.
    pub(crate) fn put_link_at(&mut self, path: &[u8], target: &[u8]) -> Outcome {
        let put = match self.parts(path).ok().as_deref().and_then(<[&[u8]]>::split_last) {
            Some((name, parents)) => self.enter(parents).and_then(|()| self.put_link(name, target)),
            None => Err(Trouble::Entry("its path names nothing".to_owned())),
        };
        self.outcome(put)
    }

    fn outcome(&mut self, put: Result<Outcome, Trouble>) -> Outcome {
        match put {
            Ok(outcome) => outcome,
            Err(Trouble::Entry(what)) => Outcome::Failed(what),
            Err(Trouble::End(error)) => {
                let what = format!("not restored: {error}");
                self.end = Some(error);
                Outcome::Failed(what)
            }
        }
    }

    /// The components of an entry's place.
    fn parts<'a>(&self, path: &'a [u8]) -> Result<Vec<&'a [u8]>, BadPath> {
        parts_below(path, &self.below)
    }

    fn try_to_put<S: ChunkSource>(
        &mut self,
        path: &[u8],
        head: &EntryHead,
        line: Option<&EntryLine>,
        reader: &mut EntryReader<S>,
    ) -> Result<Outcome, Trouble> {
        let parts = self.parts(path).map_err(|error| Trouble::Entry(format!("not restored: {error}")))?;
        let attributes = Attributes::of(head, &self.rules, &mut self.restorer);
        let Some((name, parents)) = parts.split_last() else {
            if head.kind != HeadKind::Directory {
                return Err(Trouble::Entry("not restored: its path names nothing".to_owned()));
            }
            self.enter(&[])?;
            let attributes = attributes.for_writer(Kind::Directory, &mut self.restorer);
            self.writer.set_attributes(self.levels.here()?, attributes)?;
            return Ok(Outcome::Restored);
        };
        self.enter(parents)?;
        too_large(self.levels.here()?.memory_bytes())?;
        let kind = match &head.kind {
            HeadKind::Directory => return self.put_directory(name, &attributes),
            HeadKind::HardLink(_) if head.stored_bytes > 0 => return Err(left("a hard link has data in the archive")),
            HeadKind::HardLink(target) => return self.put_link(name, target),
            HeadKind::Other(b'V') => return Ok(Outcome::LeftOut("is the volume's label".to_owned())),
            HeadKind::Other(_) => return Err(left("an entry has a type that is not known")),
            HeadKind::File => Kind::File,
            HeadKind::Symlink(_) => Kind::Symlink,
            HeadKind::Fifo => Kind::Fifo,
            HeadKind::CharDevice(number) => Kind::Device { is_block: false, number: *number },
            HeadKind::BlockDevice(number) => Kind::Device { is_block: true, number: *number },
        };
        self.reserve(name, "it cannot be made")?;
        let cannot = |error| format!("it cannot be made: {}", in_words(error));
        let (named, without_room) = match &head.kind {
            HeadKind::Symlink(target) if target.is_empty() => {
                return Err(Trouble::Entry("not restored: its target is empty".to_owned()));
            }
            HeadKind::Symlink(target) if target.contains(&0) => {
                return Err(Trouble::Entry("not restored: its target holds a zero byte".to_owned()));
            }
            HeadKind::Symlink(target) => {
                let attributes = attributes.for_writer(kind, &mut self.restorer);
                self.writer.make_symlink(target, &attributes).map_err(said(cannot))?
            }
            HeadKind::File => {
                let file = self.put_data(head, line, reader)?;
                let attributes = attributes.for_writer(kind, &mut self.restorer);
                self.writer.complete(&file, &attributes).map_err(said(cannot))?
            }
            _ => {
                let attributes = attributes.for_writer(kind, &mut self.restorer);
                self.writer.make_special(&attributes).map_err(said(cannot))?
            }
        };
        self.restorer.xattrs_fell_short(&without_room);
        self.add(name, named)?;
        Ok(Outcome::Restored)
    }

    /// Enters the directory with these components; creates missing ones.
    fn enter(&mut self, parts: &[&[u8]]) -> Result<(), Trouble> {
        while let Some(directory) = self.levels.pop_beside(parts) {
            let without_room = self.writer.close_directory(directory)?;
            self.restorer.xattrs_fell_short(&without_room);
        }
        let cannot = |error| format!("not restored, its directory cannot be entered: {}", in_words(error));
        for part in parts.get(self.levels.depth()..).unwrap_or_default() {
            let directory = if let Some(named) = self.levels.here()?.find(part) {
                is_entered(named).map_err(said(cannot))?;
                self.writer.open_directory(named.inode)?
            } else {
                let here = self.levels.here()?;
                let made = self.writer.reserve_name(here, part).and_then(|()| self.writer.new_directory(here));
                let made = made.map_err(said(cannot))?;
                self.add(part, Ext4Writer::named(&made))?;
                made
            };
            self.levels.push(part, directory)?;
        }
        Ok(())
    }

    /// Reserves the space of a name here. One that is taken is left to the kernel: volbak's archives have each once.
    fn reserve(&mut self, name: &[u8], what: &'static str) -> Result<(), Trouble> {
        let reserved = self.writer.reserve_name(self.levels.here()?, name);
        match reserved {
            Err(WriteError::Refused(Errno::EXIST)) => Err(left("a name is in the archive twice")),
            reserved => reserved.map_err(said(|error| format!("{what}: {}", in_words(error)))),
        }
    }

    fn add(&mut self, name: &[u8], named: Named) -> Result<(), Trouble> {
        self.levels.here()?.add_name(name, named);
        Ok(())
    }

    fn put_directory(&mut self, name: &[u8], attributes: &Attributes) -> Result<Outcome, Trouble> {
        let found = self.levels.here()?.find(name);
        let (mut directory, outcome) = match found {
            Some(named) if named.is_directory() => (self.writer.open_directory(named.inode)?, Outcome::Present),
            Some(_) => return Err(left("a directory has the name of something else")),
            None => {
                let cannot = |error| format!("the directory cannot be made: {}", in_words(error));
                let here = self.levels.here()?;
                self.writer.reserve_name(here, name).map_err(said(cannot))?;
                let made = self.writer.new_directory(here).map_err(said(cannot))?;
                self.add(name, Ext4Writer::named(&made))?;
                (made, Outcome::Restored)
            }
        };
        let attributes = attributes.for_writer(Kind::Directory, &mut self.restorer);
        self.writer.set_attributes(&mut directory, attributes)?;
        self.levels.push(name, directory)?;
        Ok(outcome)
    }

    fn put_link(&mut self, name: &[u8], target: &[u8]) -> Result<Outcome, Trouble> {
        let entry = |what: String| Trouble::Entry(what);
        if target.last() == Some(&b'/') {
            return Err(entry("not restored: what it links to is named as a directory".to_owned()));
        }
        let parts = self.parts(target).map_err(|error| entry(format!("not restored: of what it links to, {error}")))?;
        if parts.is_empty() {
            return Err(entry("not restored: what it links to names nothing".to_owned()));
        }
        let wrong = |error| format!("not restored, its target: {}", in_words(error));
        let found = self.levels.find(&parts, &mut self.writer).map_err(said(wrong))?;
        let Some(named) = found else { return Ok(Outcome::TargetMissing { target: target.to_vec() }) };
        let cannot = |error| format!("the link cannot be made: {}", in_words(error));
        if named.is_directory() {
            return Err(entry(cannot(Errno::PERM)));
        }
        if self.levels.here()?.find(name).is_some_and(|there| there.inode == named.inode) {
            return Ok(Outcome::Present);
        }
        self.reserve(name, "the link cannot be made")?;
        self.writer.link(named.inode).map_err(said(cannot))?;
        self.add(name, named)?;
        Ok(Outcome::Restored)
    }

    /// Writes a file's data to its blocks. A file that is not whole leaves none.
    fn put_data<S: ChunkSource>(
        &mut self,
        head: &EntryHead,
        line: Option<&EntryLine>,
        reader: &mut EntryReader<S>,
    ) -> Result<NewFile, Trouble> {
        let whole = RunMap::whole(head.size);
        let mut runs = head.runs.as_ref().unwrap_or(&whole).runs();
        let cannot = |error: Errno| format!("not restored, it cannot be written: {}", io::Error::from(error));
        let mut file = self.writer.begin_file(head.size, &mut || runs.next_run()).map_err(said(cannot))?;
        let writer = &mut self.writer;
        let mut end = None;
        let placed = place_data(head, reader, &mut |at, data| {
            writer.write(&mut file, at, data).map_err(|error| {
                let said = io::Error::other(error.to_string());
                end = Some(error);
                said
            })
        });
        if let Some(error) = end {
            return Err(error.into());
        }
        let content = reader.content_sha256();
        let is_whole = self.writer.end_data(&mut file)?;
        let failed = match (placed, line) {
            (Err(error), _) => Some(FileError::from(error)),
            (Ok(()), Some(line)) if self.verify && line.content != content => Some(FileError::Digest),
            (Ok(()), _) if !is_whole => Some(FileError::Short),
            _ => None,
        };
        match failed {
            None => Ok(file),
            Some(what) => {
                self.writer.abandon(file)?;
                Err(Trouble::Entry(what.to_string()))
            }
        }
    }
}
