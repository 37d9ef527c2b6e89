//! Verifies a backup at a given level, as far as its files allow, and reports how far.
//!
//! [`crate::run::check`] reads and compares, [`crate::run::rehearse`] makes a restore test; this module combines
//! their findings into a [`VerifyReport`]. [`choose`] selects the backups that are due, and [`many`] verifies
//! several.

pub mod choose;
pub mod many;
mod report;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::host::processors;
use crate::outside::{BlockRead, Cancel, Clock, RunCommand};
use crate::run::check::{
    BackupFile, CheckError, CheckLevel, Finding, Findings, Verdict, content, image, image_test, overwritten, sealed,
    second_opinion, side_files,
};
use crate::run::rehearse::{self, RehearseOptions};
use crate::store::Backup;
use crate::store::open::OpenError;
use crate::store::unread::{Refused, Unread};

pub use self::report::VerifyReport;

/// Options of a verification.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The level.
    pub level: CheckLevel,
    /// Whether the archive is also read with independent libraries, see [`second_opinion`]. Always at the level
    /// [`CheckLevel::RestoreTest`], never at [`CheckLevel::Quick`].
    pub second_opinion: bool,
    /// The number of decompression threads.
    pub threads: usize,
    /// The directory for the restore test's filesystem, which takes as much space as the files.
    pub scratch: PathBuf,
    /// Cancels the operation.
    pub cancel: Cancel,
}

/// A full verification with all processors; a restore test uses the directory for temporary files.
impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            level: CheckLevel::default(),
            second_opinion: false,
            threads: processors(),
            scratch: std::env::temp_dir(),
            cancel: Cancel::default(),
        }
    }
}

impl VerifyOptions {
    /// The default options at this level.
    pub fn at(level: CheckLevel) -> Self {
        Self { level, ..Self::default() }
    }
}

/// The programs, the clock and the observer of a verification.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Receives progress and problems.
    pub observer: &'a dyn Observer,
    /// The time of the report.
    pub clock: &'a dyn Clock,
    /// Runs mkfs and fsck for the restore test.
    pub commands: &'a dyn RunCommand,
}

/// Verifies a backup, and reports each finding to `around.observer`. Problems of the backup are in the report; the
/// caller writes the record beside it ([`VerifyReport::save_record`]).
pub fn verify(files: &Backup, options: &VerifyOptions, around: Surroundings<'_>) -> Result<VerifyReport, CheckError> {
    check_resources(files).map_err(CheckError::Here)?;
    let (watched, unread) = files.watched();
    let files = &watched;
    let mut findings = Findings::default();
    let sides = side_files::check(files, options.level, &options.cancel, &mut findings)?;
    overwritten::check(files, sides.manifest.as_deref(), &mut findings);
    let mut seen = content::Seen::default();
    let is_too_long =
        sides.manifest.as_ref().is_some_and(|manifest| sides.archive_bytes > manifest.sizes.archive_bytes);
    if options.level >= CheckLevel::Full
        && let Some(archive) = &sides.archive
    {
        if is_too_long {
            findings.not_checked("the content of the archive: it is longer than it should be, and is not read");
        } else {
            let (threads, cancel, observer) = (options.threads, &options.cancel, around.observer);
            if let Some(table) = sides.segments.clone() {
                seen = sealed_content(archive, table, &sides, around.observer, cancel, &mut findings)?;
            }
            let reading = content::Reading { archive, sides: &sides, threads, cancel, observer };
            // Of an encrypted archive that cannot be decrypted here, the segments are all that can be checked.
            seen = match files.kind() {
                kind if kind.is_sealed() && sides.locked.is_some() => seen,
                kind if kind.is_image() => image::check(&reading, &mut findings)?,
                _ => content::check(&reading, &mut findings)?,
            };
        }
    }
    let is_sound = sides.archive.is_some() && findings.total == 0;
    let mut second = None;
    if options.level == CheckLevel::RestoreTest || (options.level == CheckLevel::Full && options.second_opinion) {
        if files.kind().is_image() {
            // The restore test of an image is one.
            if options.level == CheckLevel::Full {
                findings.not_checked("a second opinion on an image is part of --restore-test");
            }
        } else if sides.locked.is_some() {
            findings.not_checked("no second opinion is asked about an archive that cannot be decrypted");
        } else if is_sound {
            second = second_opinion::check(
                &sides,
                files.kind().compression(),
                &options.cancel,
                around.observer,
                &mut findings,
            )?;
        } else {
            findings.not_checked("no second opinion is asked about a damaged archive");
        }
    }
    if options.level == CheckLevel::RestoreTest {
        // Also after a disagreeing second opinion: the restored tree shows which reader is right.
        if sides.locked.is_some() {
            findings.not_checked("nothing is restored for a test: the backup cannot be decrypted here");
        } else if is_sound && files.kind().is_image() {
            image_test::check(files, &options.scratch, &options.cancel, around.observer, &mut findings)?;
        } else if is_sound {
            let how = RehearseOptions { scratch: &options.scratch, threads: options.threads, cancel: &options.cancel };
            rehearse::check(files, how, around.observer, around.commands, &mut findings)?;
        } else {
            findings.not_beyond(CheckLevel::Full, "a damaged archive is not restored for a test");
        }
    }
    if findings.total > 0 {
        check_was_read(files, &unread, &findings)?;
    }
    for finding in &findings.first {
        let problem = Problem::new(Severity::Error, finding.place(files.stem(), files.kind()), &finding.what);
        around.observer.on_event(&Event::Problem(problem));
    }
    let verdict = match (findings.total, findings.not_checked.is_empty()) {
        (1.., _) => Verdict::Bad,
        (0, true) => Verdict::Good,
        (0, false) => Verdict::GoodAsFarAsChecked,
    };
    Ok(VerifyReport {
        archive: files.archive_path(),
        stem: files.stem().to_owned(),
        level: options.level,
        reached: findings.reached.filter(|reached| *reached < options.level),
        verdict,
        verified_at: around.clock.now(),
        not_checked: findings.not_checked,
        findings: findings.first,
        findings_total: findings.total,
        manifest_lost: sides.manifest_lost,
        archive_sha1: sides.expected_sha1,
        index_sha256: sides.index_sha256,
        found_sha1: seen.archive_sha1,
        archive_bytes: sides.archive_bytes,
        members: seen.members,
        entries: seen.entries,
        marked_entries: seen.marked_entries,
        second_opinion: second,
        boot: None,
    })
}

/// Compares the segments of an encrypted archive with their table, without a key.
fn sealed_content(
    archive: &Arc<dyn BlockRead>,
    table: Arc<dyn BlockRead>,
    sides: &side_files::SideFiles,
    observer: &dyn Observer,
    cancel: &Cancel,
    findings: &mut Findings,
) -> Result<content::Seen, CheckError> {
    observer.on_event(&Event::ExpectedBytes { bytes: sides.archive_bytes });
    let mut read = |bytes| observer.on_event(&Event::Read { bytes });
    let (archive_sha1, members) = sealed::check_segments(archive, table, &mut read, cancel, findings)?;
    if let (Some(found), Some(expected)) = (&archive_sha1, &sides.expected_sha1)
        && found != expected
    {
        findings.about(BackupFile::Archive, format!("its SHA-1 is {found}, and it should be {expected}"));
    }
    Ok(content::Seen { archive_sha1, members, ..content::Seen::default() })
}

/// Checks that the findings are those of the backup. What was found about a file that could not be read says nothing about it, nor
/// does what was found without its manifest, or without the table of its segments.
fn check_was_read(files: &Backup, unread: &Unread, findings: &Findings) -> Result<(), CheckError> {
    let refused = files.uncertain(unread);
    let is_of_a_file_that_was_read = |finding: &Finding| {
        let without = [BackupFile::Manifest, BackupFile::Segments, finding.file].map(|file| file.suffix(files.kind()));
        !refused.iter().any(|one| without.contains(&one.suffix.as_str()))
    };
    if !refused.is_empty() && findings.first.iter().any(is_of_a_file_that_was_read) {
        return Ok(());
    }
    if let Some(Refused { path, source, .. }) = refused.into_iter().next() {
        return Err(CheckError::Unread { path, source });
    }
    match files.open_stored_archive() {
        Err(OpenError::Io { path, source }) => Err(CheckError::Unread { path, source }),
        Err(OpenError::Missing(path)) => {
            let is_of_backup =
                |name: &String| name.strip_prefix(files.stem()).is_some_and(|rest| rest.starts_with('.'));
            let is_left = files.folder().list().is_ok_and(|listing| listing.files.iter().any(is_of_backup));
            if is_left { Ok(()) } else { Err(CheckError::Gone(path)) }
        }
        _ => Ok(()),
    }
}

/// Checks that this process can open and read a backup's files: without free descriptors, each good file would look
/// unreadable.
fn check_resources(files: &Backup) -> io::Result<()> {
    // The four files of a backup, one of them twice, and the descriptors of a restore test and of the threads.
    const DESCRIPTORS: usize = 10;
    let directory = files.directory();
    // A directory that cannot be opened is reported when its files are searched.
    let Ok(held) = std::fs::File::open(directory) else {
        return std::fs::File::open("/").map(drop);
    };
    let copies: Vec<std::fs::File> = (0..DESCRIPTORS).map(|_| held.try_clone()).collect::<io::Result<_>>()?;
    drop(copies);
    Ok(())
}
