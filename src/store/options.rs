//! How an object store is reached.

use std::path::PathBuf;
use std::time::Duration;

use super::lock::LockOptions;

/// The settings of an object store: the table `[store]` of the config.
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
    /// The proxy; that of the environment if `None`.
    pub proxy: Option<String>,
    /// Bytes per second that are sent at most.
    pub upload_rate_limit: Option<u64>,
    /// A directory of this host for indexes and manifests that were read.
    pub cache_directory: PathBuf,
    /// The time for one request with all its repetitions.
    pub deadline: Duration,
    /// The lock of new backups; none if `None`.
    pub lock: Option<LockOptions>,
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
            proxy: None,
            upload_rate_limit: None,
            cache_directory: PathBuf::from("/var/cache/volbak"),
            deadline: Duration::from_secs(300),
            lock: None,
        }
    }
}
