//! The disk of a backup that is started.

use std::path::{Path, PathBuf};
use std::sync::Arc;

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
/// The boot code of an MBR (UEFI 2.10, table 5.1), and its signature.
const BOOT_CODE_BYTES: usize = 440;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
const SIGNATURE_AT: usize = 510;
/// The types of an EFI system partition in a GPT and in an MBR (UEFI 2.10, sections 5.3.3 and 5.2.2).
const SYSTEM_PARTITION: [&str; 2] = ["c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef"];
/// Where Debian and others keep the firmware.
const UEFI_FIRMWARE: [&str; 3] = ["/usr/share/ovmf/OVMF.fd", "/usr/share/qemu/OVMF.fd", "/usr/share/edk2/ovmf/OVMF.fd"];

/// What starts a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Firmware {
    /// The boot code in its first sector.
    Bios,
    /// A program in its EFI system partition.
    Uefi,
}

/// Why there is no disk to start.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSystem {
    #[error("interrupted")]
    Stopped,
    #[error("it has no partition table")]
    NoTable,
    #[error("its disk has neither boot code nor an EFI system partition")]
    NoBootCode,
    #[error("it boots through UEFI, whose firmware is not installed on this host: install the package ovmf")]
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
) -> Result<Option<PathBuf>, NoSystem> {
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
        let bios = bios_for(firmware_of(&open.manifest.layout, &first_sector(&*open.blocks)?)?)?;
        step();
        let prepared = restore_image::prepare(files, &device, &**commands).map_err(NoSystem::RestoreImage)?;
        prepared.carry_out(&**commands, observer).map_err(|error| {
            if options.cancel.is_cancelled() { NoSystem::Stopped } else { NoSystem::RestoreImage(error) }
        })?;
        return Ok(bios);
    }
    let manifest = files.read_manifest()?;
    let at_start: Vec<_> = manifest.layout.outside.iter().filter(|kept| kept.start_bytes == 0).cloned().collect();
    let kept = unpack(&at_start)?;
    let bios = bios_for(firmware_of(&manifest.layout, kept.first().map_or(&[], |kept| &kept.bytes))?)?;
    step();
    let stopped = |error| {
        if options.cancel.is_cancelled() { NoSystem::Stopped } else { NoSystem::Restore(error) }
    };
    let prepared = rebuild::prepare(files, &device, &**commands, observer).map_err(stopped)?;
    let report = rebuild::restore_disk(files, prepared, &device, Arc::clone(commands), observer).map_err(stopped)?;
    if let Some(first) = report.failures.first() {
        return Err(NoSystem::Incomplete(first.clone()));
    }
    Ok(bios)
}

fn first_sector(blocks: &dyn BlockRead) -> Result<Vec<u8>, NoSystem> {
    let mut sector = vec![0; usize::try_from(blocks.len_bytes()).map_or(512, |len| len.min(512))];
    blocks.read_at(0, &mut sector).map_err(NoSystem::Read)?;
    Ok(sector)
}

/// Boot code comes first: a disk with both was started by BIOS where nobody asked for UEFI.
fn firmware_of(layout: &Layout, first_sector: &[u8]) -> Result<Firmware, NoSystem> {
    if layout.table.kind == TableKind::None {
        return Err(NoSystem::NoTable);
    }
    let code = first_sector.get(..BOOT_CODE_BYTES).unwrap_or_default();
    let is_signed = first_sector.get(SIGNATURE_AT..SIGNATURE_AT + 2) == Some(&SIGNATURE);
    if is_signed && code.iter().any(|byte| *byte != 0) {
        return Ok(Firmware::Bios);
    }
    let is_system = |type_id: &str| SYSTEM_PARTITION.contains(&type_id);
    if layout.regions.iter().any(|region| is_system(&region.type_id)) {
        return Ok(Firmware::Uefi);
    }
    Err(NoSystem::NoBootCode)
}

/// The firmware to give to the emulator, whose own one is BIOS.
fn bios_for(firmware: Firmware) -> Result<Option<PathBuf>, NoSystem> {
    match firmware {
        Firmware::Bios => Ok(None),
        Firmware::Uefi => {
            let there = UEFI_FIRMWARE.iter().map(PathBuf::from).find(|path| path.is_file());
            there.map(Some).ok_or(NoSystem::NoFirmware)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BOOT_CODE_BYTES, Firmware, NoSystem, firmware_of};
    use crate::layout::{Layout, Region, TableKind};

    #[test]
    fn boot_code_or_a_system_partition_makes_a_disk_that_starts() {
        let mut layout = Layout::empty();
        let mut sector = vec![0; 512];
        assert!(matches!(firmware_of(&layout, &sector), Err(NoSystem::NoTable)));
        layout.table.kind = TableKind::Gpt;
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        assert!(matches!(firmware_of(&layout, &sector), Err(NoSystem::NoBootCode)), "a protective MBR has no code");
        assert!(matches!(firmware_of(&layout, &[]), Err(NoSystem::NoBootCode)));
        let type_id = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b".to_owned();
        layout.regions.push(Region { type_id, ..Region::default() });
        assert_eq!(firmware_of(&layout, &sector).unwrap(), Firmware::Uefi);
        sector[BOOT_CODE_BYTES - 1] = 1;
        assert_eq!(firmware_of(&layout, &sector).unwrap(), Firmware::Bios);
        sector[511] = 0;
        assert_eq!(firmware_of(&layout, &sector).unwrap(), Firmware::Uefi, "without a signature BIOS runs nothing");
    }
}
