//! Selects the volume groups of a night.

use super::night::Night;
use crate::config::{Config, Selected};
use crate::events::Severity;
use crate::outside::host;
use crate::run::prune::Shelf;
use crate::source::{ListedVolume, Volumes};

impl Night<'_> {
    /// Reports a group without volumes, most likely missing on this host, if there are backups of its volumes.
    pub(super) fn tell_empty_groups(&self, volumes: &Volumes, shelves: &[Shelf]) {
        for group in &volumes.empty_groups {
            let count = volumes_backed_up(group, shelves);
            if count > 0 {
                let what = format!("it has no volumes, and there are backups of {count} of its volumes: is it active?");
                self.tell(Severity::Warning, group, what);
            }
        }
    }
}

/// The number of volumes of this host's `group` that have backups.
pub(in crate::run) fn volumes_backed_up(group: &str, shelves: &[Shelf]) -> usize {
    let host = host::name();
    let of_group = |shelf: &&Shelf| {
        let newest = shelf.newest();
        newest.is_some_and(|newest| newest.host == host && newest.source.vg.as_deref() == Some(group))
    };
    shelves.iter().filter(of_group).count()
}

/// The volumes of the config's groups, in the order of the groups. If the config names no groups and the default
/// ones have no volumes (Cinder may use another group on this host): the volumes of each group with volumes that
/// `include` matches.
pub(in crate::run) fn in_groups(everything: &Volumes, config: &Config) -> Volumes {
    let of_group = |group: &String| -> Vec<ListedVolume> {
        everything.volumes.iter().filter(|volume| volume.facts.vg == *group).cloned().collect()
    };
    let named = &config.volume_groups;
    let empty_groups: Vec<String> = named.iter().filter(|group| of_group(group).is_empty()).cloned().collect();
    if !config.volume_groups_by_default || empty_groups.len() < named.len() {
        return Volumes { volumes: named.iter().flat_map(of_group).collect(), empty_groups };
    }
    let is_meant = |volume: &&ListedVolume| {
        let is_included = matches!(config.selects(&volume.facts.vg, &volume.facts.lv), Selected::Included { .. });
        is_included && volume.refusal.is_none() && !volume.is_ours()
    };
    let mut others: Vec<String> =
        everything.volumes.iter().filter(is_meant).map(|volume| volume.facts.vg.clone()).collect();
    others.dedup();
    Volumes { volumes: others.iter().flat_map(of_group).collect(), empty_groups }
}

/// Reports the groups that [`in_groups`] used in place of the default ones.
pub(super) fn about_groups(ours: &Volumes, config: &Config) -> Option<String> {
    let mut others: Vec<&str> = ours.volumes.iter().map(|volume| volume.facts.vg.as_str()).collect();
    others.retain(|vg| !config.volume_groups.iter().any(|group| group == vg));
    others.dedup();
    let usual = config.volume_groups.join(" and ");
    (!others.is_empty()).then(|| {
        format!(
            "{usual} has no volumes; the volumes of {} are backed up instead: set volume_groups in the config",
            others.join(", ")
        )
    })
}
