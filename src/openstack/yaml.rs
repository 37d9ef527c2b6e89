//! The YAML of clouds.yaml, with anchors, aliases and merge keys (`<<`), as a tree of bounded size.
//!
//! A scalar stays text: a password of `0123` or `yes` is what is written, not a number or a truth.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// More than any clouds.yaml has. Copies made by aliases count: ten lines can name billions.
const MAX_NODES: usize = 100_000;
const MAX_DEPTH: usize = 64;

/// A node.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// `~`, or nothing.
    Null,
    /// A scalar as written.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping; a key that is no scalar is left out.
    Map(BTreeMap<String, Node>),
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Self::Map(map) => map.get(key),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Puts what `over` has on top, mapping by mapping: how secure.yaml is laid over clouds.yaml.
    pub(super) fn laid_over(&mut self, over: Node) {
        match (self, over) {
            (Self::Map(map), Self::Map(others)) => {
                for (key, other) in others {
                    match map.get_mut(&key) {
                        Some(own) => own.laid_over(other),
                        None => drop(map.insert(key, other)),
                    }
                }
            }
            (own, other) => *own = other,
        }
    }

    fn nodes(&self) -> usize {
        1 + match self {
            Self::Null | Self::Text(_) => 0,
            Self::List(list) => list.iter().map(Self::nodes).sum(),
            Self::Map(map) => map.values().map(Self::nodes).sum(),
        }
    }
}

/// The key whose value comes next.
enum Key {
    Awaited,
    Read(String),
    /// It is no scalar, and its value is left out.
    Odd,
}

/// What is being read.
enum Open {
    List { anchor: usize, list: Vec<Node> },
    Map { anchor: usize, map: BTreeMap<String, Node>, merged: Vec<Node>, key: Key },
}

struct Reader {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    anchored_nodes: usize,
    nodes: usize,
    root: Option<Node>,
}

/// The first document. The error says where, and never shows content, which may be a password.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut reader = Reader { open: Vec::new(), anchors: BTreeMap::new(), anchored_nodes: 0, nodes: 0, root: None };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker();
            format!("line {}, column {}: it is not valid YAML", at.line(), at.col() + 1)
        })?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        reader.take(event).map_err(|what| format!("line {}: {what}", span.start.line()))?;
    }
    Ok(reader.root.unwrap_or(Node::Null))
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                self.put(if is_null { Node::Null } else { Node::Text(text.into_owned()) }, anchor, 1)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).ok_or("an alias names what encloses it")?;
                let count = node.nodes();
                self.check(count)?;
                let copy = node.clone();
                self.put(copy, 0, count)
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::List { anchor, list: Vec::new() }),
            Event::MappingStart(anchor, _) => {
                self.begin(Open::Map { anchor, map: BTreeMap::new(), merged: Vec::new(), key: Key::Awaited })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { anchor, list }) => self.put(Node::List(list), anchor, 1),
                Some(Open::Map { anchor, mut map, merged, .. }) => {
                    // What is written in the mapping goes before what is merged into it, the first merged before the others.
                    for other in merged {
                        if let Node::Map(other) = other {
                            for (key, node) in other {
                                map.entry(key).or_insert(node);
                            }
                        }
                    }
                    self.put(Node::Map(map), anchor, 1)
                }
                None => Err("it ends what it did not begin".to_owned()),
            },
            _ => Ok(()),
        }
    }

    fn check(&self, more: usize) -> Result<(), String> {
        if self.nodes + self.anchored_nodes + more > MAX_NODES {
            return Err(format!("it has more than {MAX_NODES} values"));
        }
        Ok(())
    }

    fn begin(&mut self, open: Open) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} levels deep"));
        }
        self.open.push(open);
        Ok(())
    }

    fn put(&mut self, node: Node, anchor: usize, count: usize) -> Result<(), String> {
        self.check(count)?;
        self.nodes += count;
        if anchor != 0 {
            let copied = node.nodes();
            self.check(copied)?;
            self.anchored_nodes += copied;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { list, .. }) => list.push(node),
            Some(Open::Map { map, merged, key, .. }) => match std::mem::replace(key, Key::Awaited) {
                Key::Awaited => {
                    *key = match node {
                        Node::Text(text) => Key::Read(text),
                        _ => Key::Odd,
                    };
                }
                Key::Read(key) if key == "<<" => match node {
                    Node::List(list) => merged.extend(list),
                    node => merged.push(node),
                },
                Key::Read(key) => drop(map.insert(key, node)),
                Key::Odd => {}
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, parse};

    fn text<'a>(node: &'a Node, path: &[&str]) -> Option<&'a str> {
        path.iter().try_fold(node, |node, key| node.get(key))?.text()
    }

    #[test]
    fn anchors_merge_keys_and_scalars_are_read_as_written() {
        let node = parse(
            "clouds:\n  a: &cloud\n    auth: &auth {password: 0123, username: 'no', note: ~}\n    region_name: R\n  \
             b:\n    <<: *cloud\n    auth:\n      <<: [*auth, {extra: x}]\n      username: |\n        two\n        lines\n",
        )
        .unwrap();
        assert_eq!(text(&node, &["clouds", "a", "auth", "password"]), Some("0123"));
        assert_eq!(text(&node, &["clouds", "b", "auth", "password"]), Some("0123"));
        assert_eq!(text(&node, &["clouds", "b", "auth", "username"]), Some("two\nlines\n"));
        assert_eq!(text(&node, &["clouds", "b", "auth", "extra"]), Some("x"));
        assert_eq!(text(&node, &["clouds", "b", "region_name"]), Some("R"));
        assert!(node.get("clouds").unwrap().get("a").unwrap().get("auth").unwrap().get("note") == Some(&Node::Null));
    }

    #[test]
    fn what_grows_without_bound_is_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..12 {
            let names = vec![format!("*a{}", n - 1); 10].join(",");
            bomb.push_str(&format!("a{n}: &a{n} [{names}]\n"));
        }
        assert!(parse(&bomb).is_err_and(|what| what.contains("more than")));
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse("a: &a [*a]").is_err());
        for wrong in ["a: [", "\t- x", "a: b: c", "{", "]", "a: 'x", "&a", "*a", "? ?", "%YAML 9", "\u{0}"] {
            let _ = parse(wrong);
        }
        let error = parse("clouds:\n  a:\n    password: \"geheim\n").map(drop).unwrap_err();
        assert!(!error.contains("geheim"), "{error}");
    }

    #[test]
    fn one_is_laid_over_the_other() {
        let mut node = parse("clouds: {a: {auth: {username: u}, region_name: R}}").unwrap();
        node.laid_over(parse("clouds: {a: {auth: {password: p}}, c: {}}").unwrap());
        assert_eq!(text(&node, &["clouds", "a", "auth", "password"]), Some("p"));
        assert_eq!(text(&node, &["clouds", "a", "auth", "username"]), Some("u"));
        assert!(node.get("clouds").unwrap().get("c").is_some());
    }
}
