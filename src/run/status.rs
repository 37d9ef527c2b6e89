//! The state of the backups, from the destination alone: without LVM or a lock, so that a monitoring system may
//! query it at any rate.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::begun;
use super::cloud::choice::DecidingMap;
use super::kept::KeptError;
use super::prune::Shelf;
use super::reports;
use super::unsigned::{PlainBackups, is_expected, seen_of};
use crate::config::Config;
use crate::error::with_causes;
use crate::outside::host;
use crate::report::{RunReport, Standing};
use crate::store::StoreError;

mod earlier_runs;
mod figures;
mod groups;
mod room;
mod text;
mod volume;

pub use figures::{LastRun, Limits, Reason, Status, Urgency, VolumeStatus};
pub use room::Room;
pub(super) use room::forecast;

use earlier_runs::EarlierRuns;
use volume::{of_shelf, without_backup};

/// Determines the state. Fails if the destination does not exist.
pub fn status(config: &Config, limits: Limits, now: DateTime<Utc>) -> Result<Status, StoreError> {
    let destination = config.open_mounted_destination()?.surveyed(&[])?;
    let shelves = Shelf::all(&destination)?;
    let last = reports::load(&destination, None).ok();
    let (standing, damage) = match reports::load_standing(&destination) {
        Ok(standing) => (standing, None),
        Err(KeptError::Store(error)) => return Err(error),
        Err(error) => (last.as_ref().map(Standing::of).unwrap_or_default(), Some(with_causes(&error))),
    };
    let cut_off = begun::cut_off(&destination)?;
    let deciding = DecidingMap::saved(&config.openstack, &destination, now);
    let (host, scope) = (host::name(), reports::scope(config));
    let known = EarlierRuns { standing: &standing, damage, cut_off, host, scope, deciding };
    Ok(judge(&shelves, &known, config, last.as_ref(), limits, now))
}

/// The room in the destination. Reads the reports of past nights: [`status`] does without.
pub fn room(config: &Config) -> Option<Room> {
    let destination = config.open_destination().ok()?;
    let space = destination.space().ok().flatten()?;
    Some(Room {
        used_bytes: space.used_bytes,
        available_bytes: space.available_bytes,
        full_in_days: forecast(&destination, &space, None),
    })
}

fn judge(
    shelves: &[Shelf],
    known: &EarlierRuns<'_>,
    config: &Config,
    last: Option<&RunReport>,
    limits: Limits,
    now: DateTime<Utc>,
) -> Status {
    let mut reasons = Vec::new();
    // A directory without any backup (lost+found) belongs to no volume.
    let with_backups = shelves.iter().filter(|shelf| !shelf.entries.is_empty());
    let mut volumes: Vec<VolumeStatus> =
        with_backups.map(|shelf| of_shelf(shelf, known, config, limits, now, &mut reasons)).collect();
    known.about_runs(limits, now, &mut |level, what| reasons.push(Reason { level, what }));
    for name in known.standing.volumes.keys() {
        if volumes.iter().any(|other| other.name == *name) {
            continue;
        }
        // Missing backups of another host's volume are reported on that host.
        if let Some(volume) = known.of(name, config).filter(|volume| volume.host == known.host) {
            reasons.push(Reason { level: Urgency::Critical, what: format!("{name} has no backup") });
            EarlierRuns::about_volume(name, volume, None, &mut |level, what| reasons.push(Reason { level, what }));
            volumes.push(without_backup(name, volume));
        }
    }
    let mut of_groups: BTreeSet<&str> = config.groups.iter().map(|group| group.name.as_str()).collect();
    if config.openstack.groups_instances() {
        let newest = shelves.iter().filter_map(|shelf| shelf.newest()?.set.as_ref());
        of_groups.extend(newest.map(|set| set.group.as_str()));
    }
    reasons.extend(of_groups.into_iter().filter_map(|group| groups::about_last_set(shelves, group)));
    let plain = PlainBackups::of(seen_of(shelves), is_expected(Some(config)));
    let mut notices: Vec<String> = plain.others.into_iter().collect();
    if config.archive.encryption.is_some() {
        reasons.extend(plain.doubtful.into_iter().map(|what| Reason { level: Urgency::Warning, what }));
    } else {
        notices.splice(0..0, plain.doubtful);
    }
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
    Status {
        level: reasons.first().map_or(Urgency::Ok, |worst| worst.level),
        reasons,
        notices,
        last_run: last.map(|report| LastRun {
            started: report.started.to_utc(),
            duration_seconds: report.duration_seconds,
            outcome: report.subject(),
        }),
        room: None,
        volumes,
    }
}
