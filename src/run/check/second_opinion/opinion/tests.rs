//! The `tar` crate's reading of entries that volbak wrote.

use std::io::{Cursor, Read};

use sha2::{Digest, Sha256};

use super::{Opinion, ask, disagreement, nanoseconds};
use crate::archive::index::{EntryLine, IndexedKind};
use crate::archive::pax::{self, EntryType, padding_after};
use crate::archive::read::head::{EntryHead, HeadBuilder};
use crate::entry::{DeviceNumber, Metadata, Timestamp, Xattr};

/// An entry as volbak writes it, as volbak reads it, and its index line.
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
fn the_crate_reads_volbaks_entries() {
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
    let far =
        [(i64::MIN, 0), (i64::MAX, 999_999_999), (-1, 1), (-1, 999_999_999), (0, 0), (1 << 40, 1), (-1, 1_500_000_000)];
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
    // A tebibyte is too much for a test: only its data is missing.
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

/// Why the crate is not asked about such entries. If this test fails, a newer crate reads them correctly and can be
/// asked.
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

/// A linear congruential generator (Knuth's MMIX).
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
        // Otherwise the crate would usually stop at the checksum.
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
