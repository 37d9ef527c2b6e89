//! Patterns of paths over many backups, in the sense of `find -name` and `find -path`.

use std::path::Path;
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use globset::{GlobBuilder, GlobMatcher};

use crate::archive::index::unescape_path;
use crate::run::restore::select::{Base, plain};

/// A pattern that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {pattern:?} cannot be used: {reason}")]
pub struct BadFindPattern {
    pattern: String,
    reason: String,
}

/// What a path must be. A pattern without `/` is compared with the name of an entry, one with `/` with its path: from the
/// root of the archive, and, where one filesystem of the backup has files, from the root of that filesystem.
#[derive(Clone, Debug)]
pub struct PathPattern {
    glob: Option<GlobMatcher>,
    /// The exact paths, without `./`; empty for a glob.
    exact: Vec<Vec<u8>>,
    is_name: bool,
    /// Bytes that are in each matching path, escaped or not; empty without such.
    needle: Vec<u8>,
}

impl PathPattern {
    /// A glob: `*` and `?` do not match a `/`, `**` does; `[a-z]` and `{one,two}` are alternatives.
    pub fn glob(text: &str, ignore_case: bool) -> Result<Self, BadFindPattern> {
        let bad = |reason: String| BadFindPattern { pattern: text.to_owned(), reason };
        let wanted = std::str::from_utf8(plain(text.as_bytes())).unwrap_or(text);
        if wanted.is_empty() {
            return Err(bad("it matches nothing".to_owned()));
        }
        let mut builder = GlobBuilder::new(wanted);
        builder.literal_separator(true).case_insensitive(ignore_case).backslash_escape(true);
        let glob = builder.build().map_err(|error| bad(error.kind().to_string()))?;
        let needle = if ignore_case { Vec::new() } else { longest_literal(wanted) };
        // `/name` is the entry of that name in the root.
        let is_name = !text.contains('/');
        Ok(Self { glob: Some(glob.compile_matcher()), exact: Vec::new(), is_name, needle })
    }

    /// Exactly this path, as typed, or with bytes written as `\xHH` as in the index.
    pub fn exact(text: &str) -> Self {
        let typed = plain(text.as_bytes()).to_vec();
        let needle = longest(typed.split(|byte| !is_itself(*byte)));
        let mut exact = vec![typed];
        exact.extend(unescape_path(text).map(|path| plain(&path).to_vec()));
        exact.dedup();
        // As `\xHH` the same path has other bytes than as typed.
        let needle = if exact.len() > 1 { Vec::new() } else { needle };
        Self { glob: None, exact, is_name: false, needle }
    }

    /// Bytes that are in the index line of each matching path.
    pub(super) fn needle(&self) -> &[u8] {
        &self.needle
    }

    /// Whether the entry with this path in the archive matches.
    pub(super) fn matches(&self, path: &[u8], base: &Base) -> bool {
        let path = plain(path);
        if self.is_name {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            return self.is(name);
        }
        self.is(path) || base.inside(path).is_some_and(|inside| self.is(inside))
    }

    fn is(&self, text: &[u8]) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(Path::new(OsStr::from_bytes(text))),
            None => self.exact.iter().any(|exact| exact == text),
        }
    }
}

/// Whether a byte of a path is the same byte in the index, and means itself in a glob.
fn is_itself(byte: u8) -> bool {
    (byte.is_ascii_graphic() || byte == b' ') && byte != b'\\'
}

/// The longest run of bytes that each match of the glob has.
fn longest_literal(glob: &str) -> Vec<u8> {
    let mut runs = vec![Vec::new()];
    let mut depth = 0_u32;
    let mut bytes = glob.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            // What is inside alternatives need not be in a match.
            b'[' => {
                runs.push(Vec::new());
                // `]` as the first of a class, also after its `!`, is a member of it.
                let negated = matches!(bytes.clone().next(), Some(b'!' | b'^'));
                let end = bytes.clone().skip(usize::from(negated) + 1).position(|byte| byte == b']');
                let end = end.map(|at| at + usize::from(negated) + 1);
                match end {
                    Some(at) => {
                        let _ = bytes.nth(at);
                    }
                    None => return Vec::new(),
                }
            }
            b'{' => {
                depth += 1;
                runs.push(Vec::new());
            }
            b'}' => {
                depth = depth.saturating_sub(1);
                runs.push(Vec::new());
            }
            b'\\' => {
                let _ = bytes.next();
                runs.push(Vec::new());
            }
            // `**/` may match nothing, also without its slash.
            b'*' | b'?' | b'/' => runs.push(Vec::new()),
            _ if depth == 0 && is_itself(byte) => {
                if let Some(run) = runs.last_mut() {
                    run.push(byte);
                }
            }
            _ => runs.push(Vec::new()),
        }
    }
    longest(runs.iter().map(Vec::as_slice))
}

fn longest<'a>(runs: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    runs.max_by_key(|run| run.len()).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::{PathPattern, longest_literal};
    use crate::run::restore::select::Base;

    fn matches(pattern: &PathPattern, path: &str) -> bool {
        let base = Base { below: b"p2".to_vec(), top_names: vec![b"p2".to_vec()] };
        let found = pattern.matches(path.as_bytes(), &base);
        assert!(
            !found || memchr::memmem::find(path.as_bytes(), pattern.needle()).is_some(),
            "{path} is searched for with {:?}",
            pattern.needle()
        );
        found
    }

    #[test]
    fn a_name_is_found_at_any_depth_and_a_path_from_a_root() {
        let glob = |text| PathPattern::glob(text, false).unwrap();
        for (pattern, path, right) in [
            ("hosts", "./p2/etc/hosts", true),
            ("hosts", "./p2/etc/hosts.allow", false),
            ("hosts", "./hosts", true),
            ("*.conf", "./p2/etc/nginx/nginx.conf", true),
            ("*.conf", "./p2/etc/conf", false),
            ("/etc/hosts", "./p2/etc/hosts", true),
            ("etc/hosts", "./p2/etc/hosts", true),
            ("p2/etc/hosts", "./p2/etc/hosts", true),
            ("etc/hosts", "./p2/old/etc/hosts", false),
            ("**/etc/hosts", "./p2/old/etc/hosts", true),
            ("**/hosts", "./hosts", true),
            ("etc/*/x", "./p2/etc/a/x", true),
            ("etc/*/x", "./p2/etc/a/b/x", false),
            ("etc/**/x", "./p2/etc/a/b/x", true),
            ("etc/**/x", "./p2/etc/x", true),
            ("{passwd,shadow}-", "./p2/etc/shadow-", true),
            ("rep[o]rt[]x]", "./report]", true),
            ("[!a]b", "./ab", false),
            ("[!]]b", "./xb", true),
            (r"a\*b", "./a*b", true),
            (r"a\*b", "./aab", false),
            ("/p2", "./p2", true),
            ("/hosts", "./p2/etc/hosts", false),
        ] {
            assert_eq!(matches(&glob(pattern), path), right, "{pattern} {path}");
        }
        assert!(matches(&PathPattern::glob("README*", true).unwrap(), "./a/readme.md"));
        let exact = |text| PathPattern::exact(text);
        assert!(matches(&exact("/etc/[a]"), "./p2/etc/[a]"));
        assert!(!matches(&exact("etc"), "./p2/etc/hosts"));
        assert!(exact(r"a\x09b").matches(b"./a\tb", &Base::default()));
        assert!(PathPattern::glob("a[", false).is_err());
        assert!(PathPattern::glob("/", false).is_err());
    }

    #[test]
    fn the_longest_literal_is_in_every_match() {
        for (glob, needle) in [
            ("*.conf", ".conf"),
            ("etc/{passwd,shadow}*", "etc"),
            ("a[bcd]efg", "efg"),
            ("a[]bcd]efg", "efg"),
            ("**", ""),
            ("[abc", ""),
            (r"long\-nam", "long"),
            ("\u{e9}t\u{e9}.txt", ".txt"),
        ] {
            assert_eq!(longest_literal(glob), needle.as_bytes(), "{glob}");
        }
    }
}
