//! Takes the map of the cloud: Cinder's lists, Nova's lists, and both sides of each attachment.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::MapError;
use crate::cloud::{Attached, CinderSide, CloudMap, CloudVolume, FORMAT, Instance, NovaSide, VOLUME_PREFIX};
use crate::config::OpenStackOptions;
use crate::error::with_causes;
use crate::field::is_uuid;
use crate::openstack::{
    Attachment, CloudError, CloudSettings, Limits, NovaAttachment, Server, Session, Sources, Volume,
};

/// A map, and what is doubtful about the settings.
#[derive(Debug)]
pub struct Taken {
    /// The map.
    pub map: CloudMap,
    /// What is doubtful about the settings.
    pub doubts: Vec<String>,
}

/// Asks the cloud, by the config and the environment of this process.
pub fn take(options: &OpenStackOptions, now: DateTime<Utc>) -> Result<Taken, MapError> {
    let (session, doubts) = open(options)?;
    Ok(Taken { map: map(&session, now)?, doubts })
}

/// Files with the credentials for the cloud that every user of this host can read, a sentence each.
pub(in crate::run) fn readable_credentials(options: &OpenStackOptions) -> Vec<String> {
    CloudSettings::find(&sources(options)).map(|settings| settings.doubts).unwrap_or_default()
}

fn sources(options: &OpenStackOptions) -> Sources {
    Sources {
        cloud: options.cloud.clone(),
        clouds_file: options.clouds_file.clone(),
        ca_file: options.ca_file.clone(),
        ..Sources::from_environment()
    }
}

/// Logs in, by the config and the environment of this process. Returns what is doubtful about the settings, too.
pub(super) fn open(options: &OpenStackOptions) -> Result<(Session, Vec<String>), CloudError> {
    let settings = CloudSettings::find(&sources(options))?;
    let doubts = settings.doubts.clone();
    let session = Session::open(settings, Limits { deadline: options.deadline, ..Limits::default() })?;
    Ok((session, doubts))
}

/// The map. What is needed for it fails with an error; what is not becomes a doubt in it.
pub(super) fn map(session: &Session, now: DateTime<Utc>) -> Result<CloudMap, CloudError> {
    map_of(session, Lists::read(session)?, now)
}

/// Like [`map`], with the instances that an attachment names and that Nova does not list: it keeps what was deleted for a while,
/// with its volumes. Each is one more request.
pub(super) fn map_with_unlisted(session: &Session, now: DateTime<Utc>) -> Result<CloudMap, CloudError> {
    let mut lists = Lists::read(session)?;
    let listed: BTreeSet<&str> = lists.servers.iter().map(|server| server.id.as_str()).collect();
    let in_volumes =
        lists.volumes.iter().flat_map(|volume| &volume.attachments).filter_map(|one| one.server_id.as_ref());
    let named = lists.attachments.iter().filter_map(|one| one.instance.as_ref()).chain(in_volumes);
    let unlisted: BTreeSet<String> = named.filter(|id| is_uuid(id) && !listed.contains(id.as_str())).cloned().collect();
    for id in unlisted {
        session.renew_deadline();
        match session.server(&id) {
            Ok(server) => lists.servers.push(server),
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error),
        }
    }
    map_of(session, lists, now)
}

/// What the cloud lists.
struct Lists {
    volumes: Vec<Volume>,
    attachments: Vec<Attachment>,
    servers: Vec<Server>,
}

impl Lists {
    fn read(session: &Session) -> Result<Self, CloudError> {
        Ok(Self { volumes: session.volumes()?, attachments: session.attachments()?, servers: session.servers()? })
    }
}

fn map_of(session: &Session, lists: Lists, now: DateTime<Utc>) -> Result<CloudMap, CloudError> {
    let Lists { volumes, attachments, servers } = lists;
    let mut doubts = Vec::new();
    let mut mapped = Vec::new();
    for server in servers.iter().filter(|server| !server.volumes.is_empty()) {
        match session.volumes_of(&server.id, server.volumes.len()) {
            Ok(found) => mapped.extend(found.into_iter().map(|one| (server.id.clone(), one))),
            // Deleted since it was listed.
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error),
        }
    }
    // Names of projects are for people alone.
    let projects: BTreeMap<String, String> = match session.projects() {
        Ok(projects) => projects.into_iter().map(|project| (project.id, project.name)).collect(),
        Err(error) => {
            doubts.push(format!("projects are shown by their ids: {}", with_causes(&error)));
            BTreeMap::new()
        }
    };
    if servers.iter().any(|server| server.host.is_none()) && servers.iter().all(|server| server.host.is_none()) {
        let what = "Nova does not say on which hosts instances run: the user may lack the role admin, and volumes of \
                    other projects are then missing from this map";
        doubts.push(what.to_owned());
    }
    let names: BTreeMap<&str, &str> = servers.iter().map(|server| (server.id.as_str(), server.name.as_str())).collect();
    doubts.extend(by_attachment(&mut mapped, &attachments));
    let mut both = both_sides(&volumes, attachments, mapped, &names);
    let region = session.settings().region.clone();
    let mut map = CloudMap {
        format: FORMAT,
        taken_at: now,
        cloud: session.settings().name.clone(),
        region,
        knows_attachment_ids: session.knows_attachment_ids(),
        volumes: volumes
            .into_iter()
            .map(|volume| {
                let attached = both.remove(&volume.id).unwrap_or_default();
                cloud_volume(volume, attached, &projects)
            })
            .collect(),
        instances: servers.into_iter().map(instance).collect(),
        doubts,
    };
    for (volume, attached) in both {
        if attached.iter().any(|one| one.nova.is_some()) {
            map.doubts.push(format!("Nova maps the volume {volume}, which Cinder does not list"));
        }
    }
    map.settle();
    Ok(map)
}

/// One volume as it is now, with the instances that have it on either side. Nova's side is asked of `also`, too, and of no
/// further ones.
pub(super) fn one_volume(
    session: &Session,
    id: &str,
    also: &BTreeSet<String>,
) -> Result<(CloudVolume, Vec<Instance>), CloudError> {
    let volume = session.volume(id)?;
    let attachments = session.attachments_of(id)?;
    let mut instances = also.clone();
    instances.extend(attachments.iter().filter_map(|one| one.instance.clone()));
    instances.extend(volume.attachments.iter().filter_map(|one| one.server_id.clone()));
    // What is no UUID, a tenant or a host has made up.
    instances.retain(|id| is_uuid(id));
    let (mut servers, mut mapped) = (Vec::new(), Vec::new());
    for id_of in instances {
        let found =
            session.server(&id_of).and_then(|server| Ok((session.volumes_of(&id_of, server.volumes.len())?, server)));
        match found {
            Ok((volumes, server)) => {
                mapped.extend(volumes.into_iter().map(|one| (id_of.clone(), one)));
                servers.push(server);
            }
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error),
        }
    }
    let names: BTreeMap<&str, &str> = servers.iter().map(|server| (server.id.as_str(), server.name.as_str())).collect();
    by_attachment(&mut mapped, &attachments);
    mapped.retain(|(_, one)| one.volume == id);
    let attached =
        both_sides(std::slice::from_ref(&volume), attachments, mapped, &names).remove(id).unwrap_or_default();
    Ok((cloud_volume(volume, attached, &BTreeMap::new()), servers.into_iter().map(instance).collect()))
}

/// Where Nova names an attachment of one volume and calls the volume another one, Cinder's volume is right: an attachment that
/// Nova names must never look as if Nova did not map it. Returns what was corrected.
fn by_attachment(mapped: &mut [(String, NovaAttachment)], attachments: &[Attachment]) -> Vec<String> {
    let of: BTreeMap<&str, &str> = attachments.iter().map(|one| (one.id.as_str(), one.volume_id.as_str())).collect();
    let mut corrected = Vec::new();
    for (server, one) in mapped {
        let Some(id) = &one.attachment_id else { continue };
        if let Some(volume) = of.get(id.as_str()).filter(|volume| **volume != one.volume) {
            corrected.push(format!(
                "Nova says that the attachment {id} to the instance {server} is of the volume {}, and Cinder that it is of {volume}",
                one.volume
            ));
            (*volume).clone_into(&mut one.volume);
        }
    }
    corrected
}

/// Cinder's attachments by volume, each with Nova's side where Nova maps it.
fn both_sides(
    volumes: &[Volume],
    attachments: Vec<Attachment>,
    mapped: Vec<(String, NovaAttachment)>,
    names: &BTreeMap<&str, &str>,
) -> BTreeMap<String, Vec<Attached>> {
    let name = |id: Option<&String>| id.and_then(|id| names.get(id.as_str())).map(|name| (*name).to_owned());
    // The volume's own list has device and host; the list of attachments has status and connection, and reserved ones.
    let mut in_volumes = BTreeMap::new();
    for volume in volumes {
        for one in &volume.attachments {
            if let Some(id) = &one.attachment_id {
                in_volumes.insert(id.clone(), (volume.id.clone(), one.clone()));
            }
        }
    }
    let mut both: BTreeMap<String, Vec<Attached>> = BTreeMap::new();
    for one in attachments {
        let in_volume = in_volumes.remove(&one.id).map(|(_, in_volume)| in_volume).unwrap_or_default();
        let instance = one.instance.or(in_volume.server_id);
        both.entry(one.volume_id).or_default().push(Attached {
            instance_name: name(instance.as_ref()),
            instance,
            cinder: Some(CinderSide {
                attachment: Some(one.id),
                status: one.status,
                device: in_volume.device,
                host: in_volume.host_name,
                iqn: one.connection_info.target_iqn,
                portal: one.connection_info.target_portal,
            }),
            nova: None,
        });
    }
    for (id, (volume, one)) in in_volumes {
        both.entry(volume).or_default().push(Attached {
            instance_name: name(one.server_id.as_ref()),
            instance: one.server_id,
            cinder: Some(CinderSide {
                attachment: Some(id),
                device: one.device,
                host: one.host_name,
                ..CinderSide::default()
            }),
            nova: None,
        });
    }
    for (server, one) in mapped {
        let side = NovaSide { attachment: one.attachment_id, device: one.device, bdm: one.bdm_uuid };
        let attached = both.entry(one.volume).or_default();
        // The same attachment, unless Cinder has it at another instance; or else one of the same instance.
        let by_id = attached.iter().position(|other| {
            let cinder = other.cinder.as_ref().and_then(|cinder| cinder.attachment.as_ref());
            let is_elsewhere = other.instance.as_ref().is_some_and(|instance| *instance != server);
            other.nova.is_none() && side.attachment.is_some() && cinder == side.attachment.as_ref() && !is_elsewhere
        });
        let of_instance =
            || attached.iter().position(|other| other.nova.is_none() && other.instance.as_ref() == Some(&server));
        if let Some(at) = by_id.or_else(of_instance) {
            let found = &mut attached[at];
            found.nova = Some(side);
            if found.instance.is_none() {
                found.instance_name = name(Some(&server));
                found.instance = Some(server);
            }
        } else {
            attached.push(Attached {
                instance_name: name(Some(&server)),
                instance: Some(server),
                cinder: None,
                nova: Some(side),
            });
        }
    }
    both
}

fn cloud_volume(volume: Volume, attachments: Vec<Attached>, projects: &BTreeMap<String, String>) -> CloudVolume {
    let in_name = volume.name_id.as_ref().filter(|id| !id.is_empty()).unwrap_or(&volume.id);
    CloudVolume {
        lv: format!("{VOLUME_PREFIX}{in_name}"),
        name: volume.name,
        status: volume.status,
        size_gib: volume.size,
        volume_type: volume.volume_type,
        zone: volume.availability_zone,
        host: volume.host,
        project_name: volume.project.as_ref().and_then(|project| projects.get(project).cloned()),
        project: volume.project,
        bootable: volume.bootable,
        multiattach: volume.multiattach,
        encrypted: volume.encrypted,
        created_at: volume.created_at,
        metadata: volume.metadata,
        image_metadata: volume.volume_image_metadata,
        attachments,
        differences: Vec::new(),
        id: volume.id,
    }
}

pub(super) fn instance(server: Server) -> Instance {
    let disks = [("root", server.has_image), ("ephemeral", server.flavor.ephemeral), ("swap", server.flavor.swap)];
    let local_disks = disks.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name.to_owned()).collect();
    let addresses = server.addresses.into_iter();
    Instance {
        id: server.id,
        name: server.name,
        status: server.status,
        project: server.project,
        host: server.host,
        zone: server.zone,
        power_state: server.power_state,
        task_state: server.task_state,
        addresses: addresses.map(|(net, all)| (net, all.into_iter().map(|one| one.addr).collect())).collect(),
        root_device: server.root_device,
        local_disks,
    }
}
