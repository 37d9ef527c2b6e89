//! The tree of a backup's entries, from its index.

use std::collections::HashMap;

use crate::archive::index::{EntryLine, IndexedKind};
use crate::run::restore::select::plain;

/// The longest name that Linux takes.
const MAX_NAME_BYTES: usize = 255;
/// The root's number.
pub(super) const ROOT: u32 = 0;

/// An entry. Its other facts are in the archive.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) parent: u32,
    name_at: u32,
    name_len: u8,
    /// `None`: a directory that the archive names only in the paths of others.
    pub(super) kind: Option<IndexedKind>,
    /// Whether part of it could not be read for the backup.
    pub(super) damaged: bool,
    pub(super) tar_offset: u64,
    pub(super) ino: u64,
    /// Its part of `Tree::children`.
    children: (u32, u32),
    /// The number of directories in it.
    pub(super) directories: u32,
}

impl Node {
    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, None | Some(IndexedKind::Directory))
    }
}

/// All entries, numbered in the archive's order. About 60 bytes and the name for each.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    names: Vec<u8>,
    /// The numbers of all entries but the root, by directory and then by name.
    children: Vec<u32>,
    /// Entries whose path no file system can have.
    pub(super) left_out: u64,
}

/// A tree while lines are added.
pub(super) struct TreeBuilder {
    tree: Tree,
    directories: HashMap<(u32, Box<[u8]>), u32>,
    /// The directory of the last entry.
    last: (Vec<u8>, u32),
}

/// The tree has more entries or names than are supported: 4 billion, and 4 GiB.
#[derive(Debug, thiserror::Error)]
#[error("it has too many entries to be mounted")]
pub struct TooManyEntries;

impl TreeBuilder {
    pub(super) fn new() -> Self {
        let tree = Tree { nodes: Vec::new(), names: Vec::new(), children: Vec::new(), left_out: 0 };
        let mut builder = Self { tree, directories: HashMap::new(), last: (Vec::new(), ROOT) };
        // The first node and name never exceed a limit.
        let _ = builder.push(ROOT, b"", None);
        builder
    }

    fn push(&mut self, parent: u32, name: &[u8], line: Option<&EntryLine>) -> Result<u32, TooManyEntries> {
        let number = u32::try_from(self.tree.nodes.len()).map_err(|_| TooManyEntries)?;
        let name_at = u32::try_from(self.tree.names.len()).map_err(|_| TooManyEntries)?;
        let name_len = u8::try_from(name.len()).map_err(|_| TooManyEntries)?;
        self.tree.names.extend_from_slice(name);
        let node = Node {
            parent,
            name_at,
            name_len,
            kind: None,
            damaged: false,
            tar_offset: 0,
            ino: 0,
            children: (0, 0),
            directories: 0,
        };
        self.tree.nodes.push(node);
        if let Some(line) = line {
            self.fill(number, line);
        }
        Ok(number)
    }

    fn fill(&mut self, number: u32, line: &EntryLine) {
        let node = &mut self.tree.nodes[number as usize];
        (node.kind, node.damaged) = (Some(line.kind), line.damaged);
        (node.tar_offset, node.ino) = (line.tar_offset, line.ino);
    }

    /// The directory `name` in `parent`, made if it is new.
    fn directory(&mut self, parent: u32, name: &[u8]) -> Result<u32, TooManyEntries> {
        let key = (parent, Box::from(name));
        if let Some(number) = self.directories.get(&key) {
            return Ok(*number);
        }
        let number = self.push(parent, name, None)?;
        self.directories.insert(key, number);
        Ok(number)
    }

    /// Adds an entry. A directory that comes twice has the facts of the last.
    pub(super) fn add(&mut self, line: &EntryLine) -> Result<(), TooManyEntries> {
        let path = plain(&line.path);
        if path.is_empty() {
            if line.kind == IndexedKind::Directory {
                self.fill(ROOT, line);
            }
            return Ok(());
        }
        if path.split(|byte| *byte == b'/').any(|name| !is_name(name)) {
            self.tree.left_out += 1;
            return Ok(());
        }
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        if self.last.0 != above {
            let mut parent = ROOT;
            for name in above.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
                parent = self.directory(parent, name)?;
            }
            self.last.0.clear();
            self.last.0.extend_from_slice(above);
            self.last.1 = parent;
        }
        let parent = self.last.1;
        if line.kind == IndexedKind::Directory {
            let number = self.directory(parent, name)?;
            self.fill(number, line);
        } else {
            self.push(parent, name, Some(line))?;
        }
        Ok(())
    }

    /// The tree. Of several entries with one path it has the directory, or else the last, as tar would restore it.
    pub(super) fn finish(self) -> Tree {
        let mut tree = self.tree;
        drop(self.directories);
        let mut children: Vec<u32> = (1..).take(tree.nodes.len() - 1).collect();
        children.sort_unstable_by(|a, b| {
            let of = |number: u32| (tree.node(number).map(|node| node.parent), tree.name(number));
            of(*a).cmp(&of(*b)).then(a.cmp(b))
        });
        let before = children.len();
        let mut kept: Vec<u32> = Vec::with_capacity(before);
        for number in children {
            let is_again = kept.last().is_some_and(|last| {
                let (a, b) = (&tree.nodes[*last as usize], &tree.nodes[number as usize]);
                a.parent == b.parent && tree.name(*last) == tree.name(number)
            });
            match kept.last_mut().filter(|_| is_again) {
                Some(last) if !tree.nodes[*last as usize].is_directory() => *last = number,
                Some(_) => {}
                None => kept.push(number),
            }
        }
        tree.left_out += (before - kept.len()) as u64;
        for (at, number) in (0_u32..).zip(&kept) {
            let Node { parent, .. } = tree.nodes[*number as usize];
            let is_directory = tree.nodes[*number as usize].is_directory();
            let parent = &mut tree.nodes[parent as usize];
            if parent.children.1 == 0 {
                parent.children.0 = at;
            }
            parent.children.1 += 1;
            parent.directories += u32::from(is_directory);
        }
        tree.children = kept;
        tree
    }
}

/// Whether a directory can have an entry of this name.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && name.len() <= MAX_NAME_BYTES && !name.contains(&0)
}

impl Tree {
    pub(super) fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number as usize)
    }

    pub(super) fn nodes(&self) -> impl ExactSizeIterator<Item = (u32, &Node)> {
        self.nodes.iter().enumerate().map(|(number, node)| (u32::try_from(number).unwrap_or(u32::MAX), node))
    }

    pub(super) fn name(&self, number: u32) -> &[u8] {
        let Some(node) = self.node(number) else { return b"" };
        let at = node.name_at as usize;
        &self.names[at..at + usize::from(node.name_len)]
    }

    /// The entries of a directory, by name.
    fn children(&self, number: u32) -> &[u32] {
        let (at, count) = self.node(number).map_or((0, 0), |node| node.children);
        &self.children[at as usize..at as usize + count as usize]
    }

    /// The entries of a directory in the archive's order, in which reading their headers is fastest.
    pub(super) fn listed(&self, number: u32) -> Vec<u32> {
        let mut listed = self.children(number).to_vec();
        listed.sort_unstable();
        listed
    }

    pub(super) fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        let children = self.children(directory);
        let at = children.binary_search_by(|child| self.name(*child).cmp(name)).ok()?;
        children.get(at).copied()
    }

    /// The entry with this path.
    pub(super) fn find(&self, path: &[u8]) -> Option<u32> {
        let names = plain(path).split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(ROOT, |at, name| self.child(at, name))
    }

    /// The path of an entry, for messages.
    pub(super) fn path(&self, number: u32) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = number;
        while at != ROOT {
            names.push(self.name(at));
            at = self.node(at).map_or(ROOT, |node| node.parent);
        }
        names.reverse();
        names.join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::{ROOT, Tree, TreeBuilder};
    use crate::archive::index::{EntryLine, IndexedKind};
    use crate::entry::Timestamp;

    fn tree_of(entries: &[(&str, IndexedKind)]) -> Tree {
        let mut builder = TreeBuilder::new();
        for (number, (path, kind)) in entries.iter().enumerate() {
            let line = EntryLine {
                kind: *kind,
                damaged: false,
                tar_offset: number as u64,
                tar_length: 512,
                size: 0,
                ino: 0,
                ctime: Timestamp { sec: 0, nsec: 0 },
                head: [0; 16],
                content: None,
                path: path.as_bytes().to_vec(),
            };
            builder.add(&line).unwrap();
        }
        builder.finish()
    }

    fn listed(tree: &Tree, path: &str) -> Vec<String> {
        let directory = tree.find(path.as_bytes()).unwrap();
        tree.listed(directory).iter().map(|child| String::from_utf8_lossy(tree.name(*child)).into_owned()).collect()
    }

    const FILE: IndexedKind = IndexedKind::File;
    const DIRECTORY: IndexedKind = IndexedKind::Directory;

    #[test]
    fn directories_that_are_named_in_paths_alone_exist() {
        let tree = tree_of(&[("./z/y/file", FILE), ("./a", FILE), (".", DIRECTORY), ("./z", DIRECTORY)]);
        assert_eq!(listed(&tree, ""), ["z", "a"]);
        assert_eq!(listed(&tree, "z/y"), ["file"]);
        let z = tree.node(tree.find(b"z").unwrap()).unwrap();
        assert_eq!((z.kind, z.tar_offset, z.directories), (Some(DIRECTORY), 3, 1));
        assert_eq!(tree.node(tree.find(b"z/y").unwrap()).unwrap().kind, None);
        assert_eq!(tree.path(tree.find(b"z/y/file").unwrap()), b"z/y/file");
        assert_eq!(tree.node(ROOT).unwrap().directories, 1);
    }

    #[test]
    fn of_several_entries_with_one_path_there_is_one() {
        let tree = tree_of(&[("a", FILE), ("a", IndexedKind::Symlink), ("b/x", FILE), ("b", FILE), ("b", DIRECTORY)]);
        assert_eq!(listed(&tree, ""), ["a", "b"]);
        assert_eq!(tree.node(tree.find(b"a").unwrap()).unwrap().kind, Some(IndexedKind::Symlink));
        assert_eq!(listed(&tree, "b"), ["x"]);
        assert_eq!(tree.left_out, 2);
    }

    #[test]
    fn paths_that_lead_out_are_left_out() {
        let long = "n".repeat(256);
        let hostile = ["../etc/passwd", "a/../../b", "a//b", "a/./b", "a\0b", &long];
        let entries: Vec<_> = hostile.iter().map(|path| (*path, FILE)).collect();
        let tree = tree_of(&entries);
        assert_eq!((tree.left_out, listed(&tree, "").len()), (6, 0));
    }
}
