//! The directories of the current path, and names in others.

use std::collections::HashMap;

use rustix::io::Errno;

use crate::writer::ext4::{Directory, Ext4Writer, Named, WriteError};

/// The maximum length of the names of all open directories, in bytes.
const OPEN_BYTES_MAX: usize = 256 << 20;
/// The maximum length of the names that are kept of directories in which targets of links were looked up.
const LOOKED_BYTES_MAX: usize = 32 << 20;

/// The maximum number of directories inside each other: volbak archives none with a path of more than 64 KiB.
const LEVELS_MAX: usize = 40_000;

/// An open directory and its name.
pub(super) struct Level {
    name: Vec<u8>,
    pub(super) directory: Directory,
}

/// The directories of the current path, from the root on.
pub(super) struct Levels {
    all: Vec<Level>,
    /// Closed directories, by inode.
    looked: HashMap<u32, Directory>,
}

impl Levels {
    pub(super) fn new(root: Directory) -> Self {
        Self { all: vec![Level { name: Vec::new(), directory: root }], looked: HashMap::new() }
    }

    /// The innermost directory.
    pub(super) fn here(&mut self) -> Result<&mut Directory, WriteError> {
        self.all.last_mut().map(|level| &mut level.directory).ok_or(WriteError::Refused(Errno::BADF))
    }

    /// How many levels are on the way to these components.
    fn common(&self, parts: &[&[u8]]) -> usize {
        let inner = self.all.get(1..).unwrap_or_default();
        inner.iter().zip(parts).take_while(|(level, part)| level.name == **part).count()
    }

    /// Enters a directory that was just opened or made.
    pub(super) fn push(&mut self, name: &[u8], directory: Directory) -> Result<(), WriteError> {
        self.looked.clear();
        self.all.push(Level { name: name.to_vec(), directory });
        if self.all.len() > LEVELS_MAX {
            return Err(WriteError::LeftToKernel("its directories are nested too deeply".to_owned()));
        }
        let bytes: usize = self.all.iter().map(|level| level.directory.memory_bytes()).sum();
        too_large(bytes)
    }

    /// Leaves the innermost directory, which is then to be closed.
    pub(super) fn pop(&mut self) -> Option<Directory> {
        self.all.pop().map(|level| level.directory)
    }

    /// The next directory to be closed before these components are entered; `None` if none has to be.
    pub(super) fn pop_beside(&mut self, parts: &[&[u8]]) -> Option<Directory> {
        if self.all.len() > self.common(parts) + 1 { self.pop() } else { None }
    }

    /// The number of components of the current path.
    pub(super) fn depth(&self) -> usize {
        self.all.len().saturating_sub(1)
    }

    /// What the path leads to; `None` if nothing.
    pub(super) fn find(&mut self, parts: &[&[u8]], writer: &mut Ext4Writer) -> Result<Option<Named>, WriteError> {
        let Some((name, parents)) = parts.split_last() else { return Ok(None) };
        let common = self.common(parents);
        let Some(level) = self.all.get(common) else { return Ok(None) };
        let mut named = match parents.get(common) {
            None => return Ok(level.directory.find(name)),
            Some(next) => level.directory.find(next),
        };
        for part in parents[common + 1..].iter().chain([name]) {
            let Some(inner) = named else { return Ok(None) };
            is_entered(inner)?;
            named = self.look(inner.inode, writer)?.find(part);
        }
        Ok(named)
    }

    fn look(&mut self, inode: u32, writer: &mut Ext4Writer) -> Result<&Directory, WriteError> {
        if !self.looked.contains_key(&inode) {
            let directory = writer.open_directory(inode)?;
            let kept: usize = self.looked.values().map(Directory::memory_bytes).sum();
            if kept + directory.memory_bytes() > LOOKED_BYTES_MAX {
                self.looked.clear();
            }
            self.looked.insert(inode, directory);
        }
        self.looked.get(&inode).ok_or(WriteError::Refused(Errno::BADF))
    }
}

/// An error if the names in memory are too many.
pub(super) fn too_large(bytes: usize) -> Result<(), WriteError> {
    if bytes > OPEN_BYTES_MAX {
        return Err(WriteError::LeftToKernel("the names of its open directories take more than 256 MiB".to_owned()));
    }
    Ok(())
}

/// As the kernel says it of something in a path.
pub(super) fn is_entered(named: Named) -> Result<(), WriteError> {
    match named {
        named if named.is_directory() => Ok(()),
        named if named.is_symlink() => Err(WriteError::Refused(Errno::LOOP)),
        _ => Err(WriteError::Refused(Errno::NOTDIR)),
    }
}
