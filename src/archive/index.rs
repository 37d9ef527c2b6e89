//! The index beside an archive: the positions of members and entries. `docs/format.md` describes its lines.

mod kept;
mod line;
mod parse;
mod path;

pub(crate) use self::kept::KeptEntries;
pub use self::line::{EntryLine, HEADER_LINE, IndexVersion, IndexedKind, Line, MemberDigest, MemberLine, Totals};
pub use self::parse::{BadLine, parse_line};
pub(crate) use self::parse::{EntryFacts, RawEntry, RawLine};
pub use self::path::{decode_path, escape_path, unescape_path};

/// Parses exactly `N` bytes of lower-case hex digits.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    crate::digits::parse_hex(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{EntryLine, IndexVersion, IndexedKind, Line, MemberDigest, MemberLine, Totals, parse_line};
    use crate::entry::Timestamp;

    fn entry() -> EntryLine {
        EntryLine {
            kind: IndexedKind::File,
            damaged: true,
            tar_offset: 1024,
            tar_length: 2048,
            size: 700,
            ino: 12,
            ctime: Timestamp { sec: -5, nsec: 7 },
            head: [0xab; 16],
            content: Some([0xcd; 32]),
            path: b"./a\tb\\\n\xff\xc3\xa9".to_vec(),
        }
    }

    #[test]
    fn lines_parse_to_the_original() {
        let member = MemberLine {
            number: 3,
            offset: 9,
            length: 100,
            tar_offset: 512,
            tar_length: 1 << 20,
            digest: MemberDigest::Blake3([7; 32]),
            heads: Some([8; 16]),
            data: None,
        };
        let of_image = MemberLine { data: Some([9; 32]), ..member.clone() };
        let padding = MemberLine { tar_length: 0, heads: None, ..member.clone() };
        let totals = Totals { members: 1, entries: 2, archive_bytes: 3, tar_bytes: 4 };
        let mut text = Vec::new();
        member.add_to(&mut text);
        of_image.add_to(&mut text);
        padding.add_to(&mut text);
        entry().add_to(&mut text);
        totals.write_to(&mut text).unwrap();
        let text = text.strip_suffix(b"\n").unwrap();
        let lines: Vec<Line> =
            text.split(|byte| *byte == b'\n').map(|line| parse_line(line, IndexVersion::Four).unwrap()).collect();
        assert_eq!(
            lines,
            [
                Line::Member(member),
                Line::Member(of_image),
                Line::Member(padding),
                Line::Entry(entry()),
                Line::End(totals)
            ]
        );
    }

    #[test]
    fn a_changed_byte_gives_an_error_or_another_line() {
        let mut text = Vec::new();
        entry().add_to(&mut text);
        text.pop();
        for at in 0..text.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64] {
                let mut changed = text.clone();
                changed[at] ^= flip;
                assert_ne!(parse_line(&changed, IndexVersion::Four), Ok(Line::Entry(entry())), "byte {at}");
            }
        }
    }
}
