//! The verb `import`: the disk in an image file goes onto a device, or into a raw image.

mod error;
mod failure;
mod held;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

pub use self::error::ImportError;
use self::failure::Unfinished;
use self::held::Completed;
use self::writer::TargetWriter;
use crate::events::{Event, Observer, Problem, Severity, SourceName};
use crate::image::copy::{Copy, CopyError};
use crate::image::format::Format;
use crate::image::make::Disk;
use crate::image::runs::DataRuns;
use crate::outside::{BlockRead, Cancel, FileBlocks, RunCommand, let_go_of_pages};
use crate::run::export::content_digest;
use crate::run::image_file::{ImageFile, ImageFileError};
use crate::run::rebuild::target::{Target, TargetSpec};
use crate::shown::hex;
use crate::units::{ByteLen, ByteRange};

/// Options of an import.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportOptions {
    /// The image.
    pub file: PathBuf,
    /// Its format; by its first bytes without one.
    pub format: Option<Format>,
    /// What it is written to.
    pub target: TargetSpec,
    /// The target that may lose what is on it, by its last path component.
    pub yes_erase: Option<String>,
    /// The wish to stop.
    pub cancel: Cancel,
}

impl ImportOptions {
    /// Recognizes the format by the image's first bytes. Nothing is erased.
    pub fn new(file: PathBuf, target: TargetSpec) -> Self {
        Self { file, format: None, target, yes_erase: None, cancel: Cancel::default() }
    }
}

/// What is written to, and what that may erase.
#[derive(Clone, Debug)]
pub(in crate::run) struct WriteOptions {
    pub(in crate::run) target: TargetSpec,
    pub(in crate::run) yes_erase: Option<String>,
    pub(in crate::run) cancel: Cancel,
}

impl ImportOptions {
    fn write(&self) -> WriteOptions {
        let Self { target, yes_erase, cancel, .. } = self.clone();
        WriteOptions { target, yes_erase, cancel }
    }
}

/// A disk that is written to a target.
pub(in crate::run) struct SourceDisk {
    /// What it is of, for messages.
    pub(in crate::run) name: String,
    /// What it is in: `raw`, `qcow2`, `image backup`.
    pub(in crate::run) form: String,
    pub(in crate::run) blocks: Arc<dyn BlockRead>,
    /// The sector size in which its partition table counts, if it has one and that is known.
    pub(in crate::run) table_sector_bytes: Option<u64>,
    /// What is worth knowing of it, one line each.
    pub(in crate::run) remarks: Vec<String>,
    /// The file, which must not change meanwhile.
    pub(in crate::run) file: Option<ImageFile>,
}

/// An import that can be carried out.
pub struct PreparedImport {
    image: SourceDisk,
    target: Target,
    data_bytes: u64,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Imported {
    /// The image.
    pub image: String,
    /// What it was written to.
    pub target: String,
    /// `raw`, `qcow2` or `image backup`.
    #[serde(rename = "image_format")]
    pub format: String,
    /// The length of the disk.
    pub disk_bytes: u64,
    /// Bytes of data, which were written; all others are zeros.
    pub data_bytes: u64,
    /// The digest of the disk's content, hex, which was read back from the target.
    pub content_digest: String,
    /// How long it took.
    pub seconds: u64,
    /// Warnings about the image, one line each: it was not closed properly, it is of a backup that is partial.
    pub remarks: Vec<String>,
}

impl Imported {
    /// Whether there were warnings.
    pub fn has_problems(&self) -> bool {
        !self.remarks.is_empty()
    }
}

/// Looks at the image and at the target. Nothing is written.
pub fn prepare(options: &ImportOptions, commands: &dyn RunCommand) -> Result<PreparedImport, ImportError> {
    let file = ImageFile::open(&options.file, options.format)?;
    let image = SourceDisk {
        name: file.name.clone(),
        form: file.format.to_string(),
        blocks: Arc::clone(&file.blocks),
        table_sector_bytes: None,
        remarks: file.remarks.clone(),
        file: Some(file),
    };
    prepare_disk(image, &options.write(), Path::new("/"), commands)
}

/// Looks at the target for a disk that lies in `kept_in`. Nothing is written.
pub(in crate::run) fn prepare_disk(
    image: SourceDisk,
    options: &WriteOptions,
    kept_in: &Path,
    commands: &dyn RunCommand,
) -> Result<PreparedImport, ImportError> {
    let disk_bytes = image.blocks.len_bytes();
    let target = Target::look(&options.target, disk_bytes, kept_in, commands)?;
    if let Some(file) = &image.file {
        target.must_not_lie_in(file.path())?;
    }
    if target.size_bytes < disk_bytes {
        let (target, target_bytes) = (target.name, target.size_bytes);
        return Err(ImportError::TooSmall { target, target_bytes, disk_bytes });
    }
    if let (Some(source_bytes), Some(target_bytes)) = (image.table_sector_bytes, target.sector_bytes)
        && source_bytes != u64::from(target_bytes)
    {
        return Err(ImportError::OtherSectors { target: target.name, source_bytes, target_bytes });
    }
    let used = [ByteRange::new(0, disk_bytes)];
    let data = Disk { blocks: &*image.blocks, used: &used }.data_bytes();
    let name = image.name.clone();
    let data_bytes = data.map_err(|source| ImageFileError::Io { name, source })?;
    Ok(PreparedImport { image, target, data_bytes })
}

impl PreparedImport {
    /// The target, as the user wrote it.
    pub fn target_name(&self) -> &str {
        &self.target.name
    }

    /// What has to be said before all that is on the target is erased; `None` when nothing is on it, or it was said.
    pub fn needs(&self, options: &ImportOptions) -> Option<String> {
        self.needs_for(options.yes_erase.as_deref())
    }

    pub(in crate::run) fn needs_for(&self, yes_erase: Option<&str>) -> Option<String> {
        self.target.needs(yes_erase)
    }

    /// What is on the target and will be lost.
    pub fn on_target(&self) -> &[String] {
        &self.target.on_it
    }

    /// What will be done, for a person.
    pub fn plan_as_text(&self) -> String {
        let (image, target) = (&self.image, &self.target);
        let disk = image.blocks.len_bytes();
        let mut text = format!(
            "{} ({}) to {}\n  write:  {} of data; the rest of {} becomes zeros\n",
            image.name,
            image.form,
            target.name,
            ByteLen(self.data_bytes),
            ByteLen(target.size_bytes),
        );
        if target.size_bytes > disk {
            let more = ByteLen(target.size_bytes - disk);
            text.push_str(&format!(
                "  note:   the target is {more} longer than the disk, whose end is not the target's\n"
            ));
        }
        let lacking = target.lacks_room_for(self.data_bytes).into_iter().collect();
        for (what, lines) in
            [("note", &lacking), ("note", &image.remarks), ("note", &target.remarks), ("lost", &target.on_it)]
        {
            for line in lines {
                text.push_str(&format!("  {what}:   {line}\n"));
            }
        }
        text
    }
}

/// Writes the disk in the image to the target, and reads it back. Its first sector comes last, so that one that was cut off is
/// not taken for a whole one.
pub fn import(
    prepared: PreparedImport,
    options: &ImportOptions,
    commands: &dyn RunCommand,
    observer: &dyn Observer,
) -> Result<Imported, ImportError> {
    write_disk(prepared, &options.write(), commands, observer)
}

/// Like [`import`], for any disk.
pub(in crate::run) fn write_disk(
    prepared: PreparedImport,
    options: &WriteOptions,
    commands: &dyn RunCommand,
    observer: &dyn Observer,
) -> Result<Imported, ImportError> {
    let began = Instant::now();
    let PreparedImport { image, target, data_bytes } = prepared;
    target.may_be_erased(options.yes_erase.as_deref())?;
    let (name, target_bytes) = (target.name.clone(), target.size_bytes);
    let replaces = !target.on_it.is_empty();
    let source = SourceName { shown: name.clone(), volume: name.clone(), group: None };
    observer.on_event(&Event::SourceStarted { source });
    for remark in &image.remarks {
        observer.on_event(&Event::Problem(Problem::new(Severity::Warning, image.name.clone(), remark.clone())));
    }
    let step = |step: &str| observer.on_event(&Event::Step { step: step.to_owned() });
    let open = target.open(data_bytes)?;
    let is_device = open.device().is_some();
    let unfinished = Unfinished { target: &name, is_device, is_cleared: false, form: &image.form };
    observer.on_event(&Event::ExpectedBytes { bytes: data_bytes.saturating_add(target_bytes) });
    let used = [ByteRange::new(0, image.blocks.len_bytes())];
    let runs = DataRuns::new(&*image.blocks, &used);
    let (digest, cancel) = (true, &options.cancel);
    let mut writer = TargetWriter::new(&open.file, open.is_new, used[0].len, target_bytes, cancel);
    open.clear(cancel).map_err(CopyError::Write).map_err(|error| unfinished.because(error))?;
    let unfinished = Unfinished { is_cleared: true, ..unfinished };
    let failed = |error| unfinished.because(if cancel.is_cancelled() { CopyError::Stopped } else { error });
    if is_device {
        step("discarding what is on it");
        open.discard(commands).map_err(CopyError::Write).map_err(failed)?;
    }
    step("writing");
    let copy = Copy { blocks: &*image.blocks, runs, chunk_bytes: 0, digest, observer, cancel };
    let copied = copy.run(&mut writer).map_err(failed)?;
    if let Some(file) = &image.file {
        file.check_unchanged()?;
    }
    open.file.sync_all().map_err(CopyError::Write).map_err(failed)?;
    step("reading it back");
    let on_target = FileBlocks::new(open.file.try_clone().map_err(unfinished.read_back())?, target_bytes);
    let held = writer.into_held();
    let_go_of_pages(&open.file, 0, None);
    let completed = Completed { target: &on_target, held: &held };
    let content_digest = match content_digest(&completed, observer, cancel).map_err(unfinished.read_back())? {
        None => return Err(unfinished.because(CopyError::Stopped)),
        Some(found) if Some(found) == copied.digest => hex(&found),
        Some(_) => return Err(unfinished.different()),
    };
    let wrote = held.write(&open.file, open.is_new);
    let_go_of_pages(&open.file, 0, None);
    let is_there = if wrote.is_ok() { held.are_on(&on_target) } else { Ok(false) };
    if !matches!(is_there, Ok(true)) {
        // Whatever of it reached the target.
        let again = open.clear(&Cancel::default());
        let unfinished = Unfinished { is_cleared: again.is_ok(), ..unfinished };
        wrote.map_err(CopyError::Write).map_err(|error| unfinished.because(error))?;
        is_there.map_err(unfinished.read_back())?;
        return Err(unfinished.different());
    }
    open.finish(replaces)?;
    Ok(Imported {
        image: image.name,
        target: name,
        format: image.form,
        disk_bytes: used[0].len,
        data_bytes,
        content_digest,
        seconds: began.elapsed().as_secs(),
        remarks: image.remarks,
    })
}
