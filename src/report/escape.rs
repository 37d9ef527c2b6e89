//! Escapes hostile text: a volume's label, a file's path or a program's message may contain any character.

use crate::shown;
use std::fmt::Write;

/// A text inside HTML, in an element or a quoted attribute, on one line.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in shown::text(text).chars() {
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
    use super::html;

    #[test]
    fn html_holds_no_markup_of_others() {
        assert_eq!(html("<b a='x' c=\"y\">&amp;"), "&lt;b a=&#39;x&#39; c=&#34;y&#34;&gt;&amp;amp;");
    }
}
