//! Files out of an image backup. Its filesystems are opened by the readers that a backup of files uses, over the members of
//! the archive. What is wanted becomes an archive of files in a temporary directory, so that all that restores, prints or
//! maps files works with it.

mod error;
mod opened;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

pub use self::error::{ImageFilesError, WantedFiles};
use self::opened::{OpenRegion, Opened};
use super::image_backup::OpenImage;
use super::restore::select::Selection;
use super::temporary::{TemporaryDirectory, Use};
use crate::archive::kind::ArchiveKind;
use crate::archive::level::CompressionLevel;
use crate::archive::members::Outputs;
use crate::archive::write::{ArchiveWriter, WriteOptions};
use crate::entry::{Entry, EntryKind};
use crate::events::{Event, Observer, Problem, Severity};
use crate::layout::Handling;
use crate::manifest::{DigestsRecord, FORMAT, Manifest, RegionRecord};
use crate::outside::Cancel;
use crate::reader::Found;
use crate::reader::exclude::Excludes;
use crate::reader::filesystem::Met;
use crate::shown;
use crate::shown::hex;
use crate::store::Backup;
use crate::store::names::{ARCHIVE, CHECKSUM, INDEX, MANIFEST, checksum_line};

/// The name of the backup in the temporary directory.
const STEM: &str = "files";
/// The number of entries between two checks whether the filesystem has an end.
const ASKED_EVERY: u64 = 64;

/// The wanted files of an image, as a backup of files in a temporary directory that is removed with it.
pub struct ImageFiles {
    directory: TemporaryDirectory,
    backup: Backup,
    errors: u64,
    first_error: Option<String>,
}

/// Passes events on, and keeps what could not be read.
struct Errors<'a> {
    inner: &'a dyn Observer,
    found: Mutex<(u64, Option<String>)>,
}

impl Observer for Errors<'_> {
    fn on_event(&self, event: &Event) {
        if let Event::Problem(problem) = event
            && problem.severity == Severity::Error
        {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.0 += 1;
            found.1.get_or_insert_with(|| format!("{}: {}", problem.location, problem.what));
        }
        self.inner.on_event(event);
    }
}

impl ImageFiles {
    /// Puts them into a new directory in `scratch`. Problems of the filesystems are reported to `observer`.
    pub fn take(
        files: &Backup,
        wanted: WantedFiles<'_>,
        scratch: &Path,
        (threads, cancel): (usize, &Cancel),
        observer: &dyn Observer,
    ) -> Result<Self, ImageFilesError> {
        let errors = Errors { inner: observer, found: Mutex::default() };
        let observer: &dyn Observer = &errors;
        let directory = directory_in(scratch, files, observer)?;
        let image = OpenImage::open(files, cancel)?;
        let mut opened = Opened::open(&image, wanted.region, directory.path(), cancel, observer)?;
        let selection = opened.selection(wanted)?;
        opened.tell_left_out(wanted, &selection, observer);
        let scratch_error = |source| ImageFilesError::Scratch { path: directory.path().to_owned(), source };
        let create =
            |suffix: &str| File::create_new(directory.path().join(format!("{STEM}{suffix}"))).map_err(scratch_error);
        let outputs = Outputs { archive: Box::new(create(ARCHIVE)?), index: Box::new(create(INDEX)?), segments: None };
        let stop = cancel.clone();
        let options = WriteOptions {
            stop: Arc::new(move || stop.is_cancelled()),
            ..WriteOptions::new(CompressionLevel::Fixed(1), threads)
        };
        let mut writer = ArchiveWriter::new(outputs, &options, observer)?;
        let mut regions = Vec::new();
        for region in &mut opened.regions {
            observer.on_event(&Event::Step { step: format!("reading the files of {}", region.name) });
            regions.push(archive_region(region, &selection, &mut writer, cancel, observer)?);
        }
        let written = writer.finish()?;
        let members = &written.members;
        // Nothing is copied in a directory.
        let archive_sha1 = hex(&members.archive_sha1.unwrap_or_default());
        let checksum = checksum_line(STEM, ArchiveKind::default(), &archive_sha1);
        let manifest = Manifest {
            format: FORMAT,
            stem: STEM.to_owned(),
            regions,
            image: None,
            layout: opened.layout.clone(),
            counts: written.counts,
            carried: None,
            copied_from: None,
            locked: None,
            changes: None,
            sizes: members.into(),
            digests: DigestsRecord {
                archive_sha1,
                index_sha256: hex(&members.index_sha256),
                checksum_sha256: hex(&super::record::sha256(checksum.as_bytes())),
            },
            ..(*image.manifest).clone()
        };
        let small = |suffix: &str, bytes: &[u8]| {
            fs::write(directory.path().join(format!("{STEM}{suffix}")), bytes).map_err(scratch_error)
        };
        small(CHECKSUM, checksum.as_bytes())?;
        small(MANIFEST, &manifest.to_bytes()?)?;
        let backup = Backup::in_directory(directory.path(), STEM);
        let (errors, first_error) = errors.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Self { directory, backup, errors, first_error })
    }

    /// The backup of files.
    pub fn backup(&self) -> &Backup {
        &self.backup
    }

    /// How many of the image's files could not be read as they were.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// How many parts of the volume the image lacks.
    pub fn backup_errors(&self) -> u64 {
        self.backup.manifest().map_or(0, |manifest| manifest.problem_counts.errors)
    }

    /// The first of them, with the reason.
    pub fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Where it is, until it is dropped.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

fn directory_in(
    scratch: &Path,
    files: &Backup,
    observer: &dyn Observer,
) -> Result<TemporaryDirectory, ImageFilesError> {
    TemporaryDirectory::new(scratch, files.stem(), Use::Files, observer)
        .map_err(|source| ImageFilesError::Scratch { path: scratch.to_owned(), source })
}

/// A file or directory in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundEntry {
    /// Its path as in an archive of files, without `./`.
    pub path: Vec<u8>,
    /// Its letter in an index.
    pub kind: char,
    /// A file's length.
    pub size: u64,
}

/// Calls `each` for each file and directory of the image, with the base of paths that a person types. Data are not read.
pub fn for_each_entry(
    files: &Backup,
    paths: &[String],
    cancel: &Cancel,
    observer: &dyn Observer,
    each: &mut dyn FnMut(&Selection, FoundEntry) -> io::Result<()>,
) -> Result<(), ImageFilesError> {
    let scratch = std::env::temp_dir();
    let directory = directory_in(&scratch, files, observer)?;
    let image = OpenImage::open(files, cancel)?;
    let mut opened = Opened::open(&image, None, directory.path(), cancel, observer)?;
    let wanted = WantedFiles { paths, region: None };
    let selection = opened.selection(wanted)?;
    opened.tell_left_out(wanted, &selection, observer);
    for region in &mut opened.regions {
        walk(region, cancel, observer, &mut |region, entry| {
            let found = FoundEntry {
                path: region.path_of(&entry.path),
                kind: letter(&entry.kind),
                size: if matches!(entry.kind, EntryKind::File(_)) { entry.metadata.size } else { 0 },
            };
            each(&selection, found).map_err(|source| ImageFilesError::Region { region: region.name.clone(), source })
        })?;
    }
    Ok(())
}

fn letter(kind: &EntryKind) -> char {
    match kind {
        EntryKind::File(_) => 'f',
        EntryKind::Directory => 'd',
        EntryKind::Symlink(_) => 'l',
        EntryKind::CharDevice(_) => 'c',
        EntryKind::BlockDevice(_) => 'b',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => '=',
    }
}

/// Archives the selected entries of a region.
fn archive_region(
    region: &mut OpenRegion,
    selection: &Selection,
    writer: &mut ArchiveWriter<'_>,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<RegionRecord, ImageFilesError> {
    writer.start_filesystem(region.directory.as_deref(), None)?;
    writer.limit_filesystem(region.limit_bytes);
    let walked = walk(region, cancel, observer, &mut |region, entry| {
        let path = region.path_of(&entry.path);
        let is_directory = matches!(entry.kind, EntryKind::Directory);
        if selection.wants(&path, is_directory) || (is_directory && selection.leads_to(&path)) {
            writer.append(entry)?;
            drop(writer.take_spent());
        }
        Ok(())
    });
    let ended = walked.and_then(|()| Ok(writer.end_filesystem()?));
    ended.inspect_err(|_| writer.give_up())?;
    tell_met(region, selection, observer);
    Ok(RegionRecord {
        name: region.name.clone(),
        handling: Handling::Files,
        archive_path: Some(region.directory.as_ref().map_or_else(|| ".".to_owned(), |name| format!("./{name}"))),
        has_fat_attributes: region.filesystem.has_fat_attributes(),
        ..RegionRecord::default()
    })
}

/// Tells what a filesystem met while its files were read. Of a file it concerns only a selection that has it.
fn tell_met(region: &OpenRegion, selection: &Selection, observer: &dyn Observer) {
    let name = shown::text(&region.name);
    for met in region.filesystem.met() {
        let problem = match met {
            Met::Whole(severity, what) => Problem::new(severity, name.clone(), what),
            Met::At(problem) => {
                let path = region.path_of(problem.location.as_bytes());
                // What is escaped in it is not looked up.
                if !problem.location.contains('\\') && !selection.wants(&path, false) {
                    continue;
                }
                Problem { location: format!("{name}:{}", problem.location), ..problem }
            }
        };
        observer.on_event(&Event::Problem(problem));
    }
}

/// Calls `each` for each entry.
fn walk(
    region: &mut OpenRegion,
    cancel: &Cancel,
    observer: &dyn Observer,
    each: &mut dyn FnMut(&OpenRegion, Entry) -> Result<(), ImageFilesError>,
) -> Result<(), ImageFilesError> {
    let failed = |source| ImageFilesError::Region { region: region.name.clone(), source };
    let mut walk = region.filesystem.walk(Excludes::nothing()).map_err(failed)?;
    let mut met = 0_u64;
    while let Some(found) = walk.next_found() {
        if cancel.is_cancelled() {
            return Err(ImageFilesError::Stopped);
        }
        match found {
            Found::Entry(entry) => each(region, entry)?,
            Found::Problem(mut problem) | Found::Sealed(mut problem) => {
                problem.location = format!("{}:{}", shown::text(&region.name), problem.location);
                observer.on_event(&Event::Problem(problem));
            }
        }
        met += 1;
        if met.is_multiple_of(ASKED_EVERY) && region.filesystem.has_no_end() {
            return Err(failed(io::Error::other("its directories have no end: it was made so, or is damaged")));
        }
    }
    Ok(())
}
