//! Inodes with several names whose first name is in the archive.
//!
//! Paths are kept as a tree, each directory's name once. An inode then takes its own name and about 60 bytes, even
//! at the end of a path of 64 KiB.

use std::collections::HashMap;

/// No node: the parent of `.`.
const NOWHERE: u32 = u32::MAX;
/// Before each name: the node of its directory (4 bytes) and its length (2 bytes).
const NODE_HEAD_BYTES: usize = 6;

/// The inodes of a filesystem that have further names to come.
#[derive(Default)]
pub(super) struct Links {
    seen: HashMap<(u64, u64), Seen>,
    paths: Paths,
}

struct Seen {
    node: u32,
    names_left: u32,
}

/// The result of noting a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The first name of the inode.
    First,
    /// A further name; the first one is this path.
    Further(Vec<u8>),
    /// The first name, but there is no room to remember it: such names fill 4 GiB.
    NotKept,
}

impl Links {
    /// Removes all inodes.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Notes the name `path` of an inode with `nlink` names. The `key` identifies the inode.
    pub(super) fn note(&mut self, key: (u64, u64), nlink: u32, path: &[u8]) -> Name {
        if let Some(seen) = self.seen.get_mut(&key) {
            let first = self.paths.path_of(seen.node);
            seen.names_left = seen.names_left.saturating_sub(1);
            if seen.names_left == 0 {
                self.seen.remove(&key);
            }
            return Name::Further(first);
        }
        let Some(node) = self.paths.add_path(path) else { return Name::NotKept };
        self.seen.insert(key, Seen { node, names_left: nlink.saturating_sub(1) });
        Name::First
    }

    /// Removes the first name of an inode with `nlink` names, as if it had not been noted. False if another name
    /// already links to it.
    pub(super) fn take_back(&mut self, key: (u64, u64), nlink: u32) -> bool {
        let is_alone = self.seen.get(&key).is_some_and(|seen| seen.names_left == nlink.saturating_sub(1));
        is_alone && self.seen.remove(&key).is_some()
    }
}

/// Paths as nodes, each a name and its parent node.
#[derive(Default)]
struct Paths {
    bytes: Vec<u8>,
    /// The nodes of the last path's directory, outermost first.
    last: Vec<u32>,
}

impl Paths {
    /// `None` if there is no room.
    fn add_path(&mut self, path: &[u8]) -> Option<u32> {
        let mut directory = NOWHERE;
        let mut depth = 0;
        let mut names = path.split(|byte| *byte == b'/');
        let name = names.next_back()?;
        for name in names {
            directory = match self.last.get(depth) {
                Some(node) if self.node(*node).1 == name => *node,
                _ => {
                    self.last.truncate(depth);
                    let node = self.add(directory, name)?;
                    self.last.push(node);
                    node
                }
            };
            depth += 1;
        }
        self.last.truncate(depth);
        self.add(directory, name)
    }

    fn add(&mut self, directory: u32, name: &[u8]) -> Option<u32> {
        let node = u32::try_from(self.bytes.len()).ok().filter(|node| *node != NOWHERE)?;
        let name_len = u16::try_from(name.len()).ok()?;
        self.bytes.extend_from_slice(&directory.to_le_bytes());
        self.bytes.extend_from_slice(&name_len.to_le_bytes());
        self.bytes.extend_from_slice(name);
        Some(node)
    }

    /// The parent and the name of a node.
    fn node(&self, node: u32) -> (u32, &[u8]) {
        let (head, rest) = self.bytes[node as usize..].split_at(NODE_HEAD_BYTES);
        let directory = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        (directory, &rest[..usize::from(u16::from_le_bytes([head[4], head[5]]))])
    }

    fn path_of(&self, node: u32) -> Vec<u8> {
        let mut names = Vec::new();
        let mut next = node;
        while next != NOWHERE {
            let (directory, name) = self.node(next);
            names.push(name);
            next = directory;
        }
        names.reverse();
        names.join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::{Links, Name};

    #[test]
    fn further_names_lead_to_the_first() {
        let mut links = Links::default();
        assert_eq!(links.note((1, 1), 3, b"./a/b/one"), Name::First);
        assert_eq!(links.note((1, 2), 2, b"./a/c/two"), Name::First);
        assert_eq!(links.note((1, 3), 2, b"./three"), Name::First);
        assert_eq!(links.note((2, 1), 2, b"./a/b"), Name::First);
        assert_eq!(links.note((1, 1), 3, b"./x"), Name::Further(b"./a/b/one".to_vec()));
        assert_eq!(links.note((1, 2), 2, b"./a/y"), Name::Further(b"./a/c/two".to_vec()));
        assert_eq!(links.note((1, 3), 2, b"./a/z"), Name::Further(b"./three".to_vec()));
        assert_eq!(links.note((2, 1), 2, b"./a/w"), Name::Further(b"./a/b".to_vec()));
        assert_eq!(links.note((1, 1), 3, b"./v"), Name::Further(b"./a/b/one".to_vec()));
        assert!(links.seen.is_empty());
        assert_eq!(links.note((1, 1), 2, b"./again"), Name::First);
    }

    #[test]
    fn a_first_name_is_taken_back_while_nothing_leads_to_it() {
        let mut links = Links::default();
        assert_eq!(links.note((1, 1), 3, b"./one"), Name::First);
        assert!(links.take_back((1, 1), 3));
        assert_eq!(links.note((1, 1), 3, b"./two"), Name::First);
        assert_eq!(links.note((1, 1), 3, b"./three"), Name::Further(b"./two".to_vec()));
        assert!(!links.take_back((1, 1), 3));
    }

    #[test]
    fn a_name_in_a_deep_directory_takes_no_more_than_its_own_length() {
        let mut links = Links::default();
        let deep = [b".".as_slice(), &b"/directory".repeat(6000)].concat();
        let path = |number: u64| [deep.as_slice(), format!("/{}/f", number / 2).as_bytes()].concat();
        for number in 0..1000 {
            assert_eq!(links.note((1, number), 2, &path(number)), Name::First);
        }
        let taken = links.paths.bytes.len() - 6000 * (9 + 6);
        assert!(taken < 1000 * 20, "{taken}");
        for number in 0..1000 {
            assert_eq!(links.note((1, number), 2, b"./x"), Name::Further(path(number)));
        }
    }
}
