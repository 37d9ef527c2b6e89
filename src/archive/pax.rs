//! Headers of pax archives: POSIX.1-2001, pax(1), "pax Interchange Format" and "ustar Interchange Format"; GNU tar's
//! manual, "PAX 1" sparse format; the attribute records of star and GNU tar.

mod area;
mod block;
mod records;
mod ustar;

use std::borrow::Cow;

pub use self::area::SparseArea;
pub(super) use self::block::BLOCK;
pub use self::block::{BLOCK_BYTES, END, padding_after};
pub use self::records::FLAGS_COMMENT;
use self::records::{Records, add_flags, add_xattrs, decimal};
use self::ustar::{Fits, Ustar};
use crate::entry::{DeviceNumber, Metadata, Xattr};

/// The type of an entry in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryType<'a> {
    /// A regular file of this many bytes.
    File,
    /// A sparse regular file; only its data runs are stored.
    SparseFile(SparseArea),
    /// A hard link to the entry with this path in the archive.
    HardLink(&'a [u8]),
    /// A symbolic link to this target.
    Symlink(&'a [u8]),
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

impl EntryType<'_> {
    /// `typeflag`.
    fn flag(self) -> u8 {
        match self {
            Self::File | Self::SparseFile(_) => b'0',
            Self::HardLink(_) => b'1',
            Self::Symlink(_) => b'2',
            Self::CharDevice(_) => b'3',
            Self::BlockDevice(_) => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// The headers of an entry, and the lengths of the data that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// All headers, a whole number of blocks.
    pub bytes: Vec<u8>,
    /// The length of the sparse map at the start of the data area of an [`EntryType::SparseFile`]; otherwise 0.
    pub sparse_map_bytes: u64,
    /// The length of the file's data that follows, without padding.
    pub data_bytes: u64,
    /// The names of attributes that pax cannot represent.
    pub left_out_xattrs: Vec<Vec<u8>>,
}

impl Head {
    /// The length of the data area without padding.
    pub fn area_bytes(&self) -> u64 {
        self.sparse_map_bytes + self.data_bytes
    }

    /// The length of the entry in the tar stream: headers, data area and padding.
    pub fn entry_bytes(&self) -> u64 {
        let area_bytes = self.area_bytes();
        self.bytes.len() as u64 + area_bytes + padding_after(area_bytes)
    }
}

/// Makes the headers of the entry with this path in the archive, without a trailing `/`.
pub fn head(path: &[u8], entry_type: EntryType<'_>, metadata: &Metadata, xattrs: &[Xattr]) -> Head {
    // Most entries have one short record.
    head_in(Vec::with_capacity(3 * BLOCK), path, entry_type, metadata, xattrs)
}

/// The same, reusing a buffer, for callers that make many headers.
pub fn head_in(buffer: Vec<u8>, path: &[u8], entry_type: EntryType<'_>, metadata: &Metadata, xattrs: &[Xattr]) -> Head {
    let mut records = Records::new(buffer);
    let mut ustar = Ustar::new();

    let mut stored_path = Cow::Borrowed(path);
    if entry_type == EntryType::Directory {
        stored_path.to_mut().push(b'/');
    }
    let link_target = match entry_type {
        EntryType::HardLink(target) | EntryType::Symlink(target) => target,
        _ => b"",
    };
    let (sparse_map_bytes, data_bytes) = match entry_type {
        EntryType::File => (0, metadata.size),
        EntryType::SparseFile(area) => (area.map_bytes(), area.data_bytes()),
        _ => (0, 0),
    };

    let is_sparse = matches!(entry_type, EntryType::SparseFile(_));
    if is_sparse {
        records.add("GNU.sparse.major", b"1");
        records.add("GNU.sparse.minor", b"0");
        records.add("GNU.sparse.name", &stored_path);
        records.add_number("GNU.sparse.realsize", metadata.size);
        // A tar without sparse support then extracts the raw data under another name.
        stored_path = Cow::Owned(sparse_name(path));
    }
    let binary = |text: &[u8]| std::str::from_utf8(text).is_err();
    let fits = ustar.set_path(&stored_path);
    let link_fits = ustar.set_link(link_target);
    if (!fits && binary(&stored_path)) || (!link_fits && binary(link_target)) {
        records.add("hdrcharset", b"BINARY");
    }
    if !fits {
        records.add("path", &stored_path);
    }
    if !link_fits {
        records.add("linkpath", link_target);
    }

    ustar.set_number(100..108, u64::from(metadata.mode & 0o7777));
    for (field, key, id) in [(108..116, "uid", metadata.uid), (116..124, "gid", metadata.gid)] {
        if ustar.set_number(field, u64::from(id)) == Fits::OnlyInBinary {
            records.add_number(key, u64::from(id));
        }
    }
    let stored_bytes = sparse_map_bytes + data_bytes;
    if ustar.set_number(124..136, stored_bytes) == Fits::OnlyInBinary {
        records.add_number("size", stored_bytes);
    }
    if ustar.set_time(metadata.mtime) == Fits::OnlyInBinary || metadata.mtime.nsec != 0 {
        records.add("mtime", &decimal(metadata.mtime));
    }
    ustar.block[156] = entry_type.flag();
    if let EntryType::CharDevice(number) | EntryType::BlockDevice(number) = entry_type {
        // Linux has 12 bits for the major and 20 for the minor number: both fit.
        ustar.set_number(329..337, u64::from(number.major));
        ustar.set_number(337..345, u64::from(number.minor));
    }

    let left_out_xattrs = add_xattrs(&mut records, xattrs);
    if metadata.flags | metadata.project != 0 && !matches!(entry_type, EntryType::HardLink(_)) {
        add_flags(&mut records, metadata);
    }
    let mut bytes = records.finish();
    bytes.extend_from_slice(&ustar.finish());
    Head { bytes, sparse_map_bytes, data_bytes, left_out_xattrs }
}

/// `DIR/GNUSparseFile.0/BASE`: GNU tar's name without its process id, so that the same file gives the same header.
fn sparse_name(path: &[u8]) -> Vec<u8> {
    let base_start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&path[..base_start], b"GNUSparseFile.0/", &path[base_start..]].concat()
}

#[cfg(test)]
mod tests {
    use super::{EntryType, head};
    use crate::entry::{Metadata, Timestamp};

    fn records_of(bytes: &[u8]) -> String {
        assert_eq!(bytes[156], b'x');
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[124..135]).unwrap(), 8).unwrap();
        String::from_utf8_lossy(&bytes[512..512 + len]).into_owned()
    }

    #[test]
    fn a_plain_entry_needs_no_extended_header() {
        let metadata = Metadata { mode: 0o644, size: 5, ..Metadata::default() };
        let head = head(b"./etc/hosts", EntryType::File, &metadata, &[]);
        assert_eq!(head.bytes.len(), 512);
        assert_eq!(&head.bytes[..11], b"./etc/hosts");
        assert_eq!(head.data_bytes, 5);
    }

    #[test]
    fn numbers_and_names_that_do_not_fit_are_records() {
        let time = Timestamp { sec: -2, nsec: 500_000_000 };
        let metadata = Metadata { uid: 3_000_000, gid: u32::MAX, size: 1 << 34, mtime: time, ..Metadata::default() };
        let path = [b"./".as_slice(), &[b'a'; 300]].concat();
        let head = head(&path, EntryType::File, &metadata, &[]);
        let records = records_of(&head.bytes);
        for expected in ["uid=3000000\n", "gid=4294967295\n", "size=17179869184\n", "mtime=-1.5\n", "path=./aaa"] {
            assert!(records.contains(expected), "{expected} in {records}");
        }
        assert!(!records.contains("hdrcharset"));
    }

    #[test]
    fn a_long_path_of_short_parts_fits_the_prefix() {
        let path = [b"./".as_slice(), &[b'a'; 90], b"/", &[b'b'; 90]].concat();
        assert_eq!(head(&path, EntryType::File, &Metadata::default(), &[]).bytes.len(), 512);
    }
}
