//! Promise: night after night, from one config, backups are made, kept and removed as it says, and whoever has to know
//! hears of it, whatever the host, its network or an administrator does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod doctor;
mod dumps;
mod expected;
mod fleet;
mod heard;
mod host_settings;
mod jobs;
mod log_lines;
mod mail;
mod notify;
mod rechecks;
mod rehearsals;
mod room;
mod sets;
mod standing;
#[path = "../testkit/mod.rs"]
mod testkit;
mod turns;
mod twelve_nights;
mod verbs;
mod worth;
