//! Lists volumes.

use crate::outside::RunCommand;
use crate::source::error::SourceError;
use crate::source::lvm::{LvFacts, Which, lvs, vg};
use crate::source::naming::is_snapshot_name;
use crate::source::naming::{KEPT_TAG, SNAPSHOT_TAG};
use crate::source::refusal::{Refusal, refusal_of};

/// A volume of the listed groups.
#[derive(Clone, Debug)]
pub struct ListedVolume {
    /// Facts from LVM.
    pub facts: LvFacts,
    /// Why it cannot be backed up; `None` if it can.
    pub refusal: Option<Refusal>,
}

impl ListedVolume {
    /// Whether volbak took it as a snapshot: in use, left by a crash, or kept.
    pub fn is_ours(&self) -> bool {
        let tagged = self.facts.tags.iter().any(|tag| tag == SNAPSHOT_TAG || tag == KEPT_TAG);
        tagged && is_snapshot_name(&self.facts.lv)
    }
}

/// The result of [`list_volumes`].
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    /// The visible volumes, by group and name, without LVM's internal ones.
    pub volumes: Vec<ListedVolume>,
    /// The requested groups that have no volumes or do not exist.
    pub empty_groups: Vec<String>,
}

/// Lists the volumes of these groups or, if none is named, of all, with the reason for each that cannot be backed
/// up. Fails if LVM cannot be queried.
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

/// The thin pool of a volume; `None` if it is no thin volume. Fails if LVM cannot be queried.
pub fn pool_of(volume: &LvFacts, commands: &dyn RunCommand) -> Result<Option<LvFacts>, SourceError> {
    let Some(pool) = volume.pool.as_deref().filter(|_| volume.is_thin()) else { return Ok(None) };
    let found = lvs(commands, Which::Volume { vg: &volume.vg, uuid: &volume.uuid, pool: Some(pool) })?;
    Ok(found.into_iter().find(|facts| facts.lv == pool))
}

/// The free space of a group for snapshots. Fails if LVM cannot be queried or does not know the group.
pub fn free_bytes(group: &str, commands: &dyn RunCommand) -> Result<u64, SourceError> {
    let facts = vg(commands, group)?;
    Ok(facts.free_extents.saturating_mul(facts.extent_size_bytes))
}
