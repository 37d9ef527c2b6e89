//! The judgement over all hosts: which are silent, which volumes are overdue, in the order in which a person should look.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::state::{HostState, VolumeState, folder_of};
use crate::report::facts::RunVerdict;
use crate::report::verification::CheckLevel;
use crate::shown::counted;

/// How far a clock may be ahead.
const AHEAD: TimeDelta = TimeDelta::hours(1);

/// The limits of the judgement.
#[derive(Clone, Copy, Debug)]
pub struct FleetLimits {
    /// A host without a run, or a volume without a whole backup, in so many hours is overdue.
    pub max_age_hours: u32,
    /// A volume without a full verification in so many days is overdue; 0 judges none.
    pub proof_days: u32,
}

/// What was found of one host in one place.
#[derive(Clone, Debug)]
pub struct FoundHost {
    /// Its name: that of its folder.
    pub name: String,
    /// The place: its folder.
    pub place: PathBuf,
    /// Its newest state, or why there is none that can be read.
    pub state: Result<HostState, String>,
}

/// How urgent something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Light {
    /// All is well.
    Green,
    /// It needs attention.
    Amber,
    /// A backup or a proof is overdue or bad, or a run failed.
    Red,
    /// Nothing was heard of an expected host for too long.
    Silent,
}

impl Light {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Green => "ok",
            Self::Amber => "problems",
            Self::Red => "OVERDUE",
            Self::Silent => "SILENT",
        }
    }
}

/// All hosts, the most urgent first.
#[derive(Clone, Debug, Serialize)]
pub struct FleetView {
    /// The time of the judgement.
    pub now: DateTime<Utc>,
    /// Whether anything is overdue, silent or bad.
    pub is_overdue: bool,
    /// The hosts.
    pub hosts: Vec<HostView>,
}

/// One host.
#[derive(Clone, Debug, Serialize)]
pub struct HostView {
    /// Its name.
    pub name: String,
    /// The worst of it.
    pub light: Light,
    /// Whether the list of hosts has it.
    pub expected: bool,
    /// What is wrong with the host itself, one line each.
    pub reasons: Vec<String>,
    /// Start of its last run over all volumes.
    pub last_run: Option<DateTime<Utc>>,
    /// Its volumes, the most urgent first.
    pub volumes: Vec<VolumeView>,
    /// Its state; `None` without one.
    #[serde(skip)]
    pub state: Option<HostState>,
}

/// One volume.
#[derive(Clone, Debug, Serialize)]
pub struct VolumeView {
    /// How urgent it is.
    pub light: Light,
    /// What is wrong, one line; empty if nothing is.
    pub reason: String,
    /// Its state.
    #[serde(flatten)]
    pub state: VolumeState,
}

impl FleetView {
    /// Judges the hosts that were found against the expected ones; with none expected, against themselves. Of a host that was found in
    /// several places the worst state counts.
    pub fn new(found: Vec<FoundHost>, expected: &[String], limits: FleetLimits, now: DateTime<Utc>) -> Self {
        let names: BTreeSet<&String> = expected.iter().collect();
        let mut by_name: BTreeMap<String, Vec<FoundHost>> = BTreeMap::new();
        for host in found {
            by_name.entry(host.name.clone()).or_default().push(host);
        }
        let mut hosts: Vec<HostView> = Vec::new();
        for name in &names {
            let found = by_name.remove(*name).unwrap_or_default();
            hosts.push(HostView::worst(name, found, true, limits, now));
        }
        for (name, found) in by_name {
            hosts.push(HostView::worst(&name, found, names.is_empty(), limits, now));
        }
        hosts.sort_by(|a, b| b.light.cmp(&a.light).then_with(|| a.name.cmp(&b.name)));
        Self { now, is_overdue: hosts.iter().any(|host| host.light >= Light::Red), hosts }
    }

    /// The number of hosts with this light.
    pub fn hosts_with(&self, light: Light) -> usize {
        self.hosts.iter().filter(|host| host.light == light).count()
    }

    /// All volumes.
    pub fn volumes(&self) -> impl Iterator<Item = (&HostView, &VolumeView)> {
        self.hosts.iter().flat_map(|host| host.volumes.iter().map(move |volume| (host, volume)))
    }
}

impl HostView {
    /// A host that may write to one place could leave a better state for another host there.
    fn worst(name: &str, found: Vec<FoundHost>, expected: bool, limits: FleetLimits, now: DateTime<Utc>) -> Self {
        // A run leaves the same state in its destination and in the shared directory.
        let mut differing: Vec<FoundHost> = Vec::with_capacity(found.len());
        for host in found {
            if differing.iter().all(|other| other.state != host.state) {
                differing.push(host);
            }
        }
        let mut places = Vec::with_capacity(differing.len());
        let mut worst: Option<Self> = None;
        for host in differing {
            let judged = Self::new(name, Some(host.state), expected, limits, now);
            places.push(format!("{} ({})", host.place.display(), judged.light.word()));
            if worst.as_ref().is_none_or(|worst| worst.light < judged.light) {
                worst = Some(judged);
            }
        }
        let mut worst = worst.unwrap_or_else(|| Self::new(name, None, expected, limits, now));
        if places.len() > 1 {
            worst.reasons.push(format!(
                "it has different states in several places, and the worst counts: {}; remove its folder from a place that it no longer uses",
                crate::shown::text(&places.join(", "))
            ));
        }
        worst
    }

    fn new(
        name: &str,
        found: Option<Result<HostState, String>>,
        expected: bool,
        limits: FleetLimits,
        now: DateTime<Utc>,
    ) -> Self {
        let (folder, name) = (name, crate::shown::text(name));
        let empty = |light, reason: String| Self {
            name: name.clone(),
            light,
            expected,
            reasons: vec![reason],
            last_run: None,
            volumes: Vec::new(),
            state: None,
        };
        let state = match found {
            None => return empty(Light::Silent, "no run of this host left a state".to_owned()),
            Some(Err(why)) => {
                return empty(Light::Silent, format!("its state cannot be read: {}", crate::shown::text(&why)));
            }
            Some(Ok(state)) => state,
        };
        let mut volumes: Vec<VolumeView> =
            state.volumes.iter().map(|volume| VolumeView::new(volume.clone(), limits, now)).collect();
        volumes.sort_by(|a, b| b.light.cmp(&a.light).then_with(|| a.state.name.cmp(&b.state.name)));
        let mut light = volumes.first().map_or(Light::Green, |worst| worst.light);
        let mut reasons = Vec::new();
        let mut tell = |this: Light, what: String| {
            light = light.max(this);
            reasons.push(what);
        };
        match state.last_run {
            None => tell(Light::Silent, "no run over all volumes yet".to_owned()),
            Some(at) if at > now + AHEAD => tell(
                Light::Red,
                "its last run is dated in the future: a clock is wrong, or the state is forged".to_owned(),
            ),
            Some(at) if hours(at, now) >= i64::from(limits.max_age_hours) => {
                tell(Light::Silent, format!("silent: its last run began {} ago", age(at, now)));
            }
            Some(_) => {}
        }
        if folder_of(&state.host) != folder {
            tell(Light::Red, format!("its state names another host: {}", state.host));
        }
        if let Some(why) = &state.aborted {
            tell(Light::Red, format!("its last run was aborted: {why}"));
        }
        if let Some(copy) = state.copy.as_ref().filter(|copy| copy.failed > 0) {
            tell(Light::Amber, format!("{} not copied to {}", counted(copy.failed, "backup", "backups"), copy.to));
        }
        if state.problems > 0 {
            let first = state.first_problem.as_deref().unwrap_or_default();
            tell(Light::Amber, format!("{} of its last run: {first}", counted(state.problems, "problem", "problems")));
        }
        if state.more_volumes > 0 {
            tell(
                Light::Amber,
                format!("{} not in its state", counted(state.more_volumes, "more volume", "more volumes")),
            );
        }
        if !expected {
            tell(Light::Amber, "not in the list of hosts".to_owned());
        }
        Self { name, light, expected, reasons, last_run: state.last_run, volumes, state: Some(state) }
    }

    /// The number of its volumes whose newest backup is encrypted.
    pub(super) fn encrypted(&self) -> usize {
        self.volumes.iter().filter(|volume| volume.state.encrypted == Some(true)).count()
    }

    /// The number of its volumes that are overdue or bad.
    pub fn overdue(&self) -> usize {
        self.volumes.iter().filter(|volume| volume.light >= Light::Red).count()
    }
}

impl VolumeView {
    fn new(state: VolumeState, limits: FleetLimits, now: DateTime<Utc>) -> Self {
        let mut reasons: Vec<(Light, String)> = Vec::new();
        match state.last_good {
            None => reasons.push((Light::Red, "no whole backup".to_owned())),
            Some(at) if at > now + AHEAD => {
                reasons.push((Light::Red, "its last backup is dated in the future".to_owned()));
            }
            Some(at) if hours(at, now) >= i64::from(limits.max_age_hours) => {
                reasons.push((Light::Red, format!("its last whole backup is {} old", age(at, now))));
            }
            Some(_) => {}
        }
        if state.bad > 0 {
            reasons.push((Light::Red, counted(state.bad, "bad backup", "bad backups")));
        }
        let proof = state.verified.filter(|verified| verified.level >= CheckLevel::Full && verified.at <= now + AHEAD);
        let is_late = |at: DateTime<Utc>| hours(at, now) >= i64::from(limits.proof_days).saturating_mul(24);
        if limits.proof_days > 0 && proof.is_none_or(|proof| is_late(proof.at)) {
            let when = proof.map_or_else(|| "never".to_owned(), |proof| format!("{} ago", age(proof.at, now)));
            reasons.push((Light::Red, format!("last verified in full: {when}")));
        }
        if state.verdict == RunVerdict::Failed || state.problems > 0 {
            let first = state.first_problem.clone().unwrap_or_else(|| "its last backup failed".to_owned());
            let light = if state.verdict == RunVerdict::Failed { Light::Red } else { Light::Amber };
            reasons.push((light, first));
        }
        let light = reasons.iter().map(|(light, _)| *light).max().unwrap_or(Light::Green);
        let reason = reasons.into_iter().map(|(_, what)| what).collect::<Vec<_>>().join("; ");
        Self { light, reason, state }
    }
}

fn hours(then: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    now.signed_duration_since(then).num_hours()
}

/// An age in words: `5 h`, `12 d`.
pub(super) fn age(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match hours(then, now) {
        hours @ ..48 => format!("{} h", hours.max(0)),
        hours => format!("{} d", hours / 24),
    }
}
