//! What an image is made of, while it is read.

use std::path::Path;
use std::sync::Arc;

use super::ExportFrom;
use super::error::{ExportError, io_error};
use crate::error::with_causes;
use crate::events::{Event, Observer, Severity};
use crate::image::format::Format;
use crate::outside::BlockRead;
use crate::run::backup::freeze_limit::freeze_within;
use crate::run::backup::{AroundFreeze, BackupWorld};
use crate::run::collect::tell;
use crate::run::image_backup::OpenImage;
use crate::run::image_file::ImageFile;
use crate::run::rebuild::target::TargetSpec;
use crate::run::rebuild::{self, DeviceOptions, plan_as_text};
use crate::run::remains::remove_stale;
use crate::run::temporary::{TemporaryDirectory, Use};
use crate::source::{self, FreezeOptions, SnapshotGuard, Source, SourceKind};
use crate::store::Backup;

/// What is read.
pub(super) enum Input {
    Frozen(Box<SnapshotGuard>),
    ImageFile(ImageFile),
    Rebuilt(Rebuilt),
    /// An image backup, which need not be rebuilt.
    Image(OpenImage),
}

/// A backup's disk in a file of a temporary directory.
pub(super) struct Rebuilt {
    image: ImageFile,
    _directory: TemporaryDirectory,
}

impl Input {
    /// Takes a snapshot of a volume, opens a device or an image, or rebuilds a backup.
    pub(super) fn open(
        from: ExportFrom,
        freeze: &FreezeOptions,
        around: Option<&Arc<dyn AroundFreeze>>,
        threads: usize,
        world: &BackupWorld,
        observer: &Arc<dyn Observer>,
    ) -> Result<Self, ExportError> {
        match from {
            ExportFrom::Source(source) => Ok(Self::Frozen(Box::new(frozen(&source, freeze, around, world, observer)?))),
            ExportFrom::ImageFile(image) => {
                for remark in &image.remarks {
                    tell(&**observer, Severity::Warning, image.name.clone(), remark.clone());
                }
                Ok(Self::ImageFile(image))
            }
            ExportFrom::Backup { files, .. } if files.kind().is_image() => {
                let open = OpenImage::open(&files, &world.cancel)?;
                if let Some(what) = open.why_partial() {
                    tell(&**observer, Severity::Warning, files.stem().to_owned(), what);
                }
                Ok(Self::Image(open))
            }
            ExportFrom::Backup { files, scratch } => {
                rebuilt(&files, &scratch, threads, world, observer).map(Self::Rebuilt)
            }
        }
    }

    pub(super) fn blocks(&self) -> Result<Arc<dyn BlockRead>, ExportError> {
        match self {
            Self::Frozen(guard) => {
                Ok(guard.open_blocks().map_err(io_error(format!("{}: it cannot be opened", guard.name())))?)
            }
            Self::ImageFile(image) | Self::Rebuilt(Rebuilt { image, .. }) => Ok(Arc::clone(&image.blocks)),
            Self::Image(open) => Ok(Arc::clone(&open.blocks)),
        }
    }

    pub(super) fn sector_bytes(&self) -> u32 {
        match self {
            Self::Frozen(guard) => guard.sector_size_bytes(),
            Self::ImageFile(_) | Self::Rebuilt(_) | Self::Image(_) => 512,
        }
    }

    /// Whether only its used blocks are no holes.
    pub(super) fn has_used_blocks_only(&self) -> bool {
        matches!(self, Self::Image(_))
    }

    /// Whether it can be backed up as it is.
    pub(super) fn is_source(&self) -> bool {
        matches!(self, Self::Frozen(_))
    }

    /// Makes sure that what was read did not change meanwhile.
    pub(super) fn check_health(&self) -> Result<(), ExportError> {
        match self {
            Self::Frozen(guard) => Ok(guard.check_health()?),
            Self::ImageFile(image) => Ok(image.check_unchanged()?),
            Self::Rebuilt(_) | Self::Image(_) => Ok(()),
        }
    }

    /// Releases it; gives the name of the snapshot that was read.
    pub(super) fn finish(self, observer: &dyn Observer) -> Option<String> {
        let Self::Frozen(guard) = self else { return None };
        let name = guard.facts().name;
        if let Err(error) = guard.finish() {
            let what = format!("{error}; the next run tries again");
            tell(observer, Severity::Warning, name.clone().unwrap_or_default(), what);
        }
        name
    }
}

fn frozen(
    source: &Source,
    options: &FreezeOptions,
    around: Option<&Arc<dyn AroundFreeze>>,
    world: &BackupWorld,
    observer: &Arc<dyn Observer>,
) -> Result<SnapshotGuard, ExportError> {
    let context = source::Context {
        commands: Arc::clone(&world.commands),
        observer: Arc::clone(observer),
        clock: Arc::clone(&world.clock),
    };
    let SourceKind::Volume(_) = source.kind() else { return Ok(source::freeze(source, options, &context)?) };
    // An export that was killed left its snapshot.
    if let Err(error) = remove_stale(world) {
        let what = format!("cannot look for the remains of earlier runs: {}", with_causes(&error));
        tell(&**observer, Severity::Warning, source.display_name().to_owned(), what);
    }
    observer.on_event(&Event::Step { step: "taking a snapshot".to_owned() });
    let Some(around) = around else { return Ok(source::freeze(source, options, &context)?) };
    freeze_within(around, &**observer, ExportError::Before, || {
        if world.cancel.is_cancelled() {
            return Err(ExportError::Stopped);
        }
        Ok(source::freeze(source, options, &context)?)
    })
}

/// Rebuilds the disk of a backup in a file, as `restore --to-image` does.
fn rebuilt(
    files: &Backup,
    scratch: &Path,
    threads: usize,
    world: &BackupWorld,
    observer: &Arc<dyn Observer>,
) -> Result<Rebuilt, ExportError> {
    let directory = TemporaryDirectory::new(scratch, files.stem(), Use::Rebuilt, &**observer)
        .map_err(io_error(format!("{}: no temporary directory can be made there", scratch.display())))?;
    let path = directory.path().join("disk");
    let target = TargetSpec::Image(path.clone(), None);
    let options = DeviceOptions { threads, cancel: world.cancel.clone(), ..DeviceOptions::new(target) };
    observer.on_event(&Event::Step { step: format!("rebuilding the disk in {}", path.display()) });
    let prepared = rebuild::prepare(files, &options, &*world.commands, &**observer)?;
    for line in plan_as_text(&prepared.plan, prepared.target_name(), prepared.on_target()).lines() {
        observer.on_event(&Event::Step { step: line.trim().to_owned() });
    }
    let report = rebuild::restore_disk(files, prepared, &options, Arc::clone(&world.commands), &**observer)?;
    if !report.is_complete() {
        let what = "not everything is in it as it was in the backup".to_owned();
        tell(&**observer, Severity::Error, files.stem().to_owned(), what);
    }
    // The disk begins with what a guest put there: its first bytes say no format.
    let image = ImageFile::open(&path, Some(Format::Raw))?;
    Ok(Rebuilt { image, _directory: directory })
}
