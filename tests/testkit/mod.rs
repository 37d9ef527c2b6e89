//! What several test programs need: guests' disks and trees, backups of them, a machine with LVM, stand-ins.
//!
//! Each program includes it with `#[path = "../testkit/mod.rs"] mod testkit;`. A crate of its own would have to be compiled
//! after the library and before each program, and `cargo test --lib` would compile the library twice.

#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

pub mod cases;
pub mod examples;
pub mod guest;
pub mod http;
pub mod layouts;
pub mod proof;
pub mod schema;
pub mod ssh;
pub mod stand_in;
pub mod tls;
pub mod tree;
pub mod wait;
