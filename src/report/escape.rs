//! Makes hostile names harmless: a volume's label, a file's path or a program's message may hold anything.

use std::fmt::Write;

/// Keeps a text on its one line, and everything in it visible: control characters and those that turn the writing
/// direction are written out (`\n`, `\u{202e}`).
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        let turns =
            matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let ends_line = matches!(c, '\u{2028}' | '\u{2029}');
        if c.is_control() || turns || ends_line {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// A text inside HTML, in an element or a quoted attribute, on one line.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' | '\'' => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{html, one_line};

    #[test]
    fn lines_stay_one_line() {
        assert_eq!(one_line("a\nb\r\tc\u{7f}"), "a\\nb\\r\\tc\\u{7f}");
        assert_eq!(one_line("gnp.\u{202e}exe"), "gnp.\\u{202e}exe");
        assert_eq!(one_line("café 日本"), "café 日本");
    }

    #[test]
    fn html_holds_no_markup_of_others() {
        assert_eq!(html("<b a='x' c=\"y\">&amp;"), "&lt;b a=&#39;x&#39; c=&#34;y&#34;&gt;&amp;amp;");
    }
}
