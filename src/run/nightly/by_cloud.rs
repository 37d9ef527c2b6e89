//! What the cloud changes in a night.

use super::night::Night;
use super::select::Selection;
use crate::config::Config;
use crate::events::Severity;
use crate::report::RunReport;
use crate::run::cloud::choice::{DecidingMap, about_select, listed};
use crate::run::cloud::instances::groups_by_instance;
use crate::run::prune::Shelf;
use crate::shown;

impl Night<'_> {
    /// The config with what the cloud says of tonight's volumes.
    pub(super) fn config_of_tonight(
        &self,
        deciding: &DecidingMap,
        selection: &Selection,
        shelves: &[Shelf],
        report: &mut RunReport,
    ) -> Config {
        let mut config = self.config.clone();
        if !config.openstack.enabled {
            return config;
        }
        let mut say = |line: String| {
            self.tell(Severity::Notice, "cloud", line.clone());
            report.cloud.push(line);
        };
        if config.openstack.select.is_some() && self.options.only.is_empty() {
            let left_out = &selection.left_out_by_cloud;
            say(about_select(deciding, left_out, selection.chosen.len() + left_out.len()));
        }
        let names = selection.chosen.iter().map(|one| one.facts.lv.as_str());
        let retentions = deciding.retentions(&config, names, shelves);
        retentions.limited.into_iter().for_each(&mut say);
        for line in retentions.nonsense {
            self.tell(Severity::Warning, "cloud", line);
        }
        let names = selection.chosen.iter().map(|one| one.facts.lv.as_str());
        let by_instance = groups_by_instance(deciding, &config.openstack, names, &config.groups);
        by_instance.said.into_iter().for_each(&mut say);
        config.volumes.extend(retentions.exceptions);
        config.groups.extend(by_instance.groups);
        config
    }

    /// The volumes with backups that Cinder has on this host, and that are no logical volumes here: they are not gone. Also
    /// reports logical volumes that Cinder no longer knows.
    pub(super) fn only_in_cinder(&self, deciding: &DecidingMap, existing: &[String], shelves: &[Shelf]) -> Vec<String> {
        let options = &self.config.openstack;
        let forgotten: Vec<String> =
            deciding.forgotten(options, existing, shelves).into_iter().map(shown::text).collect();
        if let Some(names) = listed(&forgotten) {
            let what = format!(
                "logical volumes that Cinder no longer knows: {names}; they are backed up as long as they are here, and their \
                 backups count as gone once they are removed"
            );
            self.tell(Severity::Warning, "cloud", what);
        }
        let is_meant = |name: &&String| !existing.contains(name) && shelves.iter().any(|shelf| shelf.name == **name);
        let missing: Vec<String> =
            deciding.on_this_host(options).into_iter().map(|volume| &volume.lv).filter(is_meant).cloned().collect();
        let shown: Vec<String> = missing.iter().map(|name| shown::text(name)).collect();
        if let Some(names) = listed(&shown) {
            let what = format!(
                "Cinder has these volumes on this host, and they are no logical volumes here: {names}; their backups do not count \
                 as gone: is their volume group active?"
            );
            self.tell(Severity::Warning, "cloud", what);
        }
        missing
    }
}
