//! The entries of an archive of files: their attributes and their data, read where they are in the archive.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

use super::error::ContentsError;
use super::tree::{Node, Tree, TreeBuilder};
use crate::archive::index::{IndexedKind, Line};
use crate::archive::read::anywhere::{HeadAt, MemberCache, TarAnywhere};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::archive::read::index_file::IndexError;
use crate::entry::{Timestamp, Xattr};
use crate::outside::Cancel;
use crate::run::browse::open_index;
use crate::store::Backup;

/// More runs of data are not kept for a file: 96 MiB.
const MAX_RUNS: u64 = 4 << 20;

/// The entries of an archive.
pub(super) struct Files {
    pub(super) tree: Tree,
    pub(super) tar: TarAnywhere,
    links: OnceLock<Links>,
}

/// Hard links: which entry each one means, and how many mean an entry.
#[derive(Default)]
struct Links {
    targets: HashMap<u32, u32>,
    counts: HashMap<u32, u32>,
}

/// An entry's facts.
pub(super) struct Facts {
    /// The entry that it is: a hard link is its target.
    pub(super) number: u32,
    pub(super) kind: HeadKind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// `None`: the archive has no entry for it.
    pub(super) mtime: Option<Timestamp>,
    pub(super) size: u64,
    /// The bytes that are stored.
    pub(super) stored_bytes: u64,
    pub(super) links: u32,
    pub(super) xattrs: Vec<Xattr>,
}

/// A run of a file's data: its offset in the file, its length, and its offset in the tar stream.
pub(super) struct Run {
    start: u64,
    len: u64,
    at: u64,
}

/// An open file.
pub(super) enum OpenFile {
    /// The runs of its data, ascending.
    Stored {
        size: u64,
        runs: Vec<Run>,
    },
    Volume,
}

/// The first byte at or after `offset` that is data, or with `data` false a hole; the end counts as a hole.
pub(super) fn seek_in(runs: &[Run], size: u64, offset: u64, data: bool) -> Option<u64> {
    if offset >= size {
        return None;
    }
    let mut rest = runs[runs.partition_point(|run| run.start + run.len <= offset)..].iter();
    if data {
        return rest.next().map(|run| run.start.max(offset));
    }
    let mut at = offset;
    for run in rest {
        if run.start > at {
            break;
        }
        at = run.start + run.len;
    }
    Some(at.min(size))
}

impl Facts {
    /// The facts of a directory that the archive has no entry for.
    pub(super) fn of_directory(number: u32, directories: u32) -> Self {
        Self {
            number,
            kind: HeadKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: None,
            size: 0,
            stored_bytes: 0,
            links: 2 + directories,
            xattrs: Vec::new(),
        }
    }
}

impl Files {
    /// Reads the index of a backup, after comparing it with the manifest.
    pub(super) fn load(files: &Backup, cache: &Arc<MemberCache>, cancel: &Cancel) -> Result<Self, ContentsError> {
        let mut index = open_index(files, cancel)?;
        let mut tar = TarAnywhere::new(files.open_archive()?, Arc::clone(cache));
        let mut tree = TreeBuilder::new();
        let index_error = |error: IndexError| ContentsError::Index(error.into());
        while let Some(line) = index.next_line().map_err(index_error)? {
            match line {
                Line::Member(member) => tar.add(&member).map_err(ContentsError::Archive)?,
                Line::Entry(entry) => tree.add(&entry)?,
                Line::End(_) => {}
            }
        }
        Ok(Self { tree: tree.finish(), tar, links: OnceLock::new() })
    }

    /// The type by the index; a hard link is its target's, `None` if that is not there.
    pub(super) fn kind(&self, number: u32) -> Option<IndexedKind> {
        let node = self.tree.node(self.target(number)?)?;
        Some(node.kind.unwrap_or(IndexedKind::Directory))
    }

    pub(super) fn facts(&self, number: u32) -> io::Result<Option<Facts>> {
        let Some(number) = self.target(number) else { return Ok(None) };
        let Some(node) = self.tree.node(number) else { return Ok(None) };
        if node.kind.is_none() {
            return Ok(Some(Facts::of_directory(number, node.directories)));
        }
        let head = self.tar.head_at(node.tar_offset)?.head;
        let links = if node.is_directory() {
            2 + node.directories
        } else {
            1 + self.links().counts.get(&number).copied().unwrap_or(0)
        };
        let EntryHead { kind, mode, uid, gid, mtime, size, stored_bytes, xattrs, .. } = *head;
        Ok(Some(Facts { number, kind, mode, uid, gid, mtime: Some(mtime), size, stored_bytes, links, xattrs }))
    }

    /// The entry itself, or the target of a hard link. `None` if a link's target is not there.
    pub(super) fn target(&self, number: u32) -> Option<u32> {
        match self.tree.node(number)?.kind {
            Some(IndexedKind::HardLink) => self.links().targets.get(&number).copied(),
            _ => Some(number),
        }
    }

    /// All hard links. A link has the inode number of its target, which therefore is known without a look into the archive,
    /// unless two filesystems in it use the number.
    fn links(&self) -> &Links {
        self.links.get_or_init(|| {
            let mut links = Links::default();
            let of_links: Vec<(u32, &Node)> =
                self.tree.nodes().filter(|(_, node)| node.kind == Some(IndexedKind::HardLink)).collect();
            if of_links.is_empty() {
                return links;
            }
            let wanted: HashMap<u64, u32> = of_links.iter().map(|(_, node)| (node.ino, 0)).collect();
            // The number of entries with the inode number, and the last of them.
            let mut by_inode: HashMap<u64, (u32, u32)> = HashMap::new();
            for (number, node) in self.tree.nodes() {
                if !node.is_directory() && node.kind != Some(IndexedKind::HardLink) && wanted.contains_key(&node.ino) {
                    let (count, last) = by_inode.entry(node.ino).or_default();
                    (*count, *last) = (*count + 1, number);
                }
            }
            for (number, node) in of_links {
                let target = match by_inode.get(&node.ino) {
                    Some((1, target)) => Some(*target),
                    _ => self.named_target(node),
                };
                if let Some(target) = target {
                    links.targets.insert(number, target);
                    *links.counts.entry(target).or_default() += 1;
                }
            }
            links
        })
    }

    /// The entry that a hard link's header names.
    fn named_target(&self, link: &Node) -> Option<u32> {
        let head = self.tar.head_at(link.tar_offset).ok()?.head;
        let HeadKind::HardLink(path) = &head.kind else { return None };
        let target = self.tree.find(path)?;
        let node = self.tree.node(target)?;
        (!node.is_directory() && node.kind != Some(IndexedKind::HardLink)).then_some(target)
    }

    pub(super) fn open(&self, number: u32) -> io::Result<Option<OpenFile>> {
        let Some(node) = self.target(number).and_then(|number| self.tree.node(number)) else { return Ok(None) };
        let HeadAt { head, data_at } = self.tar.head_at(node.tar_offset)?;
        if head.kind != HeadKind::File {
            return Ok(None);
        }
        let size = head.size;
        let mut runs = Vec::new();
        match &head.runs {
            None if size == 0 => {}
            None => runs.push(Run { start: 0, len: size, at: data_at }),
            Some(map) if map.count() > MAX_RUNS => {
                return Err(io::Error::other("it has too many runs of data to be read here: restore it"));
            }
            Some(map) => {
                let mut at = data_at;
                let mut reader = map.runs();
                while let Some(run) = reader.next_run()? {
                    if run.len > 0 {
                        runs.push(Run { start: run.start, len: run.len, at });
                        at += run.len;
                    }
                }
            }
        }
        Ok(Some(OpenFile::Stored { size, runs }))
    }

    /// Fills `data` with a file's bytes from `offset` on. It has the zeros of holes already.
    pub(super) fn fill(&self, runs: &[Run], offset: u64, data: &mut [u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let first = runs.partition_point(|run| run.start + run.len <= offset);
        for run in runs[first..].iter().take_while(|run| run.start < end) {
            let (from, to) = (run.start.max(offset), (run.start + run.len).min(end));
            let within = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
            let piece = data.get_mut(within(from)..within(to)).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.tar.read_at(run.at + (from - run.start), piece)?;
        }
        Ok(())
    }
}
