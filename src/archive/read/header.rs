//! Header blocks of a tar stream, from untrusted archives.
//!
//! Source: POSIX.1-2001, pax(1), "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format" and its `tar.h`
//! (`struct oldgnu_header`). Offsets in the block are theirs.

use super::header_error::{HeaderError, HolesError};
use crate::units::ByteRange;

/// The length of a header block.
pub const BLOCK: usize = 512;

/// The fields of a header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `prefix` and `name`.
    pub path: Vec<u8>,
    /// `mode`, with all bits.
    pub mode: u32,
    /// `uid`.
    pub uid: u64,
    /// `gid`.
    pub gid: u64,
    /// `size`.
    pub size: u64,
    /// `mtime`, seconds.
    pub mtime: i64,
    /// `typeflag`.
    pub flag: u8,
    /// `linkname`.
    pub link: Vec<u8>,
    /// `devmajor`.
    pub major: u32,
    /// `devminor`.
    pub minor: u32,
    /// Type `S`: the runs in the header itself, whether more follow in further blocks, and the file's length.
    pub old_sparse: Option<OldSparse>,
}

/// GNU tar's old form of sparse files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldSparse {
    /// The runs so far, including empty ones.
    pub runs: Vec<ByteRange>,
    /// Whether another block with runs follows.
    pub more: bool,
    /// The file's length, including holes.
    pub real_size: u64,
}

/// The type of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// All zeros: two of them end an archive.
    Zero,
    /// A header.
    Header(Box<Header>),
}

/// Parses a block.
pub fn parse(block: &[u8; BLOCK]) -> Result<Block, HeaderError> {
    let said = octal(&block[148..156]);
    let Some(said) = said else {
        let zero = block.iter().all(|byte| *byte == 0);
        return if zero { Ok(Block::Zero) } else { Err(HeaderError::NotAHeader) };
    };
    let sum = |of: fn(u8) -> i64| -> i64 {
        let all: i64 = block.iter().map(|byte| of(*byte)).sum();
        let field: i64 = block[148..156].iter().map(|byte| of(*byte)).sum();
        all - field + 8 * i64::from(b' ')
    };
    let said = i64::try_from(said).map_err(|_| HeaderError::NotAHeader)?;
    // Some old tars summed signed bytes.
    if said != sum(i64::from) && said != sum(|byte| i64::from(byte.cast_signed())) {
        let zero = block.iter().all(|byte| *byte == 0);
        return if zero { Ok(Block::Zero) } else { Err(HeaderError::Checksum) };
    }

    // POSIX says "ustar" NUL "00"; GNU's own format has "ustar", two spaces and NUL, and no prefix.
    let posix = &block[257..263] == b"ustar\0";
    let gnu = &block[257..265] == b"ustar  \0";
    let mut path = Vec::new();
    let prefix = until_nul(&block[345..500]);
    if posix && !prefix.is_empty() {
        path.extend_from_slice(prefix);
        path.push(b'/');
    }
    path.extend_from_slice(until_nul(&block[..100]));
    let flag = block[156];
    let is_device = matches!(flag, b'3' | b'4');
    let device = |field: &[u8]| {
        if !is_device || field.iter().all(|byte| *byte == 0) {
            return Ok(0);
        }
        number(field).and_then(|number| u32::try_from(number).ok()).ok_or(HeaderError::Field("device number"))
    };
    Ok(Block::Header(Box::new(Header {
        path,
        // The field has 7 octal digits: 21 bits.
        mode: number(&block[100..108]).and_then(|mode| u32::try_from(mode).ok()).ok_or(HeaderError::Field("mode"))?,
        uid: id(&block[108..116]).ok_or(HeaderError::Field("owner"))?,
        gid: id(&block[116..124]).ok_or(HeaderError::Field("group"))?,
        size: unsigned(&block[124..136]).ok_or(HeaderError::Field("size"))?,
        mtime: number(&block[136..148]).and_then(|time| i64::try_from(time).ok()).ok_or(HeaderError::Field("time"))?,
        flag,
        link: until_nul(&block[157..257]).to_vec(),
        major: device(&block[329..337])?,
        minor: device(&block[337..345])?,
        old_sparse: if flag == b'S' && gnu { Some(old_sparse(block)?) } else { None },
    })))
}

/// `oldgnu_header`: four runs at 386, `isextended` at 482, `realsize` at 483.
fn old_sparse(block: &[u8; BLOCK]) -> Result<OldSparse, HeaderError> {
    Ok(OldSparse {
        runs: old_runs(&block[386..482])?,
        more: block[482] != 0,
        real_size: unsigned(&block[483..495]).ok_or(HeaderError::Field("real size"))?,
    })
}

impl OldSparse {
    /// Adds a block of further runs: `struct sparse_header`, 21 runs and `isextended` at 504.
    pub fn add_block(&mut self, block: &[u8; BLOCK]) -> Result<(), HeaderError> {
        self.runs.extend(old_runs(&block[..504])?);
        self.more = block[504] != 0;
        Ok(())
    }
}

/// Runs with 12 bytes of offset and 12 bytes of length, up to the first empty one.
fn old_runs(bytes: &[u8]) -> Result<Vec<ByteRange>, HeaderError> {
    let filled = bytes.chunks_exact(24).take_while(|run| run[0] != 0 || run[12] != 0);
    let run = |run: &[u8]| Some(ByteRange::new(unsigned(&run[..12])?, unsigned(&run[12..])?));
    filled.map(|bytes| run(bytes).ok_or_else(|| HolesError::Damaged.into())).collect()
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

/// An owner id. Linux has no negative ids; an out-of-range number is returned for one.
fn id(field: &[u8]) -> Option<u64> {
    number(field).map(|number| u64::try_from(number).unwrap_or(u64::MAX))
}

fn unsigned(field: &[u8]) -> Option<u64> {
    u64::try_from(number(field)?).ok()
}

/// Decodes a number as octal digits or, if the first byte is 0x80 or 0xff, in GNU tar's base-256 form. An empty
/// field is 0.
fn number(field: &[u8]) -> Option<i128> {
    match field.first()? {
        0x80 | 0xff => {
            let negative = field[0] == 0xff;
            let start: i128 = if negative { -1 } else { 0 };
            // At most eleven bytes: 88 bits.
            Some(field[1..].iter().fold(start, |number, byte| number << 8 | i128::from(*byte)))
        }
        _ if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Some(0),
        _ => octal(field).map(i128::from),
    }
}

/// Octal digits between spaces and a NUL or space; at least one, at most 12 digits (36 bits). The rest is ignored.
fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|byte| *byte != b' ')?;
    let digits = field[start..].split(|byte| matches!(byte, 0 | b' ')).next()?;
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |number, byte| matches!(byte, b'0'..=b'7').then(|| number << 3 | u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Block, number, octal, parse};
    use crate::archive::pax::{self, EntryType};
    use crate::entry::{DeviceNumber, Metadata, Timestamp};

    #[test]
    fn our_own_headers_are_read() {
        let metadata = Metadata {
            mode: 0o4755,
            uid: 1_000,
            gid: 3_000_000,
            mtime: Timestamp { sec: -5, nsec: 0 },
            ..Metadata::default()
        };
        let path = [b"./".as_slice(), &[b'a'; 90], b"/", &[b'b'; 90]].concat();
        let number = DeviceNumber { major: 8, minor: 1 << 19 };
        let head = pax::head(&path, EntryType::BlockDevice(number), &metadata, &[]).bytes;
        let Ok(Block::Header(header)) = parse(head.last_chunk().unwrap()) else { panic!("not read") };
        assert_eq!(header.path, path);
        assert_eq!((header.mode, header.uid, header.gid, header.mtime), (0o4755, 1000, 3_000_000, -5));
        assert_eq!((header.flag, header.major, header.minor), (b'4', 8, 1 << 19));
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let head = pax::head(b"./etc/hosts", EntryType::File, &Metadata::default(), &[]).bytes;
        let good: [u8; BLOCK] = *head.last_chunk().unwrap();
        let parsed = parse(&good).unwrap();
        for at in 0..BLOCK {
            for bit in 0..8 {
                let mut bad = good;
                bad[at] ^= 1 << bit;
                // Some changes in the checksum field keep its value.
                assert!(parse(&bad).is_err() || (148..156).contains(&at), "byte {at}");
                assert!(parse(&bad).is_err() || parse(&bad).unwrap() == parsed);
            }
        }
        assert_eq!(parse(&[0; BLOCK]).unwrap(), Block::Zero);
        assert!(parse(&[b' '; BLOCK]).is_err() && parse(&[0xff; BLOCK]).is_err());
    }

    #[test]
    fn numbers_have_two_forms() {
        assert_eq!(number(b"0000755\0"), Some(0o755));
        assert_eq!(number(b"   755 \0"), Some(0o755));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfb"), Some(-5));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\x01\0\0\0"), Some(1 << 24));
        assert_eq!(number(&[0; 8]), Some(0));
        assert_eq!(octal(b"0000888\0"), None);
        assert_eq!(octal(b"07x07 0\0"), None);
        // Some programs leave earlier content in the field.
        assert_eq!((octal(b"07 07 0\0"), octal(b"644\0\xff\xff")), (Some(7), Some(0o644)));
    }
}
