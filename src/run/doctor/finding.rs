//! One thing that was looked at, and how it is.

use std::fmt;

use serde::Serialize;

/// How an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It was not tried.
    #[serde(rename = "not tried")]
    NotTried,
    /// As it should be.
    Good,
    /// It will work, but an operator should look.
    Doubtful,
    /// A night would fail.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What it is about.
    pub about: &'static str,
    /// How it is.
    pub answer: Answer,
    /// What was seen, one line.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.answer {
            Answer::NotTried => "-  ",
            Answer::Good => "ok ",
            Answer::Doubtful => "?  ",
            Answer::Bad => "BAD",
        };
        write!(f, "{mark} {:<12} {}", self.about, self.what)
    }
}

pub(super) type Add<'a> = dyn FnMut(&'static str, Answer, String) + 'a;
