//! Archives a region's bytes as one sparse file.

use std::sync::Arc;

use super::RegionContext;
use super::files::Archived;
use crate::archive::write::ArchiveWriter;
use crate::events::{Event, Severity};
use crate::layout::{Handling, HoldsKind, Region, RegionBlocks};
use crate::manifest::RegionRecord;
use crate::outside::BlockRead;
use crate::reader::raw::RawImage;
use crate::run::backup::error::BackupError;
use crate::run::backup::previous::PreviousBackup;
use crate::used::{UsedMap, used_map_within};

/// The type of a GPT partition that holds boot code and never a filesystem ("BIOS boot", GNU GRUB's manual).
const BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";

/// A map of data in a tar header has at most this many runs.
const MAX_RUNS: usize = 1 << 16;

/// The type that the layout gives to what lies behind a filesystem's end.
const BEHIND_THE_CONTENT: &str = "behind the content";

/// Archives the image of a region whose files, except for sealed ones, are already in the archive.
pub(in crate::run::backup) fn archive_besides(
    context: &RegionContext<'_>,
    (writer, previous): (&mut ArchiveWriter<'_>, &mut PreviousBackup<'_, '_>),
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
    let RegionRecord { archive_path, used_bytes, used_blocks_only, .. } =
        archive_raw(context, (writer, previous), region, file_name)?;
    let files_path = record.archive_path;
    Ok(RegionRecord { handling: Handling::RawImage, archive_path, files_path, used_bytes, used_blocks_only, ..record })
}

/// Says why free blocks are in the image, where a filesystem of this kind usually has a map of them.
fn tell_whole(context: &RegionContext<'_>, region: &Region, map: &UsedMap) {
    let has_map =
        matches!(region.holds.fs.as_deref(), Some("ext2" | "ext3" | "ext4" | "ntfs" | "xfs" | "vfat" | "exfat"));
    if let Some(why) = map.whole_because().filter(|_| has_map) {
        context.tell(why.severity, region, format!("{}: its image has its free blocks, too", why.because));
    }
}

/// Archives a region's bytes as the sparse file `file_name`.
pub(in crate::run::backup) fn archive_raw(
    context: &RegionContext<'_>,
    (writer, previous): (&mut ArchiveWriter<'_>, &mut PreviousBackup<'_, '_>),
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
    let blocks: Arc<dyn BlockRead> = Arc::new(RegionBlocks::shared(Arc::clone(context.blocks), &region.extents));
    // The only error is that of a cancelled run.
    let map = used_map_within(context.layout, region, &blocks, context.cancel).map_err(|_| BackupError::Cancelled)?;
    tell_whole(context, region, &map);
    let used_blocks_only = map.whole_because().is_none();
    let used = map.runs().to_vec();
    let map = map.coarsened(MAX_RUNS);
    context.observer.on_event(&Event::ExpectedBytes { bytes: map.used_bytes() });
    let image = RawImage::of_runs(blocks, map.runs().to_vec(), used);
    // Members with the same data are copied from it.
    previous.join(writer);
    writer.append_raw_image(file_name, &image, region.size_bytes, context.frozen_at)?;
    Ok(RegionRecord {
        name: region.name.clone(),
        handling: Handling::RawImage,
        archive_path: Some(format!("./{file_name}")),
        files_path: None,
        used_bytes: Some(image.data_bytes()),
        used_blocks_only,
        journal_replayed_in_copy: false,
        btrfs: None,
        in_use: None,
        reader: None,
        has_fat_attributes: false,
        quota_limits: None,
    })
}
