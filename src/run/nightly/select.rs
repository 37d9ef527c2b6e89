//! Which volumes a night is for: a pure decision from the config and what LVM lists.

use crate::config::{Config, Selected};
use crate::source::{ListedVolume, LvFacts, Refusal};

/// A volume that is to be backed up.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) facts: LvFacts,
    /// Why it cannot be: it counts as failed.
    pub(super) trouble: Option<String>,
}

/// What becomes of the volumes of a host.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) chosen: Vec<Candidate>,
    /// `VG/LV`, and why it is not backed up.
    pub(super) left_out: Vec<(String, String)>,
    /// What was asked for by name and is not there.
    pub(super) unknown: Vec<String>,
}

/// Decides. What `only` names, as `LV` or `VG/LV`, is taken whatever the patterns say, and nothing else is.
pub(super) fn select(config: &Config, only: &[String], volumes: &[ListedVolume]) -> Selection {
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
                Selected::Included { .. } => {}
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
            // These are no volumes with data of their own, whatever a pattern says.
            Some(why @ (Refusal::Snapshot { .. } | Refusal::Pool(_) | Refusal::Internal(_) | Refusal::NoData(_)))
                if only.is_empty() =>
            {
                leave_out(why.to_string());
                continue;
            }
            Some(why) => Some(why.to_string()),
        };
        selection.chosen.push(Candidate { facts: facts.clone(), trouble });
    }
    selection
}

/// Two groups may have volumes of one name, whose backups would get into each other's way. `last_uuid` gives the LVM
/// UUID of the volume that the backups of a name are of: that one goes on, and the others fail until one is renamed.
pub(super) fn settle_clashes(chosen: &mut [Candidate], last_uuid: impl Fn(&str) -> Option<String>) {
    let names: Vec<(String, String)> = chosen.iter().map(|one| (one.facts.lv.clone(), one.facts.full_name())).collect();
    for one in chosen {
        let other = names.iter().find(|(lv, full)| *lv == one.facts.lv && *full != one.facts.full_name());
        if let Some((_, other)) = other
            && last_uuid(&one.facts.lv).as_deref() != Some(&one.facts.uuid)
        {
            let what = format!("{other} has the same name, and their backups would share a directory; exclude one");
            one.trouble.get_or_insert(what);
        }
    }
}
