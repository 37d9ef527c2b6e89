//! The language of LVM2's text metadata (lvm.conf(5), "SYNTAX"): sections of assignments, values that are numbers,
//! strings or arrays, comments from `#`. Depth and number of tokens are bounded, and so is memory.

/// LVM nests four levels deep.
const DEPTH_MAX: usize = 8;
/// The maximum number of values and sections in a text.
const NODES_MAX: usize = 400_000;

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// `key { … }`
    Section(Section),
    /// `key = 12`
    Number(i64),
    /// `key = "text"`
    Text(String),
    /// `key = [ … ]`, of numbers and strings.
    List(Vec<Node>),
}

/// Assignments and sections in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) entries: Vec<(String, Node)>,
}

impl Section {
    /// The first entry with that key, like LVM.
    fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Node::Number(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> Option<&[Node]> {
        match self.get(key)? {
            Node::List(list) => Some(list),
            _ => None,
        }
    }

    pub(super) fn section(&self, key: &str) -> Option<&Section> {
        match self.get(key)? {
            Node::Section(section) => Some(section),
            _ => None,
        }
    }

    /// The sections in it with their keys.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.entries.iter().filter_map(|(key, node)| match node {
            Node::Section(section) => Some((key.as_str(), section)),
            _ => None,
        })
    }
}

/// Where and why a text is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) at_byte: usize,
    pub(super) what: &'static str,
}

/// Parses a whole text. Its top level is a section without a name.
pub(super) fn parse(text: &[u8]) -> Result<Section, SyntaxError> {
    let mut parser = Parser { text, at: 0, nodes: 0 };
    let section = parser.section_body(0)?;
    if parser.peek().is_some() { Err(parser.error("a closing brace too many")) } else { Ok(section) }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    nodes: usize,
}

impl Parser<'_> {
    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { at_byte: self.at, what }
    }

    /// The next byte outside blanks and comments.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at)? {
                byte if byte.is_ascii_whitespace() => self.at += 1,
                b'#' => {
                    while self.text.get(self.at).is_some_and(|byte| *byte != b'\n') {
                        self.at += 1;
                    }
                }
                byte => return Some(*byte),
            }
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), SyntaxError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.error(what))
        }
    }

    fn count_node(&mut self) -> Result<(), SyntaxError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX { Err(self.error("too many values")) } else { Ok(()) }
    }

    /// Parses entries up to a closing brace, which is not consumed, or the end.
    fn section_body(&mut self, depth: usize) -> Result<Section, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(self.error("sections too deep"));
        }
        let mut section = Section::default();
        while let Some(byte) = self.peek() {
            if byte == b'}' {
                break;
            }
            self.count_node()?;
            let key = self.key()?;
            let node = match self.peek() {
                Some(b'=') => {
                    self.at += 1;
                    self.value(true)?
                }
                Some(b'{') => {
                    self.at += 1;
                    let body = self.section_body(depth + 1)?;
                    self.expect(b'}', "a section without its end")?;
                    Node::Section(body)
                }
                _ => return Err(self.error("neither a value nor a section after a key")),
            };
            section.entries.push((key, node));
        }
        Ok(section)
    }

    /// Parses a bare word, or a quoted one if it has other characters.
    fn key(&mut self) -> Result<String, SyntaxError> {
        if self.peek() == Some(b'"') {
            return self.quoted();
        }
        let start = self.at;
        while self.text.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-.+/@".contains(byte)) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error("no key where one should be"));
        }
        // The bytes are ASCII, by the test above.
        Ok(String::from_utf8_lossy(&self.text[start..self.at]).into_owned())
    }

    fn value(&mut self, list_allowed: bool) -> Result<Node, SyntaxError> {
        self.count_node()?;
        match self.peek() {
            Some(b'"') => self.quoted().map(Node::Text),
            Some(b'[') if list_allowed => {
                self.at += 1;
                let mut list = Vec::new();
                while self.peek() != Some(b']') {
                    list.push(self.value(false)?);
                    match self.peek() {
                        Some(b',') => self.at += 1,
                        Some(b']') => {}
                        _ => return Err(self.error("an array without its end")),
                    }
                }
                self.at += 1;
                Ok(Node::List(list))
            }
            _ => self.number().map(Node::Number),
        }
    }

    fn number(&mut self) -> Result<i64, SyntaxError> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|byte| byte.is_ascii_digit() || b"+-.".contains(byte)) {
            self.at += 1;
        }
        let digits = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        // The language allows fractions; no field read here uses them. Only the integer part is kept.
        let whole = digits.split('.').next().unwrap_or_default();
        whole.parse().map_err(|_| SyntaxError { at_byte: start, what: "no value that is known" })
    }

    /// Parses a string; a backslash escapes `"` and `\`.
    fn quoted(&mut self) -> Result<String, SyntaxError> {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            match self.text.get(self.at) {
                None => return Err(self.error("a string without its end")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
                Some(b'\\') if matches!(self.text.get(self.at + 1), Some(b'"' | b'\\')) => {
                    bytes.push(self.text[self.at + 1]);
                    self.at += 2;
                }
                Some(byte) => {
                    bytes.push(*byte);
                    self.at += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, parse};

    #[test]
    fn sections_values_arrays_and_comments_are_read() {
        let text = b"# c\nvg { id = \"a\\\"b\" # x\n n = -3\n f=1.5 l = [ \"p\", 0 ]\n e = []\n s{ k=1 } }\ntop=2";
        let top = parse(text).expect("sound");
        let vg = top.section("vg").expect("there");
        assert_eq!(vg.text("id"), Some("a\"b"));
        assert_eq!(vg.number("n"), None);
        assert_eq!(vg.number("f"), Some(1));
        assert_eq!(vg.list("l"), Some(&[Node::Text("p".into()), Node::Number(0)][..]));
        assert_eq!(vg.list("e"), Some(&[][..]));
        assert_eq!(vg.section("s").and_then(|section| section.number("k")), Some(1));
        assert_eq!(top.number("top"), Some(2));
    }

    #[test]
    fn invalid_text_is_reported() {
        let broken = [
            "a",
            "a =",
            "a = [",
            "a = [1",
            "a = [1 2]",
            "a = [[1]]",
            "a {",
            "a { b = 1",
            "}",
            "a = \"x",
            "= 1",
            "a = x",
            "a = 99999999999999999999",
            "{",
            "a = --",
        ];
        for text in broken {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        assert_eq!(parse("a{".repeat(100_000).as_bytes()).expect_err("deep").what, "sections too deep");
        assert_eq!(parse("a=1 ".repeat(400_000).as_bytes()).expect_err("many").what, "too many values");
        assert_eq!(
            parse(format!("a=[{}]", "1,".repeat(500_000)).as_bytes()).expect_err("many").what,
            "too many values"
        );
    }
}
