//! What the `tar` crate reads of one entry, and where that differs from the index and from our own reader.

use std::io::{self, Read};

use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use crate::archive::index::{EntryLine, IndexedKind, escape_path};
use crate::archive::pax::padding_after;
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::shown::hex;

/// A name in a finding is cut after this many bytes: both opinions are in it, and it stays one line.
const SHOWN_BYTES: usize = 256;
const NANOS: i128 = 1_000_000_000;

/// An entry as the `tar` crate reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opinion {
    pub(super) path: Vec<u8>,
    pub(super) entry_type: EntryType,
    /// Empty without one.
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Nanoseconds since 1970; `None` when it is not a number.
    pub(super) mtime: Option<i128>,
    /// Major and minor number; of other entries than devices, 0.
    pub(super) device: (u32, u32),
    pub(super) size: u64,
    /// Headers, data and padding, in bytes.
    pub(super) length: u64,
    /// How much data came, at most one byte more than was asked for.
    pub(super) read_bytes: u64,
    /// SHA-256 of the data that came.
    pub(super) content: [u8; 32],
    /// How many records of its extended header the crate cannot read.
    pub(super) bad_records: u64,
}

/// Reads the one entry that is in `archive`, and at most one byte more of its data than `size`; `buffer` is for the data.
pub(super) fn ask(archive: impl Read, size: u64, buffer: &mut [u8]) -> io::Result<Opinion> {
    let mut archive = Archive::new(archive);
    let mut entries = archive.entries()?;
    let mut entry = entries.next().ok_or_else(|| io::Error::other("it finds no entry"))??;
    let header = entry.header();
    let entry_type = header.entry_type();
    let (mode, uid, gid) = (header.mode()?, header.uid()?, header.gid()?);
    let device = if matches!(entry_type, EntryType::Char | EntryType::Block) {
        (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0))
    } else {
        (0, 0)
    };
    // The crate gives the field's 64 bits as they are, also of a time before 1970.
    let mut mtime = Some(i128::from(header.mtime()?.cast_signed()) * NANOS);
    let (path, link) = (entry.path_bytes().into_owned(), entry.link_name_bytes().unwrap_or_default().into_owned());
    let mut bad_records = 0;
    if let Some(records) = entry.pax_extensions()? {
        for record in records {
            match record {
                Ok(record) if record.key_bytes() == b"mtime" => mtime = nanoseconds(record.value_bytes()),
                Ok(_) => {}
                Err(_) => bad_records += 1,
            }
        }
    }
    let entry_size = entry.size();
    let length = entry
        .raw_file_position()
        .checked_add(entry_size)
        .and_then(|end| end.checked_add(padding_after(entry_size)))
        .ok_or_else(|| io::Error::other("its size is out of bounds"))?;

    let mut hash = Sha256::new();
    let mut read_bytes = 0;
    let mut data = (&mut entry).take(size.saturating_add(1));
    loop {
        match data.read(buffer) {
            Ok(0) => break,
            Ok(len) => {
                hash.update(&buffer[..len]);
                read_bytes += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let content = hash.finalize().into();
    let size = entry_size;
    Ok(Opinion {
        path,
        entry_type,
        link,
        mode,
        uid,
        gid,
        mtime,
        device,
        size,
        length,
        read_bytes,
        content,
        bad_records,
    })
}

/// The value of a record `mtime`: POSIX.1-2001, pax(1), "pax Extended Header File Times". The crate gives it as it stands
/// there. Our reader's own function would repeat its own mistakes.
fn nanoseconds(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(fraction) {
        return None;
    }
    let fraction: i128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(sign * (seconds.parse::<u64>().map(i128::from).ok()? * NANOS + fraction))
}

/// What differs between the crate's reading of an entry and what the index and our own reading of its headers say; `None`
/// when nothing does.
pub(super) fn disagreement(opinion: &Opinion, head: &EntryHead, line: &EntryLine) -> Option<String> {
    let mut differs = Differs(Vec::new());
    let path = opinion.path.strip_suffix(b"/").unwrap_or(&opinion.path);
    differs.index("the name", path == line.path, || (shown(path), shown(&line.path)));
    differs.index("the type", is_kind(opinion.entry_type, line.kind), || {
        (format!("`{}`", opinion.entry_type.as_byte().escape_ascii()), format!("`{}`", line.kind.letter()))
    });
    let is_file = line.kind == IndexedKind::File;
    let size = if is_file { line.size } else { 0 };
    differs.index("the size", opinion.size == size, || (opinion.size.to_string(), size.to_string()));
    differs.index("a length in the archive", opinion.length == line.tar_length, || {
        (opinion.length.to_string(), line.tar_length.to_string())
    });
    if opinion.size == size {
        differs.index("data", opinion.read_bytes == size, || {
            let found = if opinion.read_bytes > size { "more".to_owned() } else { opinion.read_bytes.to_string() };
            (format!("of {found} bytes"), size.to_string())
        });
    }
    if is_file && opinion.read_bytes == size {
        differs.index("the SHA-256", Some(opinion.content) == line.content, || {
            (hex(&opinion.content), line.content.map_or_else(|| "none".to_owned(), |content| hex(&content)))
        });
    }

    let link: &[u8] = match &head.kind {
        HeadKind::Symlink(target) | HeadKind::HardLink(target) => target,
        _ => b"",
    };
    differs.reader("the link target", opinion.link == link, || (shown(&opinion.link), shown(link)));
    let mtime = i128::from(head.mtime.sec) * NANOS + i128::from(head.mtime.nsec);
    differs.reader("the time", opinion.mtime == Some(mtime), || {
        let found = opinion.mtime.map_or_else(|| "that is not a number".to_owned(), |nanos| format!("{nanos} ns"));
        (found, format!("{mtime} ns"))
    });
    let mode = opinion.mode & 0o7777;
    differs.reader("the mode", mode == head.mode, || (format!("{mode:04o}"), format!("{:04o}", head.mode)));
    differs.reader("the owner", opinion.uid == head.uid, || (opinion.uid.to_string(), head.uid.to_string()));
    differs.reader("the group", opinion.gid == head.gid, || (opinion.gid.to_string(), head.gid.to_string()));
    let device = match head.kind {
        HeadKind::CharDevice(number) | HeadKind::BlockDevice(number) => (number.major, number.minor),
        _ => (0, 0),
    };
    differs.reader("the device", opinion.device == device, || {
        let text = |(major, minor): (u32, u32)| format!("{major}:{minor}");
        (text(opinion.device), text(device))
    });
    if opinion.bad_records > 0 {
        let count = opinion.bad_records;
        differs.0.push(format!("the tar crate finds {count} damaged records in its headers, and volbak none"));
    }
    (!differs.0.is_empty()).then(|| differs.0.join("; "))
}

/// Both opinions in words, one text for each thing in which they differ.
struct Differs(Vec<String>);

impl Differs {
    fn index(&mut self, what: &str, is_same: bool, texts: impl FnOnce() -> (String, String)) {
        self.add(what, is_same, "the index says", texts);
    }

    fn reader(&mut self, what: &str, is_same: bool, texts: impl FnOnce() -> (String, String)) {
        self.add(what, is_same, "volbak reads", texts);
    }

    fn add(&mut self, what: &str, is_same: bool, who: &str, texts: impl FnOnce() -> (String, String)) {
        if !is_same {
            let (theirs, ours) = texts();
            self.0.push(format!("the tar crate reads {what} {theirs}, and {who} {ours}"));
        }
    }
}

fn is_kind(entry_type: EntryType, kind: IndexedKind) -> bool {
    match entry_type {
        EntryType::Regular | EntryType::Continuous => kind == IndexedKind::File,
        EntryType::Directory => kind == IndexedKind::Directory,
        EntryType::Symlink => kind == IndexedKind::Symlink,
        EntryType::Link => kind == IndexedKind::HardLink,
        EntryType::Char => kind == IndexedKind::CharDevice,
        EntryType::Block => kind == IndexedKind::BlockDevice,
        EntryType::Fifo => kind == IndexedKind::Fifo,
        _ => false,
    }
}

fn shown(name: &[u8]) -> String {
    let (start, rest) = name.split_at(name.len().min(SHOWN_BYTES));
    format!("{:?}{}", escape_path(start), if rest.is_empty() { "" } else { "…" })
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use sha2::{Digest, Sha256};

    use super::{Opinion, ask, disagreement, nanoseconds};
    use crate::archive::index::{EntryLine, IndexedKind};
    use crate::archive::pax::{self, EntryType, padding_after};
    use crate::archive::read::head::{EntryHead, HeadBuilder};
    use crate::entry::{DeviceNumber, Metadata, Timestamp, Xattr};

    /// An entry as volbak writes it, as it reads it, and its line in the index.
    fn written(
        path: &[u8],
        kind: (EntryType<'_>, IndexedKind),
        metadata: &Metadata,
        xattrs: &[Xattr],
        data: &[u8],
    ) -> (Vec<u8>, Box<EntryHead>, EntryLine) {
        let mut bytes = pax::head(path, kind.0, metadata, xattrs).bytes;
        let mut builder = HeadBuilder::default();
        for block in bytes.as_chunks().0 {
            builder.add(block).unwrap();
        }
        let head = builder.finish().unwrap().0;
        let is_file = kind.1 == IndexedKind::File;
        let size = if is_file { metadata.size } else { 0 };
        let line = EntryLine {
            kind: kind.1,
            damaged: false,
            tar_offset: 0,
            tar_length: bytes.len() as u64 + size + padding_after(size),
            size,
            ino: 1,
            ctime: Timestamp { sec: 0, nsec: 0 },
            head: head.digest,
            content: is_file.then(|| Sha256::digest(data).into()),
            path: path.to_vec(),
        };
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        (bytes, head, line)
    }

    fn file(data: &[u8]) -> (Vec<u8>, Box<EntryHead>, EntryLine) {
        let metadata = Metadata {
            mode: 0o4755,
            uid: 1000,
            gid: 3_000_000,
            size: data.len() as u64,
            mtime: Timestamp { sec: -2, nsec: 500_000_000 },
            ..Metadata::default()
        };
        written(b"./dir/file", (EntryType::File, IndexedKind::File), &metadata, &[], data)
    }

    fn opinion_of(bytes: &[u8], line: &EntryLine) -> Opinion {
        ask(Cursor::new(bytes), line.size, &mut [0; 1000]).unwrap()
    }

    #[test]
    fn the_crate_reads_what_volbak_writes() {
        let long = [b"./".as_slice(), &[b'a'; 120], b"/", &[b'b'; 255]].concat();
        let number = DeviceNumber { major: 4095, minor: (1 << 20) - 1 };
        let kinds = [
            (EntryType::File, IndexedKind::File),
            (EntryType::Directory, IndexedKind::Directory),
            (EntryType::Symlink(b"t\xff"), IndexedKind::Symlink),
            (EntryType::Symlink(&long), IndexedKind::Symlink),
            (EntryType::Symlink(b""), IndexedKind::Symlink),
            (EntryType::HardLink("./\u{e9}".as_bytes()), IndexedKind::HardLink),
            (EntryType::CharDevice(number), IndexedKind::CharDevice),
            (EntryType::BlockDevice(number), IndexedKind::BlockDevice),
            (EntryType::Fifo, IndexedKind::Fifo),
        ];
        let short = [b"./".as_slice(), &[b'a'; 90], b"/", &[b'b'; 90]].concat();
        let paths = [b".".as_slice(), b"./a\\b", "./\u{e9}".as_bytes(), b"./\xff", &long, &short, &[b'x'; 100]];
        let far = [
            (i64::MIN, 0),
            (i64::MAX, 999_999_999),
            (-1, 1),
            (-1, 999_999_999),
            (0, 0),
            (1 << 40, 1),
            (-1, 1_500_000_000),
        ];
        let values = [b"".as_slice(), b"v", b"\0\xff\t 7=", &[0xff; 5000]];
        let mut tried = 0;
        for kind in kinds {
            for path in paths {
                for (sec, nsec) in far {
                    for value in values {
                        let xattrs = [Xattr { name: b"user.a=b%".to_vec(), value: value.to_vec() }];
                        let (uid, gid, mtime) = (u32::MAX, 1 << 21, Timestamp { sec, nsec });
                        let metadata = Metadata { mode: 0o7777, uid, gid, size: 4, mtime, ..Metadata::default() };
                        let data: &[u8] = if kind.1 == IndexedKind::File { b"data" } else { b"" };
                        let (bytes, head, line) = written(path, kind, &metadata, &xattrs, data);
                        assert_eq!(disagreement(&opinion_of(&bytes, &line), &head, &line), None, "{kind:?} {mtime:?}");
                        tried += 1;
                    }
                }
            }
        }
        assert_eq!(tried, 9 * 7 * 7 * 4);
    }

    #[test]
    fn sizes_that_octal_digits_do_not_hold_are_read() {
        let metadata = Metadata { size: 1 << 40, ..Metadata::default() };
        let kind = (EntryType::File, IndexedKind::File);
        let (bytes, head, line) = written(b"./large", kind, &metadata, &[], b"");
        // Nobody has a tebibyte for a test: its data alone is missing.
        let opinion = opinion_of(&bytes, &line);
        assert_eq!((opinion.size, opinion.length), (1 << 40, line.tar_length));
        let what = disagreement(&opinion, &head, &line).unwrap();
        assert_eq!(what, "the tar crate reads data of 0 bytes, and the index says 1099511627776");
    }

    #[test]
    fn each_difference_is_said_with_both_opinions() {
        let (bytes, head, line) = file(b"data");
        let good = opinion_of(&bytes, &line);
        assert_eq!(disagreement(&good, &head, &line), None);
        let says = |change: fn(&mut Opinion)| {
            let mut opinion = good.clone();
            change(&mut opinion);
            disagreement(&opinion, &head, &line).unwrap()
        };
        let expected = [
            (says(|o| o.path = b"./x\n".to_vec()), r#"the name "./x\\x0a", and the index says "./dir/file""#),
            (says(|o| o.entry_type = tar::EntryType::Directory), "the type `5`, and the index says `f`"),
            (says(|o| o.size = 5), "the size 5, and the index says 4"),
            (says(|o| o.length = 512), "a length in the archive 512, and the index says 2048"),
            (says(|o| o.read_bytes = 5), "data of more bytes, and the index says 4"),
            (says(|o| o.read_bytes = 3), "data of 3 bytes, and the index says 4"),
            (says(|o| o.content = [0xab; 32]), "the SHA-256 abababab"),
            (says(|o| o.link = b"t".to_vec()), r#"the link target "t", and volbak reads """#),
            (says(|o| o.mtime = Some(1)), "the time 1 ns, and volbak reads -1500000000 ns"),
            (says(|o| o.mtime = None), "the time that is not a number, and volbak reads"),
            (says(|o| o.mode = 0o755), "the mode 0755, and volbak reads 4755"),
            (says(|o| o.uid = 0), "the owner 0, and volbak reads 1000"),
            (says(|o| o.gid = 1), "the group 1, and volbak reads 3000000"),
            (says(|o| o.device = (1, 2)), "the device 1:2, and volbak reads 0:0"),
            (says(|o| o.bad_records = 2), "finds 2 damaged records in its headers, and volbak none"),
        ];
        for (found, expected) in &expected {
            assert!(found.starts_with("the tar crate ") && found.contains(expected), "{found:?} has no {expected:?}");
            assert!(!found.contains("; "), "one thing alone: {found}");
        }
        assert_eq!(says(|o| (o.uid, o.gid) = (1, 2)).matches("; ").count(), 1, "all that differs");
    }

    #[test]
    fn another_index_is_noticed() {
        let (bytes, head, line) = file(b"data");
        let changes: [fn(&mut EntryLine); 6] = [
            |line| line.path = b"./dir/other".to_vec(),
            |line| line.kind = IndexedKind::Fifo,
            |line| (line.size, line.content) = (3, Some(Sha256::digest(b"dat").into())),
            |line| line.size = 5,
            |line| line.tar_length += 512,
            |line| line.content = None,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut other = line.clone();
            change(&mut other);
            assert!(disagreement(&opinion_of(&bytes, &other), &head, &other).is_some(), "change {number}");
        }
    }

    #[test]
    fn long_names_do_not_make_long_findings() {
        let (bytes, head, line) = file(b"data");
        let opinion = Opinion { path: vec![b'\n'; 1 << 20], ..opinion_of(&bytes, &line) };
        assert!(disagreement(&opinion, &head, &line).unwrap().len() < 2000);
    }

    /// Why it is not asked about such entries. Where this fails, a newer crate reads them as they are: then it can be asked.
    #[test]
    fn a_line_feed_in_an_attribute_makes_the_crate_read_something_else() {
        let metadata = Metadata { size: 4, ..Metadata::default() };
        let kind = (EntryType::File, IndexedKind::File);
        let said = |value: &str| {
            let xattrs = [Xattr { name: b"user.a".to_vec(), value: value.into() }];
            let (bytes, head, line) = written(b"./file", kind, &metadata, &xattrs, b"data");
            disagreement(&opinion_of(&bytes, &line), &head, &line).unwrap()
        };
        assert!(said("\n16 path=./x/y/z\n").contains(r#"the name "./x/y/z", and the index says "./file""#));
        assert!(said("\n11 mtime=7\n").contains("the time 7000000000 ns, and volbak reads 0 ns"));
        for value in ["\n", "a\nb", "\n10 size=1\n", "\n9 uid=77\n"] {
            assert!(said(value).contains("damaged records in its headers, and volbak none"), "{value:?}");
        }
    }

    /// A generator that needs no state but this (Knuth's MMIX).
    fn next(random: &mut u64) -> usize {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*random >> 33).unwrap()
    }

    #[test]
    fn whatever_the_bytes_are_the_crate_does_not_panic_and_reads_no_further() {
        let mut random = 7;
        let names = [b"size".as_slice(), b"path", b"mtime", b"uid", b"linkpath", b"GNU.sparse.map"];
        for _ in 0..5_000 {
            let value: Vec<u8> = (0..next(&mut random) % 40).map(|_| next(&mut random).to_le_bytes()[0]).collect();
            let name = [b"user.", names[next(&mut random) % names.len()]].concat();
            let metadata = Metadata { size: 700, ..Metadata::default() };
            let kind = (EntryType::File, IndexedKind::File);
            let xattrs = [Xattr { name, value }];
            let (mut bytes, ..) = written(b"./f", kind, &metadata, &xattrs, &[7; 700]);
            for _ in 0..next(&mut random) % 4 {
                let at = next(&mut random) % bytes.len().min(1600);
                bytes[at] = next(&mut random).to_le_bytes()[0];
            }
            bytes[156] = *[b'x', b'L', b'S', b'g', b'0'].get(next(&mut random) % 20).unwrap_or(&b'x');
            // Mostly the crate would stop at the checksum.
            for header in [0, 1024] {
                let block = &mut bytes[header..header + 512];
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            }
            let asked = ask(Cursor::new(&bytes).take(bytes.len() as u64), 700, &mut [0; 300]);
            assert!(asked.is_err() || asked.unwrap().read_bytes <= 701);
        }
    }

    #[test]
    fn times_are_numbers_with_one_sign() {
        assert_eq!(nanoseconds(b"-1.5"), Some(-1_500_000_000));
        assert_eq!(nanoseconds(b"7"), Some(7_000_000_000));
        assert_eq!(nanoseconds(b"0.0000000019"), Some(1));
        for wrong in [b"".as_slice(), b"-", b"1.", b".5", b"+1", b"--1", b"1e3", b"99999999999999999999", b"\xff"] {
            assert_eq!(nanoseconds(wrong), None);
        }
    }
}
