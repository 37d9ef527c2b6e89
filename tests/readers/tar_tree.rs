//! A tar file as a filesystem: what a second reader takes.

mod content;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tar::EntryType;
use volbak::entry::{Entry, EntryKind, Metadata, Timestamp};
use volbak::events::{Problem, Severity};
use volbak::outside::BlockRead;
use volbak::reader::exclude::Excludes;
use volbak::reader::filesystem::{Filesystem, FsRegion, Means, NotOpened, NotReleased, Passed, Reader};
use volbak::reader::{Found, FsReader};

use self::content::{Content, Stream};

pub(crate) struct TarReader;

impl Reader for TarReader {
    fn open(&self, region: &FsRegion<'_>, _: &Means<'_>) -> Result<Box<dyn Filesystem>, NotOpened> {
        if region.fs != "tar" {
            return Err(Passed::Foreign(region.fs.to_owned()).into());
        }
        let tree = TarTree::read(&region.blocks).map_err(Passed::Damaged)?;
        Ok(Box::new(tree))
    }

    fn try_out(&self, region: &FsRegion<'_>) -> Result<(), NotOpened> {
        if region.fs == "tar" { Ok(()) } else { Err(Passed::Foreign(region.fs.to_owned()).into()) }
    }
}

/// All entries by their paths. A directory's own path sorts before those in it; `/` is the lowest byte that may follow a name.
struct TarTree {
    blocks: Arc<dyn BlockRead>,
    nodes: BTreeMap<Vec<Vec<u8>>, Node>,
    problems: Vec<Problem>,
}

#[derive(Clone)]
struct Node {
    kind: Kind,
    metadata: Metadata,
}

#[derive(Clone)]
enum Kind {
    Directory,
    /// Where its bytes begin.
    File(u64),
    Symlink(Vec<u8>),
    Fifo,
}

fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && part != b".").map(Vec::from).collect()
}

impl TarTree {
    fn read(blocks: &Arc<dyn BlockRead>) -> io::Result<Self> {
        let mut nodes = BTreeMap::new();
        let mut problems = Vec::new();
        let mut archive = tar::Archive::new(Stream::new(Arc::clone(blocks)));
        for (number, entry) in archive.entries()?.enumerate() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let what = format!("the rest of the archive cannot be read: {error}");
                    problems.push(Problem::new(Severity::Error, "/", what));
                    break;
                }
            };
            let header = entry.header();
            let path = parts(&entry.path_bytes());
            let metadata = Metadata {
                mode: header.mode()? & 0o7777,
                uid: u32::try_from(header.uid()?).unwrap_or(u32::MAX),
                gid: u32::try_from(header.gid()?).unwrap_or(u32::MAX),
                mtime: Timestamp { sec: i64::try_from(header.mtime()?).unwrap_or(i64::MAX), nsec: 0 },
                dev: 1,
                ino: number as u64 + 2,
                nlink: 1,
                ..Metadata::default()
            };
            let target = entry.link_name_bytes().map(Cow::into_owned).unwrap_or_default();
            let kind = match header.entry_type() {
                EntryType::Directory => Kind::Directory,
                EntryType::Regular => Kind::File(entry.raw_file_position()),
                EntryType::Symlink => Kind::Symlink(target),
                EntryType::Fifo => Kind::Fifo,
                EntryType::Link => {
                    let linked: Option<Node> = nodes.get(&parts(&target)).cloned();
                    let Some(linked) = linked else {
                        problems.push(Problem::new(Severity::Error, shown(&path), "its target is missing, left out"));
                        continue;
                    };
                    let ino = linked.metadata.ino;
                    nodes.insert(path, linked);
                    let names = nodes.values_mut().filter(|node| node.metadata.ino == ino);
                    names.for_each(|node| node.metadata.nlink += 1);
                    continue;
                }
                other => {
                    problems.push(Problem::new(Severity::Error, shown(&path), format!("is a {other:?}, left out")));
                    continue;
                }
            };
            let size = if matches!(kind, Kind::File(_)) { header.size()? } else { 0 };
            nodes.insert(path, Node { kind, metadata: Metadata { size, ..metadata } });
        }
        let root = Node {
            kind: Kind::Directory,
            metadata: Metadata { dev: 1, ino: 1, mode: 0o755, nlink: 2, ..Metadata::default() },
        };
        nodes.entry(Vec::new()).or_insert(root);
        Ok(Self { blocks: Arc::clone(blocks), nodes, problems })
    }
}

fn shown(path: &[Vec<u8>]) -> String {
    format!("/{}", String::from_utf8_lossy(&path.join(&b'/')))
}

impl Filesystem for TarTree {
    fn reader(&self) -> &'static str {
        "tar"
    }

    fn walk(&self, excludes: Excludes) -> io::Result<Box<dyn FsReader + Send>> {
        let mut left_out: Option<Vec<Vec<u8>>> = None;
        let mut found: Vec<Found> = Vec::new();
        for (path, node) in &self.nodes {
            if left_out.as_ref().is_some_and(|outer| path.starts_with(outer)) {
                continue;
            }
            let joined = path.join(&b'/');
            if !path.is_empty() && excludes.leaves_out(&joined, matches!(node.kind, Kind::Directory)) {
                left_out = Some(path.clone());
                continue;
            }
            let kind = match &node.kind {
                Kind::Directory => EntryKind::Directory,
                Kind::File(start) => {
                    EntryKind::File(Box::new(Content::new(Arc::clone(&self.blocks), *start, node.metadata.size)))
                }
                Kind::Symlink(target) => EntryKind::Symlink(target.clone()),
                Kind::Fifo => EntryKind::Fifo,
            };
            found.push(Found::Entry(Entry { path: joined, kind, metadata: node.metadata, xattrs: Vec::new() }));
        }
        found.extend(self.problems.iter().cloned().map(Found::Problem));
        Ok(Box::new(Walk(found.into_iter())))
    }

    fn for_each_root_name(&self, with: &mut dyn FnMut(&[u8])) {
        self.nodes.keys().filter(|path| path.len() == 1).for_each(|path| with(&path[0]));
    }

    fn used_bytes(&self) -> io::Result<u64> {
        Ok(self.nodes.values().map(|node| node.metadata.size).sum())
    }

    fn finish(self: Box<Self>) -> Result<(), NotReleased> {
        Ok(())
    }
}

struct Walk(std::vec::IntoIter<Found>);

impl FsReader for Walk {
    fn next_found(&mut self) -> Option<Found> {
        self.0.next()
    }
}
