//! POSIX ACLs: converts the kernel's form to the text in pax archives, and back.

use std::fmt::Write as _;

/// `ACL_EA_VERSION` of the kernel's `posix_acl_xattr.h`.
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

/// The text form (acl(5), long text form, one line, numeric ids) of the value of `system.posix_acl_access` or
/// `system.posix_acl_default`, as in `SCHILY.acl.access` and `.default`. `None` if the value is invalid.
///
/// Source: the kernel's `include/uapi/linux/posix_acl_xattr.h`: a 32-bit version, then entries of 16-bit tag,
/// 16-bit permissions and 32-bit id, all little-endian.
pub fn to_text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk::<HEADER_BYTES>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % ENTRY_BYTES != 0 {
        return None;
    }
    let mut text = String::new();
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        if permissions > 7 {
            return None;
        }
        if !text.is_empty() {
            text.push(',');
        }
        let written = match tag {
            0x01 => write!(text, "user::"),
            0x02 => write!(text, "user:{id}:"),
            0x04 => write!(text, "group::"),
            0x08 => write!(text, "group:{id}:"),
            0x10 => write!(text, "mask::"),
            0x20 => write!(text, "other::"),
            _ => return None,
        };
        // Writing to a String does not fail.
        written.ok()?;
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if permissions & bit == 0 { '-' } else { letter });
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The maximum number of entries accepted from an archive: the kernel limits a value to 64 KiB, and filesystems to
/// less.
const MAX_ENTRIES: usize = 8000;

/// A user or a group that an entry of an ACL's text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualifier<'a> {
    /// By its number.
    Number(u32),
    /// By its name alone, as GNU tar and setfacl(1) write it.
    Name(&'a str),
}

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Users.
    User,
    /// Groups.
    Group,
}

impl Kind {
    /// The word for one of them.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// An ACL's text in the kernel's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// Users and groups have numbers.
    Numbers(T),
    /// At least one has a name alone: [`resolve`] needs numbers for it.
    Names,
}

/// The kernel's form of an ACL's text: of what [`to_text`] makes, and of the forms that other tars write (entries on
/// lines of their own, one-letter tags, a numeric id after a name, comments). `None` when it is not an ACL, or has more than
/// 8,000 entries.
pub fn parse(text: &[u8]) -> Option<Parsed<Vec<u8>>> {
    let mut has_names = false;
    let value = resolve(text, |_, qualifier| match qualifier {
        Qualifier::Number(id) => Some(id),
        Qualifier::Name(_) => {
            has_names = true;
            None
        }
    })?;
    Some(if has_names { Parsed::Names } else { Parsed::Numbers(value) })
}

/// As [`parse`], for a text in which every user and group has a number.
pub fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    match parse(text)? {
        Parsed::Numbers(value) => Some(value),
        Parsed::Names => None,
    }
}

/// The kernel's form of an ACL's text, with the numbers that `number_of` gives. Entries for which it gives `None` are left out;
/// the rest, the mask among it, stays: without the whole ACL the file's group would get the rights of the mask.
pub fn resolve(text: &[u8], mut number_of: impl FnMut(Kind, Qualifier<'_>) -> Option<u32>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut count = 0;
    let mut entries: Vec<(u16, u32, u16)> = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or("").trim();
        if entry.is_empty() {
            continue;
        }
        count += 1;
        if count > MAX_ENTRIES {
            return None;
        }
        let (tag, qualifier, permissions) = parse_entry(entry)?;
        let kind = if tag == USER { Kind::User } else { Kind::Group };
        let id = match qualifier {
            None => Some(u32::MAX),
            Some(Text::Number(id)) => number_of(kind, Qualifier::Number(id)),
            Some(Text::Name(name)) => number_of(kind, Qualifier::Name(&name)),
        };
        entries.extend(id.map(|id| (tag, id, permissions)));
    }
    if count == 0 {
        return None;
    }
    // The kernel requires the order of tags.
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Some(value)
}

const USER: u16 = 0x02;
const GROUP: u16 = 0x08;

/// As [`Qualifier`].
enum Text {
    Number(u32),
    Name(String),
}

/// libacl writes some characters of names as `\` and three octal digits.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let octal = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        let (byte, used) = octal.map_or((*first, 0), |byte| (byte, 3));
        bytes.push(byte);
        rest = &after[used..];
    }
    String::from_utf8(bytes).unwrap_or_else(|_| name.to_owned())
}

/// `tag:qualifier:permissions`, and star's fourth field with the number of the qualifier's name.
fn parse_entry(entry: &str) -> Option<(u16, Option<Text>, u16)> {
    let mut fields = entry.split(':').map(str::trim);
    let (tag, qualifier) = (fields.next()?, fields.next()?);
    let (qualifier, letters) = match fields.next() {
        Some(letters) => (qualifier, letters),
        // Solaris omits the qualifier of these tags.
        None if matches!(tag, "mask" | "m" | "other" | "o") => ("", qualifier),
        None => return None,
    };
    let number = fields.next();
    if fields.next().is_some() {
        return None;
    }
    let named = !qualifier.is_empty();
    let tag: u16 = match (tag, named) {
        ("user" | "u", false) => 0x01,
        ("user" | "u", true) => USER,
        ("group" | "g", false) => 0x04,
        ("group" | "g", true) => GROUP,
        ("mask" | "m", false) => 0x10,
        ("other" | "o", false) => 0x20,
        _ => return None,
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let qualifier = match (named, number) {
        (false, _) => None,
        (true, Some(number)) => Some(Text::Number(number.parse().ok()?)),
        (true, None) if is_number(qualifier) => Some(Text::Number(qualifier.parse().ok()?)),
        (true, None) => Some(Text::Name(unescaped(qualifier))),
    };
    let mut permissions = 0;
    for letter in letters.chars() {
        permissions |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return None,
        };
    }
    Some((tag, qualifier, permissions))
}

#[cfg(test)]
mod tests {
    use super::{Kind, Parsed, Qualifier, from_text, parse, resolve, to_text};

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    #[test]
    fn each_kind_of_entry_has_its_text() {
        let none = u32::MAX;
        let value = acl(&[(1, 7, none), (2, 6, 3_000_000), (4, 5, none), (8, 1, 5), (0x10, 7, none), (0x20, 0, none)]);
        assert_eq!(
            to_text(&value).as_deref(),
            Some("user::rwx,user:3000000:rw-,group::r-x,group:5:--x,mask::rwx,other::---")
        );
    }

    #[test]
    fn text_converts_back_to_the_kernels_form() {
        let none = u32::MAX;
        let value = acl(&[(1, 7, none), (2, 6, 3_000_000), (4, 5, none), (8, 1, 5), (0x10, 7, none), (0x20, 0, none)]);
        assert_eq!(from_text(to_text(&value).unwrap().as_bytes()).as_ref(), Some(&value));
        let other_tar = b"# by star\nu::rwx\ng:5:x:5\nuser:alice:rw-:3000000\ngroup::r-x\nm::rwx\no::---\n";
        assert_eq!(from_text(other_tar), Some(value));
        let wrong: [&[u8]; 7] = [b"", b"user:alice:rw-", b"user::q", b"mask:1:r", b"x::r", b"user:r", b"u:1:r:1:1"];
        for wrong in wrong {
            assert_eq!(from_text(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn names_get_the_numbers_that_they_have_here() {
        let text =
            b"user::rw-,user:joe:r--,user:7:rwx,user:lost\\040soul:---,group::r--,group:joe:rw-,mask::rwx,other::---";
        assert_eq!(parse(text), Some(Parsed::Names));
        let mut asked = Vec::new();
        let value = resolve(text, |kind, qualifier| match (kind, qualifier) {
            (_, Qualifier::Number(id)) => Some(id + 1),
            (Kind::User, Qualifier::Name("joe")) => Some(5),
            (Kind::Group, Qualifier::Name("joe")) => Some(6),
            (_, Qualifier::Name(name)) => {
                asked.push(name.to_owned());
                None
            }
        });
        // An entry without a number is left out, and the rest stays.
        let here = "user::rw-,user:5:r--,user:8:rwx,group::r--,group:6:rw-,mask::rwx,other::---";
        assert_eq!(value.and_then(|value| to_text(&value)).as_deref(), Some(here));
        assert_eq!(asked, ["lost soul"]);
        // A number beside a name counts, and one that is out of bounds is no name.
        assert_eq!(parse(b"user:joe:r--:5"), Some(Parsed::Numbers(acl(&[(2, 4, 5)]))));
        for wrong in [b"user:99999999999:r--".as_slice(), b"user:joe:r--:x", b"user:joe:q", b"user:\xff:r"] {
            assert_eq!(parse(wrong), None, "{}", wrong.escape_ascii());
        }
        for (name, plain) in
            [("a\\134b", "a\\b"), ("a\\99", "a\\99"), ("\\777", "\\777"), ("\\377", "\\377"), ("\\", "\\")]
        {
            assert_eq!(super::unescaped(name), plain);
        }
    }

    #[test]
    fn anything_else_is_not_an_acl() {
        let good = acl(&[(1, 7, 0)]);
        assert!(to_text(&good).is_some());
        assert_eq!(to_text(&good[..good.len() - 1]), None);
        assert_eq!(to_text(&good[..4]), None);
        assert_eq!(to_text(&acl(&[(3, 7, 0)])), None);
        assert_eq!(to_text(&acl(&[(1, 8, 0)])), None);
        assert_eq!(to_text(&[3, 0, 0, 0]), None);
    }
}
