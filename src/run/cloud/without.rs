//! In place of asking, where the program was built without the feature `openstack`.

use chrono::{DateTime, Utc};

use super::MapError;
use crate::cloud::CloudMap;
use crate::config::OpenStackOptions;

/// A map, and what is doubtful about the settings.
#[derive(Debug)]
pub struct Taken {
    /// The map.
    pub map: CloudMap,
    /// What is doubtful about the settings.
    pub doubts: Vec<String>,
}

/// None: nothing is read.
pub(in crate::run) fn readable_credentials(_options: &OpenStackOptions) -> Vec<String> {
    Vec::new()
}

/// The error [`MapError::NotBuilt`].
pub fn take(_options: &OpenStackOptions, _now: DateTime<Utc>) -> Result<Taken, MapError> {
    Err(MapError::NotBuilt)
}
