//! The table `[store]`: how an object store is reached.

use std::path::PathBuf;
use std::time::Duration;

use super::kinds::seconds;
use super::section::Section;

/// The table `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The store's address; that of the environment or the profile if `None`.
    pub endpoint: Option<String>,
    /// The region; that of the environment or the profile if `None`.
    pub region: Option<String>,
    /// Whether the bucket is in the path of addresses, and not in their host name.
    pub path_style: bool,
    /// A file with the authorities that sign the server's certificate; the system's if `None`.
    pub ca_file: Option<PathBuf>,
    /// A file of profiles with the credentials; the environment, then the usual files if `None`.
    pub credentials_file: Option<PathBuf>,
    /// The profile; `AWS_PROFILE`, or `default` if `None`.
    pub profile: Option<String>,
    /// The time for one request with all its repetitions.
    pub deadline: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: true,
            ca_file: None,
            credentials_file: None,
            profile: None,
            deadline: Duration::from_secs(300),
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> StoreOptions {
    let usual = StoreOptions::default();
    StoreOptions {
        endpoint: section.text("endpoint", "https://s3.example.com"),
        region: section.text("region", "us-east-1"),
        path_style: section.boolean("path_style").unwrap_or(usual.path_style),
        ca_file: section.path("ca_file", "/etc/volbak/store-ca.pem"),
        credentials_file: section.path("credentials_file", "/etc/volbak/store-credentials"),
        profile: section.text("profile", "backup"),
        deadline: seconds(section, "deadline_seconds", 86_400).unwrap_or(usual.deadline),
    }
}
