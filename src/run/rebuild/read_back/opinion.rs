//! The opinion of other implementations on a table.

use serde::Serialize;

/// What other implementations read from a table that was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableOpinion {
    /// What each crate was asked about and agrees with unless `disagreements` says otherwise: `gpt: the primary copy`.
    pub asked: Vec<String>,
    /// What a crate was not asked about, and why.
    pub not_asked: Vec<String>,
    /// Where what was read is not what was planned.
    pub disagreements: Vec<String>,
}

impl TableOpinion {
    pub(super) fn disagrees(&mut self, what: String) {
        if !self.disagreements.contains(&what) {
            self.disagreements.push(what);
        }
    }

    /// Notes a difference between what the plan has and what a crate reads.
    pub(super) fn compare(&mut self, place: &str, reader: &str, what: &str, planned: &str, found: &str) {
        if planned != found {
            self.disagrees(format!("{place}: the plan has {what} {planned}, and {reader} reads {found}"));
        }
    }

    /// The result on one line, and on another what was not asked.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.asked.is_empty() {
            let verdict = match self.disagreements.len() {
                0 => "as planned".to_owned(),
                1 => "1 disagreement".to_owned(),
                count => format!("{count} disagreements"),
            };
            lines.push(format!("table read back by {}: {verdict}", self.asked.join("; ")));
        }
        if !self.not_asked.is_empty() {
            lines.push(format!("not asked: {}", self.not_asked.join("; ")));
        }
        lines
    }
}
