//! What a mounted backup has: the entries of its archive, or the volume of an image as one file.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

use super::tree::{Node, ROOT, TooManyEntries, Tree, TreeBuilder};
use crate::archive::image::blocks::{ImageBlocks, ImageOpenError};
use crate::archive::index::{IndexedKind, Line};
use crate::archive::kind::ArchiveKind;
use crate::archive::read::anywhere::{HeadAt, MemberCache, TarAnywhere};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::archive::read::index_file::IndexError;
use crate::entry::{Timestamp, Xattr};
use crate::outside::{BlockRead, Cancel};
use crate::run::browse::{BrowseError, open_index};
use crate::shown::text;
use crate::store::Backup;
use crate::store::open::OpenError;

/// More runs of data are not kept for a file: 96 MiB.
const MAX_RUNS: u64 = 4 << 20;
/// The number of the volume in an image.
const VOLUME: u32 = 1;

/// Why a backup cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentsError {
    /// Its index cannot be read, or is not the one of the manifest.
    #[error(transparent)]
    Index(#[from] BrowseError),
    /// A file of it cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It has more entries than are supported.
    #[error(transparent)]
    TooMany(#[from] TooManyEntries),
    /// A member is longer than any that volbak writes.
    #[error("its archive cannot be read")]
    Archive(#[source] io::Error),
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageOpenError),
}

/// The content of one backup.
pub(super) enum Contents {
    Files(Box<Files>),
    Image { name: Vec<u8>, blocks: Arc<ImageBlocks> },
}

/// The entries of an archive.
pub(super) struct Files {
    tree: Tree,
    tar: TarAnywhere,
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

impl Contents {
    /// Reads the index of a backup, after comparing it with the manifest.
    pub(super) fn load(files: &Backup, cache: &Arc<MemberCache>, cancel: &Cancel) -> Result<Self, ContentsError> {
        if files.kind() == ArchiveKind::Image {
            let blocks = ImageBlocks::open(files.open_archive()?, files.open_index()?)?;
            let name = format!("{}.img", files.volume()).into_bytes();
            return Ok(Self::Image { name, blocks: Arc::new(blocks) });
        }
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
        Ok(Self::Files(Box::new(Files { tree: tree.finish(), tar, links: OnceLock::new() })))
    }

    /// The number of entries that are not served, since no path can have them.
    pub(super) fn left_out(&self) -> u64 {
        match self {
            Self::Files(files) => files.tree.left_out,
            Self::Image { .. } => 0,
        }
    }

    /// The lines of its index that are kept.
    pub(super) fn lines(&self) -> u64 {
        match self {
            Self::Files(files) => files.tree.nodes().len() as u64 + files.tar.members() as u64,
            Self::Image { .. } => 1,
        }
    }

    /// The entry with this name in a directory.
    pub(super) fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        match self {
            Self::Files(files) => files.tree.child(directory, name),
            Self::Image { name: volume, .. } => (directory == ROOT && name == volume).then_some(VOLUME),
        }
    }

    /// The entries of a directory.
    pub(super) fn listed(&self, directory: u32) -> Vec<u32> {
        match self {
            Self::Files(files) => files.tree.listed(directory),
            Self::Image { .. } if directory == ROOT => vec![VOLUME],
            Self::Image { .. } => Vec::new(),
        }
    }

    pub(super) fn name(&self, number: u32) -> &[u8] {
        match self {
            Self::Files(files) => files.tree.name(number),
            Self::Image { name, .. } => name,
        }
    }

    /// The type by the index; a hard link is its target's, `None` if that is not there.
    pub(super) fn kind(&self, number: u32) -> Option<IndexedKind> {
        match self {
            Self::Files(files) => {
                let node = files.tree.node(files.target(number)?)?;
                Some(node.kind.unwrap_or(IndexedKind::Directory))
            }
            Self::Image { .. } if number == ROOT => Some(IndexedKind::Directory),
            Self::Image { .. } => Some(IndexedKind::SparseFile),
        }
    }

    /// Whether a part of it could not be read for the backup.
    pub(super) fn is_damaged(&self, number: u32) -> bool {
        match self {
            Self::Files(files) => files.tree.node(number).is_some_and(|node| node.damaged),
            Self::Image { .. } => false,
        }
    }

    /// Its path, for messages.
    pub(super) fn shown(&self, number: u32) -> String {
        match self {
            Self::Files(files) => text(&String::from_utf8_lossy(&files.tree.path(number))),
            Self::Image { name, .. } => text(&String::from_utf8_lossy(name)),
        }
    }

    /// The directory above, of a directory.
    pub(super) fn parent(&self, number: u32) -> u32 {
        match self {
            Self::Files(files) => files.tree.node(number).map_or(ROOT, |node| node.parent),
            Self::Image { .. } => ROOT,
        }
    }

    /// The facts of an entry, from its headers. `None`: there is no such entry.
    pub(super) fn facts(&self, number: u32) -> io::Result<Option<Facts>> {
        match self {
            Self::Files(files) => files.facts(number),
            Self::Image { .. } if number == ROOT => Ok(Some(Facts::of_directory(ROOT, 0))),
            Self::Image { blocks, .. } if number == VOLUME => {
                let size = blocks.len_bytes();
                // Less than the length: programs then look for holes.
                let stored_bytes = size.saturating_sub(512);
                let facts = Facts::of_directory(VOLUME, 0);
                Ok(Some(Facts { kind: HeadKind::File, mode: 0o400, size, stored_bytes, links: 1, ..facts }))
            }
            Self::Image { .. } => Ok(None),
        }
    }

    pub(super) fn open(&self, number: u32) -> io::Result<Option<OpenFile>> {
        match self {
            Self::Files(files) => files.open(number),
            Self::Image { .. } => Ok((number == VOLUME).then_some(OpenFile::Volume)),
        }
    }

    /// At most `len` bytes of an open file, fewer only at its end.
    pub(super) fn read(&self, file: &OpenFile, offset: u64, len: u32) -> io::Result<Vec<u8>> {
        let within = |size: u64| usize::try_from(size.saturating_sub(offset).min(u64::from(len))).unwrap_or(0);
        match (self, file) {
            (Self::Files(files), OpenFile::Stored { size, runs }) => {
                let mut data = vec![0; within(*size)];
                files.fill(runs, offset, &mut data)?;
                Ok(data)
            }
            (Self::Image { blocks, .. }, OpenFile::Volume) => {
                let mut data = vec![0; within(blocks.len_bytes())];
                blocks.read_at(offset, &mut data)?;
                Ok(data)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The first byte at or after `offset` that is data, or with `data` false a hole; the end counts as a hole. `None`:
    /// there is none.
    pub(super) fn seek(&self, file: &OpenFile, offset: u64, data: bool) -> io::Result<Option<u64>> {
        match (self, file) {
            (Self::Image { blocks, .. }, OpenFile::Volume) => {
                let is_past_end = offset >= blocks.len_bytes();
                match (is_past_end, data) {
                    (true, _) => Ok(None),
                    (false, true) => blocks.next_data(offset),
                    (false, false) => blocks.next_hole(offset).map(Some),
                }
            }
            (_, OpenFile::Stored { size, runs }) => Ok(seek_in(runs, *size, offset, data)),
            _ => Ok(None),
        }
    }
}

fn seek_in(runs: &[Run], size: u64, offset: u64, data: bool) -> Option<u64> {
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
    fn of_directory(number: u32, directories: u32) -> Self {
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
    fn facts(&self, number: u32) -> io::Result<Option<Facts>> {
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

    /// The entry itself, or that which a hard link means. `None` if a link's target is not there.
    fn target(&self, number: u32) -> Option<u32> {
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

    fn open(&self, number: u32) -> io::Result<Option<OpenFile>> {
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
    fn fill(&self, runs: &[Run], offset: u64, data: &mut [u8]) -> io::Result<()> {
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
