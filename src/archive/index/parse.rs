//! Parses the lines of an index.

use super::line::{EntryLine, IndexVersion, IndexedKind, Line, MemberDigest, MemberLine, NSEC_DIGITS, Totals};
use super::path::{is_plain_path, unescape_path};
use crate::digits::{are_hex_digits, parse_decimal, parse_hex, parse_padded};
use crate::entry::Timestamp;

/// The length of a header digest in a line.
const HEAD_DIGITS: usize = 32;
/// The length of a content digest in a line.
const CONTENT_DIGITS: usize = 64;

/// Parses a line without its newline.
pub fn parse_line(line: &[u8], version: IndexVersion) -> Result<Line, BadLine> {
    RawLine::parse(line, version)?.whole()
}

/// A line whose digests and path are not parsed yet, for a pass that needs only offsets and times.
pub(crate) enum RawLine<'a> {
    Member(MemberLine),
    Entry(RawEntry<'a>),
    End(Totals),
}

/// The fields of an entry's line except digests and path. See [`EntryLine`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryFacts {
    pub(crate) kind: IndexedKind,
    pub(crate) damaged: bool,
    pub(crate) tar_offset: u64,
    pub(crate) tar_length: u64,
    pub(crate) size: u64,
    pub(crate) ino: u64,
    pub(crate) ctime: Timestamp,
}

/// An entry's line with unparsed digests and path.
pub(crate) struct RawEntry<'a> {
    pub(crate) facts: EntryFacts,
    /// All fields after its tar offset.
    pub(super) behind_offset: &'a [u8],
    head: &'a [u8],
    content: &'a [u8],
    /// Its escaped path.
    pub(crate) escaped_path: &'a [u8],
}

impl<'a> RawLine<'a> {
    pub(crate) fn parse(line: &'a [u8], version: IndexVersion) -> Result<Self, BadLine> {
        let mut fields = Fields { rest: Some(line) };
        let parsed = match fields.next("type")? {
            b"M" => Self::Member(MemberLine {
                number: fields.number("number")?,
                offset: fields.number("offset")?,
                length: fields.number("length")?,
                tar_offset: fields.number("tar offset")?,
                tar_length: fields.number("tar length")?,
                digest: match version {
                    IndexVersion::One => MemberDigest::Sha256(parse_hex_field(fields.next("SHA-256")?, "SHA-256")?),
                    _ => MemberDigest::Blake3(parse_hex_field(fields.next("BLAKE3")?, "BLAKE3")?),
                },
                heads: match version {
                    IndexVersion::Three | IndexVersion::Four => parse_digest(fields.next("heads")?, "heads")?,
                    IndexVersion::One | IndexVersion::Two => None,
                },
                data: match version {
                    IndexVersion::Four => parse_digest(fields.next("data")?, "data")?,
                    _ => None,
                },
            }),
            b"E" => {
                let letters = fields.next("kind")?;
                let kind = match letters.strip_suffix(b"!").unwrap_or(letters) {
                    [letter] => IndexedKind::from_letter(char::from(*letter)),
                    _ => None,
                };
                let tar_offset = fields.number("tar offset")?;
                let behind_offset = fields.rest.unwrap_or_default();
                let facts = EntryFacts {
                    kind: kind.ok_or(BadLine("kind"))?,
                    damaged: letters.ends_with(b"!"),
                    tar_offset,
                    tar_length: fields.number("tar length")?,
                    size: fields.number("size")?,
                    ino: fields.number("inode")?,
                    ctime: parse_timestamp(fields.next("change time")?).ok_or(BadLine("change time"))?,
                };
                Self::Entry(RawEntry {
                    facts,
                    behind_offset,
                    head: fields.of_length(HEAD_DIGITS, "head")?,
                    content: fields.of_length(CONTENT_DIGITS, "content")?,
                    escaped_path: fields.last("path")?,
                })
            }
            b"Z" => Self::End(Totals {
                members: fields.number("members")?,
                entries: fields.number("entries")?,
                archive_bytes: fields.number("archive length")?,
                tar_bytes: fields.number("tar length")?,
            }),
            _ => return Err(BadLine("type")),
        };
        if fields.rest.is_some() { Err(BadLine("number of fields")) } else { Ok(parsed) }
    }

    /// The fully parsed line.
    pub(crate) fn whole(self) -> Result<Line, BadLine> {
        Ok(match self {
            Self::Member(member) => Line::Member(member),
            Self::Entry(entry) => Line::Entry(entry.whole()?),
            Self::End(totals) => Line::End(totals),
        })
    }
}

impl RawEntry<'_> {
    /// Its path in the archive.
    pub(crate) fn path(&self) -> Result<Vec<u8>, BadLine> {
        if is_plain_path(self.escaped_path) {
            return Ok(self.escaped_path.to_vec());
        }
        std::str::from_utf8(self.escaped_path).ok().and_then(unescape_path).ok_or(BadLine("path"))
    }

    /// A lower bound of the path's length.
    pub(crate) fn least_path_bytes(&self) -> usize {
        // An escape `\xHH` is four bytes long.
        self.escaped_path.len() / 4
    }

    /// Whether its digests are valid.
    pub(super) fn has_digests(&self) -> bool {
        are_hex_digits::<HEAD_DIGITS>(self.head)
            && (self.content == b"-" || are_hex_digits::<CONTENT_DIGITS>(self.content))
    }

    fn whole(&self) -> Result<EntryLine, BadLine> {
        let path = self.path()?;
        let EntryFacts { kind, damaged, tar_offset, tar_length, size, ino, ctime } = self.facts;
        // The path is part of the headers.
        if path.len() as u64 > tar_length {
            return Err(BadLine("path"));
        }
        let head = parse_hex_field(self.head, "head")?;
        let content = parse_digest(self.content, "content")?;
        Ok(EntryLine { kind, damaged, tar_offset, tar_length, size, ino, ctime, head, content, path })
    }
}

/// The field of an index line that is invalid or missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its {0} is wrong or missing")]
pub struct BadLine(pub &'static str);

struct Fields<'a> {
    /// The text after the last tab; `None` after the last field.
    rest: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn next(&mut self, name: &'static str) -> Result<&'a [u8], BadLine> {
        let rest = self.rest.ok_or(BadLine(name))?;
        // Fields are short: a byte loop is faster than memchr.
        let (field, behind) = match rest.iter().position(|byte| *byte == b'\t') {
            Some(tab) => (&rest[..tab], Some(&rest[tab + 1..])),
            None => (rest, None),
        };
        self.rest = behind;
        Ok(field)
    }

    /// A field that usually has this length.
    fn of_length(&mut self, len: usize, name: &'static str) -> Result<&'a [u8], BadLine> {
        match self.rest.and_then(|rest| Some((rest.get(..len)?, rest.get(len..)?))) {
            // A hex digit is no tab. The caller checks the field's content.
            Some((field, [b'\t', behind @ ..])) => {
                self.rest = Some(behind);
                Ok(field)
            }
            _ => self.next(name),
        }
    }

    /// The rest of the line.
    fn last(&mut self, name: &'static str) -> Result<&'a [u8], BadLine> {
        self.rest.take().ok_or(BadLine(name))
    }

    fn number(&mut self, name: &'static str) -> Result<u64, BadLine> {
        parse_decimal(self.next(name)?).ok_or(BadLine(name))
    }
}

fn parse_digest<const N: usize>(field: &[u8], name: &'static str) -> Result<Option<[u8; N]>, BadLine> {
    if field == b"-" { Ok(None) } else { parse_hex_field(field, name).map(Some) }
}

fn parse_hex_field<const N: usize>(field: &[u8], name: &'static str) -> Result<[u8; N], BadLine> {
    parse_hex(field).ok_or(BadLine(name))
}

/// Seconds, a point and nine digits.
fn parse_timestamp(text: &[u8]) -> Option<Timestamp> {
    let point = text.len().checked_sub(NSEC_DIGITS + 1)?;
    let (sec, nsec) = (text.get(..point)?, text.get(point + 1..)?);
    if text[point] != b'.' {
        return None;
    }
    let magnitude = parse_decimal(sec.strip_prefix(b"-").unwrap_or(sec))?;
    let sec = if sec.starts_with(b"-") {
        // "-0" would be a second form of 0.
        0_i64.checked_sub_unsigned(magnitude).filter(|sec| *sec < 0)?
    } else {
        i64::try_from(magnitude).ok()?
    };
    Some(Timestamp { sec, nsec: u32::try_from(parse_padded(nsec)?).ok()? })
}
