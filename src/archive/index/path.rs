//! Paths in their escaped form in an index.

use crate::digits::parse_hex;
use crate::shown::hex;

/// Whether a path needs no escapes.
pub(super) fn is_plain_path(path: &[u8]) -> bool {
    path.iter().all(|byte| *byte != b'\\' && (0x20..0x7f).contains(byte))
}

/// Whether `text` is the escaped form of this path.
pub(super) fn is_escape_of(text: &[u8], path: &[u8]) -> bool {
    // Equal bytes are proof only if none of them belongs to an escape.
    if is_plain_path(text) { text == path } else { escape_path(path).as_bytes() == text }
}

/// Escapes a path for the index: `\xHH` for control characters, backslashes and bytes that are not UTF-8.
pub fn escape_path(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    let escape = |text: &mut String, byte: u8| {
        text.push_str("\\x");
        text.push_str(&hex(&[byte]));
    };
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escape(&mut text, byte));
            } else {
                text.push(character);
            }
        }
        chunk.invalid().iter().for_each(|byte| escape(&mut text, *byte));
    }
    text
}

/// Reverses [`escape_path`]; `None` if `text` is not in its canonical form.
pub fn unescape_path(text: &str) -> Option<Vec<u8>> {
    decode_path(text).filter(|path| is_escape_of(text.as_bytes(), path))
}

/// A path in which any byte may be written as `\xHH`; `None` if a backslash begins no such byte.
pub fn decode_path(text: &str) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        path.extend_from_slice(plain.as_bytes());
        let digits = escaped.strip_prefix('x')?.get(..2)?;
        path.extend_from_slice(&parse_hex::<1>(digits.as_bytes())?);
        rest = &escaped[3..];
    }
    path.extend_from_slice(rest.as_bytes());
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::{decode_path, escape_path, unescape_path};

    #[test]
    fn a_path_has_one_escaped_form() {
        for path in [b"./plain".as_slice(), b"a\\b", b"\xff\x00\n", "\u{85}\u{e9}".as_bytes()] {
            assert_eq!(unescape_path(&escape_path(path)).as_deref(), Some(path));
        }
        for wrong in ["\\x41", "\\x", "\\", "\\n", "\\xFF", "\\x0"] {
            assert_eq!(unescape_path(wrong), None, "{wrong}");
        }
        assert_eq!(decode_path("\\x41*\\x2a").as_deref(), Some(b"A**".as_slice()));
        assert_eq!(decode_path("\\n"), None);
    }
}
