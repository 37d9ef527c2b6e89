//! What the checks have in common: answers that say no, unique names, content.

use chrono::{DateTime, TimeDelta, Utc};
use md5::{Digest, Md5};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::objects::{LockHeaders, ObjectError};
use crate::shown;

/// How long the probe of the lock is locked.
pub(super) const LOCK_SECONDS: i64 = 60;

/// What came of a request that a store may refuse.
pub(super) enum Tried<T> {
    Done(T),
    Refused(Refusal),
    /// The answer is not what the documentation says.
    Odd(String),
}

/// A store's answer that says no.
pub(super) struct Refusal {
    /// Whether it says that the object is there.
    pub(super) is_there: bool,
    /// The status and the store's words.
    pub(super) what: String,
}

/// Takes a refusal for a result. Without an answer nothing is known, and the check ends.
pub(super) fn tried<T>(result: Result<T, ObjectError>) -> Result<Tried<T>, ObjectError> {
    match result {
        Ok(done) => Ok(Tried::Done(done)),
        Err(ObjectError::Status { status, code, message, .. }) => {
            let what =
                if code.is_empty() { format!("status {status}") } else { format!("status {status} {code}{message}") };
            let is_there = matches!(code.as_str(), "PreconditionFailed" | "ConditionalRequestConflict");
            Ok(Tried::Refused(Refusal { is_there, what }))
        }
        Err(ObjectError::NotUnderstood { why, .. }) => Ok(Tried::Odd(why)),
        Err(error) => Err(error),
    }
}

/// The highest number up to `usual` that is accepted, or 0. All numbers up to it are accepted, too; `likely` is asked early.
pub(super) fn highest(
    usual: u32,
    likely: u32,
    accepts: impl Fn(u32) -> Result<bool, ObjectError>,
) -> Result<u32, ObjectError> {
    if accepts(usual)? {
        return Ok(usual);
    }
    let (mut low, mut high) = (0, usual);
    for number in [likely, likely + 1] {
        if low < number && number < high {
            if accepts(number)? { low = number } else { high = number }
        }
    }
    while low + 1 < high {
        let middle = low.midpoint(high);
        if accepts(middle)? { low = middle } else { high = middle }
    }
    Ok(low)
}

/// A name that no other check has.
pub(super) fn unique(now: DateTime<Utc>) -> String {
    let mut bytes = [0_u8; 8];
    // Without random bytes the process and the time tell two checks apart.
    if getrandom(&mut bytes, GetRandomFlags::empty()).is_err() {
        bytes = u64::from(std::process::id()).to_le_bytes();
    }
    format!("{}-{}", now.format("%Y%m%dT%H%M%S%3fZ"), shown::hex(&bytes))
}

/// Bytes of which no two ranges are alike.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(super) fn md5_of(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// A lock that ends soon.
pub(super) fn lock(now: DateTime<Utc>) -> LockHeaders {
    LockHeaders { mode: "GOVERNANCE", until: now + TimeDelta::seconds(LOCK_SECONDS) }
}

/// A moment soon, in whole seconds.
pub(super) fn in_seconds(seconds: i64) -> DateTime<Utc> {
    let at = Utc::now() + TimeDelta::seconds(seconds);
    DateTime::from_timestamp(at.timestamp(), 0).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::highest;

    #[test]
    fn the_highest_number_is_found_with_few_questions() {
        for (limit, most_questions) in
            [(10_000, 1), (1000, 3), (0, 14), (1, 14), (999, 14), (1001, 16), (4096, 17), (9999, 17)]
        {
            let questions = Cell::new(0);
            let found = highest(10_000, 1000, |number| {
                questions.set(questions.get() + 1);
                Ok(number <= limit)
            });
            assert_eq!(found.unwrap(), limit);
            assert!(questions.get() <= most_questions, "{limit}: {} questions", questions.get());
        }
    }
}
