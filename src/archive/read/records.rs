//! The records of extended headers, from untrusted archives.
//!
//! Source: POSIX.1-2001, pax(1), "pax Extended Header"; GNU tar's manual, "Storing Sparse Files"; the `SCHILY`
//! records of star.

use super::header_error::HeaderError;
use super::sparse::MAX_HEADER_RUNS;
use super::values::{base64_decoded, decode_name, number, split_record, text, time, url_decoded};
use crate::archive::acl;
use crate::archive::pax::FLAGS_COMMENT;
use crate::entry::{Timestamp, Xattr};
use crate::outside::inode_flags::{FLAGS, fat};

/// The records of one or more extended headers; later ones take precedence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// `path`.
    pub path: Option<Vec<u8>>,
    /// `linkpath`.
    pub linkpath: Option<Vec<u8>>,
    /// `size`.
    pub size: Option<u64>,
    /// `uid`.
    pub uid: Option<u64>,
    /// `gid`.
    pub gid: Option<u64>,
    /// `mtime`.
    pub mtime: Option<Timestamp>,
    /// Attributes by name, including ACLs in the kernel's form.
    pub xattrs: Vec<Xattr>,
    /// ACLs that have names of users or groups without their numbers: the attribute's name and the text.
    pub named_acls: Vec<NamedAcl>,
    /// Inode flags, by libarchive's names and our own record.
    pub flags: u32,
    /// The project id.
    pub project: u32,
    /// Records with unusable values, in words.
    pub problems: Vec<String>,
    /// `GNU.sparse.*`.
    pub sparse: SparseRecords,
}

/// An ACL with names that have numbers only on the host that restores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAcl {
    /// `system.posix_acl_access` or `system.posix_acl_default`.
    pub attribute: &'static [u8],
    /// The text that [`acl::resolve`] takes.
    pub text: Vec<u8>,
}

/// What is said about holes, in three versions of GNU tar's PAX formats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseRecords {
    /// `GNU.sparse.major` and `.minor`, 1 and 0 for the map in the data area.
    pub version: (Option<u64>, Option<u64>),
    /// `GNU.sparse.name`.
    pub name: Option<Vec<u8>>,
    /// `GNU.sparse.realsize` (1.0) or `GNU.sparse.size` (0.0, 0.1).
    pub real_size: Option<u64>,
    /// Offsets and lengths, from the single records of 0.0 or the map of 0.1.
    pub map: Option<Vec<u64>>,
}

/// The maximum number of problems per header.
const MAX_PROBLEMS: usize = 16;
/// The maximum number of attributes in an inode's list (`XATTR_LIST_MAX` is 64 KiB, and a name has at least eight
/// bytes).
const MAX_XATTRS: usize = 8192;

/// libarchive's other names (`archive_entry.c`) for the flags in `SCHILY.fflags`.
const FLAG_ALIASES: [(&str, u32); 7] = [
    ("sappend", 0x20),
    ("schange", 0x10),
    ("simmutable", 0x10),
    ("securedeletion", 0x1),
    ("journal", 0x4000),
    ("journal-data", 0x4000),
    ("projinherit", 0x2000_0000),
];

impl Extended {
    /// Adds the records in `bytes`. An error concerns the header as a whole.
    pub fn add(&mut self, mut bytes: &[u8]) -> Result<(), HeaderError> {
        // Some programs count NULs after the last record.
        while !bytes.iter().all(|byte| *byte == 0) {
            let (key, value, rest) = split_record(bytes)?;
            self.apply(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        let Ok(name) = std::str::from_utf8(key) else {
            if let Some(xattr) = key.strip_prefix(b"SCHILY.xattr.") {
                self.set_xattr(decode_name(xattr), value.to_vec());
            }
            return Ok(());
        };
        match name {
            "path" => self.path = text(key, value)?,
            "linkpath" => self.linkpath = text(key, value)?,
            "size" => self.size = number(key, value)?,
            "uid" => self.uid = self.or_problem(number(key, value)),
            "gid" => self.gid = self.or_problem(number(key, value)),
            "mtime" => self.mtime = self.or_problem(time(value)),
            "GNU.sparse.major" => self.sparse.version.0 = number(key, value)?,
            "GNU.sparse.minor" => self.sparse.version.1 = number(key, value)?,
            "GNU.sparse.name" => self.sparse.name = text(key, value)?,
            "GNU.sparse.realsize" | "GNU.sparse.size" => self.sparse.real_size = number(key, value)?,
            "GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').map(|item| number(key, item));
                let map: Option<Vec<u64>> = numbers.take(2 * MAX_HEADER_RUNS + 1).collect::<Result<_, _>>()?;
                self.sparse.map = Some(map.unwrap_or_default());
            }
            "GNU.sparse.offset" | "GNU.sparse.numbytes" => {
                let map = self.sparse.map.get_or_insert_default();
                map.extend(number(key, value)?);
            }
            "SCHILY.fflags" => self.file_flags(value),
            "comment" => self.comment(value),
            "SCHILY.acl.access" => self.set_acl(b"system.posix_acl_access", value),
            "SCHILY.acl.default" => self.set_acl(b"system.posix_acl_default", value),
            // The kernel's value ends with a NUL, the record's does not.
            "RHT.security.selinux" => self.set_xattr(b"security.selinux".to_vec(), [value, b"\0"].concat()),
            _ => {
                if let Some(xattr) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.set_xattr(decode_name(xattr), value.to_vec());
                } else if let Some(xattr) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    self.set_libarchive_xattr(xattr, value);
                }
            }
        }
        Ok(())
    }

    /// An unusable value is dropped and reported; the entry stays usable.
    fn or_problem<T>(&mut self, value: Result<Option<T>, HeaderError>) -> Option<T> {
        value.unwrap_or_else(|error| {
            self.problem(error.to_string());
            None
        })
    }

    fn problem(&mut self, what: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(what);
        }
    }

    /// libarchive's own form of attributes, in addition to `SCHILY.xattr`: the name URL-encoded, the value in
    /// base64.
    fn set_libarchive_xattr(&mut self, name: &[u8], value: &[u8]) {
        match (url_decoded(name), base64_decoded(value)) {
            (Some(name), Some(value)) if !self.xattrs.iter().any(|xattr| xattr.name == name) => {
                self.set_xattr(name, value);
            }
            (Some(_), Some(_)) => {}
            _ => self.problem(format!("its record LIBARCHIVE.xattr.{} is not understood", name.escape_ascii())),
        }
    }

    /// libarchive's names of flags. Flags of other systems, and negated ones, are ignored.
    fn file_flags(&mut self, value: &[u8]) {
        let mut unknown = Vec::new();
        for name in value.split(|byte| matches!(byte, b',' | b' ' | b'\t')).filter(|name| !name.is_empty()) {
            let alias = FLAG_ALIASES.iter().find(|(alias, _)| alias.as_bytes() == name).map(|(_, bit)| *bit);
            let known = FLAGS.iter().find(|(_, _, known)| known.map(str::as_bytes) == Some(name)).map(|(bit, ..)| *bit);
            match alias.or(known) {
                Some(bit) => self.flags |= bit,
                None if name.starts_with(b"no") || name == b"dump" => {}
                None => unknown.push(name.escape_ascii().to_string()),
            }
        }
        if !unknown.is_empty() {
            let more = unknown.len().saturating_sub(MAX_PROBLEMS);
            unknown.truncate(MAX_PROBLEMS);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.problem(format!(
                "its file flags {}{more} are not known on Linux, and are left out",
                unknown.join(", ")
            ));
        }
    }

    /// volbak's comment holds flags and the project id; other comments are ignored.
    fn comment(&mut self, value: &[u8]) {
        let Some(words) = std::str::from_utf8(value).ok().and_then(|text| text.strip_prefix(FLAGS_COMMENT)) else {
            return;
        };
        for word in words.split(' ') {
            if let Some(letters) = word.strip_prefix("chattr=") {
                let set = FLAGS.iter().filter(|(_, letter, _)| letters.contains(*letter));
                self.flags |= set.fold(0, |flags, (bit, ..)| flags | bit);
            } else if let Some(project) = word.strip_prefix("project=").and_then(|text| text.parse().ok()) {
                self.project = project;
            } else if let Some(letters) = word.strip_prefix("fat=") {
                self.flags |= fat::from_letters(letters);
            }
        }
    }

    fn set_acl(&mut self, attribute: &'static [u8], value: &[u8]) {
        // GNU tar writes an empty default ACL for directories without one.
        if value.is_empty() {
            return;
        }
        self.named_acls.retain(|earlier| earlier.attribute != attribute);
        match acl::parse(value) {
            Some(acl::Parsed::Numbers(value)) => self.set_xattr(attribute.to_vec(), value),
            Some(acl::Parsed::Names) => self.named_acls.push(NamedAcl { attribute, text: value.to_vec() }),
            None => self.problem(format!("its ACL {} is not understood", attribute.escape_ascii())),
        }
    }

    fn set_xattr(&mut self, name: Vec<u8>, value: Vec<u8>) {
        match self.xattrs.binary_search_by(|other| other.name.cmp(&name)) {
            Ok(at) => self.xattrs[at].value = value,
            Err(at) if self.xattrs.len() < MAX_XATTRS => self.xattrs.insert(at, Xattr { name, value }),
            Err(_) if self.problems.is_empty() => self.problems.push("it has too many attributes".to_owned()),
            Err(_) => {}
        }
    }
}

/// Whether a record has a newline in its key or value, other than its final one. True for damaged records.
pub(crate) fn has_line_feed(mut records: &[u8]) -> bool {
    while !records.iter().all(|byte| *byte == 0) {
        match split_record(records) {
            Ok((key, value, _)) if key.contains(&b'\n') || value.contains(&b'\n') => return true,
            Ok((.., rest)) => records = rest,
            Err(_) => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{Extended, HeaderError};
    use crate::entry::Timestamp;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let len = (rest + 1..rest + 9).find(|len| len.to_string().len() + rest == *len).unwrap();
        [len.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
    }

    fn of(key: &str, value: &[u8]) -> Result<Extended, HeaderError> {
        let mut extended = Extended::default();
        extended.add(&record(key, value)).map(|()| extended)
    }

    #[test]
    fn values_are_bytes() {
        let extended = of("SCHILY.xattr.user.a%3Db%25", b"\0\xff=\n").unwrap();
        assert_eq!(extended.xattrs[0].name, b"user.a=b%");
        assert_eq!(extended.xattrs[0].value, b"\0\xff=\n");
        assert_eq!(of("path", b"\xff\n").unwrap().path.unwrap(), b"\xff\n");
    }

    #[test]
    fn file_flags_have_the_names_of_libarchive() {
        for (text, flags, problems) in [
            ("schg,nodump", 0x50, 0),
            ("simmutable, sappend\tjournal-data", 0x4030, 0),
            ("noschg,dump,nosappnd", 0, 0),
            ("uchg,hidden", 0, 1),
            ("uchg,schange", 0x10, 1),
            (",,", 0, 0),
        ] {
            let extended = of("SCHILY.fflags", text.as_bytes()).unwrap();
            assert_eq!((extended.flags, extended.problems.len()), (flags, problems), "{text}");
        }
        let many = vec!["x"; 10_000].join(",");
        assert!(of("SCHILY.fflags", many.as_bytes()).unwrap().problems[0].len() < 200);
    }

    #[test]
    fn attributes_in_the_form_of_libarchive_are_understood() {
        let extended = of("LIBARCHIVE.xattr.user.b%20c", b"AP9kYXRh").unwrap();
        assert_eq!(
            (extended.xattrs[0].name.as_slice(), extended.xattrs[0].value.as_slice()),
            (&b"user.b c"[..], &b"\0\xffdata"[..])
        );
        for (text, value) in [("", ""), ("YQ", "a"), ("YWI=", "ab"), ("YWJj", "abc")] {
            assert_eq!(super::base64_decoded(text.as_bytes()).as_deref(), Some(value.as_bytes()));
        }
        for (name, value) in [("user.x", "A"), ("user.x", "A*BC"), ("user.%2", "YQ"), ("user.%zz", "YQ")] {
            assert_eq!(of(&format!("LIBARCHIVE.xattr.{name}"), value.as_bytes()).unwrap().problems.len(), 1);
        }
    }

    #[test]
    fn times_have_one_sign() {
        let at = |text: &[u8]| of("mtime", text).map(|extended| extended.mtime.unwrap()).unwrap();
        assert_eq!(at(b"-1.5"), Timestamp { sec: -2, nsec: 500_000_000 });
        assert_eq!(at(b"-7"), Timestamp { sec: -7, nsec: 0 });
        assert_eq!(at(b"-9223372036854775808"), Timestamp { sec: i64::MIN, nsec: 0 });
        assert_eq!(at(b"-9223372036854775807.5"), Timestamp { sec: i64::MIN, nsec: 500_000_000 });
        assert_eq!(at(b"5000000000.1234567899"), Timestamp { sec: 5_000_000_000, nsec: 123_456_789 });
        for wrong in [b"1.x".as_slice(), b"--1", b"99999999999999999999", b".5", b"1e3"] {
            let extended = of("mtime", wrong).unwrap();
            assert!(extended.mtime.is_none() && extended.problems.len() == 1, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn a_damaged_header_is_an_error_and_never_a_panic() {
        let good = [record("path", b"abc"), record("uid", b"7")].concat();
        assert!(Extended::default().add(&good).is_ok());
        for end in 1..good.len() {
            // Cut between the two records, the first is still complete.
            assert_eq!(Extended::default().add(&good[..end]).is_ok(), end == record("path", b"abc").len(), "{end}");
        }
        for wrong in [
            "5 a=\n",
            "0 a=b\n",
            "99999999999 a=b\n",
            " 6 a=b\n",
            "-6 a=b\n",
            "4 a=\n",
            "3 =\n",
            "18446744073709551615 a=b\n",
        ] {
            let _ = Extended::default().add(wrong.as_bytes());
        }
        for wrong in ["99999999999 a=b\n", " 6 a=b\n", "-6 a=b\n", "x"] {
            assert!(Extended::default().add(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(of("size", b"-1").is_err() && of("size", b"99999999999999999999").is_err());
        assert!(of("path", b"a\0b").is_err());
    }
}
