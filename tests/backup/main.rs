//! Promise: a backup has all that its source holds, as it is, whatever the source is; what did not change is carried
//! forward; and it is published whole or not at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod carry_forward;
mod encrypted;
mod hard_tree;
mod images;
mod large_files;
mod names;
mod publishing;
mod same_archives;
mod shared_blocks;
mod shared_layout;
#[path = "../testkit/mod.rs"]
mod testkit;
mod zstd;
