//! The command line: what is typed, and what is shown while it is carried out.

pub(crate) mod args;
mod disk;
pub(crate) mod memory;
pub(crate) mod night;
pub(crate) mod night_args;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod proof;
pub(crate) mod verify;
