//! The index beside an archive: where each member and each entry is. The lines are described in `docs/format.md`.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::digits::{parse_decimal, parse_padded, push_decimal, push_hex, push_padded, push_signed};
use crate::reader::Timestamp;

/// The first line of an index as it is written now.
pub const HEADER_LINE: &str = "volbak-index\t2\n";
/// The first line of one that volbak wrote until November 2026.
const HEADER_LINE_1: &str = "volbak-index\t1\n";

/// The version of an index, from its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexVersion {
    /// Members have SHA-256 digests. It is read, and not written any more.
    One,
    /// Members have BLAKE3 digests.
    Two,
}

impl IndexVersion {
    /// The version that a first line, without its newline, stands for.
    pub fn of_header(line: &[u8]) -> Option<Self> {
        let is = |header: &str| header.trim_end().as_bytes() == line;
        if is(HEADER_LINE) { Some(Self::Two) } else { is(HEADER_LINE_1).then_some(Self::One) }
    }
}

/// The digest of a member's bytes as they are in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberDigest {
    /// SHA-256 (FIPS 180-4), in an index of version 1.
    Sha256([u8; 32]),
    /// BLAKE3, 32 bytes long.
    Blake3([u8; 32]),
}

impl MemberDigest {
    /// The digest that is written now.
    pub fn of(member: &[u8]) -> Self {
        Self::Blake3(blake3::hash(member).into())
    }

    /// Whether it is the digest of these bytes.
    pub fn is_of(self, member: &[u8]) -> bool {
        match self {
            Self::Sha256(digest) => digest == <[u8; 32]>::from(Sha256::digest(member)),
            Self::Blake3(_) => self == Self::of(member),
        }
    }

    fn bytes(&self) -> &[u8; 32] {
        let (Self::Sha256(bytes) | Self::Blake3(bytes)) = self;
        bytes
    }
}

/// A member of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberLine {
    /// Its number, from 0.
    pub number: u64,
    /// Its first byte in the archive.
    pub offset: u64,
    /// Its length in the archive, in bytes.
    pub length: u64,
    /// Its data's first byte in the tar stream.
    pub tar_offset: u64,
    /// Its data's length in bytes.
    pub tar_length: u64,
    /// The digest of its bytes in the archive.
    pub digest: MemberDigest,
}

impl MemberLine {
    /// Whether it holds nothing, and is there so that the next one lies well.
    pub fn is_padding(&self) -> bool {
        self.tar_length == 0
    }
}

/// An entry of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryLine {
    /// What it is.
    pub kind: IndexedKind,
    /// Whether a part of it could not be read, or changed while it was read.
    pub damaged: bool,
    /// Its first header's first byte in the tar stream.
    pub tar_offset: u64,
    /// The length of headers, data and padding in bytes.
    pub tar_length: u64,
    /// A file's own length in bytes, holes included.
    pub size: u64,
    /// The inode on the volume.
    pub ino: u64,
    /// When the inode was last changed.
    pub ctime: Timestamp,
    /// The first 16 bytes of the SHA-256 of its headers.
    pub head: [u8; 16],
    /// SHA-256 of its data area without padding; `None` without one.
    pub content: Option<[u8; 32]>,
    /// Its path as it is in the archive, raw bytes, without a `/` at its end.
    pub path: Vec<u8>,
}

/// What an entry is, by the index's letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexedKind {
    /// `f`: a regular file without holes.
    File,
    /// `s`: a regular file with holes.
    SparseFile,
    /// `d`: a directory.
    Directory,
    /// `l`: a symbolic link.
    Symlink,
    /// `h`: a hard link.
    HardLink,
    /// `c`: a character device.
    CharDevice,
    /// `b`: a block device.
    BlockDevice,
    /// `p`: a named pipe.
    Fifo,
    /// `i`: a raw image of a region.
    RawImage,
}

impl IndexedKind {
    const LETTERS: [(Self, char); 9] = [
        (Self::File, 'f'),
        (Self::SparseFile, 's'),
        (Self::Directory, 'd'),
        (Self::Symlink, 'l'),
        (Self::HardLink, 'h'),
        (Self::CharDevice, 'c'),
        (Self::BlockDevice, 'b'),
        (Self::Fifo, 'p'),
        (Self::RawImage, 'i'),
    ];

    /// Its letter.
    pub fn letter(self) -> char {
        // LETTERS lists every kind.
        Self::LETTERS.iter().find(|(kind, _)| *kind == self).map_or('?', |(_, letter)| *letter)
    }

    /// The kind with this letter.
    pub fn from_letter(letter: char) -> Option<Self> {
        Self::LETTERS.iter().find(|(_, other)| *other == letter).map(|(kind, _)| *kind)
    }
}

/// What the last line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many members there are.
    pub members: u64,
    /// How many entries.
    pub entries: u64,
    /// The archive's length in bytes.
    pub archive_bytes: u64,
    /// The tar stream's length in bytes.
    pub tar_bytes: u64,
}

/// One line of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `M`.
    Member(MemberLine),
    /// `E`.
    Entry(EntryLine),
    /// `Z`.
    End(Totals),
}

impl MemberLine {
    /// Adds the line to `out`.
    pub fn add_to(&self, out: &mut Vec<u8>) {
        let Self { number, offset, length, tar_offset, tar_length, digest } = self;
        out.push(b'M');
        for number in [number, offset, length, tar_offset, tar_length] {
            push_field(out, *number);
        }
        out.push(b'\t');
        push_hex(out, digest.bytes());
        out.push(b'\n');
    }
}

impl EntryLine {
    /// Adds the line to `out`.
    pub fn add_to(&self, out: &mut Vec<u8>) {
        let Self { kind, damaged, tar_offset, tar_length, size, ino, ctime, head, content, path } = self;
        out.extend_from_slice(b"E\t");
        out.extend_from_slice(kind.letter().encode_utf8(&mut [0; 4]).as_bytes());
        if *damaged {
            out.push(b'!');
        }
        for number in [tar_offset, tar_length, size, ino] {
            push_field(out, *number);
        }
        out.push(b'\t');
        push_signed(out, ctime.sec);
        out.push(b'.');
        push_padded(out, u64::from(ctime.nsec), NSEC_DIGITS);
        out.push(b'\t');
        push_hex(out, head);
        out.push(b'\t');
        match content {
            Some(digest) => push_hex(out, digest),
            None => out.push(b'-'),
        }
        out.push(b'\t');
        if is_plain_path(path) {
            out.extend_from_slice(path);
        } else {
            out.extend_from_slice(escape_path(path).as_bytes());
        }
        out.push(b'\n');
    }
}

impl Totals {
    /// Writes the line.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { members, entries, archive_bytes, tar_bytes } = self;
        writeln!(out, "Z\t{members}\t{entries}\t{archive_bytes}\t{tar_bytes}")
    }
}

/// What a head takes in a line.
const HEAD_DIGITS: usize = 32;
/// What a content's digest takes.
const CONTENT_DIGITS: usize = 64;
/// A change time has so many digits behind its point.
const NSEC_DIGITS: usize = 9;

fn push_field(line: &mut Vec<u8>, number: u64) {
    line.push(b'\t');
    push_decimal(line, number);
}

/// Reads a line without its newline, or says in one word what is wrong with it.
pub fn parse_line(line: &[u8], version: IndexVersion) -> Result<Line, BadLine> {
    RawLine::parse(line, version)?.whole()
}

/// A line of which an entry's longer fields are not looked at: for whoever goes through an index for its places and times.
pub(crate) enum RawLine<'a> {
    Member(MemberLine),
    Entry(RawEntry<'a>),
    End(Totals),
}

/// An entry's line with its digests and its path as they stand there.
pub(crate) struct RawEntry<'a> {
    kind: IndexedKind,
    damaged: bool,
    pub(crate) tar_offset: u64,
    pub(crate) tar_length: u64,
    size: u64,
    ino: u64,
    pub(crate) ctime: Timestamp,
    head: &'a [u8],
    content: &'a [u8],
    /// Its path with its escapes.
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
                    IndexVersion::Two => MemberDigest::Blake3(parse_hex_field(fields.next("BLAKE3")?, "BLAKE3")?),
                },
            }),
            b"E" => {
                let letters = fields.next("kind")?;
                let kind = match letters.strip_suffix(b"!").unwrap_or(letters) {
                    [letter] => IndexedKind::from_letter(char::from(*letter)),
                    _ => None,
                };
                Self::Entry(RawEntry {
                    kind: kind.ok_or(BadLine("kind"))?,
                    damaged: letters.ends_with(b"!"),
                    tar_offset: fields.number("tar offset")?,
                    tar_length: fields.number("tar length")?,
                    size: fields.number("size")?,
                    ino: fields.number("inode")?,
                    ctime: parse_timestamp(fields.next("change time")?).ok_or(BadLine("change time"))?,
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

    /// The line with all that is in it.
    pub(crate) fn whole(self) -> Result<Line, BadLine> {
        Ok(match self {
            Self::Member(member) => Line::Member(member),
            Self::Entry(entry) => Line::Entry(entry.whole()?),
            Self::End(totals) => Line::End(totals),
        })
    }
}

impl RawEntry<'_> {
    /// Its path as it is in the archive.
    pub(crate) fn path(&self) -> Result<Vec<u8>, BadLine> {
        if is_plain_path(self.escaped_path) {
            return Ok(self.escaped_path.to_vec());
        }
        std::str::from_utf8(self.escaped_path).ok().and_then(unescape_path).ok_or(BadLine("path"))
    }

    /// Fewer bytes than this its path cannot have.
    pub(crate) fn least_path_bytes(&self) -> usize {
        // `\xHH` is one.
        self.escaped_path.len() / 4
    }

    fn whole(&self) -> Result<EntryLine, BadLine> {
        let path = self.path()?;
        // It is in its headers.
        if path.len() as u64 > self.tar_length {
            return Err(BadLine("path"));
        }
        Ok(EntryLine {
            kind: self.kind,
            damaged: self.damaged,
            tar_offset: self.tar_offset,
            tar_length: self.tar_length,
            size: self.size,
            ino: self.ino,
            ctime: self.ctime,
            head: parse_hex_field(self.head, "head")?,
            content: match self.content {
                b"-" => None,
                digest => Some(parse_hex_field(digest, "content")?),
            },
            path,
        })
    }
}

/// The field of an index line that is wrong or missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its {0} is wrong or missing")]
pub struct BadLine(pub &'static str);

struct Fields<'a> {
    /// What comes after the last tab; `None` after the last field.
    rest: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn next(&mut self, name: &'static str) -> Result<&'a [u8], BadLine> {
        let rest = self.rest.ok_or(BadLine(name))?;
        // Fields are short: looking at each byte finds the tab sooner than what is made for long texts.
        let (field, behind) = match rest.iter().position(|byte| *byte == b'\t') {
            Some(tab) => (&rest[..tab], Some(&rest[tab + 1..])),
            None => (rest, None),
        };
        self.rest = behind;
        Ok(field)
    }

    /// A field that mostly has this length.
    fn of_length(&mut self, len: usize, name: &'static str) -> Result<&'a [u8], BadLine> {
        match self.rest.and_then(|rest| Some((rest.get(..len)?, rest.get(len..)?))) {
            // No digit is a tab: what is in the field is for whoever reads it to see.
            Some((field, [b'\t', behind @ ..])) => {
                self.rest = Some(behind);
                Ok(field)
            }
            _ => self.next(name),
        }
    }

    /// All that is left.
    fn last(&mut self, name: &'static str) -> Result<&'a [u8], BadLine> {
        self.rest.take().ok_or(BadLine(name))
    }

    fn number(&mut self, name: &'static str) -> Result<u64, BadLine> {
        parse_decimal(self.next(name)?).ok_or(BadLine(name))
    }
}

fn parse_hex_field<const N: usize>(field: &[u8], name: &'static str) -> Result<[u8; N], BadLine> {
    super::digits::parse_hex(field).ok_or(BadLine(name))
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

/// Reads exactly `N` bytes of lower-case hex digits.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    super::digits::parse_hex(text.as_bytes())
}

/// Whether a path stands in the index as it is.
fn is_plain_path(path: &[u8]) -> bool {
    path.iter().all(|byte| *byte != b'\\' && (0x20..0x7f).contains(byte))
}

/// A path as it stands in the index: `\xHH` for control characters, backslashes and what is not UTF-8.
pub fn escape_path(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    let escape = |text: &mut String, byte: u8| {
        text.push_str("\\x");
        text.push_str(&crate::shown::hex(&[byte]));
    };
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escape(&mut text, byte));
            } else {
                text.push(character);
            }
        }
        chunk.invalid().iter().for_each(|byte| escape(&mut text, *byte));
    }
    text
}

/// The path that [`escape_path`] made `text` of; `None` when it did not make it.
pub fn unescape_path(text: &str) -> Option<Vec<u8>> {
    if is_plain_path(text.as_bytes()) {
        return Some(text.as_bytes().to_vec());
    }
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        path.extend_from_slice(plain.as_bytes());
        let digits = escaped.strip_prefix('x')?.get(..2)?;
        path.extend_from_slice(&parse_hex::<1>(digits)?);
        rest = &escaped[3..];
    }
    path.extend_from_slice(rest.as_bytes());
    (escape_path(&path) == text).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::{
        EntryLine, IndexVersion, IndexedKind, Line, MemberDigest, MemberLine, Totals, escape_path, parse_line,
        unescape_path,
    };
    use crate::reader::Timestamp;

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
    fn lines_come_back_as_they_were() {
        let member = MemberLine {
            number: 3,
            offset: 9,
            length: 100,
            tar_offset: 512,
            tar_length: 1 << 20,
            digest: MemberDigest::Blake3([7; 32]),
        };
        let totals = Totals { members: 1, entries: 2, archive_bytes: 3, tar_bytes: 4 };
        let mut text = Vec::new();
        member.add_to(&mut text);
        entry().add_to(&mut text);
        totals.write_to(&mut text).unwrap();
        let text = text.strip_suffix(b"\n").unwrap();
        let lines: Vec<Line> =
            text.split(|byte| *byte == b'\n').map(|line| parse_line(line, IndexVersion::Two).unwrap()).collect();
        assert_eq!(lines, [Line::Member(member), Line::Entry(entry()), Line::End(totals)]);
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
                assert_ne!(parse_line(&changed, IndexVersion::Two), Ok(Line::Entry(entry())), "byte {at}");
            }
        }
    }

    #[test]
    fn a_path_has_one_escaped_form() {
        for path in [b"./plain".as_slice(), b"a\\b", b"\xff\x00\n", "\u{85}\u{e9}".as_bytes()] {
            assert_eq!(unescape_path(&escape_path(path)).as_deref(), Some(path));
        }
        for wrong in ["\\x41", "\\x", "\\", "\\n", "\\xFF", "\\x0"] {
            assert_eq!(unescape_path(wrong), None, "{wrong}");
        }
    }
}
