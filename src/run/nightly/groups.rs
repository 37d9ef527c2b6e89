//! Which volume groups a night is for.

use super::night::Night;
use crate::config::{Config, Selected};
use crate::events::Severity;
use crate::outside::host;
use crate::run::prune::Shelf;
use crate::source::{ListedVolume, Volumes};

impl Night<'_> {
    /// A group without volumes is one that the host does not have, which is fine, unless there are backups of it.
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

/// The volumes of the config's groups, in the order of the groups. Where the config names no groups and the usual ones have
/// no volumes, as on a host whose Cinder uses a group of another name: those of each group that has volumes which
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

/// Says which groups [`in_groups`] took in place of the usual ones.
pub(super) fn about_groups(ours: &Volumes, config: &Config) -> Option<String> {
    let mut others: Vec<&str> = ours.volumes.iter().map(|volume| volume.facts.vg.as_str()).collect();
    others.retain(|vg| !config.volume_groups.iter().any(|group| group == vg));
    others.dedup();
    let usual = config.volume_groups.join(" and ");
    (!others.is_empty()).then(|| {
        format!("no volumes in {usual}; those of {} are taken: set volume_groups in the config", others.join(", "))
    })
}
