//! A restore into a volume of Cinder: a new one, or one that is available. The disk itself is written by the restore onto
//! a device; this part makes the volume, keeps it out of use while it is written, and hands it over when it is whole.
//!
//! The metadata `volbak-restore` marks the volume from its first moment until it is whole. A run that was killed leaves the
//! mark, and the status `maintenance`, in which nothing attaches a volume. The next run finds it by the mark.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::collect;
use crate::cloud::{CloudVolume, VOLUME_PREFIX};
use crate::config::OpenStackOptions;
use crate::manifest::Manifest;
use crate::openstack::{CloudError, NewVolume, Server, Session, Volume};
use crate::outside::RunCommand;
use crate::outside::host;
use crate::run::rebuild::target::TargetSpec;
use crate::shown;
use crate::source::{SourceError, list_volumes};

/// The key of the metadata that marks a volume which is being written.
const MARK: &str = "volbak-restore";
const GIB: u64 = 1 << 30;
/// The time that Cinder and Nova have for one step.
const STEP_LIMIT: Duration = Duration::from_secs(300);

/// Why a volume cannot be restored into.
#[derive(Debug, thiserror::Error)]
pub enum ToVolumeError {
    /// The cloud.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// LVM cannot say where the volume is.
    #[error(transparent)]
    Lvm(#[from] SourceError),
    /// What is asked for is not possible, or not safe.
    #[error("{0}")]
    Refused(String),
}

fn refused<T>(what: impl Into<String>) -> Result<T, ToVolumeError> {
    Err(ToVolumeError::Refused(what.into()))
}

/// What to restore into.
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

/// A volume that is restored into.
#[derive(Debug)]
pub struct ToVolume {
    session: Session,
    wish: VolumeWish,
    host: String,
    volumes_dir: Option<PathBuf>,
    entry: Option<CloudVolume>,
    new: Option<NewVolume>,
    volume: Option<Volume>,
    instance: Option<Server>,
    target: Option<TargetSpec>,
    has_begun: bool,
    /// What the user should know: unfinished restores, doubts about the settings.
    pub remarks: Vec<String>,
}

impl ToVolume {
    /// Looks at the cloud and checks what is asked for. Changes nothing.
    pub fn plan(
        options: &OpenStackOptions,
        manifest: &Manifest,
        wish: VolumeWish,
        commands: &dyn RunCommand,
    ) -> Result<Self, ToVolumeError> {
        let (session, mut remarks) = collect::open(options)?;
        let volumes = session.volumes()?;
        let servers = session.servers()?;
        let entry = manifest.cloud.as_ref().map(|entry| entry.volume.clone());
        if entry.as_ref().is_some_and(|entry| entry.encrypted) {
            return refused(
                "Nova encrypts the volume of this backup, with a key that belongs to that volume: a new one would be unreadable",
            );
        }
        for left in volumes.iter().filter(|volume| volume.metadata.contains_key(MARK)) {
            remarks.push(format!(
                "volume {} ({}, {}) is left from a restore of {} that was not completed: `volbak restore BACKUP --to-volume {}` \
                 writes it anew",
                shown::text(&left.id),
                shown::text(&left.name),
                shown::text(&left.status),
                shown::text(&left.metadata[MARK]),
                shown::text(&left.id),
            ));
        }
        let found: Vec<&Volume> = match &wish.volume {
            None => Vec::new(),
            Some(called) => {
                let by_id: Vec<_> = volumes.iter().filter(|volume| volume.id == *called).collect();
                if by_id.is_empty() { volumes.iter().filter(|volume| volume.name == *called).collect() } else { by_id }
            }
        };
        let volume = match found[..] {
            [] => None,
            [one] => Some(one.clone()),
            _ => {
                let ids: Vec<_> = found.iter().map(|volume| shown::text(&volume.id)).collect();
                return refused(format!("several volumes are called so: {}; give the id", ids.join(", ")));
            }
        };
        let disk_gib = manifest.layout.source.size_bytes.div_ceil(GIB).max(1);
        if let Some(volume) = &volume {
            is_free(volume, &servers)?;
            if volume.size < disk_gib {
                return refused(format!(
                    "{}: it has {} GiB, and the disk {disk_gib}",
                    shown::text(&volume.id),
                    volume.size
                ));
            }
        }
        let new = match &volume {
            Some(_) => None,
            None => Some(new_volume(&wish, entry.as_ref(), disk_gib)?),
        };
        let instance = match &wish.attach {
            None => None,
            Some(called) => Some(instance(&servers, called)?),
        };
        let host = options.host.clone().unwrap_or_else(host::name);
        let volumes_dir = options.volumes_dir.clone();
        let mut planned = Self {
            session,
            wish,
            host,
            volumes_dir,
            entry,
            new,
            volume,
            instance,
            target: None,
            has_begun: false,
            remarks,
        };
        if planned.volume.is_some() {
            planned.find_target(commands)?;
        }
        Ok(planned)
    }

    /// The volume in words, before anything is changed.
    pub fn text(&self) -> String {
        let mut text = match (&self.volume, &self.new) {
            (Some(volume), _) => {
                format!("volume {} ({}), {} GiB", shown::text(&volume.id), shown::text(&volume.name), volume.size)
            }
            (None, Some(new)) => format!(
                "a new volume {}, {} GiB, type {}, zone {}",
                shown::text(&new.name),
                new.size_gib,
                shown::text(new.volume_type.as_deref().unwrap_or("by default")),
                shown::text(new.zone.as_deref().unwrap_or("by default")),
            ),
            (None, None) => String::new(),
        };
        if self.entry.as_ref().is_some_and(|entry| entry.bootable) {
            text.push_str(", bootable");
        }
        if let Some(instance) = &self.instance {
            text.push_str(&format!("; then attached to {}", shown::text(&instance.name)));
        }
        text + "\n"
    }

    /// The volume as JSON.
    pub fn facts(&self) -> Value {
        let id = self.volume.as_ref().map(|volume| volume.id.clone());
        let named = |volume: &Volume| (volume.name.clone(), volume.size);
        let planned = self.new.as_ref().map(|new| (new.name.clone(), new.size_gib));
        let (name, size) = self.volume.as_ref().map(named).or(planned).unwrap_or_default();
        json!({
            "id": id, "name": name, "size_gib": size, "new": self.new.is_some(),
            "bootable": self.entry.as_ref().is_some_and(|entry| entry.bootable),
            "attach": self.instance.as_ref().map(|instance| instance.id.clone()),
            "remarks": self.remarks,
        })
    }

    /// Makes the volume, if it is to be a new one, and finds its place on this host.
    pub fn make(&mut self, commands: &dyn RunCommand) -> Result<(), ToVolumeError> {
        let Some(new) = self.new.as_ref().filter(|_| self.volume.is_none()) else { return Ok(()) };
        self.session.renew_deadline();
        let made = self.session.make_volume(new)?;
        let id = made.id.clone();
        self.volume = Some(made);
        self.volume = Some(self.wait(&id, "available")?);
        // From here on nothing can attach it.
        self.begin()?;
        self.find_target(commands)
    }

    /// Where to write; `None` for a volume that is not made yet.
    pub fn target(&self) -> Option<&TargetSpec> {
        self.target.as_ref()
    }

    /// The value of `--yes-erase` for a volume that holds nothing but what a restore wrote: a new one, or one that a restore left
    /// in maintenance. The mark alone says nothing: its owner can set it.
    pub fn erasable(&self) -> Option<String> {
        let volume = self.volume.as_ref()?;
        let is_left = volume.status == "maintenance" && volume.metadata.contains_key(MARK);
        let is_ours = self.new.is_some() || is_left;
        is_ours.then(|| lv_name(volume))
    }

    /// Takes the volume out of use: called before the first byte is written.
    pub fn begin(&mut self) -> Result<(), ToVolumeError> {
        let Some(volume) = self.volume.as_ref().filter(|_| !self.has_begun) else { return Ok(()) };
        let id = volume.id.clone();
        self.session.renew_deadline();
        let now = self.session.volume(&id)?;
        is_free(&now, &[])?;
        self.has_begun = true;
        if now.status == "available" {
            if !now.metadata.contains_key(MARK) {
                self.session.set_metadata(&id, MARK, &mark(&self.wish.backup))?;
            }
            self.session.begin_maintenance(&id)?;
        }
        // An attachment that was made meanwhile would see the disk being written.
        let now = self.session.volume(&id)?;
        if now.status != "maintenance" || !self.session.attachments_of(&id)?.is_empty() {
            return refused(format!(
                "volume {id} was attached just now, or its status changed to {}: nothing is written",
                shown::text(&now.status)
            ));
        }
        Ok(())
    }

    /// Hands over the volume that is now whole, and attaches it if asked. Returns what was done, for a line of output.
    pub fn finish(&mut self) -> Result<String, ToVolumeError> {
        let Some(volume) = &self.volume else { return refused("there is no volume") };
        let id = volume.id.clone();
        self.session.renew_deadline();
        let now = self.session.volume(&id)?;
        if now.status != "maintenance" || !now.attachments.is_empty() {
            return refused(format!(
                "volume {id} left the status maintenance while it was written ({}): it is not attached; look who changed it",
                shown::text(&now.status)
            ));
        }
        self.session.end_maintenance(&id)?;
        // In maintenance Cinder changes neither the flag nor metadata.
        if let Some(entry) = &self.entry {
            if entry.bootable != now.bootable {
                self.session.set_bootable(&id, entry.bootable)?;
            }
            if !entry.image_metadata.is_empty() {
                self.session.set_image_metadata(&id, &entry.image_metadata)?;
            }
        }
        if now.metadata.contains_key(MARK) {
            self.session.delete_metadata(&id, MARK)?;
        }
        let mut done = format!("volume {id} ({}) is available", shown::text(&now.name));
        if let Some(server) = &self.instance {
            self.session.attach(&server.id, &id)?;
            self.wait(&id, "in-use")?;
            done = format!(
                "volume {id} ({}) is attached to {} ({})",
                shown::text(&now.name),
                shown::text(&server.name),
                server.id
            );
        }
        Ok(done)
    }

    /// After a restore that is not complete: in which status the volume is left, and what to do with it.
    pub fn keep(&self) -> String {
        let Some(id) = self.changed() else { return "no volume was changed".to_owned() };
        self.session.renew_deadline();
        let again = self.again(&id);
        match self.session.volume(&id) {
            Ok(now) if now.status == "maintenance" => {
                format!("volume {id} is not attached, and stays in maintenance: {again}")
            }
            Ok(now) => format!("volume {id} is {}: {again}", shown::text(&now.status)),
            Err(error) => format!("volume {id} is as it was left; its status is not known ({error}): {again}"),
        }
    }

    /// The volume, if it is a new one or was taken out of use.
    fn changed(&self) -> Option<String> {
        let volume = self.volume.as_ref().filter(|_| self.has_begun || self.new.is_some());
        volume.map(|volume| volume.id.clone())
    }

    fn again(&self, id: &str) -> String {
        format!(
            "`volbak restore {} --to-volume {id}` writes it anew, `openstack volume set --state available {id}` gives it free",
            self.wish.backup
        )
    }

    /// After a failure: as [`Self::keep`], but a new volume is deleted if that was asked for. Returns what became of it.
    pub fn give_up(&mut self) -> String {
        let Some(id) = self.changed().filter(|_| self.wish.delete_on_failure && self.new.is_some()) else {
            return self.keep();
        };
        let again = self.again(&id);
        self.session.renew_deadline();
        // Cinder deletes what is available or in error.
        let gone = self.session.volume(&id).and_then(|now| {
            if now.status == "maintenance" {
                self.session.end_maintenance(&id)?;
            }
            self.session.delete_volume(&id)
        });
        match gone {
            Ok(()) => format!("volume {id} is deleted"),
            Err(error) => format!("volume {id} cannot be deleted ({error}): {again}"),
        }
    }

    /// The logical volume, or the driver's file, on this host.
    fn find_target(&mut self, commands: &dyn RunCommand) -> Result<(), ToVolumeError> {
        let Some(volume) = &self.volume else { return Ok(()) };
        let place = volume.host.as_deref().unwrap_or_default();
        let host = place.split('@').next().unwrap_or_default();
        let id = &volume.id;
        if host.is_empty() {
            return refused(format!("Cinder does not say on which host volume {id} is: the user needs the role admin"));
        }
        if host != self.host {
            return refused(format!(
                "volume {id} is on host {}, and this is {}; run there: volbak restore {} --to-volume {id}",
                shown::text(host),
                shown::text(&self.host),
                self.wish.backup
            ));
        }
        let lv = lv_name(volume);
        if let Some(directory) = &self.volumes_dir {
            let file = directory.join(&lv);
            if !std::fs::symlink_metadata(&file).is_ok_and(|found| found.is_file()) {
                return refused(format!("{} is no file; see volumes_dir in [openstack]", file.display()));
            }
            self.target = Some(TargetSpec::Image(file, Some(volume.size.saturating_mul(GIB))));
            return Ok(());
        }
        let listed = list_volumes(&[], commands)?;
        let named: Vec<_> = listed.volumes.iter().filter(|listed| listed.facts.lv == lv).collect();
        let [found] = named[..] else {
            return refused(format!(
                "this host has {} logical volumes {lv}: backend {} keeps its volumes in another way, and then \
                 `volumes_dir` in [openstack] names the directory of its files, or they cannot be written from here",
                named.len(),
                shown::text(place)
            ));
        };
        self.target = Some(TargetSpec::Device(found.facts.node().to_owned()));
        Ok(())
    }

    fn wait(&self, id: &str, status: &str) -> Result<Volume, ToVolumeError> {
        let began = Instant::now();
        loop {
            self.session.renew_deadline();
            let now = self.session.volume(id)?;
            if now.status == status {
                return Ok(now);
            }
            if now.status.starts_with("error") || began.elapsed() > STEP_LIMIT {
                let limit = STEP_LIMIT.as_secs();
                let what = shown::text(&now.status);
                return refused(format!(
                    "volume {id} is {what}, and was to be {status} within {limit} s; see Cinder's log"
                ));
            }
            sleep(Duration::from_millis(500));
        }
    }
}

/// Whether nothing uses it, by Cinder's side and by Nova's.
fn is_free(volume: &Volume, servers: &[Server]) -> Result<(), ToVolumeError> {
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

fn instance(servers: &[Server], called: &str) -> Result<Server, ToVolumeError> {
    let mut found: Vec<&Server> = servers.iter().filter(|server| server.id == called).collect();
    if found.is_empty() {
        found = servers.iter().filter(|server| server.name == called).collect();
    }
    match found[..] {
        [one] => Ok(one.clone()),
        [] => refused(format!("there is no instance {}", shown::text(called))),
        _ => refused(format!("several instances are called {}; give the id", shown::text(called))),
    }
}

fn new_volume(wish: &VolumeWish, entry: Option<&CloudVolume>, disk_gib: u64) -> Result<NewVolume, ToVolumeError> {
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

/// Cinder takes 255 characters.
fn mark(backup: &str) -> String {
    backup.chars().take(255).collect()
}

fn lv_name(volume: &Volume) -> String {
    format!("{VOLUME_PREFIX}{}", volume.name_id.as_ref().unwrap_or(&volume.id))
}
