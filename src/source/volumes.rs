//! Which volumes there are.

use crate::outside::RunCommand;
use crate::source::error::SourceError;
use crate::source::lvm::{LvFacts, Which, lvs, vg};
use crate::source::naming::is_snapshot_name;
use crate::source::naming::{KEPT_TAG, SNAPSHOT_TAG};
use crate::source::refusal::{Refusal, refusal_of};

/// A volume of the groups that were asked about.
#[derive(Clone, Debug)]
pub struct ListedVolume {
    /// What LVM says about it.
    pub facts: LvFacts,
    /// Why it cannot be backed up; `None` when it can.
    pub refusal: Option<Refusal>,
}

impl ListedVolume {
    /// Whether it is a snapshot that volbak took, in use, left by a crash, or kept.
    pub fn is_ours(&self) -> bool {
        let tagged = self.facts.tags.iter().any(|tag| tag == SNAPSHOT_TAG || tag == KEPT_TAG);
        tagged && is_snapshot_name(&self.facts.lv)
    }
}

/// What [`list_volumes`] found.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    /// The volumes that users see, by group and name. LVM's internal ones are left out.
    pub volumes: Vec<ListedVolume>,
    /// The groups that were asked about and have no volumes, or do not exist.
    pub empty_groups: Vec<String>,
}

/// Lists the volumes of these groups, or of all groups when none is named, with the reason why each that cannot be
/// backed up is refused. Fails when LVM cannot be asked.
pub fn list_volumes(volume_groups: &[String], commands: &dyn RunCommand) -> Result<Volumes, SourceError> {
    let all = lvs(commands, Which::All)?;
    let is_wanted = |vg: &String| volume_groups.is_empty() || volume_groups.contains(vg);
    let mut volumes: Vec<ListedVolume> = all
        .into_iter()
        .filter(|facts| is_wanted(&facts.vg) && !facts.hidden)
        .map(|facts| ListedVolume { refusal: refusal_of(&facts), facts })
        .collect();
    volumes.sort_by(|a, b| (&a.facts.vg, &a.facts.lv).cmp(&(&b.facts.vg, &b.facts.lv)));
    let is_empty = |group: &&String| !volumes.iter().any(|volume| volume.facts.vg == **group);
    Ok(Volumes { empty_groups: volume_groups.iter().filter(is_empty).cloned().collect(), volumes })
}

/// How much room a group has for snapshots. Fails when LVM cannot be asked, or does not know the group.
pub fn free_bytes(group: &str, commands: &dyn RunCommand) -> Result<u64, SourceError> {
    let facts = vg(commands, group)?;
    Ok(facts.free_extents.saturating_mul(facts.extent_size_bytes))
}
