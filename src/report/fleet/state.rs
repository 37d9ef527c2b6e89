//! The state that a run leaves of its host: small, and read by programs that trust none of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::report::facts::{CopyFacts, RunReport, RunVerdict, Usage};
use crate::report::standing::{Standing, VolumeStanding};
use crate::report::stored::{FORMAT_VERSION, ReportError, from_versioned};
use crate::report::verification::{Verification, numbered};

/// A larger file is not read.
pub const MAX_STATE_BYTES: u64 = 8 << 20;
/// The maximum number of volumes in a state; more are counted.
const MAX_VOLUMES: usize = 10_000;
/// The maximum length of a text in a state.
const MAX_TEXT_BYTES: usize = 300;
/// The maximum length of a host's name, as in DNS.
const MAX_HOST_CHARS: usize = 253;
/// The number of archive sizes in a trend.
const MAX_TREND: usize = 14;

/// The state of one host after a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostState {
    /// `FORMAT_VERSION` of the program that wrote it.
    pub format_version: u32,
    /// The version of that program.
    pub volbak_version: String,
    /// The host's name.
    pub host: String,
    /// When the run ended.
    pub at: DateTime<Utc>,
    /// When the last run over all volumes began; `None` if there was none.
    pub last_run: Option<DateTime<Utc>>,
    /// How long the run took.
    pub duration_seconds: u64,
    /// Its result.
    pub verdict: RunVerdict,
    /// Why it was aborted, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<String>,
    /// Its destination.
    pub destination: String,
    /// How full the destination is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The copy to a second destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyFacts>,
    /// Number of warnings and errors of the run itself.
    pub problems: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_problem: Option<String>,
    /// The volumes that exist on the host.
    pub volumes: Vec<VolumeState>,
    /// The number of volumes for which there is no room here.
    #[serde(default)]
    pub more_volumes: u64,
}

/// The state of one volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeState {
    /// Its name.
    pub name: String,
    /// Its result in the last run that included it.
    pub verdict: RunVerdict,
    /// Start of its newest whole backup that is not known to be bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<DateTime<Utc>>,
    /// The last verification that found one of its backups good.
    #[serde(default, with = "numbered", skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verification>,
    /// The last restore test or boot that found one of its backups good.
    #[serde(default, with = "numbered", skip_serializing_if = "Option::is_none")]
    pub proof: Option<Verification>,
    /// Whether its newest usable backup is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// The length of its newest archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_bytes: Option<u64>,
    /// The size of all its backups.
    pub backups_bytes: u64,
    /// The number of bad backups.
    pub bad: u64,
    /// Errors and warnings of its last run.
    pub problems: u64,
    /// The worst of them, or why it has no new backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_problem: Option<String>,
    /// The lengths of its last archives, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trend: Vec<u64>,
}

impl HostState {
    /// The state after a run, from its report and the records of all volumes.
    pub fn of(report: &RunReport, standing: &Standing, at: DateTime<Utc>) -> Self {
        let ours = |volume: &VolumeStanding| volume.host == report.host && !volume.gone;
        let mut volumes: Vec<VolumeState> = standing
            .volumes
            .iter()
            .filter(|(_, volume)| ours(volume))
            .map(|(name, volume)| VolumeState::of(name, volume, report))
            .collect();
        let more_volumes = volumes.len().saturating_sub(MAX_VOLUMES) as u64;
        volumes.truncate(MAX_VOLUMES);
        let whole = standing.runs.iter().find(|run| run.is_whole && run.host == report.host);
        let own = standing.runs.iter().find(|run| run.host == report.host);
        Self {
            format_version: FORMAT_VERSION,
            volbak_version: env!("CARGO_PKG_VERSION").to_owned(),
            host: short(&report.host),
            at,
            last_run: whole.map(|run| run.started.to_utc()),
            duration_seconds: report.duration_seconds,
            verdict: report.verdict(),
            aborted: own.filter(|_| report.aborted.is_some()).and_then(|run| run.aborted.as_deref()).map(short),
            destination: short(&report.destination),
            usage: report.usage,
            copy: report.copy.clone(),
            problems: own.map_or(0, |run| run.problems),
            first_problem: own.and_then(|run| run.first_problem.as_deref()).map(short),
            volumes,
            more_volumes,
        }
    }

    /// The stored form.
    pub fn to_json(&self) -> Result<String, ReportError> {
        serde_json::to_string(self).map_err(ReportError::Damaged)
    }

    /// Reads a state that another host wrote, and which may be forged: what is longer than volbak writes is cut.
    pub fn from_json(json: &[u8]) -> Result<Self, ReportError> {
        let mut state: Self = from_versioned(json, FORMAT_VERSION)?;
        let more = state.volumes.len().saturating_sub(MAX_VOLUMES) as u64;
        state.more_volumes = state.more_volumes.saturating_add(more);
        state.volumes.truncate(MAX_VOLUMES);
        for text in [&mut state.host, &mut state.volbak_version, &mut state.destination] {
            *text = short(text);
        }
        for text in [&mut state.aborted, &mut state.first_problem].into_iter().flatten() {
            *text = short(text);
        }
        if let Some(copy) = &mut state.copy {
            copy.to = short(&copy.to);
        }
        for volume in &mut state.volumes {
            volume.name = short(&volume.name);
            volume.first_problem = volume.first_problem.as_deref().map(short);
            volume.trend.truncate(MAX_TREND);
        }
        Ok(state)
    }
}

impl VolumeState {
    fn of(name: &str, volume: &VolumeStanding, report: &RunReport) -> Self {
        let tonight = report.volumes.iter().find(|one| one.name == name);
        let past = tonight.iter().flat_map(|one| one.history.iter().map(|past| past.archive_bytes));
        let trend: Vec<u64> = past.chain(volume.archive_bytes).collect();
        let worth = volume.worth;
        Self {
            name: short(name),
            verdict: volume.verdict,
            last_good: worth.and_then(|worth| worth.last_whole),
            verified: worth.and_then(|worth| worth.last_verification),
            proof: worth.and_then(|worth| worth.last_proof),
            encrypted: worth.and_then(|worth| worth.newest_encrypted),
            archive_bytes: volume.archive_bytes,
            backups_bytes: volume.directory_bytes,
            bad: worth.map_or(0, |worth| worth.bad),
            problems: volume.errors.saturating_add(volume.warnings),
            first_problem: volume.why().as_deref().map(short),
            trend: trend[trend.len().saturating_sub(MAX_TREND)..].to_vec(),
        }
    }
}

/// The name of a host's folder: its own name, if that is a plain one.
pub fn folder_of(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    let name: String = host.chars().map(plain).take(MAX_HOST_CHARS).collect();
    let is_name = !name.is_empty() && !name.starts_with('.');
    if is_name { name } else { format!("_{name}") }
}

/// A text that is safe to display, cut to a bounded length.
fn short(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    let mut shown = crate::shown::text(cut);
    if cut.len() < text.len() {
        shown.push('…');
    }
    shown
}
