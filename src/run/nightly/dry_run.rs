//! Simulates a night: `run --dry-run`, `prune --dry-run`.

use std::fmt::Write;

use serde::Serialize;

use super::brake::forecasts;
use super::destination::open;
use super::error::NightError;
use super::groups::in_groups;
use super::night::NightOptions;
use super::select::{Selection, keep_one, select, settle};
use crate::config::Config;
use crate::outside::host;
use crate::run::backup::BackupWorld;
use crate::run::cloud::choice::DecidingMap;
use crate::run::prune::{Shelf, Standing, now, shelf_of};
use crate::shown::counted;
use crate::source;
use crate::store::retention::{Decision, Plan, brake};
use crate::units::ByteLen;

/// Lists what a run would do and remove, with reasons. Changes nothing and takes no lock.
pub fn dry_run(config: &Config, options: &NightOptions, world: &BackupWorld) -> Result<DryRun, NightError> {
    let destination = open(config)?;
    let everything = source::list_volumes(&[], &*world.commands)?;
    let ours = in_groups(&everything, config);
    let deciding = DecidingMap::saved(&config.openstack, &destination, world.clock.now());
    let by_cloud = |lv: &str| deciding.leaves_out(&config.openstack, lv);
    let mut selection = select(config, &options.only, &ours.volumes, &by_cloud);
    if !selection.unknown.is_empty() {
        return Err(NightError::NoSuchVolume { names: selection.unknown, groups: config.volume_groups.clone() });
    }
    let is_test = options.test || config.lvm_test_mode;
    if is_test {
        keep_one(&mut selection.chosen, &options.only);
    }
    let shelves = Shelf::all(&destination)?;
    settle(&mut selection, &shelves);
    let existing: Vec<String> = everything.volumes.iter().map(|volume| volume.facts.lv.clone()).collect();
    let is_whole = options.only.is_empty() && !is_test;
    let moment = now(world.clock.now());
    let config = &by_metadata(config, &deciding, &selection, &shelves);
    let plans = forecasts(config, &selection, &shelves, &existing, moment, is_whole);

    let chosen = selection.chosen.iter().map(|one| ToBackUp {
        volume: one.facts.full_name(),
        size_bytes: one.facts.size_bytes,
        last_archive_bytes: shelf_of(&shelves, &one.facts.lv)
            .and_then(Shelf::newest)
            .map(|last| last.sizes.archive_bytes),
        trouble: one.trouble.clone(),
    });
    let left_out = selection.left_out.iter().chain(&selection.left_out_by_cloud).chain(&selection.swap_disks);
    let goes_by_select = config.openstack.select.is_some() && config.openstack.enabled && options.only.is_empty();
    let host = host::name();
    let is_gone = |shelf: &Shelf| shelf.standing(&host, &existing) == Standing::Gone;
    Ok(DryRun {
        back_up: chosen.collect(),
        left_out: left_out.map(|(volume, why)| LeftOut { volume: volume.clone(), why: why.clone() }).collect(),
        select: goes_by_select.then(|| deciding.said().to_owned()),
        gone: shelves.iter().filter(|shelf| is_gone(shelf)).map(|shelf| shelf.name.clone()).collect(),
        retention: Forecast {
            brake: brake_of(&plans),
            found: plans.into_iter().zip(shelves).collect(),
            is_of_some: false,
        },
        force: options.force,
    })
}

/// What a run would do.
pub struct DryRun {
    /// The volumes that it would back up.
    pub back_up: Vec<ToBackUp>,
    /// The others.
    pub left_out: Vec<LeftOut>,
    /// What `select` in `[openstack]` goes by.
    select: Option<String>,
    /// What it would remove.
    pub retention: Forecast,
    /// The names of volumes with backups that do not exist any more.
    pub gone: Vec<String>,
    force: bool,
}

/// A volume that a run would back up.
#[derive(Debug, Serialize)]
pub struct ToBackUp {
    /// `VG/LV`.
    pub volume: String,
    /// Its size.
    pub size_bytes: u64,
    /// The length of its newest archive, if there is one.
    pub last_archive_bytes: Option<u64>,
    /// Why it cannot be backed up: it would count as failed.
    pub trouble: Option<String>,
}

/// A volume that a run would leave out.
#[derive(Debug, Serialize)]
pub struct LeftOut {
    /// `VG/LV`.
    pub volume: String,
    /// The reason.
    pub why: String,
}

impl DryRun {
    /// As lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for ToBackUp { volume, size_bytes, last_archive_bytes, trouble } in &self.back_up {
            let _ = if let Some(why) = trouble {
                writeln!(text, "cannot back up {volume}: {why}")
            } else {
                let last = last_archive_bytes.map_or_else(
                    || "the first backup".to_owned(),
                    |bytes| format!("the last backup took {}", ByteLen(bytes)),
                );
                writeln!(text, "would back up {volume} ({}; {last})", ByteLen(*size_bytes))
            };
        }
        for LeftOut { volume, why } in &self.left_out {
            let _ = writeln!(text, "would leave out {volume}: {why}");
        }
        if let Some(said) = &self.select {
            let _ = writeln!(text, "`select` in [openstack] goes by {said}");
        }
        for (plan, shelf) in &self.retention.found {
            if self.gone.contains(&shelf.name) {
                let backups = counted(shelf.backups.len() as u64, "backup", "backups");
                let _ = writeln!(text, "the volume {} is gone; it has {backups}", shelf.name);
            }
            tell_plan(&mut text, plan, shelf, false);
        }
        tell_brake(&mut text, self.retention.brake(), self.force);
        text
    }
}

/// Lists what would be removed after the next backup of each volume, with the reasons for all backups that are
/// kept. `only` are volumes, each with the stem of one backup where no other is wanted; all if it is empty.
pub fn forecast(
    config: &Config,
    only: &[(String, Option<String>)],
    world: &BackupWorld,
) -> Result<Forecast, NightError> {
    let destination = open(config)?;
    let everything = source::list_volumes(&[], &*world.commands)?;
    let ours = in_groups(&everything, config);
    let deciding = DecidingMap::saved(&config.openstack, &destination, world.clock.now());
    let selection = select(config, &[], &ours.volumes, &|lv: &str| deciding.leaves_out(&config.openstack, lv));
    let shelves = Shelf::all(&destination)?;
    let config = &by_metadata(config, &deciding, &selection, &shelves);
    let existing: Vec<String> = everything.volumes.iter().map(|volume| volume.facts.lv.clone()).collect();
    let plans = forecasts(config, &selection, &shelves, &existing, now(world.clock.now()), true);
    let brake = brake_of(&plans);
    let wanted = |plan: &mut Plan, shelf: &Shelf| {
        let named: Vec<_> = only.iter().filter(|(name, _)| *name == shelf.name).collect();
        let is_wanted = |id: &str| named.iter().any(|(_, stem)| stem.as_ref().is_none_or(|stem| stem == id));
        plan.decisions.retain(|decision| only.is_empty() || is_wanted(&decision.id));
        only.is_empty() || !named.is_empty()
    };
    let found = plans.into_iter().zip(shelves);
    let found = found.filter_map(|(mut plan, shelf)| wanted(&mut plan, &shelf).then_some((plan, shelf))).collect();
    Ok(Forecast { found, brake, is_of_some: !only.is_empty() })
}

/// What retention would do after the next backup of each volume.
pub struct Forecast {
    found: Vec<(Plan, Shelf)>,
    brake: Option<String>,
    /// Whether it is of some volumes or backups only.
    is_of_some: bool,
}

/// What retention would do with the backups of a volume.
#[derive(Debug, Serialize)]
pub struct PlannedVolume {
    /// Its name.
    pub volume: String,
    /// The size of what would be removed; less is freed where blocks are shared.
    pub removed_bytes: u64,
    /// Its backups, oldest first.
    pub backups: Vec<PlannedBackup>,
    /// Findings: why old backups are not removed, or that a clock looks wrong.
    pub notes: Vec<String>,
}

/// What retention would do with a backup.
#[derive(Debug, Serialize)]
pub struct PlannedBackup {
    /// Its id.
    pub backup: String,
    /// Its archive.
    pub archive: String,
    /// The size of its files.
    pub size_bytes: u64,
    /// Whether it would be removed.
    pub remove: bool,
    /// Why.
    pub reasons: Vec<String>,
}

impl Forecast {
    /// As lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (plan, shelf) in &self.found {
            tell_plan(&mut text, plan, shelf, true);
        }
        if text.is_empty() && self.is_of_some {
            text.push_str("there are no backups of these names\n");
        }
        tell_brake(&mut text, self.brake.as_deref(), false);
        if text.is_empty() {
            text.push_str("there are no backups\n");
        }
        text
    }

    /// As facts, in the order of the text.
    pub fn volumes(&self) -> Vec<PlannedVolume> {
        let backup = |shelf: &Shelf, decision: &Decision| PlannedBackup {
            backup: decision.id.clone(),
            archive: archive_of(shelf, decision),
            size_bytes: decision.size_bytes,
            remove: decision.remove,
            reasons: decision.reasons.iter().map(ToString::to_string).collect(),
        };
        let volume = |(plan, shelf): &(Plan, Shelf)| PlannedVolume {
            volume: plan.source.clone(),
            removed_bytes: plan.freed_bytes(),
            backups: plan.decisions.iter().map(|decision| backup(shelf, decision)).collect(),
            notes: plan.refusals.iter().map(ToString::to_string).collect(),
        };
        self.found.iter().map(volume).collect()
    }

    /// Why nothing at all would be removed.
    pub fn brake(&self) -> Option<&str> {
        self.brake.as_deref()
    }
}

fn archive_of(shelf: &Shelf, decision: &Decision) -> String {
    let listed = shelf.entries.iter().find(|entry| entry.stem == decision.id);
    listed.map_or_else(|| decision.id.clone(), |entry| entry.archive.display().to_string())
}

/// The config with the retentions that volumes ask for.
fn by_metadata(config: &Config, deciding: &DecidingMap, selection: &Selection, shelves: &[Shelf]) -> Config {
    let mut config = config.clone();
    let names = selection.chosen.iter().map(|one| one.facts.lv.as_str());
    let exceptions = deciding.retentions(&config, names, shelves).exceptions;
    config.volumes.extend(exceptions);
    config
}

fn tell_plan(text: &mut String, plan: &Plan, shelf: &Shelf, with_kept: bool) {
    for decision in plan.decisions.iter().filter(|decision| decision.remove || with_kept) {
        let what = if decision.remove { "would remove" } else { "keeps" };
        let path = archive_of(shelf, decision);
        let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        let size = ByteLen(decision.size_bytes);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{what} {path} ({size}): {}", reasons.join("; "));
    }
    for refusal in plan.refusals.iter().filter(|refusal| with_kept || !refusal.is_ordinary()) {
        let _ = writeln!(text, "{}: {refusal}", plan.source);
    }
}

fn brake_of(plans: &[Plan]) -> Option<String> {
    brake(plans).map(|refusal| refusal.to_string())
}

fn tell_brake(text: &mut String, brake: Option<&str>, force: bool) {
    if let Some(refusal) = brake {
        let all_the_same = if force { " (--force: removed nevertheless)" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "the brake: {refusal}{all_the_same}");
    }
}
