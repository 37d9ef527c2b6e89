//! The versions of paths, collected backup by backup.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::archive::index::{EntryLine, IndexedKind, escape_path};
use crate::shown::hex;

/// A searched backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Appearance {
    /// The backup, in a form that can be typed.
    pub backup: String,
    /// When it began.
    pub began: DateTime<Utc>,
    /// Whether it is partial: what is not in it may still have been on the volume.
    pub partial: bool,
}

/// How a version differs from what the backup before had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The oldest backup that was searched has it.
    Oldest,
    /// The backup before had nothing of this path.
    Appeared,
    /// As `Appeared`, but an earlier backup had it.
    Returned,
    /// Its content or type changed.
    Content,
    /// Only its headers changed: owner, mode, time, attributes, link target.
    Attributes,
}

/// A version of an entry, in successive backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// What happened before the first of these backups.
    pub step: Step,
    /// The type: `f`, `d` and so on, as in the index.
    pub kind: char,
    /// Whether part of it could not be read for the backup.
    pub damaged: bool,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of a file without holes.
    pub sha256: Option<String>,
    /// The first backup that has it.
    pub first: Appearance,
    /// The last backup that has it.
    pub last: Appearance,
    /// The number of backups that have it.
    pub backups: usize,
}

/// The history of one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathHistory {
    /// The path without `./`, escaped as in the index.
    pub path: String,
    /// Its versions by date; at least one.
    pub versions: Vec<Version>,
    /// The first backup after the last version that does not have it; `None` if the newest backup has it.
    pub gone: Option<Appearance>,
}

/// The fields in which versions differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    kind: IndexedKind,
    damaged: bool,
    size: u64,
    head: [u8; 16],
    content: Option<[u8; 32]>,
}

impl Facts {
    pub(super) fn of(line: &EntryLine) -> Self {
        let EntryLine { kind, damaged, size, head, content, .. } = line;
        Self { kind: *kind, damaged: *damaged, size: *size, head: *head, content: *content }
    }

    fn has_content_of(&self, other: &Self) -> bool {
        self.kind == other.kind && self.size == other.size && self.content == other.content
    }
}

/// A version, by the numbers of the backups that have it.
struct Span {
    facts: Facts,
    first: usize,
    last: usize,
}

struct Path {
    spans: Vec<Span>,
    /// The span that sightings of [`Sighting::Known`] have: the last one when [`Histories::settle`] was called.
    settled: usize,
}

/// An entry that matches, compared with the settled histories. Most are `Known`, and many are kept at a time.
pub(super) enum Sighting {
    /// The path with this number, unchanged.
    Known(usize),
    /// The path with this number, changed.
    Changed(usize, Box<Facts>),
    /// A path that no settled backup has.
    New(Box<(Box<[u8]>, Facts)>),
}

impl Sighting {
    /// The memory that it takes beyond a few bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Known(_) => 0,
            Self::Changed(..) => size_of::<Span>(),
            Self::New(new) => new_path_bytes(&new.0),
        }
    }
}

/// The memory of a path with one version, its place in the map with it.
fn new_path_bytes(path: &[u8]) -> usize {
    path.len() + size_of::<Span>() + size_of::<Path>() + 64
}

/// The histories of all matching paths.
#[derive(Default)]
pub(super) struct Histories {
    numbers: HashMap<Box<[u8]>, usize>,
    paths: Vec<Path>,
    bytes: usize,
}

impl Histories {
    /// The memory that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn sighting(&self, path: &[u8], facts: Facts) -> Sighting {
        match self.numbers.get(path) {
            None => Sighting::New(Box::new((path.into(), facts))),
            Some(&number) => {
                let Path { spans, settled } = &self.paths[number];
                let is_known = spans.get(*settled).is_some_and(|span| span.facts == facts);
                if is_known { Sighting::Known(number) } else { Sighting::Changed(number, Box::new(facts)) }
            }
        }
    }

    /// Adds what backup number `backup` has; the numbers ascend from 0.
    pub(super) fn add(&mut self, backup: usize, sightings: Vec<Sighting>) {
        for sighting in sightings {
            let (number, facts) = match sighting {
                Sighting::Known(number) => {
                    let Path { spans, settled } = &self.paths[number];
                    (number, spans[*settled].facts.clone())
                }
                Sighting::Changed(number, facts) => (number, *facts),
                Sighting::New(new) => {
                    let (path, facts) = *new;
                    let next = self.paths.len();
                    let bytes = new_path_bytes(&path);
                    let number = *self.numbers.entry(path).or_insert(next);
                    if number == next {
                        self.paths.push(Path { spans: Vec::new(), settled: 0 });
                        self.bytes += bytes;
                    }
                    (number, facts)
                }
            };
            let spans = &mut self.paths[number].spans;
            match spans.last_mut() {
                // A path that an archive has twice counts once.
                Some(span) if span.last == backup => span.facts = facts,
                Some(span) if span.last + 1 == backup && span.facts == facts => span.last = backup,
                _ => {
                    spans.push(Span { facts, first: backup, last: backup });
                    self.bytes += size_of::<Span>();
                }
            }
        }
    }

    /// From now on, [`Self::sighting`] compares with what was added until now.
    pub(super) fn settle(&mut self) {
        for path in &mut self.paths {
            path.settled = path.spans.len().saturating_sub(1);
        }
    }

    /// The histories by path. `backups` are those that were added.
    pub(super) fn into_paths(self, backups: &[Appearance]) -> Vec<PathHistory> {
        let mut paths: Vec<PathHistory> = self
            .numbers
            .into_iter()
            .map(|(path, number)| {
                let spans = &self.paths[number].spans;
                let behind = spans.last().map_or(0, |span| span.last + 1);
                PathHistory {
                    path: escape_path(&path),
                    versions: versions(spans, backups),
                    gone: backups.get(behind).cloned(),
                }
            })
            .collect();
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        paths
    }
}

fn versions(spans: &[Span], backups: &[Appearance]) -> Vec<Version> {
    let before = std::iter::once(None).chain(spans.iter().map(Some));
    let pairs = spans.iter().zip(before);
    let version = |(span, before): (&Span, Option<&Span>)| {
        let step = match before {
            None if span.first == 0 => Step::Oldest,
            None => Step::Appeared,
            Some(before) if before.last + 1 < span.first => Step::Returned,
            Some(before) if before.facts.has_content_of(&span.facts) => Step::Attributes,
            Some(_) => Step::Content,
        };
        let Facts { kind, damaged, size, content, .. } = &span.facts;
        let digest = content.as_ref().filter(|_| *kind == IndexedKind::File);
        Version {
            step,
            kind: kind.letter(),
            damaged: *damaged,
            size: *size,
            sha256: digest.map(|digest| hex(digest)),
            first: backups[span.first].clone(),
            last: backups[span.last].clone(),
            backups: span.last - span.first + 1,
        }
    };
    pairs.map(version).collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{Appearance, Facts, Histories, Step};
    use crate::archive::index::IndexedKind;

    fn facts(content: u8, head: u8) -> Facts {
        Facts { kind: IndexedKind::File, damaged: false, size: 5, head: [head; 16], content: Some([content; 32]) }
    }

    fn backups(count: usize) -> Vec<Appearance> {
        let one = |number| Appearance { backup: format!("v@{number}"), began: DateTime::UNIX_EPOCH, partial: false };
        (0..count).map(one).collect()
    }

    /// The steps of a path whose content in each backup is given, when `window` backups are read at a time.
    fn steps(contents: &[Option<(u8, u8)>], window: usize) -> (Vec<(Step, String, String)>, Option<String>) {
        let mut histories = Histories::default();
        for (nth, together) in contents.chunks(window).enumerate() {
            let sightings: Vec<Vec<_>> = together
                .iter()
                .map(|content| content.map(|(c, h)| histories.sighting(b"a", facts(c, h))).into_iter().collect())
                .collect();
            for (at, sightings) in sightings.into_iter().enumerate() {
                histories.add(nth * window + at, sightings);
            }
            histories.settle();
        }
        let paths = histories.into_paths(&backups(contents.len()));
        let [path] = paths.as_slice() else { panic!("{} paths", paths.len()) };
        let steps = path
            .versions
            .iter()
            .map(|version| (version.step, version.first.backup.clone(), version.last.backup.clone()));
        (steps.collect(), path.gone.as_ref().map(|gone| gone.backup.clone()))
    }

    #[test]
    fn versions_are_the_same_however_many_backups_are_read_at_a_time() {
        let (a, b, changed_mode) = (Some((1, 1)), Some((2, 2)), Some((1, 9)));
        let contents = [None, a, a, b, a, changed_mode, None, None, a, a, None];
        let name = |number: usize| format!("v@{number}");
        let right = [
            (Step::Appeared, name(1), name(2)),
            (Step::Content, name(3), name(3)),
            (Step::Content, name(4), name(4)),
            (Step::Attributes, name(5), name(5)),
            (Step::Returned, name(8), name(9)),
        ];
        for window in 1..=contents.len() {
            let (found, gone) = steps(&contents, window);
            assert_eq!(found, right, "{window} at a time");
            assert_eq!(gone, Some(name(10)));
        }
        let (found, gone) = steps(&[a, a], 1);
        assert_eq!((found, gone), (vec![(Step::Oldest, name(0), name(1))], None));
    }
}
