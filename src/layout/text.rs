//! Text from a tenant, made safe to keep and to show. Nothing is dropped: unprintable bytes are escaped, and a
//! backslash is doubled, so that escapes are unambiguous.

use std::fmt::Write as _;

/// Converts bytes to text: UTF-8 is kept, any other byte becomes `\xNN`, a backslash is doubled.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A label in a field of fixed length: up to the first NUL, without trailing spaces; `None` if empty.
pub(super) fn label(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    // The end is an offset inside the field, or its length.
    let trimmed = field[..end].trim_ascii_end();
    (!trimmed.is_empty()).then(|| escaped(trimmed))
}

/// Decodes little-endian UTF-16 up to the first NUL. A lone surrogate becomes `\u{NNNN}`.
pub(super) fn utf16le(field: &[u8]) -> String {
    let units = field.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).take_while(|unit| *unit != 0);
    let mut text = String::new();
    for decoded in char::decode_utf16(units) {
        match decoded {
            Ok('\\') => text.push_str("\\\\"),
            Ok(character) => text.push(character),
            Err(lone) => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{{{:04x}}}", lone.unpaired_surrogate());
            }
        }
    }
    text
}

/// A tenant's name as part of a path component: letters, digits and `+_.-` are kept, any other byte becomes `%NN`.
/// At most `max_bytes` long.
pub(super) fn path_safe(name: &str, max_bytes: usize) -> String {
    let mut safe = String::new();
    for byte in name.bytes() {
        let piece = if byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        };
        if safe.len() + piece.len() > max_bytes {
            break;
        }
        safe.push_str(&piece);
    }
    safe
}

/// The names of the bits that are set.
pub(super) fn names_of<'a>(bits: u64, names: &'a [(u64, &'a str)]) -> impl Iterator<Item = String> + 'a {
    names.iter().filter(move |(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned())
}

/// The names of the set bits; an unnamed bit is shown as its number in `field`.
pub(super) fn names_of_all(field: &str, bits: u64, names: &[(u64, &str)], known_elsewhere: u64) -> Vec<String> {
    let named = names.iter().fold(known_elsewhere, |all, (bit, _)| all | bit);
    let unnamed = (0..u64::BITS).map(|shift| 1 << shift).filter(|bit| bits & bit & !named != 0);
    names_of(bits, names).chain(unnamed.map(|bit: u64| format!("{field}-{bit:#x}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::{escaped, label, path_safe, utf16le};

    #[test]
    fn bytes_that_are_not_utf8_are_escaped_and_backslashes_doubled() {
        assert_eq!(escaped("größe".as_bytes()), "größe");
        assert_eq!(escaped(b"a\xff\\b"), "a\\xff\\\\b");
    }

    #[test]
    fn labels_end_at_nul_and_lose_their_padding() {
        assert_eq!(label(b"BOOT       ").as_deref(), Some("BOOT"));
        assert_eq!(label(b"a b\0junk").as_deref(), Some("a b"));
        assert_eq!(label(&[0; 16]), None);
    }

    #[test]
    fn a_lone_surrogate_is_kept() {
        assert_eq!(utf16le(&[b'a', 0, 0x00, 0xd8, b'b', 0, 0, 0, b'c', 0]), "a\\u{d800}b");
    }

    #[test]
    fn path_components_stay_one_component() {
        assert_eq!(path_safe("../etc\n", 100), "..%2Fetc%0A");
        assert_eq!(path_safe("aaaa/", 5), "aaaa");
    }
}
