//! The command line: arguments, progress and results.

pub(crate) mod about_program;
pub(crate) mod args;
pub(crate) mod browse;
pub(crate) mod cloud;
pub(crate) mod complete;
pub(crate) mod completions;
pub(crate) mod copy;
mod current_map;
mod disk;
#[cfg(feature = "openstack")]
mod evacuate;
pub(crate) mod export;
pub(crate) mod fleet;
pub(crate) mod history;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod log;
pub(crate) mod manual;
pub(crate) mod memory;
#[cfg(feature = "mount")]
pub(crate) mod mount;
mod named_file;
pub(crate) mod night;
pub(crate) mod night_args;
mod of_volume;
pub(crate) mod output;
mod owners;
pub(crate) mod place;
pub(crate) mod progress;
pub(crate) mod proof;
mod prune;
#[cfg(feature = "openstack")]
mod recover;
pub(crate) mod remap;
mod remove;
pub(crate) mod sessions;
pub(crate) mod snapshot;
#[cfg(feature = "s3")]
pub(crate) mod store;
pub(crate) mod terminal;
#[cfg(feature = "openstack")]
mod to_volume;
pub(crate) mod topics;
pub(crate) mod verify;
mod world;

use std::ffi::OsStr;

/// The error with the name of its source in front, unless the message already begins with it.
pub(crate) fn about(source: &OsStr, error: anyhow::Error) -> anyhow::Error {
    let source = shown(source);
    if error.to_string().starts_with(&source) { error } else { error.context(source) }
}

pub(crate) fn shown(source: &OsStr) -> String {
    volbak::shown::bytes(source.as_encoded_bytes())
}
