//! Promise: wherever backups are kept, a power cut at any moment of publishing or removing one leaves all of it or none of
//! it, and never touches another; the next night cleans up.
//!
//! One suite says what a `Store` is, and runs on a directory and on a store in memory. The latter loses what was not synced:
//! publishing and removing are stopped at each of their steps, all of them, and each set of changes that were not synced yet
//! is kept or lost.

mod bucket;
mod contract;
mod crash;
mod memory;
mod shared;
mod shared_bucket;
