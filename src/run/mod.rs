//! What volbak does, one file a verb: the only place that wires the other modules together.

pub mod backup;
pub mod browse;
mod child;
mod collect;
pub mod doctor;
mod dumps;
mod hooks;
pub mod inspect;
pub mod locate;
mod names;
pub mod nightly;
mod outlook;
pub mod parent;
mod priority;
pub mod protect;
pub mod prune;
mod record;
mod region;
pub mod remains;
pub mod reports;
pub mod restore;
mod same_source;
pub mod settings;
pub mod status;
mod throttle;
pub mod verify;
