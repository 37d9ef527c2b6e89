//! Images of disks: what is written is what QEMU reads, and what QEMU writes is read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::cast_possible_truncation, reason = "what is generated is small")]

mod backup;
mod copied;
mod disks;
mod failing;
mod guests;
mod hostile;
mod inode_tables;
mod killed;
mod proof;
mod restored;
mod resumed;
mod sources;
#[path = "../testkit/mod.rs"]
mod testkit;
mod verbs;
mod written;
