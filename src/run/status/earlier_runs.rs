//! Records of earlier runs, and their effect on the status of the runs and of a volume.

use chrono::{DateTime, Local, Utc};

use super::figures::{Limits, Urgency};
use crate::config::{Config, Selected};
use crate::report::{Dump, Outcome, RunStanding, Standing, VolumeStanding};
use crate::run::cloud::choice::DecidingMap;
use crate::shown::counted;

/// Records of earlier runs.
pub(super) struct EarlierRuns<'a> {
    pub(super) standing: &'a Standing,
    /// Why some of them could not be read.
    pub(super) damage: Option<String>,
    /// The start of the last run, if it was interrupted.
    pub(super) cut_off: Option<DateTime<Utc>>,
    pub(super) host: String,
    pub(super) scope: String,
    /// The map by which `select` in `[openstack]` leaves volumes out.
    pub(super) deciding: DecidingMap,
}

impl EarlierRuns<'_> {
    /// The standing of a volume that this config's runs cover, or that was requested by name; `None` for a gone
    /// volume.
    pub(super) fn of(&self, name: &str, config: &Config) -> Option<&VolumeStanding> {
        let volume = self.standing.volumes.get(name).filter(|volume| !volume.gone)?;
        let is_selected = volume.group.as_ref().is_none_or(|group| {
            let is_ours = config.volume_groups_by_default || config.volume_groups.contains(group);
            is_ours
                && matches!(config.selects(group, name), Selected::Included { .. })
                && self.deciding.leaves_out(&config.openstack, name).is_none()
        });
        (is_selected || volume.named).then_some(volume)
    }

    /// Problems of the runs themselves. Volumes are judged individually.
    pub(super) fn about_runs(&self, limits: Limits, now: DateTime<Utc>, tell: &mut dyn FnMut(Urgency, String)) {
        if let Some(what) = &self.damage {
            tell(
                Urgency::Warning,
                format!("the record of earlier runs is damaged, and the next run begins a new one: {what}"),
            );
        }
        if let Some(started) = self.cut_off {
            let began = started.with_timezone(&Local).format("%Y-%m-%d %H:%M");
            let what = format!("the run that began on {began} was cut off: its process ended without a report");
            tell(Urgency::Critical, what);
        }
        let Some(whole) = self.standing.whole_run(&self.host, &self.scope) else {
            tell(Urgency::Warning, "there is no report of a run: nothing ran yet".to_owned());
            return;
        };
        let ended = |run: &RunStanding, tell: &mut dyn FnMut(Urgency, String)| {
            if run.aborted.is_some() {
                tell(Urgency::Critical, format!("the last run: {}", run.subject));
            } else if run.problems > 0 {
                let first = run.first_problem.as_deref().unwrap_or_default();
                tell(
                    Urgency::Warning,
                    match run.problems {
                        1 => format!("the last run had a problem of its own: {first}"),
                        problems => format!("the last run had {problems} problems of its own: {first}"),
                    },
                );
            }
        };
        ended(whole, tell);
        let later = self.standing.runs.iter().find(|run| run.host == whole.host && run.scope == whole.scope);
        if let Some(later) = later.filter(|later| later.started > whole.started && later.aborted.is_some()) {
            ended(later, tell);
        }
        let hours = age_hours(whole.started.to_utc(), now);
        if let Some(level) = limits.judge(hours) {
            tell(level, format!("the last run began {hours} h ago"));
        }
    }

    /// Problems of a volume in its last run. `newest` is the start of its newest backup.
    pub(super) fn about_volume(
        name: &str,
        volume: &VolumeStanding,
        newest: Option<DateTime<Utc>>,
        tell: &mut dyn FnMut(Urgency, String),
    ) {
        let date = volume.at.with_timezone(&Local).format("%Y-%m-%d %H:%M");
        match &volume.outcome {
            // There is a newer backup, made by hand.
            Outcome::Failed(_) | Outcome::NotStarted(_) if newest.is_some_and(|newest| newest > volume.at) => {}
            Outcome::Failed(why) => tell(Urgency::Critical, format!("{name} failed in its last run ({date}): {why}")),
            Outcome::NotStarted(why) => {
                tell(Urgency::Critical, format!("{name} was not started in its last run ({date}): {why}"));
            }
            Outcome::BackedUp => {}
        }
        if let Dump::Failed(why) = &volume.dump {
            tell(Urgency::Warning, format!("the dump for {name} failed in its last run ({date}): {why}"));
        }
        let (count, first) = (volume.errors + volume.warnings, volume.first_problem.as_deref().unwrap_or_default());
        if volume.outcome == Outcome::BackedUp && count > 0 {
            let problems = counted(count, "problem", "problems");
            tell(Urgency::Warning, format!("{name} had {problems} in its last run ({date}): {first}"));
        }
    }
}

pub(super) fn age_hours(then: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    (now - then).num_hours()
}
