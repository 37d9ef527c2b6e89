//! Calls libraries that may panic on hostile input.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of `call`, or `None` if it panicked: a panic would end the whole night, and says nothing about the
/// backup. State that `call` shares with the caller must be valid after each of its steps.
pub(crate) fn without_panic<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
