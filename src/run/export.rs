//! The verb `export`: a volume, a device, an image or a backup becomes an image of which only the used blocks are kept.

mod begun;
mod error;
mod input;
mod outcome;
mod output;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::events::{Event, Observer, Severity, SourceName};
use crate::image::copy::{Copied, CopyError};
use crate::image::make::{Disk, ImageKind, MakeError, Making};
use crate::layout::detect;
use crate::outside::host::processors;
use crate::outside::remembered::Remembered;
use crate::outside::{BlockRead, Cancel};
use crate::run::backup::{AroundFreeze, BackupWorld};
use crate::run::collect::{Collector, tell};
use crate::run::image_file::ImageFile;
use crate::source::{FreezeOptions, Source};
use crate::store::Backup;
use crate::units::{ByteLen, ByteRange};
use crate::used::used_map_of_disk;

pub use error::ExportError;
pub use outcome::Exported;
pub(super) use output::content_digest;

use begun::Mark;
use input::Input;
use output::{Output, Writing};

/// Where an image goes.
#[derive(Debug)]
pub enum ExportTarget {
    /// A file, which gets its name when it is complete.
    File {
        /// Its name.
        path: PathBuf,
        /// Whether a file of that name is replaced.
        overwrite: bool,
        /// Whether it goes on with what an interrupted export of the same source began.
        resume: bool,
    },
    /// A pipe, or another stream.
    Stream(File),
}

/// Options of an export.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExportOptions {
    /// The kind of image.
    pub kind: ImageKind,
    /// Where it goes.
    pub to: ExportTarget,
    /// Whether it is read back and compared.
    pub verify: bool,
    /// Whether blocks that the filesystems have as free are copied, too.
    pub all_blocks: bool,
    /// Threads that compress.
    pub threads: usize,
    /// How the snapshot of a volume is taken.
    pub freeze: FreezeOptions,
    /// What is done around the moment of the snapshot.
    pub around: Option<Arc<dyn AroundFreeze>>,
}

impl ExportOptions {
    /// Copies the blocks in use, with all processors, and compares the image with what was copied.
    pub fn new(kind: ImageKind, to: ExportTarget) -> Self {
        Self {
            kind,
            to,
            verify: true,
            all_blocks: false,
            threads: processors(),
            freeze: FreezeOptions::default(),
            around: None,
        }
    }
}

/// What an image is made of.
pub enum ExportFrom {
    /// A volume, of which a snapshot is taken; a device, or a raw image.
    Source(Box<Source>),
    /// An image file in another format.
    ImageFile(ImageFile),
    /// A backup, which is rebuilt in this directory first.
    Backup {
        /// Its files.
        files: Backup,
        /// Where its disk is rebuilt, in a file that is removed afterwards.
        scratch: PathBuf,
    },
}

impl ExportFrom {
    fn name(&self) -> SourceName {
        match self {
            Self::Source(source) => source.name(),
            Self::ImageFile(image) => SourceName { shown: image.name.clone(), volume: image.name.clone(), group: None },
            Self::Backup { files, .. } => SourceName::of_backups(&files.volume()),
        }
    }
}

/// Makes an image. Nothing has its name until it is complete, synced and, where that is asked for, read back.
///
/// The result says what was reported on the way; problems leave the image as it is.
pub fn export(from: ExportFrom, options: ExportOptions, world: &BackupWorld) -> Result<Exported, ExportError> {
    let began = Instant::now();
    let collector = Arc::new(Collector::new(Arc::clone(&world.observer)));
    let name = from.name();
    let observer: Arc<dyn Observer> = Arc::clone(&collector) as Arc<dyn Observer>;
    observer.on_event(&Event::SourceStarted { source: name.clone() });
    let step = |step: &str| observer.on_event(&Event::Step { step: step.to_owned() });
    let threads = options.threads;
    // Before there is a snapshot.
    let mark = Mark::of(&from, options.kind, options.all_blocks)?;
    if mark.is_none() && matches!(options.to, ExportTarget::File { resume: true, .. }) {
        return Err(ExportError::NotResumable(name.shown));
    }
    let output = Output::look(options.to, mark, &*observer, &*world.commands)?;
    let input = Input::open(from, &options.freeze, options.around.as_ref(), threads, world, &observer)?;
    let blocks = input.blocks()?;
    let disk_bytes = blocks.len_bytes();
    let used = if options.all_blocks || input.has_used_blocks_only() {
        vec![ByteRange::new(0, disk_bytes)]
    } else {
        step("looking for the used blocks");
        used_blocks(&blocks, &input, &name.shown, world, &*observer)?
    };
    let disk = Disk { blocks: &*blocks, used: &used };
    let mut writing = output.open(&disk, &name.shown, &*observer)?;
    let making = Making { threads, digest: options.verify, observer: &*observer, cancel: &world.cancel };
    let copied = copy(&mut writing, &disk, options.kind, &input, &making);
    let (copied, kept_bytes) = match copied {
        Ok(copied) => copied,
        Err(error) => return Err(writing.give_up(error, &*observer)),
    };
    drop(blocks);
    let snapshot = input.finish(&*observer);
    if let Err(error) = settle(&mut writing, options.kind, copied.digest, &*observer, &world.cancel) {
        return Err(writing.give_up(error, &*observer));
    }
    let stored_bytes = writing.stored_bytes();
    let target = writing.publish()?;
    let collected = collector.collected();
    let outcome = format!("{target} ({})", ByteLen(copied.image_bytes));
    let shown_worst = collected.worst.filter(|worst| *worst > Severity::Notice);
    observer.on_event(&Event::SourceFinished { source: name.clone(), outcome, worst: shown_worst });
    Ok(Exported::new(
        &name.shown,
        target,
        options.kind,
        disk_bytes,
        &copied,
        kept_bytes,
        stored_bytes,
        snapshot,
        began.elapsed(),
        collected,
    ))
}

/// Writes the image; also gives the number of bytes that were there already.
fn copy(
    writing: &mut Writing,
    disk: &Disk<'_>,
    kind: ImageKind,
    input: &Input,
    making: &Making<'_>,
) -> Result<(Copied, u64), ExportError> {
    let (sink, kept_bytes) = writing.sink()?;
    let step =
        if writing.is_resumed() { "comparing what is there, and copying the rest" } else { "copying the used blocks" };
    making.observer.on_event(&Event::Step { step: step.to_owned() });
    let copied = disk.write_image(kind, sink, making);
    // Why the reading ended may be that the snapshot overflowed: that reason is the one to be told.
    input.check_health()?;
    let copied = copied.map_err(|error| match error {
        MakeError::Copy(CopyError::Stopped) => ExportError::Stopped,
        MakeError::Copy(error @ CopyError::Read { .. }) if input.is_source() => ExportError::Source(error),
        error => ExportError::Make(error),
    })?;
    Ok((copied, kept_bytes.load(Ordering::Relaxed)))
}

/// Has the image on the disk, and compares it.
fn settle(
    writing: &mut Writing,
    kind: ImageKind,
    digest: Option<[u8; 32]>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<(), ExportError> {
    writing.sync()?;
    if let Some(digest) = digest {
        observer.on_event(&Event::Step { step: "reading the image back".to_owned() });
        writing.compare(kind, &digest, observer, cancel)?;
    }
    if cancel.is_cancelled() { Err(ExportError::Stopped) } else { Ok(()) }
}

/// The used blocks of a disk; all of them where no filesystem says which.
fn used_blocks(
    blocks: &Arc<dyn BlockRead>,
    input: &Input,
    name: &str,
    world: &BackupWorld,
    observer: &dyn Observer,
) -> Result<Vec<ByteRange>, ExportError> {
    let whole = vec![ByteRange::new(0, blocks.len_bytes())];
    let blocks: &Arc<dyn BlockRead> = &(Arc::new(Remembered::new(Arc::clone(blocks))) as Arc<dyn BlockRead>);
    let layout = match detect(&**blocks, name, Some(input.sector_bytes())) {
        Ok(layout) => layout,
        Err(error) => {
            let what = format!("what is on it cannot be told, so that all of it is copied: {error}");
            tell(observer, Severity::Warning, name.to_owned(), what);
            return Ok(whole);
        }
    };
    let found = used_map_of_disk(&layout, blocks, &world.cancel).map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => ExportError::Stopped,
        _ => ExportError::Source(CopyError::Runs(error)),
    })?;
    for problem in found.problems {
        observer.on_event(&Event::Problem(problem));
    }
    Ok(found.map.runs().to_vec())
}
