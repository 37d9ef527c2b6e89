//! The volume of Cinder that `volbak restore --to-volume` restores to, and its arguments.

#[cfg(feature = "openstack")]
pub(crate) use self::with_cloud::{OfVolume, VolumeArgs};
#[cfg(not(feature = "openstack"))]
pub(crate) use self::without::{OfVolume, VolumeArgs};

#[cfg(feature = "openstack")]
mod with_cloud {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::path::PathBuf;

    use anyhow::Context;
    use clap::Args;
    use volbak::run::cloud::to_volume::{ToVolume, VolumeWish};
    use volbak::run::rebuild::target::TargetSpec;

    #[derive(Debug, Args)]
    #[group(id = "volume", multiple = true, conflicts_with = "to")]
    pub(crate) struct VolumeArgs {
        /// Rebuild the whole disk on a new volume of Cinder of this name [default: the name it had], or on a volume that is
        /// available. The volume has to lie on this host
        #[arg(long, value_name = "NAME|ID", num_args = 0..=1, conflicts_with_all = ["to_device", "to_image", "region"])]
        #[allow(clippy::option_option, reason = "given or not, with a name or without")]
        to_volume: Option<Option<String>>,
        /// The type of a new volume [default: the type it had]
        #[arg(long, value_name = "TYPE", requires = "to_volume")]
        volume_type: Option<String>,
        /// The availability zone of a new volume [default: the zone it had]
        #[arg(long, value_name = "ZONE", requires = "to_volume")]
        volume_zone: Option<String>,
        /// The size of a new volume in GiB [default: the size of the disk]
        #[arg(long, value_name = "GIB", requires = "to_volume")]
        volume_size: Option<u64>,
        /// Attach the volume to this instance once all of it is restored
        #[arg(long, value_name = "INSTANCE", requires = "to_volume")]
        attach: Option<String>,
        /// Delete a new volume if the restore fails, or keep it in the status maintenance, in which it cannot be attached
        #[arg(long, value_name = "WHAT", requires = "to_volume", default_value = "maintenance", value_parser = ["maintenance", "delete"])]
        on_failure: String,
    }

    impl VolumeArgs {
        pub(crate) fn is_asked(&self) -> bool {
            self.to_volume.is_some()
        }

        /// What is asked for, for the backup with this name.
        pub(crate) fn wish(&self, backup: &str) -> VolumeWish {
            VolumeWish {
                volume: self.to_volume.clone().flatten(),
                volume_type: self.volume_type.clone(),
                zone: self.volume_zone.clone(),
                size_gib: self.volume_size,
                attach: self.attach.clone(),
                delete_on_failure: self.on_failure == "delete",
                backup: backup.to_owned(),
            }
        }
    }

    pub(crate) struct OfVolume {
        volume: ToVolume,
        /// A driver's file, its owner and its mode: the restore puts a new file in its place.
        file: Option<(PathBuf, u32, u32, u32)>,
    }

    impl OfVolume {
        pub(crate) fn new(volume: ToVolume) -> Self {
            Self { volume, file: None }
        }

        pub(crate) fn target(&self) -> Option<TargetSpec> {
            self.volume.target().cloned()
        }

        pub(crate) fn erasable(&self) -> Option<String> {
            self.volume.erasable()
        }

        pub(crate) fn facts(&self) -> serde_json::Value {
            self.volume.facts()
        }

        pub(crate) fn begin(&mut self) -> anyhow::Result<()> {
            if let Some(TargetSpec::Image(file, _)) = self.volume.target() {
                let found = fs::metadata(file).with_context(|| file.display().to_string())?;
                self.file = Some((file.clone(), found.uid(), found.gid(), found.mode() & 0o7777));
            }
            Ok(self.volume.begin()?)
        }

        /// Gives the restored volume to its user, and says what was done.
        pub(crate) fn hand_over(&mut self) -> anyhow::Result<String> {
            if let Some((file, uid, gid, mode)) = &self.file {
                let named = || file.display().to_string();
                chown(file, Some(*uid), Some(*gid)).with_context(named)?;
                fs::set_permissions(file, Permissions::from_mode(*mode)).with_context(named)?;
            }
            Ok(self.volume.finish()?)
        }

        /// Says where a volume is left that is not wholly restored.
        pub(crate) fn keep(&self) -> String {
            self.volume.keep()
        }

        /// Deletes a new volume that is not restored, if that is asked, or says where it is left.
        pub(crate) fn give_up(&mut self) -> String {
            self.volume.give_up()
        }
    }
}

#[cfg(not(feature = "openstack"))]
mod without {
    use volbak::run::rebuild::target::TargetSpec;

    /// The argument, so that it is refused with the reason.
    #[derive(Debug, clap::Args)]
    #[group(id = "volume", multiple = true, conflicts_with = "to")]
    pub(crate) struct VolumeArgs {
        #[arg(long, hide = true, num_args = 0..=1)]
        #[allow(clippy::option_option, reason = "given or not, with a name or without")]
        to_volume: Option<Option<String>>,
    }

    impl VolumeArgs {
        pub(crate) fn is_asked(&self) -> bool {
            self.to_volume.is_some()
        }
    }

    /// There is none without the client of a cloud.
    pub(crate) enum OfVolume {}

    impl OfVolume {
        pub(crate) fn target(&self) -> Option<TargetSpec> {
            match *self {}
        }

        pub(crate) fn erasable(&self) -> Option<String> {
            match *self {}
        }

        pub(crate) fn facts(&self) -> serde_json::Value {
            match *self {}
        }

        pub(crate) fn begin(&mut self) -> anyhow::Result<()> {
            match *self {}
        }
    }
}
