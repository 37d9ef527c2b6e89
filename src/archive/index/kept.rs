//! Entry lines kept in their text form.

use super::line::{EntryLine, IndexVersion, Line, begin_entry};
use super::parse::{BadLine, EntryFacts, RawEntry, parse_line};
use super::path::is_escape_of;

/// Entry lines of an index in version 3 or 4, which have the same. Facts needed for most lines are stored separately; the rest is
/// parsed from the text when needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptEntries {
    /// The lines without their offset fields, each with its newline.
    text: Vec<u8>,
    kept: Vec<Kept>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    facts: EntryFacts,
    /// The offset of its line in the text.
    at: usize,
    /// The offset of the fields after its tar offset.
    behind_offset_at: usize,
    path_at: usize,
    /// The offset of its newline.
    end: usize,
}

impl KeptEntries {
    /// An empty list with capacity for this many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), kept: Vec::new() }
    }

    /// Adds `line`, from which `entry` was parsed. An error if it could not be written again unchanged.
    pub(crate) fn push(&mut self, line: &[u8], entry: &RawEntry<'_>) -> Result<(), BadLine> {
        if !entry.has_digests() {
            return Err(BadLine("digest"));
        }
        let at = self.text.len();
        self.text.extend_from_slice(line);
        let end = self.text.len();
        self.text.push(b'\n');
        // Both are at the end of the line.
        let (behind_offset_at, path_at) = (end - entry.behind_offset.len(), end - entry.escaped_path.len());
        self.kept.push(Kept { facts: entry.facts, at, behind_offset_at, path_at, end });
        Ok(())
    }

    /// The total length of the lines.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The facts of each line: all fields except digests and path.
    pub(crate) fn facts(&self) -> impl Iterator<Item = &EntryFacts> {
        self.kept.iter().map(|kept| &kept.facts)
    }

    /// The facts of one line, if it has this path.
    pub(crate) fn facts_of(&self, number: usize, path: &[u8]) -> Option<&EntryFacts> {
        let kept = self.kept.get(number)?;
        is_escape_of(&self.text[kept.path_at..kept.end], path).then_some(&kept.facts)
    }

    /// The fully parsed line.
    pub(crate) fn line(&self, number: usize) -> Option<EntryLine> {
        let kept = self.kept.get(number)?;
        match parse_line(&self.text[kept.at..kept.end], IndexVersion::Four) {
            Ok(Line::Entry(entry)) => Some(entry),
            _ => None,
        }
    }

    /// All fully parsed lines, up to the first invalid one.
    pub(crate) fn lines(&self) -> impl Iterator<Item = EntryLine> {
        (0..self.len()).map_while(|number| self.line(number))
    }

    /// Appends all lines to `out`. Tar offsets are moved from `from` to `to`.
    pub(crate) fn add_to(&self, out: &mut Vec<u8>, from: u64, to: u64) {
        for Kept { facts, behind_offset_at, end, .. } in &self.kept {
            // An entry may start before the member in which it ends.
            let tar_offset = facts.tar_offset.wrapping_sub(from).wrapping_add(to);
            begin_entry(out, facts.kind, facts.damaged, tar_offset);
            out.push(b'\t');
            out.extend_from_slice(&self.text[*behind_offset_at..=*end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EntryLine, IndexVersion, KeptEntries};
    use crate::archive::index::{IndexedKind, RawLine};
    use crate::entry::Timestamp;

    fn entry(tar_offset: u64, path: &[u8], content: Option<[u8; 32]>) -> EntryLine {
        EntryLine {
            kind: IndexedKind::File,
            damaged: tar_offset == 1024,
            tar_offset,
            tar_length: 8192,
            size: 7,
            ino: 9,
            ctime: Timestamp { sec: 5, nsec: 8 },
            head: [1; 16],
            content,
            path: path.to_vec(),
        }
    }

    fn keep(kept: &mut KeptEntries, line: &[u8]) -> bool {
        match RawLine::parse(line, IndexVersion::Four) {
            Ok(RawLine::Entry(entry)) => kept.push(line, &entry).is_ok(),
            _ => false,
        }
    }

    #[test]
    fn lines_come_back_at_another_place() {
        let entries = [entry(512, b"./a", Some([2; 32])), entry(1024, b"./b\\\xff", None)];
        let mut kept = KeptEntries::with_capacity(100);
        for entry in &entries {
            let mut line = Vec::new();
            entry.add_to(&mut line);
            line.pop();
            assert!(keep(&mut kept, &line));
        }
        for (number, entry) in entries.iter().enumerate() {
            assert_eq!(kept.line(number).as_ref(), Some(entry));
            assert_eq!(kept.facts_of(number, &entry.path).map(|facts| facts.tar_offset), Some(entry.tar_offset));
            assert!(kept.facts_of(number, b"./c").is_none());
        }
        for (from, to) in [(512, 512), (0, 4096), (512, 0)] {
            let (mut moved, mut expected) = (Vec::new(), Vec::new());
            kept.add_to(&mut moved, from, to);
            for entry in &entries {
                let tar_offset = entry.tar_offset - from + to;
                EntryLine { tar_offset, ..entry.clone() }.add_to(&mut expected);
            }
            assert_eq!(moved, expected);
        }
    }

    #[test]
    fn a_line_without_digests_is_not_kept() {
        let mut line = Vec::new();
        entry(512, b"./a", Some([2; 32])).add_to(&mut line);
        line.pop();
        let mut kept = KeptEntries::default();
        for digit in [b"01010101".as_slice(), b"02020202"] {
            let at = line.windows(8).position(|window| window == digit).unwrap();
            for wrong in [b'g', b'A', b'/', b':', b'`', b'-', 0xff] {
                let mut changed = line.clone();
                changed[at + 5] = wrong;
                assert!(!keep(&mut kept, &changed), "{wrong}");
            }
        }
        assert!(kept.is_empty() && keep(&mut kept, &line));
    }
}
