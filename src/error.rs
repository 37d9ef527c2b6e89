//! What errors of all modules have in common: how they are told, and what they mean for the exit status.

use std::error::Error;

/// What the process says to whoever started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitClass {
    /// All is well.
    Well,
    /// It finished, with problems reported.
    WithProblems,
    /// Another run holds the lock.
    Locked,
    /// Wrong usage or config.
    Usage,
    /// The run failed, or a volume did.
    Failed,
}

impl ExitClass {
    /// The exit status.
    pub fn status(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::WithProblems => 3,
            Self::Locked => 4,
        }
    }
}

/// An error and its causes on one line, the innermost last.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::ExitClass;

    #[test]
    fn statuses_are_the_documented_ones() {
        use ExitClass::{Failed, Locked, Usage, Well, WithProblems};
        assert_eq!([Well, Failed, Usage, WithProblems, Locked].map(ExitClass::status), [0, 1, 2, 3, 4]);
    }
}
