//! What the checks found, a line each.

/// The most structures of one filesystem that are named.
const NAMED: usize = 5;

/// The lines, with a bound.
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
            self.lines.push(format!("{} more of its headers are damaged, too", self.left_out));
        }
        self.lines
    }
}
