//! A client from the settings of the config.

use crate::objects::{Limits, ObjectAddress, ObjectClient, ObjectError, ObjectSettings, ObjectSources};
use crate::store::options::StoreOptions;

/// A client for `destination`, with the settings of the config and those of this process's environment.
pub fn client(destination: &str, options: &StoreOptions) -> Result<ObjectClient, ObjectError> {
    let address = ObjectAddress::parse(destination)?;
    let limits = Limits { deadline: options.deadline, upload_rate: options.upload_rate_limit, ..Limits::default() };
    ObjectClient::new(address, settings(options)?, limits)
}

/// The settings alone. Nothing but files of this host is read.
pub(super) fn settings(options: &StoreOptions) -> Result<ObjectSettings, ObjectError> {
    let sources = ObjectSources {
        endpoint: options.endpoint.clone(),
        region: options.region.clone(),
        path_style: Some(options.path_style),
        ca_file: options.ca_file.clone(),
        credentials_file: options.credentials_file.clone(),
        profile: options.profile.clone(),
        proxy: options.proxy.clone(),
        ..ObjectSources::from_environment()
    };
    ObjectSettings::find(&sources)
}

/// What tells the store and the bucket from all others in a cache.
pub(super) fn scope(settings: &ObjectSettings, address: &ObjectAddress) -> String {
    format!("{} {}", settings.endpoint, address.bucket)
}
