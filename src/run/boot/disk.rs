//! The disk of a backup that is started.

use std::path::Path;
use std::sync::Arc;

use super::firmware::{Firmware, UefiFiles};
use super::options::BootOptions;
use crate::events::{Event, Observer};
use crate::layout::{Layout, TableKind};
use crate::outside::{BlockRead, RunCommand};
use crate::run::image_backup::{OpenImage, OpenImageError};
use crate::run::rebuild::kept::{KeptError, unpack};
use crate::run::rebuild::target::TargetSpec;
use crate::run::rebuild::{self, DeviceError, DeviceOptions};
use crate::run::restore_image::{self, RestoreImageError};
use crate::store::{Backup, ReadError};

/// The name of the disk's file.
pub(super) const DISK: &str = "disk";
/// Why there is no disk to start.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSystem {
    #[error("interrupted")]
    Stopped,
    #[error("it has no partition table")]
    NoTable,
    #[error("its disk has neither boot code nor an EFI system partition")]
    NoBootCode,
    #[error(
        "it boots through UEFI, and that is not proven: needs the package ovmf, which is not installed on this host"
    )]
    NoFirmware,
    #[error("its manifest cannot be used")]
    Manifest(#[from] ReadError),
    #[error(transparent)]
    Kept(#[from] KeptError),
    #[error("its image cannot be read")]
    Image(#[from] OpenImageError),
    #[error("its image cannot be read: {0}")]
    Read(std::io::Error),
    #[error("its disk was not restored")]
    Restore(#[source] DeviceError),
    #[error("its disk was not restored")]
    RestoreImage(#[source] RestoreImageError),
    #[error("not all of its contents were restored: {0}")]
    Incomplete(String),
}

/// Forwards the events of a restore, in which the disk is no source of its own: the events belong to the backup.
struct OfBackup<'a>(&'a dyn Observer);

impl Observer for OfBackup<'_> {
    fn on_event(&self, event: &Event) {
        if !matches!(event, Event::SourceStarted { .. } | Event::SourceFinished { .. }) {
            self.0.on_event(event);
        }
    }
}

/// Restores the disk into a file of `directory`, if it has a system that can be started here. Returns the firmware that
/// starts it, if that is not the emulator's own.
pub(super) fn restore(
    files: &Backup,
    directory: &Path,
    options: &BootOptions,
    commands: &Arc<dyn RunCommand>,
    observer: &dyn Observer,
) -> Result<Option<UefiFiles>, NoSystem> {
    let path = directory.join(DISK);
    let device = DeviceOptions {
        threads: options.threads,
        cancel: options.cancel.clone(),
        ..DeviceOptions::new(TargetSpec::Image(path.clone(), None))
    };
    let observer = &OfBackup(observer);
    let step =
        || observer.on_event(&Event::Step { step: format!("restoring the disk of {} to boot it", files.stem()) });
    if files.kind().is_image() {
        let open = OpenImage::open(files, &options.cancel)?;
        let uefi = firmware_for(&open.manifest.layout, &first_sector(&*open.blocks)?)?;
        step();
        let prepared = restore_image::prepare(files, &device, &**commands).map_err(NoSystem::RestoreImage)?;
        prepared.carry_out(&**commands, observer).map_err(|error| {
            if options.cancel.is_cancelled() { NoSystem::Stopped } else { NoSystem::RestoreImage(error) }
        })?;
        return Ok(uefi);
    }
    let manifest = files.read_manifest()?;
    let at_start: Vec<_> = manifest.layout.outside.iter().filter(|kept| kept.start_bytes == 0).cloned().collect();
    let kept = unpack(&at_start)?;
    let uefi = firmware_for(&manifest.layout, kept.first().map_or(&[], |kept| &kept.bytes))?;
    step();
    let stopped = |error| {
        if options.cancel.is_cancelled() { NoSystem::Stopped } else { NoSystem::Restore(error) }
    };
    let prepared = rebuild::prepare(files, &device, &**commands, observer).map_err(stopped)?;
    let report = rebuild::restore_disk(files, prepared, &device, Arc::clone(commands), observer).map_err(stopped)?;
    if let Some(first) = report.failures.first() {
        return Err(NoSystem::Incomplete(first.clone()));
    }
    Ok(uefi)
}

fn first_sector(blocks: &dyn BlockRead) -> Result<Vec<u8>, NoSystem> {
    let mut sector = vec![0; usize::try_from(blocks.len_bytes()).map_or(512, |len| len.min(512))];
    blocks.read_at(0, &mut sector).map_err(NoSystem::Read)?;
    Ok(sector)
}

/// The firmware's files, if it is not the emulator's own, which is BIOS.
fn firmware_for(layout: &Layout, first_sector: &[u8]) -> Result<Option<UefiFiles>, NoSystem> {
    if layout.table.kind == TableKind::None {
        return Err(NoSystem::NoTable);
    }
    match Firmware::of(layout, first_sector) {
        None => Err(NoSystem::NoBootCode),
        Some(Firmware::Bios) => Ok(None),
        Some(Firmware::Uefi) => UefiFiles::find().map(Some).ok_or(NoSystem::NoFirmware),
    }
}
