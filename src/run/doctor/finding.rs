//! A check and its result.

use std::fmt;

use serde::Serialize;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Not tried.
    #[serde(rename = "not tried")]
    NotTried,
    /// As it should be.
    Good,
    /// It will work, but needs attention.
    Doubtful,
    /// A nightly run would fail.
    Bad,
}

/// A check and its result.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The topic.
    pub about: &'static str,
    /// The result.
    pub answer: Answer,
    /// The details, one line.
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
