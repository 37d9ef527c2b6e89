//! Patterns for volume names.

use std::fmt;

use globset::{ErrorKind, GlobBuilder, GlobMatcher};

/// A glob that matches whole names: `volume-1` never matches `volume-10`; `volume-*` matches both. A pattern with a
/// slash (`cinder-volumes/volume-*`) is compared with `GROUP/VOLUME`. `*`, `?`, `[a-z]` and `{a,b}` work as in a
/// shell.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    matcher: GlobMatcher,
}

/// An invalid pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPattern {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// It is no valid glob.
    #[error("{0}")]
    Glob(ErrorKind),
}

impl Pattern {
    /// Compiles a pattern. Fails if it is empty or no valid glob.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() {
            return Err(BadPattern::Empty);
        }
        let glob = GlobBuilder::new(text).backslash_escape(true).build();
        let glob = glob.map_err(|error| BadPattern::Glob(error.kind().clone()))?;
        Ok(Self { text: text.to_owned(), matcher: glob.compile_matcher() })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches this volume of this group.
    pub fn matches(&self, group: &str, volume: &str) -> bool {
        if self.text.contains('/') {
            self.matcher.is_match(format!("{group}/{volume}"))
        } else {
            self.matcher.is_match(volume)
        }
    }

    /// Whether it is exactly the volume's name, without a wildcard.
    pub(super) fn names(&self, group: &str, volume: &str) -> bool {
        self.text == volume || self.text.split_once('/') == Some((group, volume))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_name_is_a_whole_name() {
        let one = Pattern::new("volume-1").unwrap();
        assert!(one.matches("g", "volume-1"));
        assert!(!one.matches("g", "volume-10"));
        assert!(!one.matches("g", "my-volume-1"));
    }

    #[test]
    fn wildcards_and_groups() {
        let matches = |pattern: &str, group: &str, volume: &str| Pattern::new(pattern).unwrap().matches(group, volume);
        assert!(matches("volume-*", "g", "volume-10"));
        assert!(matches("volume-0000001[0-9a]", "g", "volume-0000001a"));
        assert!(matches("{vol,volume}-1", "g", "vol-1"));
        assert!(matches("nova-volumes/*", "nova-volumes", "volume-1"));
        assert!(!matches("nova-volumes/*", "cinder-volumes", "volume-1"));
        assert!(!matches("nova*volume-1", "nova-volumes", "volume-1"));
        assert!(Pattern::new("volume-[").is_err());
    }
}
