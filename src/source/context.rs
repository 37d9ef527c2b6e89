//! External services for a frozen source.

use std::fmt;
use std::sync::Arc;

use crate::events::Observer;
use crate::outside::{Clock, RunCommand};

/// External services for a frozen source.
#[derive(Clone)]
pub struct Context {
    /// Runs LVM's tools.
    pub commands: Arc<dyn RunCommand>,
    /// Receives the fill of the snapshot, and problems.
    pub observer: Arc<dyn Observer>,
    /// The source of the time in a snapshot's name and facts.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
