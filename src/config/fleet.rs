//! The table `[fleet]`: the state that each run leaves for an overview of all hosts, and that overview.

use std::path::PathBuf;

use super::section::Section;

/// The table `[fleet]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetOptions {
    /// A directory that all hosts share, in addition to the destination; `None` means the destination alone.
    pub directory: Option<PathBuf>,
    /// The hosts that the overview expects; all hosts with a state if empty.
    pub hosts: Vec<String>,
    /// A host whose last run, or a volume whose last whole backup, is older than this is overdue.
    pub max_age_hours: u32,
    /// A volume without a full verification in this number of days is overdue; 0 means never.
    pub proof_days: u32,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self { directory: None, hosts: Vec::new(), max_age_hours: 36, proof_days: 0 }
    }
}

pub(super) fn read(section: &Section<'_>) -> FleetOptions {
    let usual = FleetOptions::default();
    let hosts = section.list("hosts", |text| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let is_host = !text.is_empty() && !text.starts_with(['.', '-']) && text.chars().all(is_name);
        if is_host { Ok(text.to_owned()) } else { Err("write the name of a host, as `hostname` prints it there") }
    });
    FleetOptions {
        directory: section.path("directory", "/mnt/fleet"),
        hosts: hosts.unwrap_or(usual.hosts),
        max_age_hours: section.number("max_age_hours", 1, 87_600).unwrap_or(usual.max_age_hours),
        proof_days: section.number("proof_days", 0, 36_500).unwrap_or(usual.proof_days),
    }
}
