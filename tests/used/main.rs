//! The map of used blocks, on filesystems of real tools and held against what those tools say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod backup;
mod carried;
mod dirty_xfs;
mod disk;
mod ext;
mod mutations;
mod others;
mod support;
