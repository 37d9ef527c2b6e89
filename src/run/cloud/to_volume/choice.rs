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
    // A user of the volume can set its metadata, and its status cannot be set by one.
    let is_left = |volume: &&Volume| volume.status == "maintenance" && volume.metadata.contains_key(MARK);
    volumes.iter().filter(is_left).map(|left| {
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

/// The projects in which a name means something: that of the backup, and that of the user. In another one, any tenant may have
/// given it.
pub(super) fn homes(own: Option<&Project>, entry: Option<&CloudVolume>) -> Vec<String> {
    let own = own.map(|own| own.id.clone());
    entry.and_then(|entry| entry.project.clone()).into_iter().chain(own).collect()
}

/// A row of a list: id, name, project.
type Named<'a> = (&'a str, &'a str, Option<&'a str>);

/// The rows with this id, or else with this name in one of these projects.
fn called_so<'a, T>(rows: &'a [T], called: &str, homes: &[String], names: impl Fn(&T) -> Named<'_>) -> Vec<&'a T> {
    let by_id: Vec<&T> = rows.iter().filter(|row| names(row).0 == called).collect();
    let is_at_home = |project: Option<&str>| project.is_none_or(|project| homes.iter().any(|home| home == project));
    let is_called_so = |row: &&T| names(row).1 == called && is_at_home(names(row).2);
    if by_id.is_empty() { rows.iter().filter(is_called_so).collect() } else { by_id }
}

/// The volume with this id, or else with this name in one of these projects; `None` if there is none.
pub(super) fn chosen(volumes: &[Volume], called: &str, homes: &[String]) -> Result<Option<Volume>, ToVolumeError> {
    let found = called_so(volumes, called, homes, |volume| (&volume.id, &volume.name, volume.project.as_deref()));
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

/// The instance with this id, or else with this name in one of these projects.
pub(super) fn instance(servers: &[Server], called: &str, homes: &[String]) -> Result<Server, ToVolumeError> {
    let found = called_so(servers, called, homes, |server| (&server.id, &server.name, server.project.as_deref()));
    match found[..] {
        [one] => Ok(one.clone()),
        [] => refused(format!(
            "there is no instance {} in the project of the backup or of volbak's user; the id of one in another project is taken",
            shown::text(called)
        )),
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

#[cfg(test)]
mod tests {
    use super::{MARK, Server, Volume, chosen, instance, unfinished};

    fn volume(id: &str, project: &str) -> Volume {
        let json = serde_json::json!({
            "id": id, "name": "data", "status": "available", "size": 1, "os-vol-tenant-attr:tenant_id": project,
            "metadata": { MARK: "data_01_12_2026" },
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_name_that_another_tenant_gave_is_not_meant() {
        let (own, foreign) = (volume("1", "own"), volume("2", "foreign"));
        let homes = ["own".to_owned()];
        let found = |volumes: &[Volume], called| chosen(volumes, called, &homes).unwrap().map(|volume| volume.id);
        assert_eq!(found(std::slice::from_ref(&foreign), "data"), None);
        assert_eq!(found(&[foreign.clone(), own], "data").as_deref(), Some("1"));
        assert_eq!(found(&[foreign], "2").as_deref(), Some("2"), "an id has one meaning");

        let server = |project: &str| -> Server {
            serde_json::from_value(
                serde_json::json!({ "id": "s", "name": "web", "status": "ACTIVE", "tenant_id": project }),
            )
            .unwrap()
        };
        assert!(instance(&[server("foreign")], "web", &homes).is_err());
        assert!(instance(&[server("own")], "web", &homes).is_ok());
    }

    #[test]
    fn metadata_of_a_tenant_is_no_unfinished_restore() {
        let mut left = volume("1", "own");
        assert_eq!(unfinished(std::slice::from_ref(&left)).count(), 0);
        left.status = "maintenance".to_owned();
        assert_eq!(unfinished(&[left]).count(), 1);
    }
}
