//! The opinion of independent implementations on a table.

use serde::Serialize;

/// The opinion of independent implementations on a restored table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableOpinion {
    /// The parts that each crate was asked about; it agrees unless `disagreements` lists them: `gpt: the primary
    /// copy`.
    pub asked: Vec<String>,
    /// The parts that a crate was not asked about, and the reason.
    pub not_asked: Vec<String>,
    /// Differences from the plan.
    pub disagreements: Vec<String>,
}

impl TableOpinion {
    pub(super) fn disagrees(&mut self, what: String) {
        if !self.disagreements.contains(&what) {
            self.disagreements.push(what);
        }
    }

    /// Records a difference between the plan and a crate's reading.
    pub(super) fn compare(&mut self, place: &str, reader: &str, what: &str, planned: &str, found: &str) {
        if planned != found {
            self.disagrees(format!("{place}: the plan has {what} {planned}, and {reader} reads {found}"));
        }
    }

    /// One line with the result, and one with the parts not asked about.
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
