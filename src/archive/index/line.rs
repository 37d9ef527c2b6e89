//! The lines of an index, and how they are written.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::path::{escape_path, is_plain_path};
use crate::digits::{push_decimal, push_hex, push_padded, push_signed};
use crate::entry::Timestamp;

/// The number of decimals of a change time.
pub(super) const NSEC_DIGITS: usize = 9;

/// The first line of an index in the current version.
pub const HEADER_LINE: &str = "volbak-index\t4\n";

/// The version of an index, from its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexVersion {
    /// Members have SHA-256 digests. Read, but no longer written.
    One,
    /// Members have BLAKE3 digests. Read, but no longer written.
    Two,
    /// Members also have a digest of their entries' headers. Read and carried from, but no longer written.
    Three,
    /// Members of a raw image and of a large file also have a digest of their data.
    Four,
}

impl IndexVersion {
    /// The version of a first line, given without its newline.
    pub fn of_header(line: &[u8]) -> Option<Self> {
        match line.strip_prefix(b"volbak-index\t")? {
            b"1" => Some(Self::One),
            b"2" => Some(Self::Two),
            b"3" => Some(Self::Three),
            b"4" => Some(Self::Four),
            _ => None,
        }
    }
}

/// The digest of a member's bytes in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberDigest {
    /// SHA-256 (FIPS 180-4), in an index of version 1.
    Sha256([u8; 32]),
    /// BLAKE3, 32 bytes long.
    Blake3([u8; 32]),
}

impl MemberDigest {
    /// The digest in the current version.
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

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        let (Self::Sha256(bytes) | Self::Blake3(bytes)) = self;
        bytes
    }
}

/// A member of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberLine {
    /// Its number, from 0.
    pub number: u64,
    /// Its offset in the archive.
    pub offset: u64,
    /// Its length in the archive, in bytes.
    pub length: u64,
    /// Its data's offset in the tar stream.
    pub tar_offset: u64,
    /// Its data's length in bytes.
    pub tar_length: u64,
    /// The digest of its bytes in the archive.
    pub digest: MemberDigest,
    /// The first 16 bytes of the BLAKE3 of all headers of the entries that end in it; `None` without entries, and
    /// in versions 1 and 2.
    pub heads: Option<[u8; 16]>,
    /// The BLAKE3 of its data, if these are data of a large file or a raw image, between two borders; otherwise `None`.
    pub data: Option<[u8; 32]>,
}

impl MemberLine {
    /// Whether it has no data, and only aligns the next member.
    pub fn is_padding(&self) -> bool {
        self.tar_length == 0
    }
}

/// An entry of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryLine {
    /// Its type.
    pub kind: IndexedKind,
    /// Whether part of it could not be read, or changed while it was read.
    pub damaged: bool,
    /// The offset of its first header in the tar stream.
    pub tar_offset: u64,
    /// The length of headers, data and padding in bytes.
    pub tar_length: u64,
    /// A file's length in bytes, including holes.
    pub size: u64,
    /// Its inode number on the volume.
    pub ino: u64,
    /// When the inode was last changed.
    pub ctime: Timestamp,
    /// The first 16 bytes of the SHA-256 of its headers.
    pub head: [u8; 16],
    /// SHA-256 of its data area without padding; `None` without one.
    pub content: Option<[u8; 32]>,
    /// Its path in the archive as raw bytes, without a trailing `/`.
    pub path: Vec<u8>,
}

/// The type of an entry, with its letter in the index.
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

    /// The letter.
    pub fn letter(self) -> char {
        // LETTERS lists every kind.
        Self::LETTERS.iter().find(|(kind, _)| *kind == self).map_or('?', |(_, letter)| *letter)
    }

    /// The type with this letter.
    pub fn from_letter(letter: char) -> Option<Self> {
        Self::LETTERS.iter().find(|(_, other)| *other == letter).map(|(kind, _)| *kind)
    }
}

/// The totals in the last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The number of members.
    pub members: u64,
    /// The number of entries.
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
    /// Appends the line to `out`.
    pub fn add_to(&self, out: &mut Vec<u8>) {
        let Self { number, offset, length, tar_offset, tar_length, digest, heads, data } = self;
        out.push(b'M');
        for number in [number, offset, length, tar_offset, tar_length] {
            push_field(out, *number);
        }
        out.push(b'\t');
        push_hex(out, digest.bytes());
        push_digest(out, heads.as_ref());
        push_digest(out, data.as_ref());
        out.push(b'\n');
    }
}

impl EntryLine {
    /// Appends the line to `out`.
    pub fn add_to(&self, out: &mut Vec<u8>) {
        let Self { kind, damaged, tar_offset, tar_length, size, ino, ctime, head, content, path } = self;
        begin_entry(out, *kind, *damaged, *tar_offset);
        for number in [tar_length, size, ino] {
            push_field(out, *number);
        }
        out.push(b'\t');
        push_signed(out, ctime.sec);
        out.push(b'.');
        push_padded(out, u64::from(ctime.nsec), NSEC_DIGITS);
        out.push(b'\t');
        push_hex(out, head);
        push_digest(out, content.as_ref());
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

/// An entry's line up to and including its tar offset.
pub(super) fn begin_entry(line: &mut Vec<u8>, kind: IndexedKind, damaged: bool, tar_offset: u64) {
    line.extend_from_slice(b"E\t");
    line.extend_from_slice(kind.letter().encode_utf8(&mut [0; 4]).as_bytes());
    if damaged {
        line.push(b'!');
    }
    push_field(line, tar_offset);
}

fn push_field(line: &mut Vec<u8>, number: u64) {
    line.push(b'\t');
    push_decimal(line, number);
}

fn push_digest<const N: usize>(line: &mut Vec<u8>, digest: Option<&[u8; N]>) {
    line.push(b'\t');
    match digest {
        Some(digest) => push_hex(line, digest),
        None => line.push(b'-'),
    }
}
