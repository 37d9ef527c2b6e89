//! Headers of pax archives: POSIX.1-2001, pax(1), "pax Interchange Format" and "ustar Interchange Format"; GNU tar's
//! manual, "PAX 1" sparse format; the attribute records of star and GNU tar.

use std::borrow::Cow;

use super::acl;
use super::digits::{push_decimal, push_padded};
use crate::entry::{DeviceNumber, Metadata, Timestamp, Xattr};
use crate::outside::inode_flags::{COMMON, FLAGS, fat};
use crate::units::ByteRange;

/// The unit of a tar stream: each header is one, and data is padded to a whole number of them.
pub const BLOCK_BYTES: u64 = 512;
pub(super) const BLOCK: usize = 512;
/// The largest number that 11 octal digits hold.
const MAX_OCTAL_11: u64 = 0o777_7777_7777;
/// The largest number that 7 octal digits hold.
const MAX_OCTAL_7: u64 = 0o777_7777;

/// The type of an entry, as its header says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryType<'a> {
    /// A regular file of this many bytes.
    File,
    /// A regular file with holes, of which only runs are stored.
    SparseFile(SparseArea),
    /// Another name of the entry with this path in the archive.
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

/// How much the data area of a sparse file takes, counted run by run, and the text of its map: GNU tar's sparse format
/// 1.0. The map is the number of runs, then offset and length of each, decimal, one a line, padded to whole blocks. A hole
/// at the end is an empty run at the file's size. In long maps, beyond [`SparseArea::PLAIN_RUNS`], each number has zeros
/// before it up to 19 digits, as the largest file's length has: then the number of runs alone decides how long the map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparseArea {
    size: u64,
    runs: u64,
    lines_bytes: u64,
    data_bytes: u64,
    end: u64,
}

impl SparseArea {
    /// A map of more runs has numbers with leading zeros.
    pub const PLAIN_RUNS: u64 = 1 << 16;

    /// The area of a file of `size` bytes without any data.
    pub fn new(size: u64) -> Self {
        Self { size, runs: 0, lines_bytes: 0, data_bytes: 0, end: 0 }
    }

    /// Takes in a run, which lies after all before it and within the file.
    pub fn add(&mut self, run: ByteRange) {
        self.runs += 1;
        self.lines_bytes += line_bytes(run.start) + line_bytes(run.len);
        self.data_bytes += run.len;
        self.end = run.start + run.len;
    }

    /// How long the file is.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many runs were taken in.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// How many runs the map names, that of a hole at the end included.
    pub fn map_runs(&self) -> u64 {
        self.runs + u64::from(self.last_run().is_some())
    }

    /// How long the map is, a whole number of blocks.
    pub fn map_bytes(&self) -> u64 {
        let lines_bytes = if self.runs > Self::PLAIN_RUNS {
            self.map_runs().saturating_mul(2 * WIDE_LINE_BYTES)
        } else {
            let last = self.last_run().map_or(0, |run| line_bytes(run.start) + line_bytes(run.len));
            self.lines_bytes + last
        };
        let text_bytes = line_bytes(self.map_runs()) + lines_bytes;
        text_bytes + padding_after(text_bytes)
    }

    /// How many bytes all runs have together.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The empty run that stands for a hole at the end.
    pub fn last_run(&self) -> Option<ByteRange> {
        (self.runs == 0 || self.end < self.size).then(|| ByteRange::new(self.size, 0))
    }

    /// The map's first line.
    pub fn first_line(&self) -> String {
        format!("{}\n", self.map_runs())
    }

    /// The map's lines for a run.
    pub fn lines_of(&self, run: ByteRange) -> String {
        let ByteRange { start, len } = run;
        if self.runs > Self::PLAIN_RUNS { format!("{start:019}\n{len:019}\n") } else { format!("{start}\n{len}\n") }
    }
}

/// Nineteen digits and a newline.
const WIDE_LINE_BYTES: u64 = 20;

/// How long a number and the newline after it are.
fn line_bytes(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 2
}

/// The headers of an entry, and what comes after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// All headers, a whole number of blocks.
    pub bytes: Vec<u8>,
    /// How long the sparse map is that begins the data area of a [`EntryType::SparseFile`]; else 0.
    pub sparse_map_bytes: u64,
    /// The file's own bytes that follow, without the padding to a whole block.
    pub data_bytes: u64,
    /// The attributes that pax cannot hold, by name.
    pub left_out_xattrs: Vec<Vec<u8>>,
}

/// Makes the headers of the entry `path`, which is as it is to stand in the archive, without a `/` at its end.
pub fn head(path: &[u8], entry_type: EntryType<'_>, metadata: &Metadata, xattrs: &[Xattr]) -> Head {
    // Most entries have one short record.
    head_in(Vec::with_capacity(3 * BLOCK), path, entry_type, metadata, xattrs)
}

/// The same, in a buffer that was used before: for whoever makes many heads and keeps none.
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
        // What a tar that knows no sparse files makes of it has a name of its own.
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

/// How many zero bytes follow data of this length.
pub fn padding_after(len_bytes: u64) -> u64 {
    len_bytes.wrapping_neg() % BLOCK_BYTES
}

/// The two zero blocks that end an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Begins the value of the `comment` record that holds what `SCHILY.fflags` has no name for.
pub const FLAGS_COMMENT: &str = "volbak";

/// Adds inode flags and the project id. The common flags go into libarchive's own record: bsdtar sets them, and would fail
/// over others where a filesystem has none. Those, and the id, go into a `comment`, which POSIX has every reader pass by:
/// of a keyword that it does not know, GNU tar complains.
fn add_flags(records: &mut Records, metadata: &Metadata) {
    let Metadata { flags, project, .. } = *metadata;
    let set = FLAGS.iter().filter(|(bit, ..)| flags & bit != 0);
    let named: Vec<&str> = set.clone().filter(|(bit, ..)| bit & COMMON != 0).filter_map(|(_, _, name)| *name).collect();
    if !named.is_empty() {
        records.add("SCHILY.fflags", named.join(",").as_bytes());
    }
    let others: String = set.filter(|(bit, ..)| bit & COMMON == 0).map(|(_, letter, _)| letter).collect();
    if project != 0 || !others.is_empty() || flags & fat::KNOWN != 0 {
        let mut text = FLAGS_COMMENT.to_owned();
        if !others.is_empty() {
            text.push_str(" chattr=");
            text.push_str(&others);
        }
        if project != 0 {
            text.push_str(&format!(" project={project}"));
        }
        if flags & fat::KNOWN != 0 {
            text.push_str(&format!(" fat={}", fat::letters(flags)));
        }
        records.add("comment", text.as_bytes());
    }
}

/// Adds attributes and ACLs; gives the names of those that pax cannot hold.
fn add_xattrs(records: &mut Records, xattrs: &[Xattr]) -> Vec<Vec<u8>> {
    let mut left_out = Vec::new();
    for xattr in xattrs {
        let acl_key = match xattr.name.as_slice() {
            b"system.posix_acl_access" => Some("SCHILY.acl.access"),
            b"system.posix_acl_default" => Some("SCHILY.acl.default"),
            _ => None,
        };
        if let Some(key) = acl_key {
            match acl::to_text(&xattr.value) {
                Some(text) => records.add(key, text.as_bytes()),
                None => left_out.push(xattr.name.clone()),
            }
            continue;
        }
        let mut key = b"SCHILY.xattr.".to_vec();
        for byte in &xattr.name {
            match byte {
                b'%' => key.extend_from_slice(b"%25"),
                b'=' => key.extend_from_slice(b"%3D"),
                other => key.push(*other),
            }
        }
        records.add_bytes(&key, &xattr.value);
    }
    left_out
}

/// An extended header with its records: `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record, itself included.
struct Records {
    /// Room for the header block, and the records so far.
    bytes: Vec<u8>,
}

impl Records {
    fn new(buffer: Vec<u8>) -> Self {
        let mut bytes = buffer;
        bytes.clear();
        bytes.resize(BLOCK, 0);
        Self { bytes }
    }

    fn add(&mut self, key: &str, value: &[u8]) {
        self.add_bytes(key.as_bytes(), value);
    }

    fn add_number(&mut self, key: &str, number: u64) {
        let mut value = Vec::new();
        push_decimal(&mut value, number);
        self.add(key, &value);
    }

    fn add_bytes(&mut self, key: &[u8], value: &[u8]) {
        let rest = 1 + key.len() + 1 + value.len() + 1;
        let mut len = rest + 1;
        while len != rest + decimal_digits(len) {
            len = rest + decimal_digits(len);
        }
        push_decimal(&mut self.bytes, len as u64);
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(key);
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value);
        self.bytes.push(b'\n');
    }

    /// The header block of type `x`, and the records padded to whole blocks; nothing without a record.
    fn finish(self) -> Vec<u8> {
        let mut bytes = self.bytes;
        let records_len = bytes.len() - BLOCK;
        if records_len == 0 {
            bytes.clear();
            return bytes;
        }
        let mut ustar = Ustar::new();
        ustar.set_path(b"././@PaxHeader");
        ustar.set_number(100..108, 0o644);
        ustar.set_number(108..116, 0);
        ustar.set_number(116..124, 0);
        ustar.set_number(124..136, records_len as u64);
        ustar.set_number(136..148, 0);
        ustar.block[156] = b'x';
        bytes[..BLOCK].copy_from_slice(&ustar.finish());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// `DIR/GNUSparseFile.0/BASE`, as GNU tar names it, without its process id: the same file gives the same header.
fn sparse_name(path: &[u8]) -> Vec<u8> {
    let base_start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&path[..base_start], b"GNUSparseFile.0/", &path[base_start..]].concat()
}

/// Seconds with a fraction, the sign before both: -1.5 is a second and a half before 1970.
fn decimal(time: Timestamp) -> Vec<u8> {
    let mut text = Vec::with_capacity(32);
    let (seconds, fraction) = match (u64::try_from(time.sec), u64::from(time.nsec)) {
        (Ok(seconds), nsec @ 0..NANOS) => (seconds, nsec),
        // Before 1970 the fraction counts the other way; and a damaged inode may have more than a second of it.
        (_, nsec) => {
            let total = i128::from(time.sec) * i128::from(NANOS) + i128::from(nsec);
            if total < 0 {
                text.push(b'-');
            }
            let magnitude = total.unsigned_abs();
            let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
            (whole(magnitude / u128::from(NANOS)), whole(magnitude % u128::from(NANOS)))
        }
    };
    push_decimal(&mut text, seconds);
    if fraction > 0 {
        text.push(b'.');
        push_padded(&mut text, fraction, 9);
        while text.last() == Some(&b'0') {
            text.pop();
        }
    }
    text
}

/// So many are a second.
const NANOS: u64 = 1_000_000_000;

/// Whether a number can be written as the octal digits that POSIX asks for.
#[derive(Debug, PartialEq, Eq)]
enum Fits {
    InOctal,
    /// It is in the field in GNU tar's base-256 form, for readers that know no extended headers; a record says it too.
    OnlyInBinary,
}

/// Whether a name may stand in the header block itself. UTF-8 beyond ASCII goes into a record, where it is known to be
/// UTF-8; bytes that are not UTF-8 are taken as they are from here, and only with `hdrcharset` from there.
fn stands_as_it_is(name: &[u8]) -> bool {
    name.is_ascii() || std::str::from_utf8(name).is_err()
}

/// A ustar header block. Offsets are those of POSIX's table "ustar Header Block".
struct Ustar {
    block: [u8; BLOCK],
}

impl Ustar {
    fn new() -> Self {
        let mut block = [0; BLOCK];
        block[257..265].copy_from_slice(b"ustar\x0000");
        Self { block }
    }

    /// Writes `name`, or `prefix` and `name`. False when it does not fit; then as much as does is there.
    fn set_path(&mut self, path: &[u8]) -> bool {
        let plain = stands_as_it_is(path);
        if path.len() <= 100 {
            self.block[..path.len()].copy_from_slice(path);
            return plain;
        }
        let split = path.iter().enumerate().position(|(at, byte)| {
            *byte == b'/' && at > 0 && at <= 155 && path.len() - at - 1 <= 100 && at + 1 < path.len()
        });
        let Some(split) = split.filter(|_| plain) else {
            self.block[..100].copy_from_slice(&path[..100]);
            return false;
        };
        self.block[345..345 + split].copy_from_slice(&path[..split]);
        let name = &path[split + 1..];
        self.block[..name.len()].copy_from_slice(name);
        true
    }

    fn set_link(&mut self, target: &[u8]) -> bool {
        let len = target.len().min(100);
        self.block[157..157 + len].copy_from_slice(&target[..len]);
        target.len() <= 100 && stands_as_it_is(target)
    }

    /// Octal digits ended by a NUL, or base-256 where those do not suffice.
    fn set_number(&mut self, field: std::ops::Range<usize>, number: u64) -> Fits {
        let digits = field.len() - 1;
        let largest = if digits == 7 { MAX_OCTAL_7 } else { MAX_OCTAL_11 };
        if number > largest {
            self.set_binary(field, i128::from(number));
            return Fits::OnlyInBinary;
        }
        let mut left = number;
        for digit in self.block[field.start..field.start + digits].iter_mut().rev() {
            // Below 8.
            *digit = b'0' + (left & 7) as u8;
            left >>= 3;
        }
        Fits::InOctal
    }

    fn set_time(&mut self, time: Timestamp) -> Fits {
        if let Ok(seconds) = u64::try_from(time.sec) {
            return self.set_number(136..148, seconds);
        }
        self.set_binary(136..148, i128::from(time.sec));
        Fits::OnlyInBinary
    }

    /// GNU tar's manual, "Standard Format": the first byte is 0x80, or 0xff for a negative number, and the rest the
    /// number, big-endian.
    fn set_binary(&mut self, field: std::ops::Range<usize>, number: i128) {
        let bytes = number.to_be_bytes();
        let len = field.len();
        self.block[field.clone()].copy_from_slice(&bytes[bytes.len() - len..]);
        self.block[field.start] = if number < 0 { 0xff } else { 0x80 };
    }

    /// Fills in the checksum: the sum of all bytes, its own field taken as spaces.
    fn finish(mut self) -> [u8; BLOCK] {
        self.block[148..156].copy_from_slice(b"        ");
        // 512 bytes: their sum is far below 2^32. Plain sums are checked for that one by one, also where it takes longest.
        let sum = self.block.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
        // Six digits and a NUL; the space after it stands there already.
        self.block[154] = 0;
        self.set_number(148..155, u64::from(sum));
        self.block
    }
}

#[cfg(test)]
mod tests {
    use super::{EntryType, Records, SparseArea, decimal, head, padding_after};
    use crate::entry::{Metadata, Timestamp};
    use crate::units::ByteRange;

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

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for value_len in 0..1200 {
            let mut records = Records::new(Vec::new());
            records.add("k", &vec![b'v'; value_len]);
            let text = String::from_utf8(records.bytes[512..].to_vec()).unwrap();
            let said: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, text.len());
        }
    }

    #[test]
    fn a_sparse_map_says_where_the_file_ends() {
        let map_of = |runs: &[ByteRange], size| {
            let mut area = SparseArea::new(size);
            for run in runs {
                area.add(*run);
            }
            let lines = runs.iter().copied().chain(area.last_run()).map(|run| area.lines_of(run));
            let map = area.first_line() + &lines.collect::<String>();
            assert_eq!(area.map_bytes(), (map.len() as u64).next_multiple_of(512));
            map
        };
        assert_eq!(map_of(&[ByteRange::new(4096, 10)], 1 << 20), "2\n4096\n10\n1048576\n0\n");
        assert_eq!(map_of(&[], 7), "1\n7\n0\n");
        assert_eq!(map_of(&[ByteRange::new(0, 7)], 7), "1\n0\n7\n");
        let many: Vec<ByteRange> = (0..1000).map(|run| ByteRange::new(run * 99, run % 11 + 1)).collect();
        for count in 0..many.len() {
            map_of(&many[..count], 1 << 40);
        }
        let many: Vec<ByteRange> = (0..=SparseArea::PLAIN_RUNS).map(|run| ByteRange::new(run * 99, run % 11)).collect();
        let ending = "0000009223372036854775807\n0000000000000000000\n";
        assert!(map_of(&many, i64::MAX.cast_unsigned()).ends_with(&ending[6..]));
    }

    #[test]
    fn times_before_1970_have_one_sign() {
        let shown = |sec, nsec| String::from_utf8(decimal(Timestamp { sec, nsec })).unwrap();
        assert_eq!(shown(-1, 0), "-1");
        assert_eq!(shown(-1, 1), "-0.999999999");
        assert_eq!(shown(i64::MIN, 0), "-9223372036854775808");
        assert_eq!(shown(5_000_000_000, 120_000_000), "5000000000.12");
        assert_eq!([shown(0, 1), shown(7, 0), shown(1, 999_999_999)], ["0.000000001", "7", "1.999999999"]);
    }

    #[test]
    fn more_than_a_second_of_nanoseconds_counts_as_seconds() {
        let shown = |sec, nsec| String::from_utf8(decimal(Timestamp { sec, nsec })).unwrap();
        assert_eq!(shown(1, 1_000_000_001), "2.000000001");
        assert_eq!(shown(-1, 1_500_000_000), "0.5");
        assert_eq!(shown(i64::MAX, u32::MAX), "9223372036854775811.294967295");
    }

    #[test]
    fn padding_fills_the_block() {
        assert_eq!([0, 1, 511, 512, 513].map(padding_after), [0, 511, 1, 0, 511]);
    }
}
