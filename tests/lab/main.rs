//! What needs real LVM: each test runs in a machine that `scripts/lab` starts for it. They are one program, so that two of
//! them are under way at any time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod backup;
mod bad_sectors;
mod groups;
mod host;
mod image;
mod iscsi;
mod jobs;
mod layouts;
mod made_anew;
mod migration;
mod names;
mod nested;
mod nights;
mod restore_device;
mod runbook;
mod source;
#[path = "../testkit/mod.rs"]
mod testkit;
mod thin;
