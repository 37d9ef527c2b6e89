//! The table `[store]`: how an object store is reached.

use super::kinds::{rate, seconds};
use super::section::Section;
pub use crate::store::StoreOptions;
use crate::store::{LockMode, LockOptions};

pub(super) fn read(section: &Section<'_>) -> StoreOptions {
    let usual = StoreOptions::default();
    StoreOptions {
        endpoint: section.text("endpoint", "https://s3.example.com"),
        region: section.text("region", "us-east-1"),
        path_style: section.boolean("path_style").unwrap_or(usual.path_style),
        ca_file: section.path("ca_file", "/etc/volbak/store-ca.pem"),
        credentials_file: section.path("credentials_file", "/etc/volbak/store-credentials"),
        profile: section.text("profile", "backup"),
        cloud: section.text("cloud", "backup"),
        clouds_file: section.path("clouds_file", "/etc/volbak/clouds.yaml"),
        interface: section
            .choice("interface", &[("public", "public"), ("internal", "internal"), ("admin", "admin")])
            .map(str::to_owned),
        proxy: section.parsed("proxy", "write an address like \"http://proxy.example.com:3128\"", |text| {
            text.starts_with("http://").then(|| text.to_owned())
        }),
        upload_rate_limit: rate(section, "upload_rate_limit"),
        cache_directory: section.path("cache_directory", "/var/cache/volbak").unwrap_or(usual.cache_directory),
        deadline: seconds(section, "deadline_seconds", 86_400).unwrap_or(usual.deadline),
        lock: lock(section),
    }
}

fn lock(section: &Section<'_>) -> Option<LockOptions> {
    let mode = section.choice("lock", &[("governance", LockMode::Governance), ("compliance", LockMode::Compliance)]);
    let days = |key, usual| section.number(key, 1, 36_500).unwrap_or(usual);
    let options = |mode| LockOptions {
        mode,
        days: days("lock_days", 7),
        weekly_days: days("lock_weekly_days", 0),
        monthly_days: days("lock_monthly_days", 0),
        yearly_days: days("lock_yearly_days", 0),
    };
    // The durations are read in any case, so that a mistake in one shows.
    let read = options(mode.unwrap_or(LockMode::Governance));
    mode.map(|_| read)
}
