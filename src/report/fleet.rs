//! The overview of many hosts: the state that each run leaves, the judgement over all states, and its forms.

mod metrics;
mod page;
mod state;
mod table;
mod view;

pub use state::{HostState, MAX_STATE_BYTES, VolumeState, folder_of};
pub use view::{FleetLimits, FleetView, FoundHost, HostView, Light, VolumeView};

#[cfg(test)]
mod tests;
