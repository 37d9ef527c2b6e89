//! Selects the entries to restore.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::archive::index::decode_path;

/// An invalid pattern.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {pattern:?} cannot be used: {reason}")]
pub struct BadPattern {
    pattern: String,
    reason: String,
}

/// A part of an archive that goes into a filesystem of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The directory of the archive that becomes the root, without `./`; empty for the archive's own root.
    pub below: Vec<u8>,
    /// Entries of the archive that do not belong to it, without `./`.
    pub except: Vec<Vec<u8>>,
}

impl Part {
    fn is_everything(&self) -> bool {
        self.below.is_empty() && self.except.is_empty()
    }

    /// Whether the entry with this path belongs to it: `path` as in the archive, without `./`.
    pub(super) fn has(&self, path: &[u8], is_directory: bool) -> bool {
        // Version 0fec752 could give an image the name of a directory beside it.
        let inside = self.below.is_empty() || (is_directory && path == self.below) || is_below(path, &self.below);
        inside && !self.except.iter().any(|other| other == path)
    }
}

/// The directory of an archive in which patterns are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// The directory, without `./`; empty for the archive's root.
    pub below: Vec<u8>,
    /// The names in the archive's root: a pattern that begins with one of them is looked up in the root.
    pub top_names: Vec<Vec<u8>>,
}

impl Base {
    /// The part of `path` below the directory, if it is below it; `path` without `./`.
    pub(crate) fn inside<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        path.strip_prefix(self.below.as_slice())?.strip_prefix(b"/")
    }
}

/// Patterns of paths. Each selects the entry with exactly that path and everything below; one with `*`, `?` or `[`
/// also selects its matches in the sense of gitignore(5), from the archive's root.
#[derive(Debug, Default)]
pub struct Selection {
    patterns: Vec<Pattern>,
    part: Part,
}

#[derive(Debug)]
struct Pattern {
    shown: String,
    /// The directory in which the pattern is looked up; empty for the archive's root.
    below: Vec<u8>,
    /// Paths from the archive's root.
    literals: Vec<Vec<u8>>,
    /// Compared with paths from `below`.
    glob: Option<Gitignore>,
    matched: AtomicU64,
}

impl Selection {
    /// Compiles `patterns` as typed; a leading `/` or `./` is ignored, and `\xHH` is a byte, as in the index: `\x2a` is a
    /// star in a name. Without any, everything is selected.
    pub fn new(patterns: &[String]) -> Result<Self, BadPattern> {
        Self::from(&Base::default(), patterns)
    }

    /// As [`Self::new`], with paths that start at `base`.
    pub fn from(base: &Base, patterns: &[String]) -> Result<Self, BadPattern> {
        let patterns = patterns.iter().map(|text| Pattern::new(base, text)).collect::<Result<_, _>>()?;
        Ok(Self { patterns, part: Part::default() })
    }

    /// Limits the selection to the entries of `part`.
    #[must_use]
    pub fn within(mut self, part: &Part) -> Self {
        self.part = part.clone();
        self
    }

    /// Whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.patterns.is_empty() && self.part.is_everything()
    }

    /// Whether the entry with this path in the archive is selected.
    pub fn wants(&self, path: &[u8], is_directory: bool) -> bool {
        let path = plain(path);
        if !self.part.has(path, is_directory) || self.patterns.is_empty() {
            return self.part.has(path, is_directory);
        }
        let mut wanted = false;
        for pattern in &self.patterns {
            if pattern.matches(path, is_directory) {
                pattern.matched.fetch_add(1, Ordering::Relaxed);
                wanted = true;
            }
        }
        wanted
    }

    /// Whether this directory leads to a literally named path, so that its attributes are needed too.
    pub fn leads_to(&self, path: &[u8]) -> bool {
        let path = plain(path);
        let above = |literal: &Vec<u8>| path.is_empty() || is_below(literal, path);
        self.part.has(path, true) && self.patterns.iter().any(|pattern| pattern.literals.iter().any(above))
    }

    /// Whether a pattern names exactly this path, without globs.
    pub fn names(&self, path: &[u8]) -> bool {
        let path = plain(path);
        self.patterns.iter().any(|pattern| pattern.literals.iter().any(|literal| literal == path))
    }

    /// The path of the first pattern from the archive's root, globs left aside.
    pub(crate) fn path(&self) -> &[u8] {
        self.patterns.first().and_then(|pattern| pattern.literals.first()).map_or(b"", Vec::as_slice)
    }

    /// The patterns without a match.
    pub fn unmatched(&self) -> Vec<String> {
        let never = |pattern: &&Pattern| pattern.matched.load(Ordering::Relaxed) == 0;
        self.patterns.iter().filter(never).map(|pattern| pattern.shown.clone()).collect()
    }
}

impl Pattern {
    fn new(base: &Base, text: &str) -> Result<Self, BadPattern> {
        let bad = |reason: &str| BadPattern { pattern: text.to_owned(), reason: reason.to_owned() };
        let literal = plain(text.as_bytes()).to_vec();
        if literal.split(|byte| *byte == b'/').any(|part| part == b"..") {
            return Err(bad("`..` leads out of the archive"));
        }
        let mut literals = vec![literal];
        literals.extend(decode_path(text).map(|path| plain(&path).to_vec()));
        let below = if literals.iter().any(|path| is_at_top(path, &base.top_names)) {
            Vec::new()
        } else {
            literals = literals.iter().map(|path| joined(&base.below, path)).collect();
            base.below.clone()
        };
        let glob = if text.contains(['*', '?', '[']) {
            let mut builder = GitignoreBuilder::new("/");
            let anchored = format!("/{}", text.trim_start_matches("./").trim_start_matches('/'));
            builder.add_line(None, &anchored).map_err(|error| bad(&error.to_string()))?;
            Some(builder.build().map_err(|error| bad(&error.to_string()))?)
        } else {
            None
        };
        Ok(Self { shown: text.to_owned(), below, literals, glob, matched: AtomicU64::new(0) })
    }

    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let literally = |literal: &Vec<u8>| literal.is_empty() || path == literal.as_slice() || is_below(path, literal);
        self.literals.iter().any(literally)
            || self.glob.as_ref().is_some_and(|glob| {
                let Some(path) = path_below(path, &self.below) else { return false };
                let path = Path::new(OsStr::from_bytes(path));
                !path.has_root() && glob.matched_path_or_any_parents(path, is_directory).is_ignore()
            })
    }
}

/// Removes a leading `./` or `/` and a trailing `/`.
pub fn plain(mut path: &[u8]) -> &[u8] {
    loop {
        path = match path {
            [b'.', b'/', rest @ ..] | [b'/', rest @ ..] | [rest @ .., b'/'] => rest,
            b"." => b"",
            _ => return path,
        };
    }
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// The part of `path` that follows `directory`. `None` if it is not in that directory.
fn path_below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    if directory.is_empty() { Some(path) } else { path.strip_prefix(directory)?.strip_prefix(b"/") }
}

fn joined(directory: &[u8], path: &[u8]) -> Vec<u8> {
    match (directory, path) {
        (b"", path) => path.to_vec(),
        (directory, b"") => directory.to_vec(),
        (directory, path) => [directory, b"/", path].concat(),
    }
}

/// Whether a path begins with a name in the archive's root, or is the root itself.
fn is_at_top(path: &[u8], top_names: &[Vec<u8>]) -> bool {
    let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    first.is_empty() && !top_names.is_empty() || top_names.iter().any(|name| name == first)
}

#[cfg(test)]
mod tests {
    use super::{Base, Part, Selection};

    #[test]
    fn a_path_stands_for_itself_and_what_is_in_it() {
        let selection = Selection::new(&["/etc/ssh/".to_owned(), "./a\\xffb".to_owned()]).unwrap();
        assert!(selection.wants(b"./etc/ssh", true));
        assert!(selection.wants(b"./etc/ssh/sshd_config", false));
        assert!(!selection.wants(b"./etc/sshd", false));
        assert!(selection.wants(b"./a\xffb", false));
        assert!(selection.leads_to(b"./etc/") && selection.leads_to(b"./") && !selection.leads_to(b"./var"));
        assert!(selection.unmatched().is_empty());
    }

    #[test]
    fn a_name_with_the_characters_of_patterns_can_be_written() {
        let selection = Selection::new(&["we\\x5bi\\x5drd\\x2a".to_owned()]).unwrap();
        assert!(selection.wants(b"./we[i]rd*", true) && selection.wants(b"./we[i]rd*/file", false));
        assert!(!selection.wants(b"./weirdo", false) && !selection.wants(b"./weird", false));
    }

    #[test]
    fn a_part_is_what_lies_in_it() {
        let part = |below: &str, except: &[&str]| {
            let except = except.iter().map(|path| path.as_bytes().to_vec()).collect();
            Selection::new(&[]).unwrap().within(&Part { below: below.into(), except })
        };
        let first = part("p1", &[]);
        assert!(first.wants(b"./p1/", true) && first.wants(b"./p1/etc", true));
        assert!(!first.wants(b"./p10/etc", true) && !first.wants(b"./", true) && !first.is_everything());
        // An image to which an older version gave the name of the directory.
        assert!(!first.wants(b"./p1", false));
        let root = part("", &["p2.img"]);
        assert!(root.wants(b"./etc", true) && root.wants(b"./etc/p2.img", false) && !root.wants(b"./p2.img", false));
        assert!(part("", &[]).is_everything());
    }

    #[test]
    fn paths_start_at_the_base_unless_they_begin_with_a_name_in_the_root() {
        let base = Base { below: b"p2".to_vec(), top_names: vec![b"p1.img".to_vec(), b"p2".to_vec()] };
        let select = |text: &str| Selection::from(&base, &[text.to_owned()]).unwrap();
        let wants = |text: &str, path: &str| select(text).wants(path.as_bytes(), false);
        assert!(wants("etc/hosts", "./p2/etc/hosts") && wants("/etc", "./p2/etc/x") && !wants("etc", "./etc/hosts"));
        assert!(wants("p2/etc", "./p2/etc/hosts") && !wants("p2/etc", "./p2/p2/etc/hosts"));
        assert!(
            wants("var/*.gz", "./p2/var/a.gz")
                && !wants("var/*.gz", "./var/a.gz")
                && !wants("var/*.gz", "./p2x/var/a.gz")
        );
        assert!(wants("p1.img", "./p1.img") && !wants("p1*", "./p1.img") && wants("p1*", "./p2/p10"));
        assert!(wants("", "./p1.img") && wants(".", "./p2/etc"));
        assert!(
            select("etc/hosts").leads_to(b"./p2/etc")
                && select("etc/hosts").leads_to(b"./p2")
                && select("etc").leads_to(b"./")
        );
        assert!(select("etc/hosts").names(b"./p2/etc/hosts"));
        // A region's own root, whatever its files are called.
        let region = Base { below: b"p2".to_vec(), top_names: Vec::new() };
        let select = |text: &str| Selection::from(&region, &[text.to_owned()]).unwrap();
        assert!(select("p2/etc").wants(b"./p2/p2/etc", true) && !select("p2/etc").wants(b"./p2/etc", true));
        assert!(select("").wants(b"./p2/etc", true) && !select("").wants(b"./p1.img", false));
    }

    #[test]
    fn globs_are_anchored_and_names_that_look_like_one_are_found() {
        let selection = Selection::new(&["var/log/*.gz".to_owned(), "a[1]".to_owned()]).unwrap();
        assert!(selection.wants(b"./var/log/x.gz", false));
        assert!(!selection.wants(b"./srv/var/log/x.gz", false));
        assert!(selection.wants(b"./a[1]", false) && selection.wants(b"./a1", false));
        let unmatched = Selection::new(&["x*".to_owned(), "y".to_owned()]).unwrap();
        assert!(!unmatched.wants(b"./a", false));
        assert_eq!(unmatched.unmatched(), ["x*", "y"]);
        assert!(Selection::new(&["../etc".to_owned()]).is_err());
    }
}
