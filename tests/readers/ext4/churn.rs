//! What a guest does to its filesystem all day: files and directories come, change and go.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, XattrFlags};

use super::random::Random;
use crate::testkit::tree::{noise, text};

/// A mounted filesystem in use.
pub(crate) struct Churn {
    root: PathBuf,
    random: Random,
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// Files that are open, of which some have no name any more.
    open: Vec<File>,
    made: usize,
    /// No file is made longer.
    largest_bytes: usize,
}

/// A block that has to be written to a journal in another form, since it begins as the journal's own blocks do.
const JOURNAL_MAGIC: [u8; 4] = [0xC0, 0x3B, 0x39, 0x98];

impl Churn {
    pub(crate) fn new(root: &Path, seed: u64, largest_bytes: usize) -> Self {
        let directories = vec![root.to_owned()];
        let random = Random::new(seed);
        Self { root: root.to_owned(), random, files: Vec::new(), directories, open: Vec::new(), made: 0, largest_bytes }
    }

    /// Does so many things. One that fails, for want of room mostly, is left at that.
    pub(crate) fn go_on(&mut self, operations: usize) {
        for _ in 0..operations {
            let _ = self.do_something();
        }
    }

    /// Has everything that was done so far written to the journal, and not to its place.
    pub(crate) fn commit(&self) {
        File::open(&self.root).unwrap().sync_all().unwrap();
    }

    fn new_name(&mut self) -> PathBuf {
        self.made += 1;
        let length = [1, 10, 40, 200][self.random.below(4)];
        let name = format!("{}-{}", self.made, "n".repeat(length));
        self.random.one_of(&self.directories).join(name)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.random.below(self.largest_bytes) >> self.random.below(8);
        let seed = self.random.next();
        let mut bytes = if self.random.below(2) == 0 { noise(seed, length) } else { text(seed, length) };
        if self.random.below(3) == 0 {
            for block in bytes.chunks_exact_mut(1024) {
                block[..4].copy_from_slice(&JOURNAL_MAGIC);
            }
        }
        bytes
    }

    fn a_file(&mut self) -> std::io::Result<(PathBuf, File)> {
        if self.files.is_empty() {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        let path = self.random.one_of(&self.files).clone();
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok((path, file))
    }

    fn do_something(&mut self) -> std::io::Result<()> {
        match self.random.below(24) {
            0..=5 => {
                let (path, bytes) = (self.new_name(), self.bytes());
                let made = fs::write(&path, bytes);
                self.files.push(path);
                made?;
            }
            6 => {
                let path = self.new_name();
                fs::create_dir(&path)?;
                self.directories.push(path);
            }
            7 | 8 => {
                let (_, file) = self.a_file()?;
                let at = self.random.below(2 * self.largest_bytes) as u64;
                file.write_all_at(&self.bytes(), at)?;
            }
            9 => {
                let (_, file) = self.a_file()?;
                file.set_len(self.random.below(2 * self.largest_bytes) as u64)?;
            }
            10..=13 => {
                let (path, file) = self.a_file()?;
                fs::remove_file(&path)?;
                self.files.retain(|kept| *kept != path);
                if self.random.below(4) == 0 && self.open.len() < 20 {
                    self.open.push(file);
                }
            }
            14 => {
                let (from, to) = (self.a_file()?.0, self.new_name());
                fs::rename(&from, &to)?;
                self.files.retain(|kept| *kept != from);
                self.files.push(to);
            }
            15 => {
                let (from, to) = (self.a_file()?.0, self.new_name());
                fs::hard_link(from, &to)?;
                self.files.push(to);
            }
            16 => {
                let length = [5, 59, 60, 300, 900][self.random.below(5)];
                symlink("t".repeat(length), self.new_name())?;
            }
            17 | 18 => {
                let (path, _) = self.a_file()?;
                let name = format!("user.{}", self.random.below(4));
                let length = [3, 50, 300, 800][self.random.below(4)];
                let value = noise(self.random.next() % 5, length);
                rustix::fs::setxattr(&path, name, &value, XattrFlags::empty())?;
            }
            19 => {
                let (_, file) = self.a_file()?;
                let (from, len) = (self.random.below(self.largest_bytes), self.random.below(self.largest_bytes) + 1);
                let flags = [
                    FallocateFlags::empty(),
                    FallocateFlags::KEEP_SIZE,
                    FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                ];
                rustix::fs::fallocate(&file, *self.random.one_of(&flags), from as u64, len as u64)?;
            }
            20 | 21 => self.a_file()?.1.sync_all()?,
            22 => {
                // A directory that goes leaves blocks that were in the journal, and must not come back from there.
                let (directory, name) = (self.new_name(), "n".repeat(100));
                fs::create_dir(&directory)?;
                for number in 0..60 {
                    fs::write(directory.join(format!("{number}{name}")), "")?;
                }
                self.commit();
                fs::remove_dir_all(&directory)?;
                for _ in 0..8 {
                    let (path, bytes) = (self.new_name(), noise(self.random.next(), 10_000));
                    fs::write(&path, bytes)?;
                    File::open(&path)?.sync_all()?;
                    self.files.push(path);
                }
            }
            _ => {
                if self.open.len() > 5 {
                    self.open.remove(0);
                }
                if self.directories.len() > 8 {
                    let directory = self.directories.swap_remove(1 + self.random.below(self.directories.len() - 1));
                    fs::remove_dir_all(&directory)?;
                    self.files.retain(|kept| !kept.starts_with(&directory));
                    self.directories.retain(|kept| !kept.starts_with(&directory));
                }
            }
        }
        Ok(())
    }
}
