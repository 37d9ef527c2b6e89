//! LVM's reporting and changing tools: running them and parsing their JSON.

mod ask;
mod facts;
mod output;
mod run;

pub(crate) use ask::{Presence, Which, lvs, presence, vg};
pub use facts::LvFacts;
pub(crate) use facts::VgFacts;
#[cfg(test)]
pub(crate) use output::tests::lv_row;
pub(crate) use run::{failed, run_tool, words};
