//! Passes over an archive: puts the selected entries into the tree, and counts the results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::begun::Begun;
use super::error::RestoreError;
use super::ids::Uses;
use super::onto::Onto;
use super::options::{Existing, RestoreOptions};
use super::put::Outcome;
use super::report::RestoreReport;
use super::select::Selection;
use super::wanted::{index_of, plan_of, selects_without_index};
use crate::archive::index::{EntryLine, IndexedKind, escape_path};
use crate::archive::read::entries::{EntryReader, Item};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::archive::read::index_plan::IndexPlan;
use crate::archive::read::stream::{MemberStream, ReadOptions, ReadPlan, StreamOutcome};
use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::BlockRead;
use crate::run::check::side_files::SideFiles;
use crate::shown::{counted, hex};

/// The maximum number of links whose targets are searched in a second pass; further ones are reported.
const MAX_LATE_LINKS: usize = 100_000;
/// The step of progress reports, in bytes of the tar stream.
const PROGRESS_STEP_BYTES: u64 = 16 << 20;
/// The maximum number of paths in a message.
const MAX_EXAMPLES: usize = 5;

/// A restore in progress.
pub(super) struct Pass<'a> {
    pub(super) onto: Onto,
    pub(super) report: RestoreReport,
    /// Links with missing targets: target and own path.
    late_links: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first entries whose place is taken.
    in_the_way: Vec<String>,
    /// The owner ids, if a mapping is requested.
    pub(super) uses: Uses,
    selection: Arc<Selection>,
    observer: &'a dyn Observer,
    options: &'a RestoreOptions,
    told: u64,
}

impl<'a> Pass<'a> {
    /// A restore of what was begun, of which nothing is put yet.
    pub(super) fn new(onto: Onto, begun: &Begun, options: &'a RestoreOptions, observer: &'a dyn Observer) -> Self {
        Self {
            onto,
            report: RestoreReport {
                archive_problems: begun.side_findings.total,
                backup_errors: begun.backup_errors(),
                ..RestoreReport::default()
            },
            late_links: Vec::new(),
            in_the_way: Vec::new(),
            uses: Uses::default(),
            selection: Arc::clone(&begun.selection),
            observer,
            options,
            told: 0,
        }
    }

    /// Restores everything that was begun, and tells what is missing.
    pub(super) fn read_all(&mut self, begun: &Begun) -> Result<(), RestoreError> {
        let Begun { selection, archive, sides, .. } = begun;
        let expected = sides.manifest.as_ref().map_or(sides.archive_bytes, |manifest| manifest.sizes.tar_bytes);
        if selection.is_everything() {
            self.observer.on_event(&Event::ExpectedBytes { bytes: expected });
        }
        self.read(Arc::clone(archive), sides, selection)?;
        let unmatched = selection.unmatched();
        if !unmatched.is_empty() && unmatched.len() == self.options.paths.len() {
            return Err(RestoreError::NothingMatches(unmatched));
        }
        for pattern in unmatched {
            self.fail("", &format!("nothing in the archive matches {pattern}"));
        }
        self.late_links(archive, sides)?;
        self.tell_what_is_in_the_way();
        // What failed since then was not counted.
        if self.options.cancel.is_cancelled() { Err(RestoreError::Stopped) } else { Ok(()) }
    }

    /// Reads the selected part of the archive once, and restores it.
    fn read(
        &mut self,
        archive: Arc<dyn BlockRead>,
        sides: &SideFiles,
        selection: &Arc<Selection>,
    ) -> Result<(), RestoreError> {
        let everything = selection.is_everything();
        let plan = plan_of(sides, selection);
        let indexed = matches!(plan, ReadPlan::Index(_));
        let hash_archive = everything && !indexed && self.options.verify;
        let stream = self.stream(archive, plan, hash_archive)?;
        let mut reader = EntryReader::new(stream, !everything, self.options.verify && indexed);
        while let Some(item) = reader.next_item() {
            // Data missing from now on is not damaged: it was not read.
            if self.options.cancel.is_cancelled() {
                return Err(RestoreError::Stopped);
            }
            match item {
                Item::Entry(head, line) => {
                    // With an index, entries were selected there.
                    if indexed || everything || selects_without_index(selection, &head) {
                        self.take(&head.path, &head, line.as_deref(), &mut reader);
                    }
                    if let Some(ended) = self.onto.ended(self.options) {
                        return Err(ended);
                    }
                }
                Item::Lost { line: Some(line), what, .. } => {
                    self.fail(&escape_path(&line.path), &format!("not restored: {what}"));
                }
                Item::Lost { line: None, place, what, .. } => {
                    self.report.archive_problems += 1;
                    let location = format!("member {}, byte {} of the tar stream", place.member, place.tar_offset);
                    self.observer.on_event(&Event::Problem(Problem::new(Severity::Error, location, what)));
                }
            }
            self.progress(reader.place().tar_offset);
        }
        let (stream, end) = reader.into_source();
        let outcome = stream.finish();
        if outcome.stopped {
            return Err(RestoreError::Stopped);
        }
        if everything && !end.complete {
            self.archive_problem("the two blocks of zeros at the end of the tar stream are missing".to_owned());
        }
        self.take_outcome(&outcome, sides, hash_archive)?;
        self.report.verified = self.options.verify && (indexed || (hash_archive && outcome.archive_sha1.is_some()));
        Ok(())
    }

    fn stream(
        &self,
        archive: Arc<dyn BlockRead>,
        plan: ReadPlan,
        hash_archive: bool,
    ) -> Result<MemberStream, RestoreError> {
        let stop = vec![self.options.cancel.flag()];
        MemberStream::new(archive, plan, &ReadOptions { threads: self.options.threads, hash_archive, stop })
            .map_err(|source| RestoreError::Target { to: self.options.to.clone(), source })
    }

    fn take_outcome(&mut self, outcome: &StreamOutcome, sides: &SideFiles, hashed: bool) -> Result<(), RestoreError> {
        if outcome.stopped {
            return Err(RestoreError::Stopped);
        }
        for finding in &outcome.findings {
            let what = finding.member.map_or_else(String::new, |member| format!("member {member}: "));
            self.archive_problem(format!("{what}{}", finding.what));
        }
        if let (true, Some(found), Some(expected)) = (hashed, outcome.archive_sha1, &sides.expected_sha1)
            && hex(&found) != *expected
        {
            self.archive_problem(format!("its SHA-1 is {}, and should be {expected}", hex(&found)));
        }
        Ok(())
    }

    fn archive_problem(&mut self, what: String) {
        self.report.archive_problems += 1;
        self.observer.on_event(&Event::Problem(Problem::new(Severity::Error, "the archive", what)));
    }

    fn take(
        &mut self,
        path: &[u8],
        head: &EntryHead,
        line: Option<&EntryLine>,
        reader: &mut EntryReader<MemberStream>,
    ) {
        for problem in &head.problems {
            self.fail(&escape_path(path), problem);
        }
        if let Some(what) = self.onto.rules().names.missing(head) {
            self.fail(&escape_path(path), &what);
        }
        if line.is_some_and(|line| line.damaged) {
            self.report.damaged_in_backup += 1;
            let what = "was not read whole when it was backed up; restored as it is in the archive";
            self.observer.on_event(&Event::Problem(Problem::new(Severity::Warning, escape_path(path), what)));
        }
        if !self.onto.rules().ids.is_empty() {
            self.uses.note(head);
        }
        let only_leads = head.kind == HeadKind::Directory && !self.selection.wants(&head.path, true);
        let outcome = self.onto.put(path, head, line, reader, only_leads);
        if self.onto.has_ended() {
            return;
        }
        match outcome {
            Outcome::Restored => {
                self.report.restored += 1;
                self.report.data_bytes += head.stored_bytes;
            }
            Outcome::Present => self.report.present += 1,
            Outcome::Kept(what) => {
                self.report.present += 1;
                let place = self.options.to.display().to_string();
                self.observer.on_event(&Event::Problem(Problem::new(Severity::Notice, place, what)));
            }
            Outcome::LeftOut(what) => {
                self.report.left_out += 1;
                self.observer.on_event(&Event::Problem(Problem::new(Severity::Notice, escape_path(path), what)));
            }
            Outcome::TargetMissing { target } => {
                if self.late_links.len() < MAX_LATE_LINKS {
                    self.late_links.push((target, path.to_vec()));
                } else {
                    self.fail(&escape_path(path), "not restored: what it links to is not there");
                }
            }
            Outcome::InTheWay => self.is_in_the_way(path),
            Outcome::Failed(what) => self.fail(&escape_path(path), &what),
            Outcome::NoRoom(what) => self.fail_for_room(path, &what),
        }
    }

    fn is_in_the_way(&mut self, path: &[u8]) {
        self.report.failed += 1;
        self.report.in_the_way += 1;
        if self.in_the_way.len() < MAX_EXAMPLES {
            self.in_the_way.push(escape_path(path));
        }
    }

    /// Reports all of them on one line.
    fn tell_what_is_in_the_way(&self) {
        let count = self.report.in_the_way;
        let Some(more) = count.checked_sub(self.in_the_way.len() as u64).filter(|_| count > 0) else { return };
        let examples = self.in_the_way.join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let advice = match self.options.existing {
            Existing::Keep => "--overwrite replaces what is there, --resume continues an interrupted restore",
            Existing::Resume | Existing::Overwrite => "--overwrite replaces what is there",
        };
        let what = format!(
            "{} not restored, since something of that name was there already ({examples}{more}); {advice}",
            counted(count, "entry was", "entries were")
        );
        let place = self.options.to.display().to_string();
        self.observer.on_event(&Event::Problem(Problem::new(Severity::Error, place, what)));
    }

    fn fail(&mut self, path: &str, what: &str) {
        // A file that was interrupted by the cancellation is not damaged; the run reports the cancellation.
        if self.options.cancel.is_cancelled() {
            return;
        }
        self.report.failed += 1;
        self.observer.on_event(&Event::Problem(Problem::new(Severity::Error, path, what)));
    }

    fn fail_for_room(&mut self, path: &[u8], what: &str) {
        self.report.without_room += 1;
        self.fail(&escape_path(path), what);
    }

    /// Restores links whose targets were not selected, or are not there as they are in the backup: the first name gets the data, the others are linked to it.
    fn late_links(&mut self, archive: &Arc<dyn BlockRead>, sides: &SideFiles) -> Result<(), RestoreError> {
        let mut groups: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for (target, path) in std::mem::take(&mut self.late_links) {
            groups.entry(target).or_default().push(path);
        }
        if groups.is_empty() {
            return Ok(());
        }
        if let Some(index) = index_of(sides) {
            let targets: BTreeSet<Vec<u8>> = groups.keys().cloned().collect();
            let select =
                Box::new(move |line: &EntryLine| line.kind != IndexedKind::HardLink && targets.contains(&line.path));
            let plan = ReadPlan::Index(Box::new(IndexPlan::new(index, Some(select))));
            let archive = Arc::clone(archive);
            let mut reader = EntryReader::new(self.stream(archive, plan, false)?, true, self.options.verify);
            while let Some(item) = reader.next_item() {
                let Item::Entry(head, line) = item else { continue };
                let Some(paths) = groups.remove(&head.path) else { continue };
                let Some((first, others)) = paths.split_first() else { continue };
                self.take(first, &head, line.as_deref(), &mut reader);
                for other in others {
                    self.link(other, first);
                }
            }
            let (stream, _) = reader.into_source();
            self.take_outcome(&stream.finish(), sides, false)?;
        }
        for (target, paths) in groups {
            for path in paths {
                let what = format!(
                    "not restored: what it links to, {}, is not there as it is in the backup",
                    escape_path(&target)
                );
                self.fail(&escape_path(&path), &what);
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &[u8], target: &[u8]) {
        match self.onto.link(path, target) {
            Outcome::Restored => self.report.restored += 1,
            Outcome::Present | Outcome::Kept(_) => self.report.present += 1,
            Outcome::InTheWay => self.is_in_the_way(path),
            Outcome::NoRoom(what) => self.fail_for_room(path, &what),
            Outcome::Failed(what) | Outcome::LeftOut(what) => self.fail(&escape_path(path), &what),
            Outcome::TargetMissing { .. } => self.fail(&escape_path(path), "not restored: its first name is not there"),
        }
    }

    fn progress(&mut self, tar_offset: u64) {
        if tar_offset.saturating_sub(self.told) >= PROGRESS_STEP_BYTES {
            self.observer.on_event(&Event::Read { bytes: tar_offset - self.told });
            self.told = tar_offset;
        }
    }
}
