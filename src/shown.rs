//! Makes untrusted bytes and text safe for display. Tenants choose names of files, volume groups and labels, and
//! programs print any output. None of it may move a terminal's cursor, change the writing direction, be invisible,
//! or start a line of its own.
//!
//! This is for people. Data for programs has its own escaping: paths in the index, JSON.

use unicode_width::UnicodeWidthChar;

/// Escapes a name or path: a byte that is not UTF-8 becomes `\xHH`, a backslash is doubled, other characters as in
/// [`text`].
pub fn bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&text(&chunk.valid().replace('\\', "\\\\")));
        for byte in chunk.invalid() {
            shown.push_str("\\x");
            shown.push_str(&hex(&[*byte]));
        }
    }
    shown
}

/// A path below a root, never empty: the root itself is `/`.
pub fn path(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { bytes(path) }
}

/// Escapes text on one line: control characters and invisible ones are written out (`\n`, `\u{202e}`). Escaped text
/// is not changed.
pub fn text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unseen(character) { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown
}

/// Like [`text`], for several lines.
pub fn lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(self::text).collect();
    lines.join("\n")
}

/// Control characters, and Unicode characters that are invisible or reorder others.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The columns that text takes at a terminal: two for a character of an East Asian script, none for a combining one.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(character: char) -> usize {
    UnicodeWidthChar::width(character).unwrap_or(0)
}

/// Text with spaces up to this many columns.
pub fn padded(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(columns(text))))
}

/// The longest begin of a text that takes at most this many columns.
pub fn begin(text: &str, most: usize) -> &str {
    let mut taken = 0;
    let over = text.char_indices().find(|(_, character)| {
        taken += columns_of(*character);
        taken > most
    });
    &text[..over.map_or(text.len(), |(at, _)| at)]
}

/// Text in at most this many columns, with a mark where it is cut.
pub fn cut(text: &str, most: usize) -> String {
    if columns(text) <= most { text.to_owned() } else { format!("{}…", begin(text, most.saturating_sub(1))) }
}

/// The longest end of a text that takes at most this many columns.
pub fn end(text: &str, most: usize) -> &str {
    let mut ends = text.char_indices().map(|(at, _)| &text[at..]);
    ends.find(|end| columns(end) <= most).unwrap_or_default()
}

/// The end of a text in at most this many columns, with a mark where it is cut.
pub fn tail(text: &str, most: usize) -> String {
    if columns(text) <= most { text.to_owned() } else { format!("…{}", end(text, most.saturating_sub(1))) }
}

/// "1 problem", "2 problems".
pub fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// Formats bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_shown_on_one_line() {
        assert_eq!(super::bytes(b"a\nb\x1b[31m\xffc\\"), "a\\nb\\u{1b}[31m\\xffc\\\\");
        assert_eq!(super::path("größe".as_bytes()), "größe");
        assert_eq!(super::path(b""), "/");
    }

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(super::text("\u{1b}[31mred\u{202e}"), "\\u{1b}[31mred\\u{202e}");
        assert_eq!(super::text("a\u{200b}b\u{feff}\u{ad}\u{85}"), "a\\u{200b}b\\u{feff}\\u{ad}\\u{85}");
        for text in ["a\nb", "\u{2066}x", "plain \\n", "\u{9b}2J"] {
            let once = super::text(text);
            assert!(!once.contains('\n') && super::text(&once) == once);
        }
        assert_eq!(super::lines("a\u{7}\nb\n"), "a\\u{7}\nb\n");
    }

    #[test]
    fn wide_and_combining_characters_take_the_columns_of_a_terminal() {
        use super::{begin, columns, cut, padded, tail};
        assert_eq!(["web", "データ", "e\u{301}", ""].map(columns), [3, 6, 1, 0]);
        assert_eq!(padded("データ", 8), "データ  ");
        assert_eq!(
            (cut("データ", 6), cut("データ", 5), cut("データ", 4)),
            ("データ".into(), "デー…".into(), "デ…".into())
        );
        assert_eq!((begin("e\u{301}x", 1), begin("データ", 0)), ("e\u{301}", ""));
        assert_eq!(
            (tail("データ", 6), tail("データ", 5), tail("データ", 4)),
            ("データ".into(), "…ータ".into(), "…タ".into())
        );
        assert_eq!((tail("abc", 1), tail("abc", 0)), ("…".into(), "…".into()));
    }

    #[test]
    fn digits_are_lower_case() {
        assert_eq!(super::hex(&[0, 0x9f, 0xff]), "009fff");
    }
}
