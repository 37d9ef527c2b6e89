//! Selects the volumes of a night: a pure decision from the config and LVM's list.

use crate::config::{Config, Selected};
use crate::manifest::SourceRecord;
use crate::run::prune::{Shelf, shelf_of};
use crate::source::{ListedVolume, LvFacts, NovaDisk, Refusal, Volumes};

/// A selected volume.
#[derive(Clone, Debug)]
pub(super) struct SelectedVolume {
    pub(super) facts: LvFacts,
    /// Why it cannot be backed up: it counts as failed.
    pub(super) trouble: Option<String>,
}

/// The selection from all volumes of a host.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) chosen: Vec<SelectedVolume>,
    /// `VG/LV`, and why it is left out.
    pub(super) left_out: Vec<(String, String)>,
    /// The same, where `select` in `[openstack]` leaves it out.
    pub(super) left_out_by_cloud: Vec<(String, String)>,
    /// The same, of Nova's swap disks that no pattern names in full.
    pub(super) swap_disks: Vec<(String, String)>,
    /// Requested names that do not exist.
    pub(super) unknown: Vec<String>,
}

/// Selects volumes. Names in `only`, `LV` or `VG/LV`, override the patterns and exclude all others.
/// `by_cloud` says why the cloud's words leave out a volume that the patterns select.
pub(super) fn select(
    config: &Config,
    only: &[String],
    volumes: &[ListedVolume],
    by_cloud: &dyn Fn(&str) -> Option<String>,
) -> Selection {
    let mut selection = Selection::default();
    let names = |text: &String, facts: &LvFacts| *text == facts.lv || *text == facts.full_name();
    selection.unknown =
        only.iter().filter(|text| !volumes.iter().any(|volume| names(text, &volume.facts))).cloned().collect();
    for volume in volumes {
        let facts = &volume.facts;
        let full_name = facts.full_name();
        let mut leave_out = |why: String| selection.left_out.push((full_name.clone(), why));
        if volume.is_ours() {
            leave_out("it is a snapshot of volbak's".to_owned());
            continue;
        }
        if only.is_empty() {
            match config.selects(&facts.vg, &facts.lv) {
                Selected::Included { by } => {
                    let is_swap = NovaDisk::of_lv(&facts.lv).is_some_and(NovaDisk::is_swap);
                    if is_swap && by != facts.lv {
                        selection.swap_disks.push((full_name, "an instance swaps to it".to_owned()));
                        continue;
                    }
                    if let Some(why) = by_cloud(&facts.lv) {
                        selection.left_out_by_cloud.push((full_name, why));
                        continue;
                    }
                }
                Selected::Excluded { by } => {
                    leave_out(format!("excluded by {by:?}"));
                    continue;
                }
                Selected::Skipped { by } => {
                    leave_out(format!("[volume.{by:?}] says skip"));
                    continue;
                }
                Selected::NotIncluded => {
                    leave_out("no pattern of `include` matches".to_owned());
                    continue;
                }
            }
        } else if !only.iter().any(|text| names(text, facts)) {
            leave_out("not asked for".to_owned());
            continue;
        }
        let trouble = match &volume.refusal {
            None => None,
            // These have no data of their own, whatever a pattern says.
            Some(why @ (Refusal::Snapshot { .. } | Refusal::Pool(_) | Refusal::Internal(_) | Refusal::NoData(_)))
                if only.is_empty() =>
            {
                leave_out(why.to_string());
                continue;
            }
            Some(why) => Some(why.to_string()),
        };
        selection.chosen.push(SelectedVolume { facts: facts.clone(), trouble });
    }
    selection
}

/// Resolves name clashes: volumes of one name in two groups would share a directory of backups. `last_of` returns
/// the source of the backups under a name: that volume continues, and the others fail until one is renamed. A
/// recreated volume is recognised by its name and group.
pub(super) fn settle_clashes(chosen: &mut [SelectedVolume], last_of: impl Fn(&str) -> Option<SourceRecord>) {
    let uuids: Vec<String> = chosen.iter().map(|one| one.facts.uuid.clone()).collect();
    let names: Vec<(String, String)> = chosen.iter().map(|one| (one.facts.lv.clone(), one.facts.full_name())).collect();
    for one in chosen {
        let other = names.iter().find(|(lv, full)| *lv == one.facts.lv && *full != one.facts.full_name());
        if let Some((_, other)) = other
            && !last_of(&one.facts.lv).is_some_and(|last| {
                let is_there = last.lv_uuid.as_ref().is_some_and(|uuid| uuids.contains(uuid));
                last.lv_uuid.as_ref() == Some(&one.facts.uuid)
                    || (!is_there && last.vg.as_ref() == Some(&one.facts.vg) && last.lv.as_ref() == Some(&one.facts.lv))
            })
        {
            let what = format!("{other} has the same name, and their backups would share a directory; exclude one");
            one.trouble.get_or_insert(what);
        }
    }
}

pub(super) fn settle(selection: &mut Selection, shelves: &[Shelf]) {
    settle_clashes(&mut selection.chosen, |name| Some(shelf_of(shelves, name)?.newest()?.source.clone()));
}

/// Test mode: the first volume requested, or the smallest.
pub(super) fn keep_one(chosen: &mut Vec<SelectedVolume>, only: &[String]) {
    let asked = only
        .first()
        .and_then(|name| chosen.iter().position(|one| one.facts.lv == *name || one.facts.full_name() == *name));
    let smallest = || {
        let usable = chosen.iter().enumerate().filter(|(_, one)| one.trouble.is_none());
        usable.min_by_key(|(_, one)| one.facts.size_bytes).map(|(at, _)| at)
    };
    if let Some(at) = asked.or_else(smallest) {
        *chosen = vec![chosen.swap_remove(at)];
    }
}

/// The volumes that a night would back up, `VG/LV`.
pub(in crate::run) fn selected_names(
    config: &Config,
    volumes: &Volumes,
    by_cloud: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    select(config, &[], &volumes.volumes, by_cloud).chosen.iter().map(|one| one.facts.full_name()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Selection, select, settle_clashes};
    use crate::config::Config;
    use crate::manifest::SourceRecord;
    use crate::source::{ListedVolume, LvFacts, Refusal};

    fn volume(vg: &str, lv: &str, refusal: Option<Refusal>) -> ListedVolume {
        let facts = LvFacts {
            vg: vg.to_owned(),
            lv: lv.to_owned(),
            uuid: format!("uuid-of-{vg}-{lv}"),
            vg_uuid: String::new(),
            size_bytes: 1 << 30,
            attr: "-wi-a-----".to_owned(),
            layout: vec!["linear".to_owned()],
            roles: vec!["public".to_owned()],
            tags: Vec::new(),
            permissions: "writeable".to_owned(),
            pool: None,
            origin: None,
            hidden: false,
            merging: false,
            is_active: true,
            is_open: false,
            health: String::new(),
            snapshot_invalid: false,
            data_percent: None,
            metadata_percent: None,
            device: None,
            thin_id: None,
            path: PathBuf::new(),
            dm_path: PathBuf::new(),
        };
        ListedVolume { facts, refusal }
    }

    fn chosen(selection: &Selection) -> Vec<(String, bool)> {
        selection.chosen.iter().map(|one| (one.facts.full_name(), one.trouble.is_some())).collect()
    }

    fn config() -> Config {
        let text = "backup_destination = '/b'\nexclude = ['volume-3']\n[volume.volume-4]\nskip = true";
        Config::parse(text, []).unwrap()
    }

    #[test]
    fn refused_volumes_fail_and_internal_ones_are_left_out() {
        let snapshot = Refusal::Snapshot { origin: "g/volume-1".to_owned() };
        let volumes = [
            volume("g", "volume-1", None),
            volume("g", "volume-2", Some(Refusal::Inactive)),
            volume("g", "volume-3", None),
            volume("g", "volume-4", None),
            volume("g", "volume-5", Some(snapshot)),
            volume("g", "volume-6", Some(Refusal::Pool("thin pool"))),
            volume("g", "root", None),
        ];
        let selection = select(&config(), &[], &volumes, &|_| None);
        assert_eq!(chosen(&selection), [("g/volume-1".to_owned(), false), ("g/volume-2".to_owned(), true)]);
        assert_eq!(selection.left_out.len(), 5);
    }

    #[test]
    fn a_swap_disk_of_an_instance_is_left_out_unless_it_is_named() {
        const ID: &str = "58f83399-bf84-4ced-bad2-2736d9a75d2f";
        let disk = |name: &str| volume("vg_nova", &format!("{ID}_{name}"), None);
        let volumes = [disk("disk"), disk("disk.local"), disk("disk.swap")];
        let with = |include: &str| {
            let config = Config::parse(&format!("backup_destination = '/b'\ninclude = ['{include}']"), []).unwrap();
            let selection = select(&config, &[], &volumes, &|_| None);
            (selection.chosen.len(), selection.swap_disks.len())
        };
        assert_eq!(with("*_disk*"), (2, 1));
        assert_eq!(with(&format!("{ID}_disk.swap")), (1, 0));
    }

    #[test]
    fn only_requested_names_are_selected() {
        let volumes = [volume("g", "volume-1", None), volume("g", "volume-10", None), volume("g", "volume-3", None)];
        let only = ["volume-1", "g/volume-3", "volume-2"].map(str::to_owned);
        let selection = select(&config(), &only, &volumes, &|_| Some("no".to_owned()));
        assert_eq!(chosen(&selection), [("g/volume-1".to_owned(), false), ("g/volume-3".to_owned(), false)]);
        assert_eq!(selection.unknown, ["volume-2"]);
    }

    #[test]
    fn of_two_volumes_with_one_name_the_one_with_the_backups_goes_on() {
        let volumes = [volume("a", "volume-1", None), volume("b", "volume-1", None), volume("b", "volume-2", None)];
        let settled = |last: Option<&str>| {
            let mut selection = select(&config(), &[], &volumes, &|_| None);
            let source = |uuid: &str| SourceRecord {
                lv_uuid: Some(uuid.to_owned()),
                vg: Some("a".to_owned()),
                lv: Some("volume-1".to_owned()),
                ..SourceRecord::default()
            };
            settle_clashes(&mut selection.chosen, |_| last.map(source));
            selection.chosen.iter().map(|one| one.trouble.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(settled(None), [true, true, false]);
        assert_eq!(settled(Some("uuid-of-b-volume-1")), [true, false, false]);
        // Recreated in its group.
        assert_eq!(settled(Some("uuid-of-before")), [false, true, false]);
    }
}
