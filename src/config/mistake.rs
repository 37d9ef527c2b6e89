//! A mistake in a config: what, where, and the correction.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::outside::trust::Changeable;

/// The place of a mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// A place in the file; line and column count from 1, columns in characters.
    File {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A missing key has no place.
    Nowhere,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { line, column } => write!(f, "line {line}, column {column}"),
            Self::Environment(name) => write!(f, "environment, {name}"),
            Self::Nowhere => f.write_str("missing"),
        }
    }
}

/// One mistake in a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The place.
    pub place: Location,
    /// What is wrong.
    pub what: String,
    /// The correction.
    pub right: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if self.right.is_empty() { Ok(()) } else { write!(f, "; {}", self.right) }
    }
}

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: the config cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Other users can change it, and it names programs that root runs or files with secrets.
    #[error("{}: the config is refused, since it {} and {changeable}", path.display(), powers.join(", "))]
    Changeable {
        /// The config.
        path: PathBuf,
        /// What it lets this process do (`runs hooks`).
        powers: Vec<&'static str>,
        /// Who can change it, and how to prevent that.
        changeable: Changeable,
    },
    /// It has mistakes: all of them, in the order of the file.
    #[error("{}", listed(path.as_ref(), mistakes))]
    Wrong {
        /// The file, if it came from one.
        path: Option<PathBuf>,
        /// At least one.
        mistakes: Vec<Mistake>,
    },
}

fn listed(path: Option<&PathBuf>, mistakes: &[Mistake]) -> String {
    let file = path.map_or_else(|| "the config".to_owned(), |path| path.display().to_string());
    let count = if mistakes.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", mistakes.len()) };
    let lines: Vec<String> = mistakes.iter().map(|mistake| format!("  {mistake}")).collect();
    format!("{file} has {count}:\n{}", lines.join("\n"))
}

/// The known word most similar to `word`: at most a third of its letters differ.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The edit distance of two words: insertions, deletions, changes and swaps of neighbours (optimal string
/// alignment).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(64).collect();
    let to: Vec<char> = to.chars().take(64).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut cost = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                cost = cost.min(before_last[j - 1] + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances_count_swaps_once() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("retention", "retention"), 0);
        assert_eq!(distance("retnetion", "retention"), 1);
        assert_eq!(distance("backup", "backups"), 1);
    }

    #[test]
    fn a_word_far_from_all_has_no_nearest() {
        assert_eq!(
            nearest("backup_retention_days", ["include", "backups_retention_days"]),
            Some("backups_retention_days")
        );
        assert_eq!(nearest("xyz", ["include", "exclude"]), None);
        assert_eq!(nearest("to", ["from", "tls"]), None);
    }
}
