//! The findings of the checks, one line each.

use crate::shown::counted;

/// The maximum number of structures of one filesystem in the findings.
const NAMED: usize = 5;

/// Findings, up to the maximum.
#[derive(Default)]
pub(super) struct Damage {
    lines: Vec<String>,
    left_out: usize,
}

impl Damage {
    pub(super) fn add(&mut self, line: impl Into<String>) {
        if self.lines.len() < NAMED {
            self.lines.push(line.into());
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.lines.push(format!(
                "{} damaged, too",
                counted(self.left_out as u64, "more of its headers is", "more of its headers are")
            ));
        }
        self.lines
    }
}
