//! What a frozen source needs of the world outside.

use std::fmt;
use std::sync::Arc;

use crate::events::Observer;
use crate::outside::{Clock, RunCommand};

/// The world that a frozen source needs for as long as it is frozen.
#[derive(Clone)]
pub struct Context {
    /// Runs LVM's tools.
    pub commands: Arc<dyn RunCommand>,
    /// Gets how full the snapshot is, and its problems.
    pub observer: Arc<dyn Observer>,
    /// Gives the time in a snapshot's name and facts.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
