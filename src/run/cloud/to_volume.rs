//! A restore into a volume of Cinder: a new one, or one that is available. The disk itself is written by the restore onto
//! a device; this part makes the volume, keeps it out of use while it is written, and hands it over when it is whole.
//!
//! The metadata `volbak-restore` marks the volume from its first moment until it is whole. A run that was killed leaves the
//! mark, and the status `maintenance`, in which nothing attaches a volume. The next run finds it by the mark.

mod choice;
mod error;
mod place;

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use self::choice::VolumeWish;
use self::choice::{GIB, MARK, chosen, homes, instance, is_free, mark, new_volume, other_project, unfinished};
pub use self::error::ToVolumeError;
use self::error::refused;
use self::place::{Place, lv_name};
use super::collect;
use crate::cloud::CloudVolume;
use crate::config::OpenStackOptions;
use crate::manifest::Manifest;
use crate::openstack::{NewVolume, Server, Session, Volume};
use crate::outside::RunCommand;
use crate::outside::host;
use crate::run::rebuild::target::TargetSpec;
use crate::shown;

/// The time that Cinder and Nova have for one step.
const STEP_LIMIT: Duration = Duration::from_secs(300);

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
        // A member may make a volume, and then neither keep it out of use nor say on which host it is.
        if !session.is_admin() {
            return Err(ToVolumeError::MissingRight);
        }
        let volumes = session.volumes()?;
        let servers = session.servers()?;
        let entry = manifest.cloud.as_ref().map(|entry| entry.volume.clone());
        if entry.as_ref().is_some_and(|entry| entry.encrypted) {
            return refused(
                "Nova encrypts the volume of this backup, with a key that belongs to that volume: a new one would be unreadable",
            );
        }
        remarks.extend(unfinished(&volumes));
        let homes = homes(session.project().as_ref(), entry.as_ref());
        let volume = match &wish.volume {
            None => None,
            Some(called) => chosen(&volumes, called, &homes)?,
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
        if new.is_some() {
            remarks.extend(other_project(session.project().as_ref(), entry.as_ref()));
        }
        let instance = match &wish.attach {
            None => None,
            Some(called) => Some(instance(&servers, called, &homes)?),
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
        let made = self.session.make_volume(new).map_err(|error| match error.status() {
            Some(400..=499) => ToVolumeError::from(error),
            // The answer was lost, perhaps not the request.
            _ => ToVolumeError::MadeOrNot { name: shown::text(&new.name), source: Box::new(error) },
        })?;
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

    /// The value of `--yes-erase` for a volume that holds only data of a restore: a new one, or one that a restore left
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
        let attachments = self.session.attachments_of(&id)?;
        if now.status == "maintenance" && attachments.is_empty() {
            return Ok(());
        }
        let mut status = now.status;
        if status == "maintenance" && attachments.iter().all(|one| one.status.as_deref() == Some("attached")) {
            // The instance that has it goes on with it.
            self.session.keep_attached(&id)?;
            "in-use".clone_into(&mut status);
        }
        refused(format!(
            "volume {id} was attached just now, or its status was changed: nothing is written, and its status is {} now",
            shown::text(&status)
        ))
    }

    /// Hands over the volume that is now whole, and attaches it if asked. Returns what was done, for a line of output.
    pub fn finish(&mut self) -> Result<String, ToVolumeError> {
        let Some(volume) = &self.volume else { return refused("there is no volume") };
        let id = volume.id.clone();
        self.session.renew_deadline();
        let now = self.session.volume(&id)?;
        if now.status != "maintenance" || !now.attachments.is_empty() {
            return refused(format!(
                "volume {id} left the status maintenance while it was written ({}): it is not attached; find out what changed its status",
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
            // Cinder did not make it: there is nothing to write to.
            Ok(now) if now.status.starts_with("error") => {
                format!("volume {id} is {}, and of no use: `openstack volume delete {id}`", shown::text(&now.status))
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
            "`volbak restore {} --to-volume {id}` writes it again, `openstack volume set --state available {id}` releases it",
            self.wish.backup
        )
    }

    /// After a failure: as [`Self::keep`], but a new volume is deleted if that was asked for. Returns a line about the outcome.
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

    fn find_target(&mut self, commands: &dyn RunCommand) -> Result<(), ToVolumeError> {
        let Some(volume) = &self.volume else { return Ok(()) };
        let place = Place { host: &self.host, volumes_dir: self.volumes_dir.as_deref(), backup: &self.wish.backup };
        self.target = Some(place.of(volume, commands)?);
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
            let what = shown::text(&now.status);
            if now.status.starts_with("error") {
                return refused(format!(
                    "Cinder or Nova gave volume {id} up: it is {what}, and not {status}; see their logs"
                ));
            }
            if began.elapsed() > STEP_LIMIT {
                let limit = STEP_LIMIT.as_secs();
                return refused(format!(
                    "volume {id} is {what}, and did not become {status} within {limit} s; see Cinder's log"
                ));
            }
            sleep(Duration::from_millis(500));
        }
    }
}
