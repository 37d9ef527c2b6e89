//! The cloud during a night: it is asked on a thread of its own, so that a cloud that is down or slow holds nothing up.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::choice::{DecidingMap, listed};
use super::saved::{When, age, load, save};
use super::{Taken, take};
use crate::cloud::{CloudMap, CloudVolume, VolumeInCloud};
use crate::config::{Config, Selected};
use crate::error::with_causes;
use crate::events::{Problem, Severity};
use crate::outside::host;
use crate::shown;
use crate::source::NovaDisk;
use crate::store::Destination;
use crate::store::catalog::{BackupState, list_volume};

/// The first volume waits so long for the map at most, once a run: its manifest has the volume's names then.
const PATIENCE: Duration = Duration::from_secs(10);
const LOCATION: &str = "cloud";

type Answer = Result<Taken, String>;

/// The cloud, as asked by a run.
pub(crate) struct NightCloud {
    /// `None` without `[openstack]`.
    asked: Option<Mutex<Receiver<Answer>>>,
    until: Instant,
    answer: Mutex<Option<Answer>>,
    /// The newest map from an earlier run, read when there is no answer.
    saved: OnceLock<Option<CloudMap>>,
    deciding: OnceLock<DecidingMap>,
}

impl NightCloud {
    /// Begins to ask, if the config has a cloud.
    pub(crate) fn begin(config: &Config, now: DateTime<Utc>) -> Self {
        let options = config.openstack.clone();
        let began = Instant::now();
        let until = began.checked_add(options.deadline).unwrap_or(began);
        let mut answer = None;
        let asked = options.enabled.then(|| {
            let (sender, receiver) = channel();
            let spawned = thread::Builder::new().name("cloud".to_owned()).spawn(move || {
                // The run may be over: then nothing is saved.
                let _ = sender.send(take(&options, now).map_err(|error| with_causes(&error)));
            });
            if let Err(error) = spawned {
                answer = Some(Err(format!("no thread could be started: {error}")));
            }
            Mutex::new(receiver)
        });
        Self { asked, until, answer: Mutex::new(answer), saved: OnceLock::new(), deciding: OnceLock::new() }
    }

    fn answer(&self) -> MutexGuard<'_, Option<Answer>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the answer, if it comes in time.
    fn wait(&self, limit: Duration) {
        let Some(asked) = &self.asked else { return };
        let mut answer = self.answer();
        if answer.is_none() {
            *answer = match asked.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(limit) {
                Ok(answer) => Some(answer),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Err("the thread that asked it ended".to_owned())),
            };
        }
    }

    /// The map that decides about this run, the same one all along. The first call waits for the answer, for a short time.
    pub(crate) fn decide(&self, config: &Config, destination: &Destination, now: DateTime<Utc>) -> &DecidingMap {
        self.deciding.get_or_init(|| {
            self.wait(PATIENCE.min(self.until.saturating_duration_since(Instant::now())));
            match &*self.answer() {
                Some(Ok(taken)) => DecidingMap::fresh(taken.map.clone()),
                _ => DecidingMap::saved(&config.openstack, destination, now),
            }
        })
    }

    /// What is known of a volume: by this run's map, or by the newest saved one while there is none.
    pub(crate) fn entry(&self, destination: &Destination, lv: &str) -> Option<VolumeInCloud> {
        self.asked.as_ref()?;
        self.wait(Duration::ZERO);
        if let Some(Ok(taken)) = &*self.answer() {
            return taken.map.entry(lv);
        }
        self.saved.get_or_init(|| load(destination, When::Newest).ok()).as_ref()?.entry(lv)
    }

    /// Which disk of which instance Nova made as this logical volume.
    pub(crate) fn nova_disk(&self, lv: &str) -> Option<String> {
        let NovaDisk { instance, disk } = NovaDisk::of_lv(lv)?;
        let found = self.deciding.get()?.map()?.instances.iter().find(|one| one.id == instance)?;
        Some(format!("{disk} of {}", shown::text(&found.name)))
    }

    /// Waits for what is left of the deadline, saves the map, and returns what is to be reported.
    pub(crate) fn finish(&self, config: &Config, destination: &Destination, now: DateTime<Utc>) -> Vec<Problem> {
        if self.asked.is_none() {
            return Vec::new();
        }
        // A little more than the deadline: the error of the client says more than that there is no answer.
        self.wait((self.until + Duration::from_secs(2)).saturating_duration_since(Instant::now()));
        let warning = |what: String| Problem::new(Severity::Warning, LOCATION, what);
        let mut problems = Vec::new();
        // Before the answer is locked, since this may wait for it.
        let deciding = self.decide(config, destination, now);
        match &*self.answer() {
            Some(Ok(Taken { map, doubts })) => {
                problems.extend(doubts.iter().map(|doubt| Problem::new(Severity::Notice, LOCATION, doubt.clone())));
                problems.extend(map.doubts.iter().map(|doubt| warning(doubt.clone())));
                if let Err(error) = save(destination, map, config.report.keep_days) {
                    problems.push(warning(format!("the map of the cloud is not saved: {}", with_causes(&error))));
                }
                problems.extend(differences(map));
                problems.extend(not_covered(map, deciding, config, destination));
            }
            failed => {
                let why = match failed {
                    Some(Err(why)) => why.as_str(),
                    _ => "it did not answer by the deadline",
                };
                let saved = match load(destination, When::Newest) {
                    Ok(saved) => format!("the newest saved map is {}", age(&saved, now)),
                    Err(_) => "there is no saved map".to_owned(),
                };
                problems
                    .push(warning(format!("there is no new map of the cloud, and the backups go on: {why}; {saved}")));
            }
        }
        problems
    }
}

fn differences(map: &CloudMap) -> Option<Problem> {
    let all: Vec<String> = map
        .volumes
        .iter()
        .flat_map(|volume| {
            volume.differences.iter().map(|difference| format!("{}: {difference}", shown::text(&volume.lv)))
        })
        .collect();
    let what = format!("Cinder and Nova differ: {}; `volbak cloud map` shows it", listed(&all)?);
    Some(Problem::new(Severity::Notice, LOCATION, what))
}

/// Volumes that Cinder has on this host, and that have no backup. Those that the config leaves out are meant to have none.
fn not_covered(map: &CloudMap, deciding: &DecidingMap, config: &Config, destination: &Destination) -> Option<Problem> {
    let host = config.openstack.host.clone().unwrap_or_else(host::name);
    let here: Vec<&CloudVolume> = map.on_host(&host).collect();
    if here.is_empty() && !map.volumes.is_empty() {
        let hosts: std::collections::BTreeSet<&str> =
            map.volumes.iter().filter_map(|volume| volume.host.as_deref()?.split(['@', '#']).next()).collect();
        let hosts: Vec<String> = hosts.into_iter().map(shown::text).collect();
        let hosts = if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") };
        let what = format!(
            "Cinder has no volume on the host {}; the hosts that it has volumes on: {hosts}; if this host is one of them, \
             set `host` in [openstack]",
            shown::text(&host)
        );
        return Some(Problem::new(Severity::Notice, LOCATION, what));
    }
    let is_meant = |volume: &&&CloudVolume| {
        let is_whole = !matches!(volume.status.as_str(), "creating" | "deleting" | "error" | "error_deleting");
        let is_left_out = config.volume_groups.iter().any(|group| {
            matches!(config.selects(group, &volume.lv), Selected::Excluded { .. } | Selected::Skipped { .. })
        });
        is_whole && !is_left_out && deciding.leaves_out(&config.openstack, &volume.lv).is_none()
    };
    let has_backup = |lv: &str| {
        let directory = destination.existing_volume_directory(lv).ok().flatten();
        directory
            .and_then(|directory| list_volume(&*directory, lv).ok())
            .is_some_and(|entries| entries.iter().any(|entry| !matches!(entry.state, BackupState::Damaged { .. })))
    };
    let bare: Vec<String> = here
        .iter()
        .filter(is_meant)
        .filter(|volume| !has_backup(&volume.lv))
        .map(|volume| {
            format!("{} {}", shown::text(&volume.lv), crate::cloud::shown_names(volume)).trim_end().to_owned()
        })
        .collect();
    let what = format!("volumes that Cinder has on this host, and that have no backup: {}", listed(&bare)?);
    Some(Problem::new(Severity::Warning, LOCATION, what))
}
