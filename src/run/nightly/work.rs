//! The steps of a night, from the remains of a crash to the gone volumes.

use std::sync::{Arc, Mutex};

use super::destination::is_present;
use super::dump::Dumps;
use super::error::NightError;
use super::groups::{about_groups, in_groups};
use super::night::Night;
use super::order;
use super::round::Round;
use super::select::{SelectedVolume, Selection, keep_one, select, settle};
use crate::error::with_causes;
use crate::events::{Event, Observer, Severity};
use crate::manifest::Manifest;
use crate::report::{Abort, RunReport};
use crate::run::backup::BackupWorld;
use crate::run::cloud::choice::DecidingMap;
use crate::run::prune::{Shelf, shelf_of};
use crate::run::remains::{remove_all_remains, remove_stale};
use crate::run::reports;
use crate::source::{self, SourceError, Volumes};

impl Night<'_> {
    /// Runs all steps. Returns the names of all volumes on the host, if they could be listed.
    pub(super) fn work(&self, report: &mut RunReport) -> Result<Option<Vec<String>>, NightError> {
        self.remove_remains();
        let mut dumps = Dumps::new(self.config, self.world);
        if !self.config.enable_lvmsnapshots {
            dumps.all_without_volumes(|_| false, |problem| self.collector.on_event(&Event::Problem(problem)));
            return Ok(None);
        }
        // Volumes of all groups: one that moved to another group is not gone.
        let everything = match self.list() {
            Ok(volumes) => volumes,
            Err(error) => {
                report.aborted = Some(Abort::Other(with_causes(&error)));
                return Ok(None);
            }
        };
        let ours = in_groups(&everything, self.config);
        if let Some(what) = about_groups(&ours, self.config) {
            self.tell(Severity::Notice, "volumes", what);
        }
        let deciding = self.cloud.decide(self.config, self.destination, self.world.clock.now());
        let mut selection = self.select(&ours, deciding)?;
        let shelves = match Shelf::all(self.destination) {
            Ok(shelves) => shelves,
            Err(error) => {
                report.aborted = Some(Abort::Other(with_causes(&error)));
                return Ok(None);
            }
        };
        settle(&mut selection, &shelves);
        self.tell_empty_groups(&ours, &shelves);
        let mut existing: Vec<String> = everything.volumes.iter().map(|volume| volume.facts.lv.clone()).collect();
        existing.extend(self.only_in_cinder(deciding, &existing, &shelves));
        let config = self.config_of_tonight(deciding, &selection, &shelves, report);
        Night { config: &config, ..*self }.back_up_all(report, selection, &shelves, &existing, dumps);
        Ok(Some(existing))
    }

    /// Backs up the selected volumes, and looks after the backups of those that are gone.
    fn back_up_all(
        &self,
        report: &mut RunReport,
        mut selection: Selection,
        shelves: &[Shelf],
        existing: &[String],
        mut dumps: Dumps<'_>,
    ) {
        let may_prune = self.check_brake(&selection, shelves, existing);
        self.put_in_order(&mut selection.chosen, shelves);

        let is_waited_for = |instance: &str| {
            let of = |one: &SelectedVolume| self.config.dump_for(&one.facts.vg, &one.facts.lv);
            selection.chosen.iter().filter_map(of).any(|dump| dump.name == instance)
        };
        if self.is_whole() {
            dumps.all_without_volumes(is_waited_for, |problem| self.collector.on_event(&Event::Problem(problem)));
        }
        self.say_how_much(&selection.chosen, shelves);
        let sets = self.sets(&selection.chosen);
        sets.put_together(&mut selection.chosen);
        Round {
            night: *self,
            chosen: &selection.chosen,
            shelves,
            existing,
            sets: &sets,
            dumps: Mutex::new(dumps),
            may_prune,
        }
        .work(report);
        if self.is_whole() && report.aborted.is_none() {
            report.gone = self.gone(shelves, existing, may_prune);
            self.recheck();
        }
        if report.aborted.is_none() {
            self.rehearse(report);
        }
        self.copy_away(report);
    }

    /// Removes the remains of a crash, on the host and in the destination.
    fn remove_remains(&self) {
        let told = BackupWorld { observer: Arc::clone(self.collector) as Arc<dyn Observer>, ..self.world.clone() };
        if self.config.enable_lvmsnapshots
            && let Err(error) = remove_stale(&told)
        {
            self.tell(Severity::Warning, "stale snapshots", with_causes(&error));
        }
        remove_all_remains(self.destination, &**self.collector);
    }

    /// Saves the map of the cloud, and reports what it shows; a cloud that does not answer is a warning.
    pub(super) fn finish_cloud(&self) {
        if is_present(self.config, self.destination) {
            for problem in self.cloud.finish(self.config, self.destination, self.world.clock.now()) {
                self.collector.on_event(&Event::Problem(problem));
            }
        }
    }

    fn list(&self) -> Result<Volumes, SourceError> {
        source::list_volumes(&[], &*self.world.commands)
    }

    fn select(&self, volumes: &Volumes, deciding: &DecidingMap) -> Result<Selection, NightError> {
        let by_cloud = |lv: &str| deciding.leaves_out(&self.config.openstack, lv);
        let mut selection = select(self.config, &self.options.only, &volumes.volumes, &by_cloud);
        if !selection.unknown.is_empty() {
            let groups = self.config.volume_groups.clone();
            return Err(NightError::NoSuchVolume { names: selection.unknown, groups });
        }
        if self.is_test() {
            keep_one(&mut selection.chosen, &self.options.only);
        }
        if !selection.swap_disks.is_empty() {
            let names: Vec<String> = selection.swap_disks.iter().map(|(name, _)| name.clone()).collect();
            let names = names.join(", ");
            self.tell(Severity::Notice, "volumes", format!("swap disks of instances are left out: {names}"));
        }
        if selection.chosen.is_empty() {
            let groups = self.config.volume_groups.join(", ");
            self.tell(
                Severity::Warning,
                "volumes",
                format!("there is no volume to back up in {groups}: check volume_groups, include and exclude"),
            );
        }
        Ok(selection)
    }

    /// Reports the number of volumes, and an estimate of the bytes to read, from their last backups.
    fn say_how_much(&self, chosen: &[SelectedVolume], shelves: &[Shelf]) {
        let of_backup =
            |manifest: &Manifest| manifest.regions.iter().filter_map(|region| region.used_bytes).sum::<u64>();
        let bytes = chosen.iter().map(|one| {
            let newest = shelf_of(shelves, &one.facts.lv).and_then(Shelf::newest);
            newest.map_or(one.facts.size_bytes, of_backup)
        });
        let bytes = bytes.fold(0_u64, u64::saturating_add);
        self.collector.on_event(&Event::RunStarted { sources: chosen.len() as u64, bytes });
    }

    /// With a time limit, puts those that waited longest first, so that no volume is left out every night.
    fn put_in_order(&self, chosen: &mut [SelectedVolume], shelves: &[Shelf]) {
        if self.config.max_run.is_some() || self.config.window.is_set() {
            // Errors are reported when this night is recorded there.
            let standing = reports::load_standing(self.destination).unwrap_or_default();
            order::put_in_order(chosen, shelves, &standing, self.world.clock.now());
        }
    }
}
