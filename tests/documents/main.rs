//! Promise: what the documents show is what happens, and what they list is what is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod completion;
mod formats;
mod help;
mod json_files;
mod json_schemas;
mod manifest_schema;
mod public_api;
mod readme;
mod runbook;
mod site;
mod terminal;
#[path = "../testkit/mod.rs"]
mod testkit;
mod walk;
