//! The volume and the instance that are asked for, and whether the volume can be written.

use super::error::{ToVolumeError, refused};
use crate::cloud::CloudVolume;
use crate::openstack::{NewVolume, Project, Server, Volume};
use crate::shown;

/// The key of the metadata that marks a volume which is being written.
pub(super) const MARK: &str = "volbak-restore";
pub(super) const GIB: u64 = 1 << 30;

/// The volume to restore into.
#[derive(Clone, Debug, Default)]
pub struct VolumeWish {
    /// A volume by its id or name; the name of a new one if no volume is called so; the backup's own name if `None`.
    pub volume: Option<String>,
    /// The type of a new volume; that of the backup's volume if `None`.
    pub volume_type: Option<String>,
    /// The availability zone of a new volume; that of the backup's volume if `None`.
    pub zone: Option<String>,
    /// The size of a new volume in GiB; that of the backup's disk if `None`.
    pub size_gib: Option<u64>,
    /// The instance to attach it to, by id or name.
    pub attach: Option<String>,
    /// Whether a new volume is deleted if the restore fails.
    pub delete_on_failure: bool,
    /// The backup's name, for the mark and for commands in messages.
    pub backup: String,
}

/// A remark on each volume that an earlier restore did not complete.
pub(super) fn unfinished(volumes: &[Volume]) -> impl Iterator<Item = String> {
    volumes.iter().filter(|volume| volume.metadata.contains_key(MARK)).map(|left| {
        format!(
            "volume {} ({}, {}) is left from a restore of {} that was not completed: `volbak restore BACKUP --to-volume {}` \
             writes it anew",
            shown::text(&left.id),
            shown::text(&left.name),
            shown::text(&left.status),
            shown::text(&left.metadata[MARK]),
            shown::text(&left.id),
        )
    })
}

/// A remark if the new volume will be in another project than that of the backup: Cinder makes it in the project of the user.
pub(super) fn other_project(own: Option<&Project>, entry: Option<&CloudVolume>) -> Option<String> {
    let before = entry?.project.as_deref()?;
    let own = own.filter(|own| own.id != before)?;
    let name = entry.and_then(|entry| entry.project_name.as_deref()).unwrap_or(before);
    Some(format!(
        "the new volume will be in the project {}, and that of the backup was in {}, whose users will not see it: `openstack volume \
         transfer request create` gives it to them, while it is not attached",
        shown::text(&own.name),
        shown::text(name)
    ))
}

/// The rows with this id, or else with this name.
fn called_so<'a, T>(rows: &'a [T], called: &str, names: impl Fn(&T) -> (&str, &str)) -> Vec<&'a T> {
    let by_id: Vec<&T> = rows.iter().filter(|row| names(row).0 == called).collect();
    if by_id.is_empty() { rows.iter().filter(|row| names(row).1 == called).collect() } else { by_id }
}

/// The volume with this id, or else with this name; `None` if there is none.
pub(super) fn chosen(volumes: &[Volume], called: &str) -> Result<Option<Volume>, ToVolumeError> {
    let found = called_so(volumes, called, |volume| (&volume.id, &volume.name));
    match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => {
            let ids: Vec<_> = found.iter().map(|volume| shown::text(&volume.id)).collect();
            refused(format!("several volumes have this name: {}; give the id", ids.join(", ")))
        }
    }
}

/// Fails if a volume is in use, by Cinder or by Nova.
pub(super) fn is_free(volume: &Volume, servers: &[Server]) -> Result<(), ToVolumeError> {
    let id = shown::text(&volume.id);
    let is_ours = volume.status == "maintenance" && volume.metadata.contains_key(MARK);
    if volume.status != "available" && !is_ours {
        let what = shown::text(&volume.status);
        return refused(format!("volume {id} is {what}; one that is available can be restored into"));
    }
    if let Some(server) = servers.iter().find(|server| server.volumes.iter().any(|one| one.id == volume.id)) {
        let name = shown::text(&server.name);
        return refused(format!(
            "Nova maps volume {id} to {name}, though Cinder says {}: see `volbak cloud recover`",
            volume.status
        ));
    }
    if !volume.attachments.is_empty() {
        return refused(format!("volume {id} has an attachment: see `volbak cloud recover`"));
    }
    if volume.encrypted {
        return refused(format!("Nova encrypts volume {id}: what is written beside Nova is unreadable to instances"));
    }
    Ok(())
}

/// The instance with this id, or else with this name.
pub(super) fn instance(servers: &[Server], called: &str) -> Result<Server, ToVolumeError> {
    let found = called_so(servers, called, |server| (&server.id, &server.name));
    match found[..] {
        [one] => Ok(one.clone()),
        [] => refused(format!("there is no instance {}", shown::text(called))),
        _ => refused(format!("several instances are called {}; give the id", shown::text(called))),
    }
}

/// The volume to make, at least as long as the disk.
pub(super) fn new_volume(
    wish: &VolumeWish,
    entry: Option<&CloudVolume>,
    disk_gib: u64,
) -> Result<NewVolume, ToVolumeError> {
    let size_gib = wish.size_gib.unwrap_or(disk_gib);
    if size_gib < disk_gib {
        return refused(format!("a volume of {size_gib} GiB is too small: the disk has {disk_gib} GiB"));
    }
    // A mistyped id would become a name.
    if let Some(name) = wish.volume.as_deref().filter(|name| crate::field::is_uuid(name)) {
        return refused(format!("there is no volume {name}"));
    }
    let named = entry.map(|entry| entry.name.clone()).filter(|name| !name.is_empty());
    let mut metadata = entry.map(|entry| entry.metadata.clone()).unwrap_or_default();
    metadata.insert(MARK.to_owned(), mark(&wish.backup));
    Ok(NewVolume {
        name: wish.volume.clone().or(named).unwrap_or_else(|| wish.backup.clone()),
        size_gib,
        volume_type: wish.volume_type.clone().or_else(|| entry.and_then(|entry| entry.volume_type.clone())),
        zone: wish.zone.clone().or_else(|| entry.and_then(|entry| entry.zone.clone())),
        metadata,
    })
}

/// The value of [`MARK`]. Cinder takes 255 characters.
pub(super) fn mark(backup: &str) -> String {
    backup.chars().take(255).collect()
}
