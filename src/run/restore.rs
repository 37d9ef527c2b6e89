//! Restores an archive, or a part of it, into a directory.
//!
//! [`select`] says what, [`put`] makes each entry through [`tree`], which never leaves the directory, and
//! [`attributes`] gives it what it had. A file gets its name when its data, digest and attributes are right: whatever
//! has its name is complete, so a restore that was cut off is resumed by what is there.

pub mod attributes;
pub mod data;
pub mod dry_run;
pub mod ids;
mod locks;
pub mod names;
pub mod put;
mod reach;
pub mod select;
pub mod tree;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::Serialize;

use self::attributes::{Owner, Rules};
use self::ids::{IdMaps, Uses};
use self::locks::Locks;
use self::names::{IdError, IdWish};
use self::put::{Outcome, PutOptions, Putter};
use self::reach::is_reachable;
use self::select::{BadPattern, Part, Selection};
use self::tree::Tree;
use crate::archive::index::{EntryLine, IndexedKind, escape_path};
use crate::archive::read::entries::{EntryReader, Item};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::archive::read::index_file::{IndexPlan, IndexReader, Select};
use crate::archive::read::stream::{MemberStream, Plan, ReadOptions, StreamOutcome};
use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::Cancel;
use crate::run::check::side_files::{self, SideFiles};
use crate::run::check::{CheckError, CheckLevel, Findings};
use crate::shown::hex;
use crate::store::Backup;
use crate::store::open::OpenError;

/// What happens with what is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is, and the entry is reported. Directories are gone into, and stay as they are.
    #[default]
    Keep,
    /// What is equal stays: files of the same size, time and content. Directories get their attributes anew. The rest
    /// as with `Keep`.
    Resume,
    /// It is replaced. Only directories are never removed.
    Overwrite,
}

/// How a backup is restored.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct RestoreOptions {
    /// The directory to restore into; made when it is not there.
    pub to: PathBuf,
    /// Patterns of what is wanted, see [`Selection`]; everything without any.
    pub paths: Vec<String>,
    /// What happens with what is there already.
    pub existing: Existing,
    /// Whether each file is compared with its digest in the index, and a whole archive with its checksum.
    pub verify: bool,
    /// Whether devices are made. Only root can.
    pub devices: bool,
    /// Whether the directory itself gets the owner, mode, times and attributes that the archive's root has. Without it,
    /// it keeps its own; one that was made is its owner's alone (0700).
    pub top: bool,
    /// Whether files keep set-user-id and set-group-id bits and capabilities also where other users of this host can
    /// reach them.
    pub keep_set_id: bool,
    /// Other numbers for owners and groups.
    pub ids: IdWish,
    /// How many threads inflate.
    pub threads: usize,
    /// The wish to stop.
    pub cancel: Cancel,
}

/// What was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Entries that are as they were.
    pub restored: u64,
    /// Entries that were there already, equal; directories among them.
    pub present: u64,
    /// Entries that were left out as asked for: devices.
    pub left_out: u64,
    /// Entries that are not there, or not as they were. Each was told as a problem, but for those of `in_the_way`.
    pub failed: u64,
    /// How many of the failed ones have something in their place that was there before.
    pub in_the_way: u64,
    /// Files that were left without their set-user-id or set-group-id bits or capabilities, since others can reach them.
    pub stripped: u64,
    /// Bytes of files and images that were read for it.
    pub data_bytes: u64,
    /// What could not be set, and on how many entries: owners without root, attributes that the filesystem does not have.
    pub shortfalls: BTreeMap<String, u64>,
    /// Numbers of owners and groups that stand for several of the backup's, one sentence each. Each was told as a problem.
    pub merged_ids: Vec<String>,
    /// Whether the archive's own digests were there to compare with.
    pub verified: bool,
    /// Other problems of the archive.
    pub archive_problems: u64,
}

impl RestoreReport {
    /// Whether everything that was asked for is there as it was.
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.archive_problems == 0
    }
}

/// Why nothing, or not everything, was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive cannot be opened.
    #[error(transparent)]
    Archive(#[from] OpenError),
    /// The target cannot be used.
    #[error("{} cannot be restored into", to.display())]
    Target {
        /// The target.
        to: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another restore is at work there.
    #[error("another restore works in {}", .0.display())]
    Busy(PathBuf),
    /// Owners and groups cannot be mapped as it was asked for. Nothing was written.
    #[error(transparent)]
    Ids(#[from] IdError),
    /// A pattern is none.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// The archive has nothing of that name.
    #[error("the archive has nothing that matches {}", .0.join(", "))]
    NothingMatches(Vec<String>),
    /// Somebody wanted it to stop.
    #[error("interrupted before everything was restored; --resume goes on from here")]
    Stopped,
    /// This process lacks what reading a backup takes.
    #[error("the backup cannot be read here")]
    Here(#[source] std::io::Error),
}

impl RestoreError {
    fn of_check(error: CheckError) -> Self {
        match error {
            CheckError::Stopped => Self::Stopped,
            CheckError::Here(source) => Self::Here(source),
        }
    }
}

/// Links whose targets are looked for a second time; more are reported.
const MAX_LATE_LINKS: usize = 100_000;
/// Progress is told in steps of this many bytes of the tar stream.
const PROGRESS_STEP_BYTES: u64 = 16 << 20;
/// Paths that are named as an example of many.
const MAX_EXAMPLES: usize = 5;

/// Restores. Problems of single entries are told to `observer`, and the rest goes on.
pub fn restore(
    files: &Backup,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreReport, RestoreError> {
    restore_part(files, options, &Part::default(), observer)
}

/// As [`restore`], for what belongs to `part`.
pub fn restore_part(
    files: &Backup,
    options: &RestoreOptions,
    part: &Part,
    observer: &dyn Observer,
) -> Result<RestoreReport, RestoreError> {
    let selection = Arc::new(Selection::new(&options.paths)?.within(part));
    let archive = files.open_archive()?;
    let target_error = |source: Errno| RestoreError::Target { to: options.to.clone(), source: source.into() };
    let mut side_findings = Findings::default();
    let sides = side_files::check(files, CheckLevel::Full, &options.cancel, &mut side_findings)
        .map_err(RestoreError::of_check)?;
    let ids = resolve_ids(&archive, &sides, options, observer)?;
    let tree = Tree::open(&options.to).map_err(target_error)?;
    // The lock goes with its own descriptor, which must outlive the tree.
    let lock = rustix::io::fcntl_dupfd_cloexec(tree.root().ok_or(Errno::BADF).map_err(target_error)?, 0);
    let lock = lock.map_err(target_error)?;
    // Where directories cannot be locked, nobody else can either.
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Err(RestoreError::Busy(options.to.clone()));
    }

    if options.existing == Existing::Resume {
        tree.remove_remains().map_err(target_error)?;
    }
    for finding in &side_findings.first {
        let what = format!("{}; restored all the same, as far as the rest agrees", finding.what);
        let problem = Problem::new(Severity::Warning, finding.place(files.stem()), what);
        observer.on_event(&Event::Problem(problem));
    }
    let put_options =
        PutOptions { existing: options.existing, verify: options.verify, devices: options.devices, top: options.top };
    let reachable = tree.root().is_none_or(|root| is_reachable(root, options.top));
    let rules = Rules { strip_set_id: reachable && !options.keep_set_id, ids };
    let mut run = Run {
        putter: Putter {
            tree,
            owner: Owner::of_process(),
            options: put_options,
            rules,
            below: part.below.clone(),
            locks: Locks::default(),
        },
        in_the_way: Vec::new(),
        uses: Uses::default(),
        report: RestoreReport { archive_problems: side_findings.total, ..RestoreReport::default() },
        late_links: Vec::new(),
        observer,
        options,
        told: 0,
    };
    let expected = sides.manifest.as_ref().map_or(sides.archive_bytes, |manifest| manifest.sizes.tar_bytes);
    if selection.is_everything() {
        observer.on_event(&Event::ExpectedBytes { bytes: expected });
    }
    run.pass(archive.try_clone().map_err(|source| cannot_open(files, source))?, &sides, &selection)?;
    let unmatched = selection.unmatched();
    if !unmatched.is_empty() && unmatched.len() == options.paths.len() {
        return Err(RestoreError::NothingMatches(unmatched));
    }
    for pattern in unmatched {
        run.fail("", &format!("nothing in the archive matches {pattern}"));
    }
    run.late_links(&archive, &sides)?;
    run.tell_what_is_in_the_way();
    let Run { mut putter, mut report, uses, .. } = run;
    report.merged_ids = uses.merged(&putter.rules.ids);
    for what in &report.merged_ids {
        let place = options.to.display().to_string();
        observer.on_event(&Event::Problem(Problem::new(Severity::Warning, place, what.clone())));
    }
    let root = putter.tree.root().map(|root| rustix::io::fcntl_dupfd_cloexec(root, 0));
    let failures = putter.tree.finish(&mut putter.owner).map_err(target_error)?;
    for (path, what) in failures {
        report.failed += 1;
        observer.on_event(&Event::Problem(Problem::new(Severity::Error, escape_path(&path), what)));
    }
    if let Some(Ok(root)) = &root {
        putter.locks.set(root.as_fd(), &mut putter.owner);
    }
    for (what, count) in putter.owner.shortfalls() {
        let problem =
            Problem::new(Severity::Warning, options.to.display().to_string(), format!("{what} ({count} times)"));
        observer.on_event(&Event::Problem(problem));
    }
    report.shortfalls.clone_from(putter.owner.shortfalls());
    report.stripped = putter.owner.stripped();
    if report.stripped > 0 {
        let what = format!(
            "{} files were restored without their set-user-id or set-group-id bits or capabilities, since other users of \
             this host can reach them here; --keep-setid keeps them, and so does a directory that only root can enter",
            report.stripped
        );
        observer.on_event(&Event::Problem(Problem::new(Severity::Notice, options.to.display().to_string(), what)));
    }
    if let Some(Ok(root)) = root {
        rustix::fs::syncfs(&root).map_err(target_error)?;
    }
    Ok(report)
}

fn cannot_open(files: &Backup, source: std::io::Error) -> RestoreError {
    RestoreError::Archive(OpenError::Io { path: files.archive_path(), source })
}

struct Run<'a> {
    putter: Putter,
    report: RestoreReport,
    /// Links whose targets were not there: target and own path.
    late_links: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first entries that have something in their place.
    in_the_way: Vec<String>,
    /// The numbers of owners, when some of them are mapped.
    uses: Uses,
    observer: &'a dyn Observer,
    options: &'a RestoreOptions,
    told: u64,
}

impl Run<'_> {
    /// Reads what is wanted of the archive once, and restores it.
    fn pass(&mut self, archive: File, sides: &SideFiles, selection: &Arc<Selection>) -> Result<(), RestoreError> {
        let everything = selection.is_everything();
        let plan = plan_of(sides, selection);
        let indexed = matches!(plan, Plan::Index(_));
        let hash_archive = everything && !indexed && self.options.verify;
        let stream = self.stream(archive, plan, hash_archive)?;
        let mut reader = EntryReader::new(stream, !everything, self.options.verify && indexed);
        while let Some(item) = reader.next_item() {
            // What is lost from now on is not damaged, it is not read.
            if self.options.cancel.is_cancelled() {
                return Err(RestoreError::Stopped);
            }
            match item {
                Item::Entry(head, line) => {
                    // With an index, it was chosen there.
                    if indexed || everything || selects_without_index(selection, &head) {
                        self.take(&head.path, &head, line.as_deref(), &mut reader);
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

    fn stream(&self, archive: File, plan: Plan, hash_archive: bool) -> Result<MemberStream, RestoreError> {
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
        head: &crate::archive::read::head::EntryHead,
        line: Option<&crate::archive::index::EntryLine>,
        reader: &mut EntryReader<MemberStream>,
    ) {
        for problem in &head.problems {
            self.fail(&escape_path(path), problem);
        }
        if line.is_some_and(|line| line.damaged) {
            let what = "was not read whole when it was backed up; restored as it is in the archive";
            self.observer.on_event(&Event::Problem(Problem::new(Severity::Warning, escape_path(path), what)));
        }
        if !self.putter.rules.ids.is_empty() {
            self.uses.note(head);
        }
        match self.putter.put(path, head, line, reader) {
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
        }
    }

    fn is_in_the_way(&mut self, path: &[u8]) {
        self.report.failed += 1;
        self.report.in_the_way += 1;
        if self.in_the_way.len() < MAX_EXAMPLES {
            self.in_the_way.push(escape_path(path));
        }
    }

    /// One line, however many there are.
    fn tell_what_is_in_the_way(&self) {
        let count = self.report.in_the_way;
        let Some(more) = count.checked_sub(self.in_the_way.len() as u64).filter(|_| count > 0) else { return };
        let examples = self.in_the_way.join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let advice = match self.options.existing {
            Existing::Keep => "--overwrite replaces them, --resume goes on with a restore that was interrupted",
            Existing::Resume | Existing::Overwrite => "--overwrite replaces them",
        };
        let what = format!(
            "{count} entries were not restored, since something of their name was there already ({examples}{more}); {advice}"
        );
        let place = self.options.to.display().to_string();
        self.observer.on_event(&Event::Problem(Problem::new(Severity::Error, place, what)));
    }

    fn fail(&mut self, path: &str, what: &str) {
        // A file that was being read when somebody wanted to stop is not damaged; the run says that it was interrupted.
        if self.options.cancel.is_cancelled() {
            return;
        }
        self.report.failed += 1;
        self.observer.on_event(&Event::Problem(Problem::new(Severity::Error, path, what)));
    }

    /// Links to what was not asked for: the first of each gets the data, the others are links to it.
    fn late_links(&mut self, archive: &File, sides: &SideFiles) -> Result<(), RestoreError> {
        let mut groups: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for (target, path) in std::mem::take(&mut self.late_links) {
            groups.entry(target).or_default().push(path);
        }
        if groups.is_empty() {
            return Ok(());
        }
        let partial = !self.options.paths.is_empty();
        if let (true, Some(index)) = (partial, index_of(sides)) {
            let targets: std::collections::BTreeSet<Vec<u8>> = groups.keys().cloned().collect();
            let select = Box::new(move |line: &crate::archive::index::EntryLine| {
                line.kind != IndexedKind::HardLink && targets.contains(&line.path)
            });
            let plan = Plan::Index(Box::new(IndexPlan::new(index, Some(select))));
            let archive =
                archive.try_clone().map_err(|source| RestoreError::Target { to: self.options.to.clone(), source })?;
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
                let what = format!("not restored: what it links to, {}, is not there", escape_path(&target));
                self.fail(&escape_path(&path), &what);
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &[u8], target: &[u8]) {
        let outcome = match self.putter.parts(path).ok().as_deref().and_then(<[&[u8]]>::split_last) {
            Some((name, parents)) => match self.putter.tree.enter(parents, &mut self.putter.owner) {
                Ok(()) => self.putter.put_link(name, target),
                Err(error) => Outcome::Failed(error.to_string()),
            },
            None => Outcome::Failed("its path names nothing".to_owned()),
        };
        match outcome {
            Outcome::Restored => self.report.restored += 1,
            Outcome::Present | Outcome::Kept(_) => self.report.present += 1,
            Outcome::InTheWay => self.is_in_the_way(path),
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

/// How what is wanted of an archive is read.
fn plan_of(sides: &SideFiles, selection: &Arc<Selection>) -> Plan {
    let Some(index) = index_of(sides) else { return Plan::Scan };
    let select = (!selection.is_everything()).then(|| {
        let selection = Arc::clone(selection);
        Box::new(move |line: &EntryLine| {
            let is_directory = line.kind == IndexedKind::Directory;
            selection.wants(&line.path, is_directory) || (is_directory && selection.leads_to(&line.path))
        }) as Select
    });
    Plan::Index(Box::new(IndexPlan::new(index, select)))
}

/// Whether an entry is wanted that no index was asked about.
fn selects_without_index(selection: &Selection, head: &EntryHead) -> bool {
    let is_directory = head.kind == HeadKind::Directory;
    selection.wants(&head.path, is_directory) || (is_directory && selection.leads_to(&head.path))
}

/// The maps of numbers that are asked for, with names from the archive where they are needed.
fn resolve_ids(
    archive: &File,
    sides: &SideFiles,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<IdMaps, RestoreError> {
    let wish = &options.ids;
    let inside = if wish.needs_inside() {
        let plan = match index_of(sides) {
            Some(index) => {
                let select = Box::new(|line: &EntryLine| names::is_name_file(&line.path));
                Plan::Index(Box::new(IndexPlan::new(index, Some(select))))
            }
            None => Plan::Scan,
        };
        let read = ReadOptions { threads: options.threads, hash_archive: false, stop: vec![options.cancel.flag()] };
        let stream = archive.try_clone().and_then(|archive| MemberStream::new(archive, plan, &read));
        let stream = stream.map_err(|source| RestoreError::Target { to: options.to.clone(), source })?;
        names::read_inside(EntryReader::new(stream, true, false))?
    } else {
        None
    };
    let resolved = wish.resolve(inside)?;
    if let Some(said) = resolved.said {
        let problem = Problem::new(Severity::Notice, "owners and groups", said);
        observer.on_event(&Event::Problem(problem));
    }
    Ok(resolved.maps)
}

/// The index, unless it is missing, damaged or not the backup's.
fn index_of(sides: &SideFiles) -> Option<IndexReader> {
    if sides.index_changed {
        return None;
    }
    IndexReader::new(sides.index.as_ref()?.try_clone().ok()?).ok()
}
