//! Plans which members of an archive to read, from its index.

use std::collections::VecDeque;

use super::index_file::{IndexError, IndexReader};
use crate::archive::index::{EntryLine, Line, MemberLine, Totals};

/// The maximum number of members of a large file to keep; the lines of the rest are read again.
const MAX_KEPT_MEMBERS: usize = 4096;

/// A member to read, with the lines of the entries that start in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMember {
    /// The member.
    pub line: MemberLine,
    /// The entries, in their order.
    pub entries: Vec<EntryLine>,
}

/// Selects entries.
pub type Select = Box<dyn FnMut(&EntryLine) -> bool + Send>;

/// The plan for reading an archive, from its index.
pub struct IndexPlan {
    reader: IndexReader,
    select: Option<Select>,
    /// The line that begins the next span, and its offset.
    peeked: Option<(Line, u64)>,
    ready: VecDeque<PlannedMember>,
    /// Members that did not fit in `ready`: the offset of their lines, their number, and the span's entries.
    replay: Option<Replay>,
}

struct Replay {
    at: u64,
    left: u64,
    entries: VecDeque<EntryLine>,
    wanted: Vec<(u64, u64)>,
}

/// Members up to and including the one in which the next entries end.
#[derive(Default)]
struct Span {
    kept: Vec<MemberLine>,
    members: u64,
    /// The offset of the first member line that was not kept.
    rest_at: u64,
    entries: Vec<EntryLine>,
}

impl IndexPlan {
    /// All members with all entries; with `select`, only the selected entries and the members that hold them.
    pub fn new(reader: IndexReader, select: Option<Select>) -> Self {
        Self { reader, select, peeked: None, ready: VecDeque::new(), replay: None }
    }

    /// Whether only part of the archive is read.
    pub fn is_partial(&self) -> bool {
        self.select.is_some()
    }

    /// The index's totals; complete only after the last member.
    pub fn totals(&self) -> Totals {
        self.reader.totals()
    }

    /// The next member to read, in the archive's order.
    pub fn next_member(&mut self) -> Result<Option<PlannedMember>, IndexError> {
        loop {
            if let Some(planned) = self.ready.pop_front() {
                return Ok(Some(planned));
            }
            if self.replay_some()? {
                continue;
            }
            let Some(span) = self.next_span()? else { return Ok(None) };
            self.take_in(span);
        }
    }

    fn next_span(&mut self) -> Result<Option<Span>, IndexError> {
        let mut span = Span::default();
        loop {
            let (line, at) = if let Some(peeked) = self.peeked.take() {
                peeked
            } else {
                let at = self.reader.at();
                match self.reader.next_line()? {
                    Some(line) => (line, at),
                    None => break,
                }
            };
            match line {
                Line::Member(_) if !span.entries.is_empty() => {
                    self.peeked = Some((line, at));
                    break;
                }
                Line::Member(member) => {
                    span.members += 1;
                    if span.kept.len() < MAX_KEPT_MEMBERS {
                        span.kept.push(member);
                    } else if span.members == MAX_KEPT_MEMBERS as u64 + 1 {
                        span.rest_at = at;
                    }
                }
                Line::Entry(entry) => span.entries.push(entry),
                Line::End(_) => {}
            }
        }
        Ok((span.members > 0).then_some(span))
    }

    fn take_in(&mut self, mut span: Span) {
        let everything = self.select.is_none();
        if let Some(select) = &mut self.select {
            span.entries.retain(|entry| select(entry));
            if span.entries.is_empty() {
                return;
            }
        }
        // The reader's checks exclude an overflow.
        let wanted: Vec<(u64, u64)> =
            span.entries.iter().map(|entry| (entry.tar_offset, entry.tar_offset + entry.tar_length)).collect();
        let wanted = if everything { vec![(0, u64::MAX)] } else { wanted };
        let mut entries = VecDeque::from(span.entries);
        for line in span.kept {
            self.ready.extend(plan(line, &mut entries, &wanted));
        }
        let left = span.members.saturating_sub(MAX_KEPT_MEMBERS as u64);
        if left > 0 {
            self.replay = Some(Replay { at: span.rest_at, left, entries, wanted });
        }
    }

    /// Reads lines of members again that were checked before. False if there are none.
    fn replay_some(&mut self) -> Result<bool, IndexError> {
        let Some(mut replay) = self.replay.take() else { return Ok(false) };
        let count = replay.left.min(MAX_KEPT_MEMBERS as u64);
        replay.left -= count;
        let Replay { at, entries, wanted, .. } = &mut replay;
        let ready = &mut self.ready;
        *at = self.reader.read_again(*at, count, |line| {
            if let Line::Member(line) = line {
                ready.extend(plan(line, entries, wanted));
            }
        })?;
        if replay.left > 0 {
            self.replay = Some(replay);
        }
        Ok(true)
    }
}

/// The member with the entries that start in it, if any of it is needed.
fn plan(line: MemberLine, entries: &mut VecDeque<EntryLine>, wanted: &[(u64, u64)]) -> Option<PlannedMember> {
    let end = line.tar_offset + line.tar_length;
    let mut own = Vec::new();
    while entries.front().is_some_and(|entry| entry.tar_offset < end) {
        own.extend(entries.pop_front());
    }
    // Padding counts as the byte after it, so that a complete read covers every byte of the archive.
    let end = end.max(line.tar_offset.saturating_add(1));
    let is_wanted = wanted.iter().any(|(from, to)| *from < end && line.tar_offset < *to);
    is_wanted.then_some(PlannedMember { line, entries: own })
}

#[cfg(test)]
mod tests {
    use super::IndexPlan;
    use crate::archive::index::EntryLine;
    use crate::archive::read::index_file::tests::{index, reader};

    fn planned(plan: &mut IndexPlan) -> Vec<(u64, Vec<String>)> {
        let mut all = Vec::new();
        while let Some(planned) = plan.next_member().unwrap() {
            let names = planned.entries.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap());
            all.push((planned.line.number, names.collect()));
        }
        all
    }

    #[test]
    fn entries_come_with_the_member_they_start_in() {
        for spanned in [1, 2, 5000, 9000] {
            let all = planned(&mut IndexPlan::new(reader(&index(spanned)).unwrap(), None));
            assert_eq!(all.len() as u64, spanned + 2);
            assert!(all.iter().enumerate().all(|(at, (number, _))| at as u64 == *number));
            let named: Vec<_> = all.iter().filter(|(_, names)| !names.is_empty()).cloned().collect();
            let flat: Vec<_> = named.iter().flat_map(|(_, names)| names.clone()).collect();
            assert_eq!(flat, ["small", "large", "last"]);
            assert_eq!(named[1].0, 1);
        }
    }

    #[test]
    fn only_members_with_something_wanted_are_read() {
        for spanned in [3, 5000] {
            let of = |wanted: &'static str| {
                let select = Box::new(move |entry: &EntryLine| entry.path == wanted.as_bytes());
                planned(&mut IndexPlan::new(reader(&index(spanned)).unwrap(), Some(select)))
            };
            assert_eq!(of("small"), [(0, vec!["small".to_owned()])]);
            assert_eq!(of("last"), [(spanned, vec!["last".to_owned()])]);
            assert_eq!(of("large").len() as u64, spanned);
            assert_eq!(of("none"), []);
        }
    }
}
