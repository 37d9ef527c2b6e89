//! Promise: what volbak does with an object store is what the store confirms, and a store that lies, hangs or breaks costs
//! an error in time, never a wrong result. Tests marked `ignore` need a store of scripts/objects: scripts/test-objects runs
//! them.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod carried;
mod check;
mod client;
mod copies;
#[cfg(feature = "encryption")]
mod encrypted;
mod few_requests;
#[cfg(feature = "swift")]
mod keystone;
mod locked;
// The suite of every store.
#[path = "../backup/publishing/contract.rs"]
mod contract;
#[path = "../backup/publishing/memory.rs"]
#[allow(dead_code, reason = "power cuts are for tests/backup")]
mod memory;
mod mounted;
mod overwritten;
mod private;
mod proven;
mod real;
mod requirements;
mod shared;
// It answers as a test says.
#[path = "../cloud/server.rs"]
#[allow(dead_code, reason = "the answers of an OpenStack cloud are for tests/cloud")]
mod server;
mod store;
mod storing;
#[cfg(feature = "swift")]
mod swift;
mod tampered;
#[path = "../testkit/mod.rs"]
mod testkit;
mod verbs;
mod ways;
