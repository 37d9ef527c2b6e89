//! A client from the settings of the config.

#[cfg(feature = "swift")]
use crate::objects::SwiftSources;
use crate::objects::{Limits, ObjectAddress, ObjectClient, ObjectError, ObjectScheme, ObjectSettings, ObjectSources};
use crate::store::options::StoreOptions;

/// A client for `destination`, with the settings of the config and those of this process's environment.
pub fn client(destination: &str, options: &StoreOptions) -> Result<ObjectClient, ObjectError> {
    let address = ObjectAddress::parse(destination)?;
    let limits = Limits { deadline: options.deadline, upload_rate: options.upload_rate_limit, ..Limits::default() };
    let settings = settings(&address, options)?;
    ObjectClient::new(address, settings, limits)
}

/// Files with the credentials for `destination` that every user of this host can read, a sentence each. What keeps the settings
/// from being found is an error of [`client`].
pub(in crate::store) fn readable_credentials(destination: &str, options: &StoreOptions) -> Vec<String> {
    let found = ObjectAddress::parse(destination).and_then(|address| settings(&address, options));
    found.map(|settings| settings.readable_files).unwrap_or_default()
}

/// The settings alone. Nothing but files of this host is read.
pub(super) fn settings(address: &ObjectAddress, options: &StoreOptions) -> Result<ObjectSettings, ObjectError> {
    match address.scheme {
        ObjectScheme::S3 => of_s3(options),
        #[cfg(feature = "swift")]
        ObjectScheme::Swift => of_swift(options),
        #[allow(unreachable_patterns, reason = "a build without one of the clients")]
        _ => Err(ObjectError::NoClient { address: address.to_string() }),
    }
}

fn of_s3(options: &StoreOptions) -> Result<ObjectSettings, ObjectError> {
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

#[cfg(feature = "swift")]
fn of_swift(options: &StoreOptions) -> Result<ObjectSettings, ObjectError> {
    if !options.path_style {
        let what = "Swift has the container in the path of its addresses, never in the host name: remove the line";
        return Err(ObjectError::Settings { place: "`path_style` in [store]".to_owned(), what: what.to_owned() });
    }
    let sources = SwiftSources {
        cloud: options.cloud.clone(),
        clouds_file: options.clouds_file.clone(),
        region: options.region.clone(),
        interface: options.interface.clone(),
        endpoint: options.endpoint.clone(),
        credentials_file: options.credentials_file.clone(),
        profile: options.profile.clone(),
        ca_file: options.ca_file.clone(),
        proxy: options.proxy.clone(),
        ..SwiftSources::from_environment()
    };
    ObjectSettings::find_swift(&sources)
}

/// What tells the store and the bucket from all others in a cache.
pub(super) fn scope(settings: &ObjectSettings, address: &ObjectAddress) -> String {
    match address.scheme {
        ObjectScheme::S3 => format!("{} {}", settings.endpoint, address.bucket),
        // One Keystone has many projects, and each its own containers.
        _ => format!("{} {} {}", settings.endpoint, settings.credentials_from, address.bucket),
    }
}
