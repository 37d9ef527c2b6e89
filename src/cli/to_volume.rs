//! `volbak restore --to-volume`: the restore onto a device, around which the volume is made, kept out of use and handed over.

use anyhow::Context;
use volbak::error::ExitClass;
use volbak::outside::SystemCommands;
use volbak::run::cloud::to_volume::ToVolume;
use volbak::store::Backup;

use super::disk::{DiskArgs, Work, restore_disk};
use super::log;
use super::of_volume::{OfVolume, VolumeArgs};
use super::output::{after_printing, print, print_json};
use super::place::Where;
use super::progress::Verbosity;

pub(crate) fn restore_to_volume(
    wish: &VolumeArgs,
    args: &DiskArgs,
    place: &Where,
    files: &Backup,
    work: &mut Work,
) -> anyhow::Result<ExitClass> {
    let config = place.config()?;
    anyhow::ensure!(config.openstack.enabled, "--to-volume asks the cloud: the config has no table [openstack]");
    let manifest = files.read_manifest().with_context(|| files.stem().to_owned())?;
    let wish = wish.wish(files.stem());
    let mut volume = ToVolume::plan(&config.openstack, &manifest, wish, &SystemCommands)?;
    for remark in &volume.remarks {
        log::warning(&format!("warning: {remark}"));
    }
    if !work.json && (work.dry_run || work.verbosity > Verbosity::Quiet) {
        print(&volume.text())?;
    }
    if work.dry_run && volume.target().is_none() {
        if work.json {
            print_json(
                &serde_json::json!({ "plan": null, "lost": [], "needs": null, "report": null, "volume": volume.facts() }),
            )?;
        }
        return Ok(ExitClass::Well);
    }
    let made = if work.dry_run { Ok(()) } else { volume.make(&SystemCommands) };
    work.volume = Some(OfVolume::new(volume));
    let restored = made.map_err(anyhow::Error::from).and_then(|()| restore_disk(args, files, work));
    let Some(of_volume) = work.volume.as_mut().filter(|_| !work.dry_run) else { return restored };
    match restored {
        Ok(class) if work.is_complete => {
            let done = of_volume.hand_over().context("the disk is restored, and its volume is not handed over")?;
            let is_said = !work.json && work.verbosity > Verbosity::Quiet;
            let printed = if is_said { print(&format!("{done}\n")) } else { Ok(()) };
            Ok(after_printing(printed, &done, class))
        }
        // It may be the best that there is: it is not deleted.
        Ok(class) => {
            log::warning(&format!("warning: the restore is not complete: {}", of_volume.keep()));
            Ok(class)
        }
        Err(error) => {
            log::warning(&format!("warning: {}", of_volume.give_up()));
            Err(error.context("the volume is not restored"))
        }
    }
}
