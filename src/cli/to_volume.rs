//! `volbak restore --to-volume`: the restore onto a device, around which the volume is made, kept out of use and handed over.

#[cfg(feature = "openstack")]
pub(crate) use self::with_cloud::{OfVolume, VolumeArgs, restore_to_volume};
#[cfg(not(feature = "openstack"))]
pub(crate) use self::without::OfVolume;

#[cfg(feature = "openstack")]
mod with_cloud {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::path::PathBuf;

    use anyhow::Context;
    use clap::Args;
    use volbak::error::ExitClass;
    use volbak::outside::SystemCommands;
    use volbak::run::cloud::to_volume::{ToVolume, VolumeWish};
    use volbak::run::rebuild::target::TargetSpec;
    use volbak::store::Backup;

    use crate::cli::disk::{DiskArgs, Work, restore_disk};
    use crate::cli::log;
    use crate::cli::output::{print, print_json};
    use crate::cli::place::Where;
    use crate::cli::progress::Verbosity;

    #[derive(Debug, Args)]
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
        /// Delete a new volume if the restore fails, or leave it in maintenance, in which nothing attaches it
        #[arg(long, value_name = "WHAT", requires = "to_volume", default_value = "maintenance", value_parser = ["maintenance", "delete"])]
        on_failure: String,
    }

    impl VolumeArgs {
        pub(crate) fn is_asked(&self) -> bool {
            self.to_volume.is_some()
        }
    }

    pub(crate) struct OfVolume {
        volume: ToVolume,
        /// A driver's file, its owner and its mode: the restore puts a new file in its place.
        file: Option<(PathBuf, u32, u32, u32)>,
    }

    impl OfVolume {
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

        fn hand_over(&mut self) -> anyhow::Result<String> {
            if let Some((file, uid, gid, mode)) = &self.file {
                let named = || file.display().to_string();
                chown(file, Some(*uid), Some(*gid)).with_context(named)?;
                fs::set_permissions(file, Permissions::from_mode(*mode)).with_context(named)?;
            }
            Ok(self.volume.finish()?)
        }
    }

    pub(crate) fn restore_to_volume(
        args: &DiskArgs,
        place: &Where,
        files: &Backup,
        work: &mut Work,
    ) -> anyhow::Result<ExitClass> {
        let config = place.config()?;
        anyhow::ensure!(config.openstack.enabled, "--to-volume asks the cloud: the config has no table [openstack]");
        let manifest = files.read_manifest().with_context(|| files.stem().to_owned())?;
        let given = &args.volume;
        let wish = VolumeWish {
            volume: given.to_volume.clone().flatten(),
            volume_type: given.volume_type.clone(),
            zone: given.volume_zone.clone(),
            size_gib: given.volume_size,
            attach: given.attach.clone(),
            delete_on_failure: given.on_failure == "delete",
            backup: files.stem().to_owned(),
        };
        let mut volume = ToVolume::plan(&config.openstack, &manifest, wish, &SystemCommands)?;
        for remark in &volume.remarks {
            log::warning(&format!("warning: {remark}"));
        }
        if !work.json && (work.dry_run || work.verbosity > Verbosity::Quiet) {
            print(&volume.text())?;
        }
        if work.dry_run && volume.target().is_none() {
            if work.json {
                print_json(&serde_json::json!({ "plan": null, "lost": [], "report": null, "volume": volume.facts() }))?;
            }
            return Ok(ExitClass::Well);
        }
        let made = if work.dry_run { Ok(()) } else { volume.make(&SystemCommands) };
        work.volume = Some(OfVolume { volume, file: None });
        let restored = made.map_err(anyhow::Error::from).and_then(|()| restore_disk(args, files, work));
        let Some(of_volume) = work.volume.as_mut().filter(|_| !work.dry_run) else { return restored };
        match restored {
            Ok(ExitClass::Well) => match of_volume.hand_over() {
                Ok(done) => {
                    if !work.json && work.verbosity > Verbosity::Quiet {
                        print(&(done + "\n"))?;
                    }
                    Ok(ExitClass::Well)
                }
                Err(error) => Err(error.context("the disk is restored, and its volume is not handed over")),
            },
            Ok(class) => {
                log::warning(&format!("warning: the restore is not complete: {}", of_volume.volume.give_up()));
                Ok(class)
            }
            Err(error) => {
                let left = of_volume.volume.give_up();
                log::warning(&format!("warning: {left}"));
                Err(error.context("the volume is not restored"))
            }
        }
    }
}

#[cfg(not(feature = "openstack"))]
mod without {
    use volbak::run::rebuild::target::TargetSpec;

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
