//! A directory's names, in the order of the walk.

use std::collections::{HashMap, HashSet};
use std::io;

use super::name_digest::{may_repeat, quick_digest};
use crate::shown;

/// The maximum number of names: ext4 without `large_dir` holds about 12 million. A crafted disk could otherwise
/// exhaust memory.
const MAX_NAMES: usize = 16 << 20;
/// Linux' `NAME_MAX`.
const NAME_BYTES_MAX: usize = 255;

/// The names of a directory, in one buffer.
#[derive(Default)]
pub struct Listing {
    names: Vec<u8>,
    /// Sorted.
    pub(super) items: Vec<Item>,
    /// For each renamed item, by the offset of its name: the name in the directory.
    stored: HashMap<usize, (usize, u16)>,
}

#[derive(Clone, Copy)]
pub(super) struct Item {
    pub(super) ino: u64,
    name_start: usize,
    name_len: u16,
    pub(super) is_directory: bool,
    /// The file type stored in the directory, in the filesystem's own numbers; 0 if unknown.
    pub(super) stored_type: u8,
    /// Set if another entry of the directory has the same name.
    pub(super) twin: Option<Twin>,
}

/// How an entry is handled whose name occurs twice in its directory, which only happens on a damaged filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twin {
    /// Archived under a new, unique name.
    Renamed,
    /// Leads to the same inode, so nothing is lost without it.
    Repeated,
    /// The kernel resolves the name to the other entry, so this one cannot be read.
    Hidden,
}

impl Twin {
    /// The problem and how it was handled. `name` is the new name.
    pub(super) fn what(self, name: &[u8]) -> String {
        let done = match self {
            Self::Renamed => format!("archived as {}", shown::path(name)),
            Self::Repeated => "both lead to one inode, archived once".to_owned(),
            Self::Hidden => "it cannot be reached as a file".to_owned(),
        };
        format!("another entry of its directory has the same name: the filesystem is damaged; {done}")
    }
}

/// How entries of a listing are opened.
pub(super) enum Reach<'a> {
    /// By inode number.
    ByInode,
    /// By name.
    ByName {
        /// The inode that a name leads to; `None` if unknown.
        ino_of: &'a dyn Fn(&[u8]) -> Option<u64>,
        /// Whether names that differ only in case are the same.
        ignores_case: bool,
    },
}

impl Reach<'_> {
    fn ignores_case(&self) -> bool {
        matches!(self, Self::ByName { ignores_case: true, .. })
    }
}

impl Listing {
    /// Adds a name. A name longer than `NAME_MAX` is skipped; too many names are an error.
    pub(super) fn add(&mut self, name: &[u8], ino: u64, is_directory: bool) -> io::Result<()> {
        if self.items.len() >= MAX_NAMES {
            return Err(io::Error::other(format!("it has more than {MAX_NAMES} names")));
        }
        let Ok(name_len) = u16::try_from(name.len()) else { return Ok(()) };
        self.items.push(Item { ino, name_start: self.names.len(), name_len, is_directory, stored_type: 0, twin: None });
        self.names.extend_from_slice(name);
        Ok(())
    }

    /// Sets the stored type of the last added name.
    pub(super) fn note_type(&mut self, stored_type: u8) {
        if let Some(item) = self.items.last_mut() {
            item.stored_type = stored_type;
        }
    }

    /// The names in the order of the walk, each once. An error of the listing comes with the names read before it.
    pub(super) fn finish(mut self, failed: Option<io::Error>, reach: &Reach<'_>) -> Result<Self, (Self, io::Error)> {
        if self.may_have_twins(reach) {
            self.rename_twins(reach);
        }
        let Self { names, items, .. } = &mut self;
        let name_of = |item: &Item| &names[item.name_start..item.name_start + usize::from(item.name_len)];
        // Two names of one inode are rare, so names are compared only then.
        let number_of = |item: &Item| (item.is_directory, item.ino);
        items.sort_unstable_by(|a, b| number_of(a).cmp(&number_of(b)).then_with(|| name_of(a).cmp(name_of(b))));
        match failed {
            None => Ok(self),
            Some(error) => Err((self, error)),
        }
    }

    /// The name in the archive.
    pub(super) fn name(&self, item: &Item) -> &[u8] {
        &self.names[item.name_start..item.name_start + usize::from(item.name_len)]
    }

    /// The name in the directory.
    pub(super) fn stored_name(&self, item: &Item) -> &[u8] {
        match item.twin {
            Some(Twin::Renamed) => {
                let (start, len) = self.stored.get(&item.name_start).copied().unwrap_or_default();
                &self.names[start..start + usize::from(len)]
            }
            _ => self.name(item),
        }
    }

    pub(super) fn key(&self, item: &Item) -> (bool, u64, &[u8]) {
        (item.is_directory, item.ino, self.name(item))
    }

    /// Whether two names may be the same. Compares short digests, since this runs for every directory.
    fn may_have_twins(&self, reach: &Reach<'_>) -> bool {
        if self.items.len() < 2 {
            return false;
        }
        let ignores_case = reach.ignores_case();
        let digest = |item: &Item| {
            let name = self.name(item);
            if ignores_case { quick_digest(&without_case(name)) } else { quick_digest(name) }
        };
        may_repeat(self.items.len(), self.items.iter().map(digest))
    }

    /// Gives each entry a unique name. The entry that the name leads to keeps it, otherwise the first.
    fn rename_twins(&mut self, reach: &Reach<'_>) {
        let sorted = self.sorted_by_name(reach);
        let mut renamer = Renamer { sorted: &sorted, cut: HashSet::new() };
        let mut new_names = Vec::new();
        for group in sorted.chunk_by(|a, b| a.is_same(b, &self.names, reach)).filter(|group| group.len() > 1) {
            let keeper = match reach {
                Reach::ByInode => None,
                Reach::ByName { ino_of, .. } => {
                    let reached = ino_of(group[0].name(&self.names));
                    group.iter().find(|place| Some(self.items[place.index].ino) == reached)
                }
            };
            let keeper = keeper.unwrap_or(&group[0]).index;
            let mut seen = HashSet::from([self.items[keeper].ino]);
            for place in group.iter().filter(|place| place.index != keeper) {
                let ino = self.items[place.index].ino;
                let is_new = seen.insert(ino);
                self.items[place.index].twin = Some(match reach {
                    _ if !is_new && ino != 0 => Twin::Repeated,
                    Reach::ByName { .. } => Twin::Hidden,
                    Reach::ByInode => {
                        let name = renamer.name_for(place, ino, &self.names);
                        let start = self.names.len() + new_names.len();
                        new_names.extend_from_slice(&name);
                        self.stored.insert(start, (place.start, place.len));
                        let item = &mut self.items[place.index];
                        item.name_start = start;
                        // At most 255 bytes.
                        item.name_len = u16::try_from(name.len()).unwrap_or(0);
                        Twin::Renamed
                    }
                });
            }
        }
        self.names.extend_from_slice(&new_names);
    }

    /// The positions of the names, sorted by name; equal names in directory order.
    fn sorted_by_name(&self, reach: &Reach<'_>) -> Vec<NamedItem> {
        let items = self.items.iter().enumerate();
        let mut places: Vec<NamedItem> =
            items.map(|(index, item)| NamedItem { start: item.name_start, len: item.name_len, index }).collect();
        if reach.ignores_case() {
            places.sort_by_cached_key(|place| without_case(place.name(&self.names)));
        } else {
            places.sort_by(|a, b| a.name(&self.names).cmp(b.name(&self.names)));
        }
        places
    }
}

/// A name in the directory, and its item.
struct NamedItem {
    start: usize,
    len: u16,
    index: usize,
}

impl NamedItem {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        &names[self.start..self.start + usize::from(self.len)]
    }

    fn is_same(&self, other: &Self, names: &[u8], reach: &Reach<'_>) -> bool {
        let (own, other) = (self.name(names), other.name(names));
        own == other || (reach.ignores_case() && without_case(own) == without_case(other))
    }
}

/// Makes names that do not occur in a directory.
struct Renamer<'a> {
    /// The directory's names, sorted.
    sorted: &'a [NamedItem],
    /// New names with a truncated original name: two of them may be equal.
    cut: HashSet<Vec<u8>>,
}

impl Renamer<'_> {
    /// `NAME~inode-N`, with further `~` if that is taken. Called once per name and inode.
    fn name_for(&mut self, place: &NamedItem, ino: u64, names: &[u8]) -> Vec<u8> {
        let stored = place.name(names);
        let mut suffix = format!("~inode-{ino}");
        loop {
            let room = NAME_BYTES_MAX.saturating_sub(suffix.len());
            let mut end = room.min(stored.len());
            if let Ok(text) = std::str::from_utf8(stored) {
                // Do not cut inside a UTF-8 character.
                end = (0..=end).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            }
            let name = [&stored[..end], suffix.as_bytes()].concat();
            let is_there = self.sorted.binary_search_by(|place| place.name(names).cmp(&name)).is_ok();
            let is_free = !is_there && (end == stored.len() || self.cut.insert(name.clone()));
            if is_free || suffix.len() >= NAME_BYTES_MAX {
                return name;
            }
            suffix.push('~');
        }
    }
}

/// A name as FAT compares it: case-insensitive, without trailing dots and spaces.
fn without_case(name: &[u8]) -> Vec<u8> {
    let mut folded = String::from_utf8_lossy(name).to_lowercase().into_bytes();
    let end = folded.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |last| last + 1);
    folded.truncate(end);
    folded
}

#[cfg(test)]
mod tests {
    use super::{Listing, Reach, Twin};

    fn listed(names: &[(&str, u64)], reach: &Reach<'_>) -> Vec<(String, String, u64, Option<Twin>)> {
        let mut listing = Listing::default();
        for (name, ino) in names {
            listing.add(name.as_bytes(), *ino, false).unwrap();
        }
        let listing = listing.finish(None, reach).unwrap_or_else(|_| panic!("no error was given"));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let of = |item| (text(listing.stored_name(item)), text(listing.name(item)));
        let items = listing.items.iter();
        items.map(|item| (of(item).0, of(item).1, item.ino, item.twin)).collect()
    }

    #[test]
    fn of_entries_with_one_name_each_gets_one_that_nothing_else_has() {
        let names = [("a", 14), ("b", 13), ("a", 12), ("a~inode-12", 15), ("a", 14), ("a", 12)];
        let found = listed(&names, &Reach::ByInode);
        let expected = [
            ("a", "a", 12, Some(Twin::Repeated)),
            ("a", "a~inode-12~", 12, Some(Twin::Renamed)),
            ("b", "b", 13, None),
            ("a", "a", 14, None),
            ("a", "a", 14, Some(Twin::Repeated)),
            ("a~inode-12", "a~inode-12", 15, None),
        ];
        let shown: Vec<_> = found.iter().map(|(a, b, ino, twin)| (a.as_str(), b.as_str(), *ino, *twin)).collect();
        assert_eq!(shown.len(), expected.len());
        for one in expected {
            assert!(shown.contains(&one), "{one:?} in {shown:?}");
        }
    }

    #[test]
    fn a_new_name_is_no_longer_than_a_name_may_be() {
        for name in ["n".repeat(255), "ö".repeat(127)] {
            let found = listed(&[(&name, 4_000_000_000), (&name, 12)], &Reach::ByInode);
            let renamed = found.iter().find(|(_, _, ino, _)| *ino == 12).unwrap();
            assert!(renamed.1.len() <= 255 && renamed.1.ends_with("~inode-12"), "{}", renamed.1);
            assert_eq!(renamed.0, name);
        }
    }

    #[test]
    fn by_name_one_is_reached_and_the_others_are_hidden() {
        let by_name = |ignores_case| Reach::ByName { ino_of: &|_| Some(12), ignores_case };
        let twins = |names: &[(&str, u64)], ignores_case| {
            let found = listed(names, &by_name(ignores_case));
            found.iter().map(|(_, _, ino, twin)| (*ino, *twin)).collect::<Vec<_>>()
        };
        let hidden = Some(Twin::Hidden);
        assert_eq!(twins(&[("a", 13), ("a", 12)], false), [(12, None), (13, hidden)]);
        assert_eq!(twins(&[("A", 0), ("a", 0), ("a.", 0)], true), [(0, None), (0, hidden), (0, hidden)]);
        assert_eq!(twins(&[("A", 12), ("a", 13)], false), [(12, None), (13, None)]);
    }
}
