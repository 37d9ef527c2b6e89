//! Archives a region's bytes as one sparse file.

use std::io;
use std::sync::Arc;

use super::RegionContext;
use super::files::Archived;
use crate::archive::write::ArchiveWriter;
use crate::events::{Event, Severity};
use crate::layout::{Handling, HoldsKind, Region, RegionBlocks};
use crate::manifest::RegionRecord;
use crate::reader::raw::RawImage;
use crate::run::backup::error::BackupError;

/// The type of a GPT partition that holds boot code and never a filesystem ("BIOS boot", GNU GRUB's manual).
const BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";

/// The layout's type for a region after a filesystem's end.
const BEHIND_THE_CONTENT: &str = "behind the content";

/// Archives the image of a region whose files, except for sealed ones, are already in the archive.
pub(in crate::run::backup) fn archive_besides(
    context: &RegionContext<'_>,
    writer: &mut ArchiveWriter<'_>,
    region: &Region,
    files: Archived,
    file_name: &str,
) -> Result<RegionRecord, BackupError> {
    let Archived { record, sealed } = files;
    let what = format!(
        "{sealed} of its files and directories cannot be read (encrypted with fscrypt, or hidden by another one of the \
         same name): all of it is kept as a raw image besides, {file_name}"
    );
    context.tell(Severity::Warning, region, what);
    let RegionRecord { archive_path, used_bytes, .. } = archive_raw(context, writer, region, file_name)?;
    let files_path = record.archive_path;
    Ok(RegionRecord { handling: Handling::RawImage, archive_path, files_path, used_bytes, ..record })
}

/// Archives a region's bytes as the sparse file `file_name`.
pub(in crate::run::backup) fn archive_raw(
    context: &RegionContext<'_>,
    writer: &mut ArchiveWriter<'_>,
    region: &Region,
    file_name: &str,
) -> Result<RegionRecord, BackupError> {
    // A region after a filesystem's end was reported when it was detected, with a suitable severity.
    if region.handling == Handling::RawImage && region.type_name != BEHIND_THE_CONTENT {
        let holds = match (&region.holds.fs, region.holds.kind) {
            (Some(fs), _) => fs.clone(),
            (None, HoldsKind::Unknown) => "something unknown".to_owned(),
            (None, kind) => format!("{kind:?}").to_lowercase(),
        };
        // Boot code is expected there and needs no attention.
        let severity = match region.type_id.as_str() {
            BIOS_BOOT => Severity::Notice,
            _ => context.expected.severity_of_raw(region),
        };
        context.tell(severity, region, format!("holds {holds}; kept as a raw image, {file_name}"));
    }
    context.observer.on_event(&Event::ExpectedBytes { bytes: region.size_bytes.saturating_mul(2) });
    let blocks = RegionBlocks::shared(Arc::clone(context.blocks), &region.extents);
    let scanned = RawImage::scan(Arc::new(blocks), context.cancel, |bytes| {
        context.observer.on_event(&Event::Read { bytes });
    });
    let image = match scanned {
        Ok(image) => image,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(BackupError::Cancelled),
        Err(error) => return Err(BackupError::Open(error)),
    };
    writer.append_raw_image(file_name, &image, region.size_bytes, context.frozen_at)?;
    Ok(RegionRecord {
        name: region.name.clone(),
        handling: Handling::RawImage,
        archive_path: Some(format!("./{file_name}")),
        files_path: None,
        used_bytes: Some(image.data_bytes()),
        journal_replayed_in_copy: false,
        btrfs: None,
        in_use: None,
        reader: None,
        has_fat_attributes: false,
        quota_limits: None,
    })
}
