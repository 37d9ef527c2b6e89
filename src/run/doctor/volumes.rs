//! Checks the volumes that a night would back up, and the space for their snapshots.

use chrono::{DateTime, Utc};

use super::finding::{Add, Answer};
use crate::config::Config;
use crate::error::with_causes;
use crate::outside::RunCommand;
use crate::run::cloud::choice::DecidingMap;
use crate::run::nightly::{in_groups, selected_names, volumes_backed_up};
use crate::run::prune::Shelf;
use crate::source::{self, Volumes};
use crate::units::ByteLen;

/// Returns the volumes of the groups that the config asks for; `None` where LVM cannot list them.
pub(super) fn volumes(
    config: &Config,
    commands: &dyn RunCommand,
    now: DateTime<Utc>,
    add: &mut Add<'_>,
) -> Option<Volumes> {
    let listed = match source::list_volumes(&[], commands) {
        Ok(everything) => in_groups(&everything, config),
        Err(error) => {
            add("volumes", Answer::Bad, with_causes(&error));
            return None;
        }
    };
    let deciding = config
        .open_destination()
        .map(|destination| DecidingMap::saved(&config.openstack, &destination, now))
        .unwrap_or_default();
    let selection = selected_names(config, &listed, &|lv: &str| deciding.leaves_out(&config.openstack, lv));
    match selection.len() {
        0 => add("volumes", Answer::Bad, format!("none to back up in {}", config.volume_groups.join(", "))),
        count => add("volumes", Answer::Good, format!("{count} to back up: {}", shortened(&selection))),
    }
    inactive(&listed, add);
    room(config, &listed, commands, add);
    let ours = listed.volumes.iter().filter(|volume| volume.is_ours());
    for volume in ours {
        let name = volume.facts.full_name();
        add(
            "snapshots",
            Answer::Doubtful,
            format!(
                "{name} exists: a run is in progress, \
                 left it behind, or was asked to keep it"
            ),
        );
    }
    Some(listed)
}

/// Groups without volumes. Most hosts have one of the two groups that are the default.
pub(super) fn empty_groups(config: &Config, listed: &Volumes, shelves: &[Shelf], add: &mut Add<'_>) {
    for group in &listed.empty_groups {
        let what = format!("the group {group} is not there, or has no volumes");
        match volumes_backed_up(group, shelves) {
            0 if config.volume_groups_by_default && !listed.volumes.is_empty() => {
                add("volumes", Answer::Good, format!("{what}; it is optional, because the config names no groups"));
            }
            0 => add("volumes", Answer::Doubtful, what),
            count => {
                let what = format!("{what}, and there are backups of {count} of its volumes: is it active?");
                add("volumes", Answer::Doubtful, what);
            }
        }
    }
}

/// An inactive volume cannot be backed up.
fn inactive(listed: &Volumes, add: &mut Add<'_>) {
    let mut groups: Vec<&String> = listed.volumes.iter().map(|volume| &volume.facts.vg).collect();
    groups.sort();
    groups.dedup();
    for group in groups {
        let of_group = || listed.volumes.iter().filter(|volume| volume.facts.vg == *group);
        let count = of_group().filter(|volume| matches!(volume.refusal, Some(source::Refusal::Inactive))).count();
        if count > 0 {
            let all = of_group().count();
            let what = format!("{group}: {count} of its {all} volumes are not active: run vgchange -ay {group}");
            add("volumes", Answer::Bad, what);
        }
    }
}

/// Whether each group has space for a snapshot of its largest thick volume.
fn room(config: &Config, listed: &Volumes, commands: &dyn RunCommand, add: &mut Add<'_>) {
    let mut groups: Vec<&String> = listed.volumes.iter().map(|volume| &volume.facts.vg).collect();
    groups.dedup();
    for group in groups {
        let thick = |volume: &&source::ListedVolume| {
            volume.facts.vg == **group && volume.refusal.is_none() && !volume.facts.is_thin()
        };
        let sized = listed.volumes.iter().filter(thick).map(|volume| {
            let options = config.for_volume(group, &volume.facts.lv);
            (source::snapshot_bytes(volume.facts.size_bytes, options.snapshot.snapshot_size), volume)
        });
        let Some((needed, volume)) = sized.max_by_key(|(needed, _)| *needed) else { continue };
        let name = volume.facts.full_name();
        match source::free_bytes(group, commands) {
            Ok(free) if free >= needed => {
                let what =
                    format!("{group} has {} free; the largest snapshot needs {}", ByteLen(free), ByteLen(needed));
                add("room", Answer::Good, what);
            }
            Ok(free) => {
                let what = format!(
                    "{group} has {} free, and a snapshot of {name} needs {}: set a smaller snapshot_max_size",
                    ByteLen(free),
                    ByteLen(needed)
                );
                add("room", Answer::Bad, what);
            }
            Err(error) => add("room", Answer::Bad, with_causes(&error)),
        }
    }
}

fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        shown.push_str(", …");
    }
    shown
}
