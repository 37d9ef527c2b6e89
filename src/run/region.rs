//! One region's way into the archive.

use std::path::Path;
use std::sync::Arc;

use super::backup::BackupError;
use crate::archive::manifest::RegionRecord;
use crate::archive::write::ArchiveWriter;
use crate::events::{Event, Observer, Problem, Severity};
use crate::layout::{Handling, HoldsKind, Region, RegionBlocks};
use crate::outside::{BlockRead, Cancel};
use crate::reader::exclude::Excludes;
use crate::reader::mounted::{MountError, MountSource, Mounted};
use crate::reader::raw::RawImage;
use crate::reader::{Found, FsReader, Timestamp};
use crate::source::SnapshotGuard;
use crate::units::ByteRange;

/// The type of a GPT partition that holds boot code and never a filesystem ("BIOS boot", GNU GRUB's manual).
const BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";

/// What all regions of a source have in common.
pub(super) struct RegionContext<'a> {
    pub(super) guard: &'a SnapshotGuard,
    pub(super) blocks: &'a Arc<dyn BlockRead>,
    pub(super) excludes: &'a Excludes,
    pub(super) scratch: &'a Path,
    pub(super) cancel: &'a Cancel,
    pub(super) observer: &'a dyn Observer,
    /// The modification time of raw images.
    pub(super) frozen_at: Timestamp,
}

impl RegionContext<'_> {
    fn tell(&self, severity: Severity, region: &Region, what: String) {
        self.observer.on_event(&Event::Problem(Problem::new(severity, region.name.clone(), what)));
    }

    /// Mounts a region that holds a filesystem. Why it cannot be mounted is told, and then there is no mount: it is
    /// kept as a raw image instead.
    pub(super) fn mount(&self, region: &Region) -> Result<Option<Mounted>, BackupError> {
        let Some(fs) = region.holds.fs.as_deref() else { return Ok(None) };
        let [extent] = region.extents.as_slice() else {
            let pieces = region.extents.len();
            let what = format!("its {pieces} pieces cannot be put together here; kept as a raw image");
            self.tell(Severity::Warning, region, what);
            return Ok(None);
        };
        let backing = self.guard.open_backing().map_err(BackupError::Open)?;
        let source = MountSource {
            backing: &backing,
            range: ByteRange::new(extent.source_offset, extent.length),
            fs,
            writable: self.guard.is_writable(),
            scratch: self.scratch,
        };
        match Mounted::open(&source, self.cancel) {
            Ok(mounted) => Ok(Some(mounted)),
            Err(MountError::Scratch(error)) => Err(BackupError::Scratch { region: region.name.clone(), source: error }),
            Err(MountError::Loop(error)) => Err(BackupError::Loop { region: region.name.clone(), source: error }),
            Err(error) => {
                let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
                self.tell(Severity::Warning, region, format!("{error}{cause}; kept as a raw image"));
                Ok(None)
            }
        }
    }

    /// Archives the files of a mounted region under `directory`, or at the top without one.
    pub(super) fn archive_files(
        &self,
        writer: &mut ArchiveWriter<'_>,
        region: &Region,
        mounted: &Mounted,
        directory: Option<&str>,
    ) -> Result<RegionRecord, BackupError> {
        let used_bytes = mounted.used_bytes().map_err(BackupError::Open)?;
        self.observer.on_event(&Event::ExpectedBytes { bytes: used_bytes });
        writer.start_filesystem(directory);
        let mut walk = mounted.walk(self.excludes.clone()).map_err(BackupError::Open)?;
        while let Some(found) = walk.next_found() {
            match found {
                Found::Entry(entry) => writer.append(&entry)?,
                Found::Problem(mut problem) => {
                    if let Some(directory) = directory {
                        problem.location = format!("{directory}/{}", problem.location.trim_start_matches('/'));
                    }
                    self.observer.on_event(&Event::Problem(problem));
                }
            }
        }
        Ok(RegionRecord {
            name: region.name.clone(),
            handling: Handling::Files,
            archive_path: Some(directory.map_or_else(|| ".".to_owned(), |directory| format!("./{directory}"))),
            used_bytes: Some(used_bytes),
            journal_replayed_in_copy: mounted.from_copy,
        })
    }

    /// Archives a region's bytes as the sparse file `file_name`.
    pub(super) fn archive_raw(
        &self,
        writer: &mut ArchiveWriter<'_>,
        region: &Region,
        file_name: &str,
    ) -> Result<RegionRecord, BackupError> {
        if region.handling == Handling::RawImage {
            let holds = match (&region.holds.fs, region.holds.kind) {
                (Some(fs), _) => fs.clone(),
                (None, HoldsKind::Unknown) => "something unknown".to_owned(),
                (None, kind) => format!("{kind:?}").to_lowercase(),
            };
            // Boot code is what belongs there: nothing that anybody has to look at every night.
            let severity = if region.type_id == BIOS_BOOT { Severity::Notice } else { Severity::Warning };
            self.tell(severity, region, format!("holds {holds}; kept as a raw image, {file_name}"));
        }
        self.observer.on_event(&Event::ExpectedBytes { bytes: region.size_bytes.saturating_mul(2) });
        let blocks = RegionBlocks::shared(Arc::clone(self.blocks), &region.extents);
        let scanned = RawImage::scan(Arc::new(blocks), self.cancel, |bytes| {
            self.observer.on_event(&Event::Read { bytes });
        });
        let image = match scanned {
            Ok(image) => image,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Err(BackupError::Cancelled),
            Err(error) => return Err(BackupError::Open(error)),
        };
        writer.append_raw_image(file_name, &image, region.size_bytes, self.frozen_at)?;
        Ok(RegionRecord {
            name: region.name.clone(),
            handling: Handling::RawImage,
            archive_path: Some(format!("./{file_name}")),
            used_bytes: Some(image.data_bytes()),
            journal_replayed_in_copy: false,
        })
    }
}
