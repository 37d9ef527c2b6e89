//! Volume groups inside the disk: their physical volumes get the label and the metadata that they had. No tool of LVM
//! runs, and nothing is activated: where each logical volume lies is known from the manifest.

use super::kept::Kept;
use crate::layout::Region;
use crate::layout::lvm2::{HeadError, PvEntry, VolumeGroup, head, renamed};
use crate::shown;

/// LVM counts in sectors of this size.
const SECTOR_BYTES: u64 = 512;

/// The groups that the manifest holds.
pub(super) struct Groups {
    all: Vec<KeptGroup>,
}

/// A volume group, and the text of its metadata.
pub(super) struct KeptGroup {
    /// Its name.
    pub name: String,
    text: Vec<u8>,
    volumes: Vec<PvEntry>,
}

/// Why a physical volume does not get its metadata.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum GroupError {
    /// Its volume group's metadata lacks it.
    #[error("its volume group does not know it")]
    Unknown,
    /// `pe_start` lies outside of it.
    #[error("its first extent lies behind its end")]
    ExtentOutside,
    /// The metadata's text begins with another name.
    #[error("its volume group cannot get another name: the metadata do not begin with the one that it has")]
    NotRenamed,
    /// LVM does not take the new name.
    #[error("{} is no name for a volume group", shown_group(.0))]
    Name(String),
    /// The label and metadata cannot be written.
    #[error(transparent)]
    Head(#[from] HeadError),
}

/// lvm(8), "Valid names": what a volume group may be called.
pub fn is_group_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 127
        && name != "."
        && name != ".."
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte))
}

/// A name for a message.
pub(super) fn shown_group(name: &str) -> String {
    shown::path(name.as_bytes())
}

impl Groups {
    /// Reads the texts that were kept of these physical volumes. One that goes on at the start of its ring is in two runs.
    pub(super) fn of(kept: &[Kept], volumes: &[&Region]) -> Self {
        let group = |region: &&Region| {
            let what = format!("LVM2 metadata of {}", region.name);
            let runs = kept.iter().filter(|bytes| bytes.what == what);
            let mut text: Vec<u8> = runs.flat_map(|bytes| bytes.bytes.iter().copied()).collect();
            let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            text.truncate(end);
            let parsed = VolumeGroup::parse(&text).ok().filter(|group| is_group_name(&group.name))?;
            Some(KeptGroup { name: parsed.name, text, volumes: parsed.physical_volumes })
        };
        Self { all: volumes.iter().filter_map(group).collect() }
    }

    /// The group that a physical volume belongs to.
    pub(super) fn of_volume(&mut self, region: &Region) -> Option<&KeptGroup> {
        let uuid = region.holds.uuid.as_deref()?;
        self.all.iter().find(|group| group.volumes.iter().any(|volume| volume.id == uuid))
    }
}

impl KeptGroup {
    /// A physical volume's bytes up to the end of its metadata, the group with a new name if there is one.
    pub(super) fn head(&self, region: &Region, new_name: Option<&str>) -> Result<Vec<u8>, GroupError> {
        let volume = self.volumes.iter().find(|volume| region.holds.uuid.as_deref() == Some(volume.id.as_str()));
        let volume = volume.ok_or(GroupError::Unknown)?;
        let end = volume.pe_start_sectors.checked_mul(SECTOR_BYTES).filter(|end| *end <= region.size_bytes);
        let pe_start_bytes = end.ok_or(GroupError::ExtentOutside)?;
        let text = match new_name.filter(|new| *new != self.name) {
            Some(new) if is_group_name(new) => renamed(&self.text, &self.name, new).ok_or(GroupError::NotRenamed)?,
            Some(new) => return Err(GroupError::Name(new.to_owned())),
            None => self.text.clone(),
        };
        let size = region.holds.size_bytes.unwrap_or(region.size_bytes);
        Ok(head(&volume.id, size, pe_start_bytes, &text)?)
    }
}
