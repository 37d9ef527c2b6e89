//! Restores volume groups inside the disk: their physical volumes get their original labels and metadata. No LVM
//! tool runs, and nothing is activated: the manifest gives the extents of each logical volume.

use super::kept::Kept;
use crate::layout::Region;
use crate::layout::lvm2::{HeadError, PvEntry, VolumeGroup, head, renamed};
use crate::shown;

/// LVM's unit.
const SECTOR_BYTES: u64 = 512;

/// The groups in the manifest.
pub(super) struct Groups {
    all: Vec<KeptGroup>,
}

/// A volume group, and its metadata text.
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
    /// Its volume group's metadata does not list it.
    #[error("its volume group does not know it")]
    Unknown,
    /// `pe_start` is outside the volume.
    #[error("its first extent lies behind its end")]
    ExtentOutside,
    /// The metadata text starts with another name.
    #[error("its volume group cannot get another name: the metadata do not begin with the one that it has")]
    NotRenamed,
    /// The new name is invalid for LVM.
    #[error("{} is no name for a volume group", shown_group(.0))]
    Name(String),
    /// Label and metadata cannot be written.
    #[error(transparent)]
    Head(#[from] HeadError),
}

/// lvm(8), "Valid names": whether a volume group may have this name.
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
    /// Reads the preserved metadata texts of these physical volumes. A text that wraps around its ring buffer is in
    /// two runs.
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

    /// The group of a physical volume.
    pub(super) fn of_volume(&mut self, region: &Region) -> Option<&KeptGroup> {
        let uuid = region.holds.uuid.as_deref()?;
        self.all.iter().find(|group| group.volumes.iter().any(|volume| volume.id == uuid))
    }
}

impl KeptGroup {
    /// A physical volume's bytes up to the end of its metadata, with the group renamed if `new_name` is given.
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
