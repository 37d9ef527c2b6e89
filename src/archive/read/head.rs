//! Assembles an entry from its header blocks: extended headers, long names, and the header itself.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::header::{BLOCK, Block, Header, OldSparse, parse};
use super::header_error::{HeaderError, HolesError};
use super::records::{Extended, NamedAcl};
use super::sparse::{self, RunMap};
use crate::entry::{DeviceNumber, Timestamp, Xattr};

/// The maximum length of an extended header. The reader archives at most 8 MiB of attributes per inode.
const MAX_EXTENDED_BYTES: u64 = 12 << 20;
/// The maximum length of a name; the reader archives none that is longer.
const MAX_NAME_BYTES: u64 = 1 << 20;
/// The maximum number of headers before an entry's own; more would only keep the walk busy.
const MAX_HEADERS: u32 = 64;

/// The type of an entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// A hard link to the entry with this path.
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// An entry that is no file: a volume label, or an unknown type.
    Other(u8),
}

/// An entry, decoded from its headers.
#[derive(Clone, Debug)]
pub struct EntryHead {
    /// The path in the archive as raw bytes; untrusted.
    pub path: Vec<u8>,
    /// The type.
    pub kind: HeadKind,
    /// The low 12 bits of the mode.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// When the data was last changed.
    pub mtime: Timestamp,
    /// The length of a regular file, including holes, or of another entry with data: a hard link or an unknown
    /// type.
    pub size: u64,
    /// The length of the stored data, without a map of holes and without padding.
    pub stored_bytes: u64,
    /// The runs of the stored data; `None` if the file has no holes.
    pub runs: Option<RunMap>,
    /// Attributes, including ACLs in the kernel's form.
    pub xattrs: Vec<Xattr>,
    /// ACLs with names that have no numbers in the archive.
    pub named_acls: Vec<NamedAcl>,
    /// Inode flags, as [`crate::entry::Metadata::flags`] has them.
    pub flags: u32,
    /// The project id.
    pub project: u32,
    /// Parts of the headers that were not understood, in words.
    pub problems: Vec<String>,
    /// The length of the headers before the data.
    pub header_bytes: u64,
    /// SHA-256 of the headers, cut to 16 bytes, as in the index.
    pub digest: [u8; 16],
}

/// The result of adding a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadStep {
    /// Another block is needed.
    More,
    /// A block of zeros in place of a header.
    Zero,
    /// The headers are complete: [`HeadBuilder::finish`] returns the entry.
    Done,
}

/// The content directly after an entry's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstData {
    /// The entry's data, if any.
    Content,
    /// A map of holes in PAX format 1.0.
    MapOfHoles,
    /// The data of a hard link's target, as written by pax(1) and cpio(1), or the next header, since other programs
    /// write only the size. In a pax archive it is always data.
    OfLink {
        /// Whether it is certainly data.
        is_sure: bool,
    },
}

/// Accepts header blocks in order.
#[derive(Debug, Default)]
pub struct HeadBuilder {
    /// Records of `g` headers: they apply to all later entries.
    globals: Arc<Extended>,
    extended: Extended,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// The content of an extended header being read.
    collecting: Option<Collecting>,
    header: Option<Box<Header>>,
    /// The entry has its own extended header.
    has_extended: bool,
    /// The archive has extended headers.
    is_pax: bool,
    digest: Sha256,
    blocks: u64,
    headers: u32,
}

#[derive(Debug)]
struct Collecting {
    flag: u8,
    bytes: Vec<u8>,
    left: u64,
}

impl HeadBuilder {
    /// A new builder that keeps the global records.
    pub fn with_globals_of(other: &Self) -> Self {
        Self { globals: Arc::clone(&other.globals), is_pax: other.is_pax, ..Self::default() }
    }

    /// Whether no block of an entry was added.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Adds the next block.
    pub fn add(&mut self, block: &[u8; BLOCK]) -> Result<HeadStep, HeaderError> {
        if let Some(header) = &mut self.header {
            // Only an old-style sparse header is followed by another block.
            let Some(sparse) = &mut header.old_sparse else { return Err(HeaderError::Behind) };
            sparse.add_block(block)?;
            if sparse.runs.len() > sparse::MAX_HEADER_RUNS {
                return Err(HolesError::TooLong.into());
            }
            let more = sparse.more;
            self.note(block);
            return Ok(if more { HeadStep::More } else { HeadStep::Done });
        }
        if self.collecting.is_some() {
            self.note(block);
            return self.collect(block).map(|()| HeadStep::More);
        }
        let header = match parse(block)? {
            Block::Zero if self.blocks == 0 => return Ok(HeadStep::Zero),
            Block::Zero => return Err(HeaderError::Zeros),
            Block::Header(header) => header,
        };
        self.note(block);
        self.headers += 1;
        if self.headers > MAX_HEADERS {
            return Err(HeaderError::TooMany);
        }
        if matches!(header.flag, b'x' | b'X' | b'g' | b'L' | b'K') {
            let most = if matches!(header.flag, b'L' | b'K') { MAX_NAME_BYTES } else { MAX_EXTENDED_BYTES };
            if header.size > most {
                return Err(HeaderError::TooLarge { bytes: header.size, most });
            }
            if matches!(header.flag, b'L' | b'K') && header.size == 0 {
                return Err(HeaderError::EmptyName);
            }
            if matches!(header.flag, b'x' | b'X') && std::mem::replace(&mut self.has_extended, true) {
                // GNU tar uses the last one; others reject it.
                self.extended = Extended::default();
                self.extended.problems.push("it has two extended headers, of which the last one counts".to_owned());
            }
            self.is_pax |= matches!(header.flag, b'x' | b'X' | b'g');
            if header.size > 0 {
                self.collecting = Some(Collecting { flag: header.flag, bytes: Vec::new(), left: header.size });
            }
            return Ok(HeadStep::More);
        }
        let more = header.old_sparse.as_ref().is_some_and(|sparse| sparse.more);
        self.header = Some(header);
        Ok(if more { HeadStep::More } else { HeadStep::Done })
    }

    fn note(&mut self, block: &[u8; BLOCK]) {
        self.blocks += 1;
        self.digest.update(block);
    }

    fn collect(&mut self, block: &[u8; BLOCK]) -> Result<(), HeaderError> {
        let Some(collecting) = &mut self.collecting else { return Ok(()) };
        let len = usize::try_from(collecting.left).map_or(BLOCK, |left| left.min(BLOCK));
        collecting.bytes.extend_from_slice(&block[..len]);
        collecting.left -= len as u64;
        if collecting.left > 0 {
            return Ok(());
        }
        let Some(Collecting { flag, mut bytes, .. }) = self.collecting.take() else { return Ok(()) };
        match flag {
            b'g' => Arc::make_mut(&mut self.globals).add(&bytes),
            b'x' | b'X' => self.extended.add(&bytes),
            name => {
                // GNU tar includes a final NUL in the length of a long name, and reads up to the first NUL.
                if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                    bytes.truncate(end);
                }
                if bytes.is_empty() {
                    return Err(HeaderError::EmptyName);
                }
                *(if name == b'L' { &mut self.long_path } else { &mut self.long_link }) = Some(bytes);
                Ok(())
            }
        }
    }

    /// After [`HeadStep::Done`]: the entry, and the kind of its first data. Resets the builder for the next entry.
    pub fn finish(&mut self) -> Result<(Box<EntryHead>, FirstData), HeaderError> {
        let next = Self::with_globals_of(self);
        let done = std::mem::replace(self, next);
        done.into_head()
    }

    fn into_head(self) -> Result<(Box<EntryHead>, FirstData), HeaderError> {
        let Self { globals, extended, long_path, long_link, header, is_pax, digest, blocks, .. } = self;
        let header = *header.ok_or(HeaderError::Missing)?;
        let sparse = extended.sparse;
        let path = sparse.name.or(extended.path).or(long_path).or_else(|| globals.path.clone()).unwrap_or(header.path);
        let link = extended.linkpath.or(long_link).or_else(|| globals.linkpath.clone()).unwrap_or(header.link);
        // Before POSIX, a directory was a file whose name ends with a slash.
        let is_file = matches!(header.flag, b'0' | 0 | b'7') && path.last() != Some(&b'/');
        let stored = match header.flag {
            // POSIX: their size is meaningless or has another meaning. A hard link's data may follow, see
            // `LinkData`.
            b'2' | b'3' | b'4' | b'5' | b'6' => 0,
            b'0' | 0 | b'7' if !is_file => 0,
            _ => extended.size.or(globals.size).unwrap_or(header.size),
        };
        if stored > i64::MAX.unsigned_abs() {
            return Err(HeaderError::Size);
        }
        let device = DeviceNumber { major: header.major, minor: header.minor };
        let kind = match header.flag {
            b'0' | 0 | b'7' if !is_file => HeadKind::Directory,
            b'0' | 0 | b'7' | b'S' => HeadKind::File,
            b'1' => HeadKind::HardLink(link),
            b'2' => HeadKind::Symlink(link),
            b'3' => HeadKind::CharDevice(device),
            b'4' => HeadKind::BlockDevice(device),
            // `D` is a directory in GNU tar's incremental archives, with a list of names as data.
            b'5' | b'D' => HeadKind::Directory,
            b'6' => HeadKind::Fifo,
            other => HeadKind::Other(other),
        };
        let is_file = kind == HeadKind::File;
        let mut data =
            if header.flag == b'1' && stored > 0 { FirstData::OfLink { is_sure: is_pax } } else { FirstData::Content };
        // For unknown types, only the data can be used.
        let has_size = matches!(kind, HeadKind::File | HeadKind::HardLink(_) | HeadKind::Other(_));
        let (mut size, mut runs) = (if has_size { stored } else { 0 }, None);
        if let (true, Some(OldSparse { runs: old, real_size, .. })) = (is_file, header.old_sparse) {
            size = real_size;
            runs = Some(sparse::check(&old, real_size, stored)?);
        } else if is_file && sparse.version.0 == Some(1) {
            if sparse.version.1.unwrap_or(0) != 0 {
                return Err(HolesError::Version.into());
            }
            size = sparse.real_size.ok_or(HolesError::NoRealSize)?;
            data = FirstData::MapOfHoles;
        } else if let (true, Some(map)) = (is_file, sparse.map) {
            size = sparse.real_size.ok_or(HolesError::NoRealSize)?;
            runs = Some(sparse::check(&sparse::runs_of(&map)?, size, stored)?);
        }
        if size > i64::MAX.unsigned_abs() {
            return Err(HeaderError::Size);
        }
        let short = digest.finalize();
        let mut digest = [0; 16];
        digest.copy_from_slice(&short[..16]);
        let head = EntryHead {
            path,
            kind,
            mode: header.mode & 0o7777,
            uid: extended.uid.or(globals.uid).unwrap_or(header.uid),
            gid: extended.gid.or(globals.gid).unwrap_or(header.gid),
            mtime: extended.mtime.or(globals.mtime).unwrap_or(Timestamp { sec: header.mtime, nsec: 0 }),
            size,
            stored_bytes: stored,
            runs,
            xattrs: extended.xattrs,
            named_acls: extended.named_acls,
            flags: extended.flags,
            project: extended.project,
            problems: extended.problems,
            header_bytes: blocks * BLOCK as u64,
            digest,
        };
        Ok((Box::new(head), data))
    }
}
