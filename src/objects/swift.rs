//! OpenStack Swift, natively. A long object is a static large object: a manifest in the container, and segments in another
//! one that is named as other clients name it, `CONTAINER_segments`. There `segments/KEY/ID/NUMBER` are the parts of the
//! upload ID, and `uploads/KEY/ID` is a note that it is under way: from the first part until the manifest is written.

mod changed;
mod keeping;
mod listing;
pub(super) mod login;
mod manifest;
mod segments;
mod settings;
mod tokens;

use std::sync::OnceLock;

use self::login::SwiftLogin;
use self::tokens::Tokens;
use super::address::ObjectAddress;
use super::bucket::Bucket;
use super::error::ObjectError;
use super::limits::Limits;
use super::settings::ObjectSettings;
use super::wire::Wire;
pub use settings::SwiftSources;

/// A container of Swift.
#[derive(Debug)]
pub(super) struct Swift {
    wire: Wire,
    /// The container with the segments.
    segments: String,
    /// The most segments of a large object, once the cluster was asked; `None` if it does not say.
    most_segments: OnceLock<Option<u32>>,
}

impl Swift {
    pub(super) fn new(
        address: ObjectAddress,
        settings: &ObjectSettings,
        login: &SwiftLogin,
        limits: Limits,
    ) -> Result<Self, ObjectError> {
        let segments = format!("{}_segments", address.bucket);
        let tokens = Tokens::new(settings.clone(), login.clone(), address.bucket.clone(), segments.clone());
        let wire = Wire::new(address, settings, limits, Box::new(tokens))?;
        Ok(Self { wire, segments, most_segments: OnceLock::new() })
    }
}

impl Bucket for Swift {
    fn wire(&self) -> &Wire {
        &self.wire
    }
}
