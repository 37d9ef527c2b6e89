//! The place of a volume on this host: its logical volume, or the file of Cinder's driver.

use std::path::Path;

use super::choice::GIB;
use super::error::{ToVolumeError, refused};
use crate::cloud::VOLUME_PREFIX;
use crate::openstack::Volume;
use crate::outside::RunCommand;
use crate::run::rebuild::target::TargetSpec;
use crate::shown;
use crate::source::list_volumes;

/// Where volumes are looked for.
pub(super) struct Place<'a> {
    /// This host, as Cinder names it.
    pub(super) host: &'a str,
    /// The directory of the driver's files; `None` if volumes are logical volumes.
    pub(super) volumes_dir: Option<&'a Path>,
    /// The backup's name, for messages.
    pub(super) backup: &'a str,
}

impl Place<'_> {
    /// The logical volume, or the driver's file, on this host.
    pub(super) fn of(&self, volume: &Volume, commands: &dyn RunCommand) -> Result<TargetSpec, ToVolumeError> {
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
                shown::text(self.host),
                self.backup
            ));
        }
        let lv = lv_name(volume);
        if let Some(directory) = self.volumes_dir {
            let file = directory.join(&lv);
            if !std::fs::symlink_metadata(&file).is_ok_and(|found| found.is_file()) {
                return refused(format!("{} is no file; see volumes_dir in [openstack]", file.display()));
            }
            return Ok(TargetSpec::Image(file, Some(volume.size.saturating_mul(GIB))));
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
        Ok(TargetSpec::Device(found.facts.node().to_owned()))
    }
}

/// The name of a volume's logical volume or file.
pub(super) fn lv_name(volume: &Volume) -> String {
    format!("{VOLUME_PREFIX}{}", volume.name_id.as_ref().unwrap_or(&volume.id))
}
