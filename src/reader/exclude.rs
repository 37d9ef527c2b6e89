//! The user's exclude patterns.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// An invalid exclude pattern.
#[derive(Debug, thiserror::Error)]
#[error("the exclude pattern {pattern:?} cannot be used: {reason}")]
pub struct BadPattern {
    pattern: String,
    reason: String,
}

/// Patterns in the syntax of a `.gitignore` in the filesystem's root (gitignore(5)): `/var/cache` is that
/// directory, `*.o` any such name at any depth, `cache/` directories only, `!keep.o` an exception. Names are
/// matched as raw bytes.
#[derive(Clone, Debug)]
pub struct Excludes {
    patterns: Gitignore,
    lost_and_found: bool,
}

impl Excludes {
    /// Compiles `patterns`; a later one takes precedence. Without any, only the root's `lost+found` is excluded.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, BadPattern> {
        let mut builder = GitignoreBuilder::new("/");
        builder.allow_unclosed_class(false);
        for pattern in patterns.iter().map(AsRef::as_ref) {
            let bad = |reason: String| BadPattern { pattern: pattern.to_owned(), reason };
            if pattern.trim().is_empty() || pattern.starts_with('#') {
                return Err(bad("it would match nothing".to_owned()));
            }
            builder.add_line(None, pattern).map_err(|error| bad(error.to_string()))?;
        }
        let patterns =
            builder.build().map_err(|error| BadPattern { pattern: String::new(), reason: error.to_string() })?;
        Ok(Self { patterns, lost_and_found: true })
    }

    /// Excludes nothing, not even `lost+found`.
    pub fn nothing() -> Self {
        Self { patterns: Gitignore::empty(), lost_and_found: false }
    }

    /// Whether the entry at `path`, relative to the root, is excluded. Callers do not ask for entries below an
    /// excluded directory.
    pub fn leaves_out(&self, path: &[u8], is_directory: bool) -> bool {
        let matched = self.patterns.matched(Path::new(OsStr::from_bytes(path)), is_directory);
        matched.is_ignore() || (self.lost_and_found && is_directory && path == b"lost+found" && !matched.is_whitelist())
    }
}

#[cfg(test)]
mod tests {
    use super::Excludes;

    #[test]
    fn patterns_are_anchored_to_the_root() {
        let excludes = Excludes::new(&["/var/cache", "*.o", "!keep.o", "tmp/"]).unwrap();
        assert!(excludes.leaves_out(b"var/cache", true));
        assert!(!excludes.leaves_out(b"srv/var/cache", true));
        assert!(excludes.leaves_out(b"a/b/c.o", false));
        assert!(!excludes.leaves_out(b"a/keep.o", false));
        assert!(excludes.leaves_out(b"a/tmp", true));
        assert!(!excludes.leaves_out(b"a/tmp", false));
    }

    #[test]
    fn names_are_bytes() {
        let excludes = Excludes::new(&["a?.bin"]).unwrap();
        assert!(excludes.leaves_out(b"d\xff/a\xfe.bin", false));
        assert!(!excludes.leaves_out(b"d\xff/a\xfe\xfe.bin", false));
    }

    #[test]
    fn lost_and_found_is_left_out_in_the_root_alone() {
        let excludes = Excludes::new::<&str>(&[]).unwrap();
        assert!(excludes.leaves_out(b"lost+found", true));
        assert!(!excludes.leaves_out(b"lost+found", false));
        assert!(!excludes.leaves_out(b"srv/lost+found", true));
        assert!(!Excludes::new(&["!/lost+found"]).unwrap().leaves_out(b"lost+found", true));
        assert!(!Excludes::nothing().leaves_out(b"lost+found", true));
    }

    #[test]
    fn a_pattern_that_says_nothing_is_refused() {
        for pattern in ["", " ", "# comment", "[a"] {
            assert!(Excludes::new(&[pattern]).is_err(), "{pattern:?}");
        }
    }
}
