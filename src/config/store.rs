//! The table `[store]`: how an object store is reached.

use super::kinds::{rate, seconds};
use super::section::Section;
pub use crate::store::StoreOptions;

pub(super) fn read(section: &Section<'_>) -> StoreOptions {
    let usual = StoreOptions::default();
    StoreOptions {
        endpoint: section.text("endpoint", "https://s3.example.com"),
        region: section.text("region", "us-east-1"),
        path_style: section.boolean("path_style").unwrap_or(usual.path_style),
        ca_file: section.path("ca_file", "/etc/volbak/store-ca.pem"),
        credentials_file: section.path("credentials_file", "/etc/volbak/store-credentials"),
        profile: section.text("profile", "backup"),
        proxy: section.parsed("proxy", "write an address like \"http://proxy.example.com:3128\"", |text| {
            text.starts_with("http://").then(|| text.to_owned())
        }),
        upload_rate_limit: rate(section, "upload_rate_limit"),
        cache_directory: section.path("cache_directory", "/var/cache/volbak").unwrap_or(usual.cache_directory),
        deadline: seconds(section, "deadline_seconds", 86_400).unwrap_or(usual.deadline),
    }
}
