//! Calls into libraries that may panic over what a tenant wrote.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of `call`, or `None` when it panicked: a panic would end the whole night, and says nothing about the backup.
/// `call` may share with the caller only state that is right after each of its own steps.
pub(crate) fn without_panic<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
