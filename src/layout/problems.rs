//! The problems of one layout, and bounds on them and on its regions, so that a hostile table cannot exhaust
//! memory.

use crate::events::{Problem, Severity};
use crate::shown::counted;

/// The maximum number of regions. Bytes of further ones are kept in the raw image of their container, or as a gap,
/// and a problem says so.
pub(super) const REGIONS_MAX: usize = 1024;
/// The maximum number of problems; the last one then counts the rest.
const PROBLEMS_MAX: usize = 400;
/// The maximum length of all problems together, and of one.
const PROBLEMS_BYTES_MAX: usize = 256 << 10;
const PROBLEM_BYTES_MAX: usize = 4 << 10;

/// Problems, bounded in number and length.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    bytes: usize,
    left_out: u64,
}

impl Problems {
    pub(super) fn push(&mut self, mut problem: Problem) {
        cut(&mut problem.what);
        cut(&mut problem.location);
        let bytes = self.bytes + problem.what.len() + problem.location.len();
        if self.list.len() < PROBLEMS_MAX && bytes <= PROBLEMS_BYTES_MAX {
            self.bytes = bytes;
            self.list.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn into_list(mut self) -> Vec<Problem> {
        if self.left_out > 0 {
            let what = format!("{} not listed", counted(self.left_out, "more problem is", "more problems are"));
            self.list.push(Problem::new(Severity::Error, "source", what));
        }
        self.list
    }
}

/// Cuts a text that is too long, and marks the cut.
fn cut(text: &mut String) {
    if text.len() > PROBLEM_BYTES_MAX {
        // Byte 0 is a character boundary, so one is found.
        let end = (0..=PROBLEM_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::{PROBLEMS_MAX, Problem, Problems, Severity};

    #[test]
    fn problems_are_bounded() {
        let mut problems = Problems::default();
        for _ in 0..PROBLEMS_MAX + 5 {
            problems.push(Problem::new(Severity::Notice, "p1", "odd"));
        }
        let list = problems.into_list();
        assert_eq!(list.len(), PROBLEMS_MAX + 1);
        assert!(list[PROBLEMS_MAX].what.starts_with("5 more"));
        let mut problems = Problems::default();
        for _ in 0..PROBLEMS_MAX {
            problems.push(Problem::new(Severity::Notice, "p1", "ä".repeat(1 << 13)));
        }
        let list = problems.into_list();
        assert!(list.len() > 10 && list.iter().map(|problem| problem.what.len()).sum::<usize>() < 300 << 10);
    }
}
