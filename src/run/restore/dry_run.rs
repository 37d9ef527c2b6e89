//! Simulates a restore without writing anything.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::attributes::may_lend_rights;
use super::begun::check_place;
use super::error::RestoreError;
use super::ids::{MappedUse, Uses};
use super::options::RestoreOptions;
use super::part_of_region::wanted_part;
use super::select::Selection;
use super::wanted::{index_of, plan_of, resolve_ids, selects_without_index};
use crate::archive::index::escape_path;
use crate::archive::read::entries::{EntryReader, Item};
use crate::archive::read::head::HeadKind;
use crate::archive::read::stream::{MemberStream, ReadOptions};
use crate::events::{Event, Observer, Problem, Severity};
use crate::run::check::{CheckLevel, Findings, side_files};
use crate::run::image_files::{ImageFiles, WantedFiles};
use crate::store::Backup;

/// The entries of a simulated restore, and their owners.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DryRun {
    /// Selected entries of the backup, including the directories that lead to them.
    pub entries: u64,
    /// The length of files and images among them.
    pub data_bytes: u64,
    /// The room that they take on a filesystem with blocks of 4 KiB: files without their holes, and a block for each directory.
    /// What is there already is not subtracted.
    pub needed_bytes: u64,
    /// The room in the filesystem of the target; `None` if it cannot be asked.
    pub available_bytes: Option<u64>,
    /// Devices, which are created only with `--devices`.
    pub devices: u64,
    /// Files with set-user-id or set-group-id bits or capabilities.
    pub set_id_files: u64,
    /// The users of the entries and in their ACLs.
    pub uids: Vec<MappedUse>,
    /// The groups.
    pub gids: Vec<MappedUse>,
    /// Owners not listed, since there are too many, or the number is invalid on Linux.
    pub uncounted_owners: u64,
    /// Ids that several of the backup's are mapped to, one sentence each.
    pub merged: Vec<String>,
    /// Entries and parts of the archive that cannot be read. Each was reported as a problem.
    pub unreadable: u64,
}

/// The size of a block in most filesystems.
const BLOCK_BYTES: u64 = 4096;

impl DryRun {
    /// The bytes that the target lacks; 0 if it has room for all.
    pub fn lacking_bytes(&self) -> u64 {
        self.available_bytes.map_or(0, |available| self.needed_bytes.saturating_sub(available))
    }
}

/// The room in the filesystem that this directory is in, or will be in.
fn available(directory: &Path) -> Option<u64> {
    let whole = std::path::absolute(directory).ok()?;
    let facts = whole.ancestors().find_map(|directory| rustix::fs::statvfs(directory).ok())?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Reads the selected part of the archive, and counts.
pub fn dry_run(files: &Backup, options: &RestoreOptions, observer: &dyn Observer) -> Result<DryRun, RestoreError> {
    check_place(files, options)?;
    if files.kind().is_image() {
        // Nothing is written where it would be restored.
        let wanted = WantedFiles { paths: &options.paths, region: options.region.as_deref() };
        let how = (options.threads, &options.cancel);
        let taken = ImageFiles::take(files, wanted, &std::env::temp_dir(), how, observer);
        let taken = taken.map_err(|error| RestoreError::ImageFiles(error.into()))?;
        let mut found = dry_run(taken.backup(), options, observer)?;
        found.unreadable += taken.errors();
        return Ok(found);
    }
    let (part, base) = wanted_part(files, options)?;
    let selection = Arc::new(Selection::from(&base, &options.paths)?.within(&part));
    let archive = files.open_archive()?;
    let mut side_findings = Findings::default();
    let sides = side_files::check(files, CheckLevel::Full, &options.cancel, &mut side_findings)
        .map_err(RestoreError::of_check)?;
    let (ids, names) = resolve_ids(&archive, &sides, options, &part, observer)?;
    let everything = selection.is_everything();
    let indexed = index_of(&sides).is_some();
    let read = ReadOptions { threads: options.threads, hash_archive: false, stop: vec![options.cancel.flag()] };
    let stream = MemberStream::new(archive, plan_of(&sides, &selection), &read);
    let stream = stream.map_err(|source| RestoreError::cannot_open(files, source))?;
    let mut reader = EntryReader::new(stream, !everything, false).without_maps();
    let mut found = DryRun { unreadable: side_findings.total, ..DryRun::default() };
    let mut uses = Uses::default();
    let error = |place: String, what: String| {
        observer.on_event(&Event::Problem(Problem::new(Severity::Error, place, what)));
    };
    for finding in &side_findings.first {
        error(finding.place(files.stem(), files.kind()), finding.what.clone());
    }
    while let Some(item) = reader.next_item() {
        match item {
            Item::Entry(head, _) => {
                if !indexed && !selects_without_index(&selection, &head) {
                    continue;
                }
                uses.note(&head);
                if let Some(what) = names.missing(&head) {
                    let problem = Problem::new(Severity::Warning, escape_path(&head.path), what);
                    observer.on_event(&Event::Problem(problem));
                }
                found.entries += 1;
                found.data_bytes += head.stored_bytes;
                let blocks =
                    head.stored_bytes.div_ceil(BLOCK_BYTES) + u64::from(matches!(head.kind, HeadKind::Directory));
                found.needed_bytes = found.needed_bytes.saturating_add(blocks.saturating_mul(BLOCK_BYTES));
                let is_link = matches!(head.kind, HeadKind::HardLink(_));
                found.set_id_files += u64::from(!is_link && may_lend_rights(&head));
                found.devices += u64::from(matches!(head.kind, HeadKind::CharDevice(_) | HeadKind::BlockDevice(_)));
            }
            Item::Lost { line, place, what, .. } => {
                found.unreadable += 1;
                let at = || format!("member {}, byte {} of the tar stream", place.member, place.tar_offset);
                error(line.map_or_else(at, |line| escape_path(&line.path)), what);
            }
        }
    }
    let (stream, _) = reader.into_source();
    let outcome = stream.finish();
    if outcome.stopped {
        return Err(RestoreError::Stopped);
    }
    found.unreadable += outcome.findings_total;
    for finding in outcome.findings {
        error("the archive".to_owned(), finding.what);
    }
    let unmatched = selection.unmatched();
    if !unmatched.is_empty() {
        return Err(RestoreError::NothingMatches(unmatched));
    }
    found.available_bytes = available(&options.to);
    (found.uids, found.gids) = uses.mapped(&ids);
    found.uncounted_owners = uses.uncounted;
    found.merged = if ids.is_empty() { Vec::new() } else { uses.merged(&ids) };
    Ok(found)
}
