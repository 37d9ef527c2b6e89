//! Answers in XML. Namespaces are not compared: stores differ in them.

use roxmltree::{Document, Node, ParsingOptions};

use crate::objects::wire::Refusal;
use crate::shown;

/// Elements of an answer; a page of a list has about 10,000.
const MOST_NODES: u32 = 200_000;

/// Reads an answer whose root is `root` with `read`.
pub(super) fn understood<T>(
    body: &[u8],
    root: &str,
    read: impl FnOnce(Node<'_, '_>) -> Result<T, String>,
) -> Result<T, String> {
    let text = str::from_utf8(body).map_err(|_| "it is not UTF-8".to_owned())?;
    let document = parsed(text)?;
    let found = document.root_element();
    if found.tag_name().name() != root {
        return Err(format!("it is a {} and no {root}", shown::text(found.tag_name().name())));
    }
    read(found)
}

/// The error in a body; `None` if it is no error of S3.
pub(super) fn refusal(body: &[u8]) -> Option<Refusal> {
    let text = str::from_utf8(body).ok()?;
    let document = parsed(text).ok()?;
    let root = document.root_element();
    if root.tag_name().name() != "Error" {
        return None;
    }
    let of = |name: &str| text_of(root, name).unwrap_or_default();
    Some(Refusal { code: of("Code"), message: of("Message") })
}

fn parsed(text: &str) -> Result<Document<'_>, String> {
    if is_too_deep(text) {
        return Err("its elements are nested too deep".to_owned());
    }
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    // While it works, a store may send spaces to keep the connection.
    Document::parse_with_options(text.trim_start(), options).map_err(|error| shown::text(&error.to_string()))
}

/// The parser calls itself for each level, and the stack has an end. Honest answers have five levels.
fn is_too_deep(text: &str) -> bool {
    let mut depth = 0_u32;
    let bytes = text.as_bytes();
    for at in memchr::memchr_iter(b'<', bytes) {
        match bytes.get(at + 1) {
            Some(b'/') => depth = depth.saturating_sub(1),
            Some(b'?' | b'!') => {}
            _ => {
                let rest = &bytes[at..];
                let end = memchr::memchr(b'>', rest).unwrap_or(rest.len());
                if end == 0 || rest.get(end - 1) != Some(&b'/') {
                    depth += 1;
                }
            }
        }
        if depth > 64 {
            return true;
        }
    }
    false
}

/// The children of this name.
pub(super) fn children<'a, 'input>(node: Node<'a, 'input>, name: &'a str) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.tag_name().name() == name)
}

/// The text of the child of this name; `None` if there is no such child.
pub(super) fn text_of(node: Node<'_, '_>, name: &str) -> Option<String> {
    Some(children(node, name).next()?.text().unwrap_or_default().trim().to_owned())
}

/// As [`text_of`], for a child that must be there.
pub(super) fn needed(node: Node<'_, '_>, name: &str) -> Result<String, String> {
    text_of(node, name).ok_or_else(|| format!("it has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::{needed, refusal, understood};

    #[test]
    fn an_error_is_found_in_any_namespace() {
        let body = br#"  <?xml version="1.0"?><Error xmlns="http://x"><Code>SlowDown</Code><Message>a
b</Message></Error>"#;
        let found = refusal(body).unwrap();
        assert_eq!((found.code.as_str(), found.message.as_str()), ("SlowDown", "a\nb"));
        assert!(refusal(b"<html><body>busy</body></html>").is_none() && refusal(b"").is_none());
    }

    #[test]
    fn hostile_answers_are_errors() {
        let deep = "<a>".repeat(200_000);
        let wide = format!("<a>{}</a>", "<b/>".repeat(300_000));
        let bomb = r#"<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>"#;
        let all = [deep.as_str(), &wide, bomb, "<a>", "<a></b>", "<b><x>1</x></b>", "", "<a><y/></a>", "\u{0}"];
        for text in all {
            assert!(understood(text.as_bytes(), "a", |node| needed(node, "x")).is_err(), "{text:.60}");
        }
        assert_eq!(understood(b"<a><x>1</x></a>", "a", |node| needed(node, "x")).unwrap(), "1");
    }
}
