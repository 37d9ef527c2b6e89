//! What volbak does, one file a verb: the only place that wires the other modules together.

pub mod backup;
pub mod browse;
mod collect;
pub mod inspect;
pub mod locate;
mod region;
pub mod restore;
pub mod verify;
