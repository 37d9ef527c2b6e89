//! Backs up one source: freeze, look, read, archive, check, publish.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Local, Utc};
use serde::Serialize;

use super::change::{self, ChangeLimits, Tonight};
use super::collect::{Collected, Collector, tell};
use super::expected::Expected;
use super::limit::{TimeLimit, work_within};
use super::locate;
use super::names::TopNames;
use super::parent::{LatePrevious, ParentChoice, Previous, Wanted, previous};
use super::record::{options_record, sha256, snapshot_record, source_record, timestamp};
use super::region::{OpenRegion, RegionContext, too_much};
use super::same_source::{Now, Relation, newest};
use crate::archive::level::Level;
use crate::archive::members::{Outputs, require_memory};
use crate::archive::write::{ArchiveError, ArchiveOptions, ArchiveWriter, WrittenArchive};
use crate::config::Expectation;
use crate::error::with_causes;
use crate::events::{Event, Observer, Severity};
use crate::layout::{Handling, Layout, LayoutError, Region, detect};
use crate::manifest::{
    CarriedRecord, ChangesRecord, DigestsRecord, FORMAT, Manifest, ManifestError, RegionRecord, SizesRecord,
    SnapshotRecord,
};
use crate::outside::{BlockRead, Cancel, Clock, RunCommand};
use crate::reader::exclude::Excludes;
use crate::reader::kernel::device_map::DeviceMapError;
use crate::shown::hex;
use crate::source::{self, FreezeOptions, SnapshotGuard, Source, SourceError, SourceKind};
use crate::store::StoreError;
use crate::store::catalog::{BackupState, CatalogEntry, list_volume};
use crate::store::local::{Destination, VolumeDirectory};
use crate::store::pending::{ARCHIVE, INDEX, PendingBackup, ToPublish};
use crate::store::pins::Pin;
use crate::units::ByteLen;

/// The world that a backup works in.
#[derive(Clone)]
pub struct BackupWorld {
    /// Runs LVM's tools.
    pub commands: Arc<dyn RunCommand>,
    /// Tells the time that names the backup.
    pub clock: Arc<dyn Clock>,
    /// Is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Ends the work.
    pub cancel: Cancel,
}

/// How a backup is made.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct BackupOptions {
    /// How hard the archive is compressed.
    pub level: Level,
    /// How many threads compress.
    pub threads: usize,
    /// Patterns of what is left out, as the user wrote them.
    pub exclude: Vec<String>,
    /// Where a filesystem's journal is replayed when its source must not be written; without it, the directory of the
    /// volume's backups.
    pub scratch: Option<PathBuf>,
    /// Whether the kernel reads what volbak could read itself.
    pub by_kernel: bool,
    /// Whether read-only snapshots in a btrfs are archived.
    pub with_snapshots: bool,
    /// How long it may take; `None` is no limit.
    pub time_limit: Option<TimeLimit>,
    /// How long the archive may be before it is compressed, in bytes; `None` is no limit.
    pub max_bytes: Option<u64>,
    /// How the snapshot is taken.
    pub freeze: FreezeOptions,
    /// Whether the snapshot stays.
    pub keep_snapshot: bool,
    /// Which backup is carried forward from.
    pub parent: ParentChoice,
    /// Within so many days all is read at least once, whatever is carried forward; 0 is never.
    pub full_read_every_days: u32,
    /// Whether the archive may have blocks in common with the one that it carries from.
    pub share_blocks: bool,
    /// Whether the archive gets a `.checksum` beside it.
    pub checksum: bool,
    /// What counts as a sudden change; `None` looks for none.
    pub change_limits: Option<ChangeLimits>,
    /// What is done around the moment at which the source is frozen.
    pub around: Option<Arc<dyn AroundFreeze>>,
    /// What the source holds that is no problem.
    pub expect: Vec<Expectation>,
}

/// What is done around the moment at which a source is frozen: an instance is told to hold its breath, and to go on.
pub trait AroundFreeze: fmt::Debug + Send + Sync {
    /// Done before. When it fails there is no snapshot and no backup; [`Self::after`] follows all the same.
    fn before(&self) -> Result<(), String>;

    /// Done after: the source was frozen as `snapshot` (`VG/LV`, for a volume), or could not be (`is_frozen` is
    /// false). When it fails, that is a problem of the backup.
    fn after(&self, snapshot: Option<&str>, is_frozen: bool) -> Result<(), String>;
}

/// A backup that was published.
#[derive(Clone, Debug, Serialize)]
pub struct BackupOutcome {
    /// The source as the user knows it.
    pub source: String,
    /// The archive.
    pub archive: PathBuf,
    /// Its manifest's content.
    pub manifest: Manifest,
    /// The worst of the problems, if there were any.
    pub worst_problem: Option<Severity>,
    /// When the newest backup was begun that has a filesystem which, as the config expects, is gone since: up to then sizes
    /// are no measure.
    pub replaced_until: Option<DateTime<Utc>>,
}

/// Why a source could not be backed up. Nothing was published then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is no source, cannot be frozen, or did not stay what it was.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its first or last sectors cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The system gives no more threads.
    #[error("no thread could be started")]
    Thread(#[source] io::Error),
    /// This process's limits do not let it have the memory that a backup takes.
    #[error("there is too little memory for a backup; fewer threads need less")]
    Memory(#[source] io::Error),
    /// What was frozen cannot be opened or read.
    #[error("what was frozen cannot be read")]
    Open(#[source] io::Error),
    /// A region's files cannot be archived as files; its bytes can. [`back_up_source`] keeps it as a raw image instead.
    #[error("{region}: {what}")]
    NotAsFiles {
        /// The region.
        region: String,
        /// How bad that is.
        severity: Severity,
        /// Why.
        what: String,
    },
    /// Its directory in the destination is another source's.
    #[error(
        "{} holds the backups of {there}, and this is another source, {here}: `volbak snapshot --name NAME` gives it a \
         directory of its own; or move that directory away, if it is of no use any more", directory.display()
    )]
    AnotherSource {
        /// The directory.
        directory: PathBuf,
        /// The source of the newest backup there.
        there: String,
        /// The source that was to be backed up.
        here: String,
    },
    /// Device maps that an earlier run left cannot be looked for.
    #[error(transparent)]
    DeviceMap(#[from] DeviceMapError),
    /// The archive could not be written.
    #[error(transparent)]
    Archive(ArchiveError),
    /// The destination.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest could not be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An exclude pattern.
    #[error(transparent)]
    Exclude(#[from] crate::reader::exclude::BadPattern),
    /// What was to be done before the snapshot failed.
    #[error("before the snapshot: {0}")]
    Before(String),
    /// It took longer than it may.
    #[error(
        "it took more than {limit}{}; nothing was published",
        if *.is_hanging { ", and hangs in a read or a write" } else { "" }
    )]
    OutOfTime {
        /// How long it may take, and what says so.
        limit: String,
        /// Whether it did not end when it was to.
        is_hanging: bool,
    },
    /// Somebody wanted it to end.
    #[error("interrupted; nothing was published")]
    Cancelled,
}

impl From<ArchiveError> for BackupError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Stopped => Self::Cancelled,
            other => Self::Archive(other),
        }
    }
}

/// Backs up `source` into `destination`, whose lock the caller holds.
pub fn back_up_source(
    source: &Source,
    destination: &Destination,
    options: &BackupOptions,
    world: &BackupWorld,
) -> Result<BackupOutcome, BackupError> {
    match &options.time_limit {
        Some(limit) => work_within(limit, source, destination, options, world),
        None => work(source, destination, options, world),
    }
}

/// As [`back_up_source`], without an end of its time.
pub(super) fn work(
    source: &Source,
    destination: &Destination,
    options: &BackupOptions,
    world: &BackupWorld,
) -> Result<BackupOutcome, BackupError> {
    let started_at = world.clock.now();
    let excludes = Excludes::new(&options.exclude)?;
    // Before there is a snapshot: an allocation that fails later ends the process.
    require_memory(options.threads, options.level).map_err(BackupError::Memory)?;
    let collector = Arc::new(Collector::new(Arc::clone(&world.observer)));
    collector.on_event(&Event::SourceStarted { source: source.name() });

    let volume = destination.volume_directory(source.backup_name())?;
    let backups = list_volume(&volume, source.backup_name())?;
    check_source_of(&volume, &backups, source, world, &*collector)?;
    let backup = Backup { source, destination, backups: &backups, options, world, collector: &collector, started_at };
    let outcome = std::thread::scope(|scope| {
        // Its index may be long: it is read while the snapshot is taken.
        let reading = std::thread::Builder::new()
            .name("previous".to_owned())
            .spawn_scoped(scope, || backup.find_previous())
            .map_err(BackupError::Thread)?;
        let first = || match reading.join() {
            Ok(found) => backup.tell_previous(found),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        backup.run(volume, &excludes, first, || backup.find_previous().ok().flatten())
    })?;
    collector.on_event(&Event::SourceFinished {
        source: source.name(),
        outcome: format!("{} ({})", outcome.archive.display(), ByteLen(outcome.manifest.sizes.archive_bytes)),
        worst: outcome.worst_problem.filter(|worst| *worst > Severity::Notice),
    });
    Ok(outcome)
}

/// Two sources may have one name, and so one directory: what is restored by that name would be whichever was backed up
/// last. One that took another's place goes on there, and it is said.
fn check_source_of(
    volume: &VolumeDirectory,
    backups: &[CatalogEntry],
    source: &Source,
    world: &BackupWorld,
    observer: &dyn Observer,
) -> Result<(), BackupError> {
    let Some(before) = newest(backups) else { return Ok(()) };
    let host = hostname();
    let record = source_record(source);
    let now = Now { source: &record, host: &host, is_named: source.is_named(), commands: &*world.commands };
    match now.relation(before) {
        Relation::Same => Ok(()),
        Relation::Successor => {
            let is_made_anew = before.source.lv_uuid.is_some() && before.source.path == record.path;
            let anew = if is_made_anew { " before it was made anew" } else { "" };
            let what = format!(
                "the last backup in {} is of another source, {} on {}{anew}: look at the manifests before you restore",
                volume.path().display(),
                before.source.path,
                before.host
            );
            tell(observer, Severity::Warning, source.display_name().to_owned(), what);
            Ok(())
        }
        Relation::Other => Err(BackupError::AnotherSource {
            directory: volume.path().to_owned(),
            there: format!("{} on {}", before.source.path, before.host),
            here: record.path,
        }),
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A region that is kept as a raw image although its files can be read, and why.
struct KeptAsImage {
    region: String,
    severity: Severity,
    what: String,
}

/// One backup under way.
struct Backup<'a> {
    source: &'a Source,
    destination: &'a Destination,
    /// Those that are there already.
    backups: &'a [CatalogEntry],
    options: &'a BackupOptions,
    world: &'a BackupWorld,
    collector: &'a Arc<Collector>,
    started_at: DateTime<Utc>,
}

impl Backup<'_> {
    /// The backup to carry forward from; an error says why there is none that can be used.
    fn find_previous(&self) -> Result<Option<Previous>, String> {
        let wanted = Wanted {
            source: &source_record(self.source),
            level: self.options.level,
            choice: &self.options.parent,
            full_read_every_days: self.options.full_read_every_days,
            today: self.started_at.with_timezone(&Local).date_naive(),
            now: self.started_at,
        };
        previous(&wanted, self.backups, self.destination.root())
    }

    /// Tells what was found. That nothing can be carried costs time and nothing else.
    fn tell_previous(&self, found: Result<Option<Previous>, String>) -> Option<Previous> {
        let location = || self.source.display_name().to_owned();
        match found {
            Ok(Some(previous)) => {
                self.step(&format!("carrying forward from {}", previous.parent.stem()));
                let left_out = previous.parent.left_out_groups();
                if left_out > 0 {
                    let what = format!("the previous backup is so large that {left_out} parts of it are read anew");
                    tell(&**self.collector, Severity::Notice, location(), what);
                }
                Some(previous)
            }
            Ok(None) => None,
            Err(why) => {
                let what = format!("nothing is carried forward, all is read: {why}");
                tell(&**self.collector, Severity::Notice, location(), what);
                None
            }
        }
    }

    fn run(
        &self,
        volume: VolumeDirectory,
        excludes: &Excludes,
        previous: impl FnOnce() -> Option<Previous>,
        previous_again: impl Fn() -> Option<Previous>,
    ) -> Result<BackupOutcome, BackupError> {
        let name = self.source.backup_name();
        let scratch = self.options.scratch.clone().unwrap_or_else(|| volume.path().to_owned());
        let pending = PendingBackup::begin(volume, name, self.started_at.with_timezone(&Local).naive_local())?;

        if matches!(self.source.kind(), SourceKind::Volume(_)) {
            self.step("taking a snapshot");
        }
        let context = source::Context {
            commands: Arc::clone(&self.world.commands),
            observer: Arc::clone(self.collector) as Arc<dyn Observer>,
            clock: Arc::clone(&self.world.clock),
        };
        let guard = self.freeze(&context)?;
        let frozen_at = guard.facts().created_at;

        let told = self.collector.collected();
        let mut previous = LatePrevious::new(previous);
        let mut as_images: Vec<KeptAsImage> = Vec::new();
        let archived = loop {
            match self.archive(&pending, &guard, excludes, &scratch, &previous, &as_images) {
                // What was archived of the region so far must not pass for all of it: the archive is written anew.
                Err(BackupError::NotAsFiles { region, severity, what })
                    if !as_images.iter().any(|kept| kept.region == region) =>
                {
                    self.step(&format!("{region} is kept as a raw image: all is read again"));
                    as_images.push(KeptAsImage { region, severity, what });
                    pending.start_over()?;
                    self.collector.go_back_to(told.clone());
                    previous = LatePrevious::new(&previous_again);
                }
                archived => break archived,
            }
        };
        // Why the reading ended may be that the snapshot overflowed: that reason is the one to be told.
        if archived.is_err()
            && let Err(unhealthy @ SourceError::Unhealthy { .. }) = guard.check_health()
        {
            return Err(unhealthy.into());
        }
        let (layout, regions, written) = archived?;
        self.step("checking that the source stood still");
        guard.check_health()?;
        let snapshot = self.release(guard)?;

        // One that was left behind must not publish what was reported as failed.
        if self.world.cancel.is_cancelled() {
            return Err(BackupError::Cancelled);
        }
        let changes = self.note_change(&pending, &layout, &regions, &written);
        let replaced_until = self.replaced_until(&layout, &regions, &written);
        self.step("publishing");
        let mut manifest = self.manifest(&pending, frozen_at, layout, regions, &written, snapshot);
        manifest.carried = previous.known().zip(written.carried).map(|(previous, counts)| CarriedRecord {
            parent: previous.stem.clone(),
            parent_archive_sha1: previous.archive_sha1.clone(),
            counts,
        });
        manifest.changes = changes;
        let checksum = checksum_text(pending.stem(), &written);
        let manifest_bytes = manifest.to_bytes()?;
        let archive = pending.publish(&ToPublish {
            checksum: self.options.checksum.then_some(checksum.as_bytes()),
            manifest: &manifest_bytes,
            archive_bytes: written.members.totals.archive_bytes,
            index_bytes: written.members.index_bytes,
        })?;
        Ok(BackupOutcome {
            source: self.source.display_name().to_owned(),
            archive,
            manifest: Manifest::from_bytes(&manifest_bytes)?,
            worst_problem: self.collector.collected().worst,
            replaced_until,
        })
    }

    /// See [`BackupOutcome::replaced_until`].
    fn replaced_until(
        &self,
        layout: &Layout,
        regions: &[RegionRecord],
        written: &WrittenArchive,
    ) -> Option<DateTime<Utc>> {
        if self.options.expect.is_empty() {
            return None;
        }
        let expected = Expected(&self.options.expect);
        let entries = written.members.totals.entries;
        let tonight = Tonight { entries, counts: &written.counts, layout, regions, changes: None, expected };
        let manifests = self.backups.iter().rev().filter_map(|entry| match &entry.state {
            BackupState::Complete { manifest } => Some(&**manifest),
            _ => None,
        });
        manifests.filter(|manifest| tonight.replaces(manifest)).map(|manifest| manifest.started_at).max()
    }

    /// Looks for a sudden change since the backups before, reports it, and pins the last of these. The pin is written
    /// before the backup is published: without it, no later run would know.
    fn note_change(
        &self,
        pending: &PendingBackup,
        layout: &Layout,
        regions: &[RegionRecord],
        written: &WrittenArchive,
    ) -> Option<ChangesRecord> {
        let limits = self.options.change_limits?;
        let location = self.source.display_name().to_owned();
        let warn = |what: String| tell(&**self.collector, Severity::Warning, location.clone(), what);
        let pins = self.destination.pins();
        let measured_since = pins.as_ref().ok().and_then(|pins| pins.of(self.source.backup_name())?.measured_since);
        let past: Vec<&Manifest> = self.measure(measured_since);
        let last = past.last()?;
        let entries = written.members.totals.entries;
        let carried = written.carried.map_or(0, |counts| counts.entries);
        let compared = change::is_doubtful(carried, entries, limits) && self.options.parent != ParentChoice::Full;
        let changes = if compared { self.compared_with(last, pending) } else { None };
        let tonight = Tonight {
            entries,
            counts: &written.counts,
            layout,
            regions,
            changes,
            expected: Expected(&self.options.expect),
        };
        if let Some(what) = change::judge(&past, &tonight, limits) {
            let pin = Pin {
                kept: last.stem.clone(),
                changed: pending.stem().to_owned(),
                changed_at: self.started_at,
                what: what.clone(),
            };
            let name = self.source.backup_name();
            let pinned = pins.and_then(|mut pins| {
                pins.add(name, pin);
                self.destination.set_pins(&pins)
            });
            warn(format!(
                "sudden change: {what}; {} is kept until `volbak accept {name}` says that this was meant",
                last.stem
            ));
            if let Err(error) = pinned {
                warn(format!("the backup before the sudden change could not be pinned: {}", with_causes(&error)));
            }
        }
        changes
    }

    /// The backups that tonight is compared with: as many of the last as are the measure, oldest first. Whether one is bad
    /// stands in a file of its own, which is read only for those.
    fn measure(&self, since: Option<DateTime<Utc>>) -> Vec<&Manifest> {
        let last = |must_be_whole: bool| {
            let complete = self.backups.iter().rev().filter_map(|entry| match &entry.state {
                BackupState::Complete { manifest } => Some((entry, &**manifest)),
                _ => None,
            });
            let mut last: Vec<&Manifest> = complete
                .filter(|(_, manifest)| since.is_none_or(|since| manifest.started_at >= since))
                .filter(|(_, manifest)| manifest.started_at <= self.started_at)
                .filter(|(_, manifest)| !must_be_whole || manifest.is_whole())
                .filter(|(entry, manifest)| !locate::is_bad(entry, manifest))
                .map(|(_, manifest)| manifest)
                .take(change::MEASURED)
                .collect();
            last.reverse();
            last
        };
        // A partial backup has fewer files than there are; it is a measure only where there is nothing better.
        let whole = last(true);
        if whole.is_empty() { last(false) } else { whole }
    }

    fn compared_with(&self, last: &Manifest, pending: &PendingBackup) -> Option<ChangesRecord> {
        let directory = self.destination.root().join(self.source.backup_name());
        let before = directory.join(format!("{}{INDEX}", last.stem));
        let files = last.counts.files;
        match change::compare(&before, &pending.index_path(), files) {
            Ok(changes) => Some(changes),
            Err(error) => {
                let what = format!("cannot be compared with {}: {}", last.stem, with_causes(&error));
                tell(&**self.collector, Severity::Notice, self.source.display_name().to_owned(), what);
                None
            }
        }
    }

    /// Freezes the source, with what is done around that.
    fn freeze(&self, context: &source::Context) -> Result<SnapshotGuard, BackupError> {
        let Some(around) = &self.options.around else {
            return Ok(source::freeze(self.source, &self.options.freeze, context)?);
        };
        self.step("running what comes before the snapshot");
        let frozen = around.before().map_err(BackupError::Before).and_then(|()| {
            if self.world.cancel.is_cancelled() {
                return Err(BackupError::Cancelled);
            }
            source::freeze(self.source, &self.options.freeze, context).map_err(BackupError::from)
        });
        let facts = frozen.as_ref().ok().map(SnapshotGuard::facts);
        let snapshot = facts.and_then(|facts| facts.name);
        if let Err(what) = around.after(snapshot.as_deref(), frozen.is_ok()) {
            tell(&**self.collector, Severity::Warning, "after the snapshot".to_owned(), what);
        }
        frozen
    }

    /// Reads the layout and archives every region.
    fn archive(
        &self,
        pending: &PendingBackup,
        guard: &SnapshotGuard,
        excludes: &Excludes,
        scratch: &Path,
        previous: &LatePrevious<'_>,
        as_images: &[KeptAsImage],
    ) -> Result<(Layout, Vec<RegionRecord>, WrittenArchive), BackupError> {
        self.step("reading the layout");
        let blocks: Arc<dyn BlockRead> = Arc::new(guard.open_blocks().map_err(BackupError::Open)?);
        let layout = detect(&*blocks, self.source.display_name(), Some(guard.sector_size_bytes()))?;
        let expected = Expected(&self.options.expect);
        for problem in &layout.problems {
            self.collector.on_event(&Event::Problem(expected.weighed(problem.clone(), &layout.regions)));
        }

        let (cancel, health) = (self.world.cancel.clone(), guard.health_flag());
        let options = ArchiveOptions {
            level: self.options.level,
            threads: self.options.threads,
            stop: Arc::new(move || cancel.is_cancelled() || health.is_failed()),
        };
        let outputs = Outputs {
            archive: pending.archive_writer(self.options.share_blocks).map_err(ArchiveError::Write)?,
            index: pending.index_writer().map_err(ArchiveError::Write)?,
        };
        let mut writer = ArchiveWriter::new(outputs, &options, &**self.collector)?;
        if let Some(max_bytes) = self.options.max_bytes {
            writer.limit_archive(max_bytes);
        }
        let context = RegionContext {
            guard,
            previous,
            commands: &self.world.commands,
            blocks: &blocks,
            excludes,
            scratch,
            by_kernel: self.options.by_kernel,
            with_snapshots: self.options.with_snapshots,
            cancel: &self.world.cancel,
            observer: &**self.collector,
            frozen_at: timestamp(guard.facts().created_at),
            expected,
        };
        let records = self.archive_regions(&mut writer, &layout.regions, &context, as_images)?;
        for problem in expected.missing(self.source.display_name(), &layout.regions, &records) {
            self.collector.on_event(&Event::Problem(problem));
        }
        if records.iter().all(|record| record.archive_path.is_none()) {
            let location = self.source.display_name().to_owned();
            tell(&**self.collector, Severity::Notice, location, "holds no data at all; the archive is empty");
        }
        // Without a filesystem nobody has asked for it.
        previous.settle(&mut writer);
        Ok((layout, records, writer.finish()?))
    }

    fn archive_regions(
        &self,
        writer: &mut ArchiveWriter<'_>,
        regions: &[Region],
        context: &RegionContext<'_, '_>,
        as_images: &[KeptAsImage],
    ) -> Result<Vec<RegionRecord>, BackupError> {
        let mut names = TopNames::new(regions);
        let mut records: Vec<RegionRecord> = Vec::with_capacity(regions.len());
        let mut archived: Vec<&Region> = Vec::with_capacity(regions.len());
        // The root of the only filesystem, in which an image's name may be taken.
        let mut top: Option<OpenRegion> = None;
        // Files first: then the names at the archive's top are known when an image needs one.
        let files_first = |region: &&Region| region.handling != Handling::Files;
        let mut ordered: Vec<&Region> = regions.iter().collect();
        ordered.sort_by_key(files_first);
        for region in ordered {
            if self.world.cancel.is_cancelled() {
                return Err(BackupError::Cancelled);
            }
            // Entries of a damaged or hostile table may all mean one stretch of the disk.
            let same = |other: &&Region| other.extents == region.extents && other.handling == region.handling;
            let is_archived = matches!(region.handling, Handling::Files | Handling::RawImage);
            if let Some(same) = archived.iter().copied().find(same).filter(|_| is_archived)
                && let Some(record) = records.iter().find(|record| record.name == same.name)
            {
                let what = format!("is the same stretch of the disk as {}; archived once", same.name);
                tell(&**self.collector, Severity::Warning, region.name.clone(), what);
                records.push(RegionRecord { name: region.name.clone(), ..record.clone() });
                continue;
            }
            archived.push(region);
            if is_archived {
                context.tell_damage(region);
            }
            match region.handling {
                Handling::MetadataOnly | Handling::Container => records.push(RegionRecord {
                    name: region.name.clone(),
                    handling: region.handling,
                    ..RegionRecord::default()
                }),
                Handling::Files => {
                    self.step(&format!("reading {}", region.name));
                    let directory = names.directory(region);
                    let kept = as_images.iter().find(|kept| kept.region == region.name);
                    if let Some(KeptAsImage { severity, what, .. }) = kept {
                        tell(&**self.collector, *severity, region.name.clone(), what.clone());
                    }
                    let open = if kept.is_some() { None } else { context.open(region)? };
                    if let Some(open) = open {
                        let archived = context.archive_files(writer, region, &open, directory);
                        let files = archived.map_err(|error| {
                            writer.give_up();
                            match error {
                                BackupError::Archive(ArchiveError::TooMuch { limit_bytes }) => {
                                    let (severity, what) = too_much(region, limit_bytes);
                                    BackupError::NotAsFiles { region: region.name.clone(), severity, what }
                                }
                                other => other,
                            }
                        })?;
                        if files.sealed == 0 {
                            records.push(files.record);
                        } else {
                            let file_name = names.image(region, Some(&open).filter(|_| directory.is_none()));
                            records.push(context.archive_besides(writer, region, files, &file_name)?);
                        }
                        if directory.is_none() {
                            top = Some(open);
                        } else {
                            self.take_apart(open);
                        }
                    } else {
                        let file_name = names.image(region, top.as_ref());
                        records.push(context.archive_raw(writer, region, &file_name)?);
                    }
                }
                Handling::RawImage => {
                    self.step(&format!("reading {} as an image", region.name));
                    let file_name = names.image(region, top.as_ref());
                    records.push(context.archive_raw(writer, region, &file_name)?);
                }
            }
        }
        if let Some(open) = top {
            self.take_apart(open);
        }
        let position = |record: &RegionRecord| regions.iter().position(|region| region.name == record.name);
        records.sort_by_key(position);
        Ok(records)
    }

    /// Lets go of a region. What could not be removed is known by its name, and the next run tries again.
    fn take_apart(&self, open: OpenRegion) {
        if let Err(error) = open.finish() {
            let location = self.source.display_name().to_owned();
            tell(
                &**self.collector,
                Severity::Warning,
                location,
                format!("{}; the next run tries again", with_causes(&error)),
            );
        }
    }

    /// Removes the snapshot, or keeps it when that was asked for. That it cannot be removed does not make the backup
    /// worse: the next run tries again.
    fn release(&self, guard: SnapshotGuard) -> Result<Option<SnapshotRecord>, BackupError> {
        let facts = guard.facts();
        let kept = self.options.keep_snapshot;
        let released = if kept { guard.keep() } else { guard.finish() };
        let facts = match released {
            Ok(facts) => facts,
            Err(error) if kept => return Err(error.into()),
            Err(error) => {
                let location = facts.name.clone().unwrap_or_default();
                tell(&**self.collector, Severity::Warning, location, format!("{error}; the next run tries again"));
                facts
            }
        };
        Ok(snapshot_record(facts, kept))
    }

    fn manifest(
        &self,
        pending: &PendingBackup,
        frozen_at: DateTime<Utc>,
        layout: Layout,
        regions: Vec<RegionRecord>,
        written: &WrittenArchive,
        snapshot: Option<SnapshotRecord>,
    ) -> Manifest {
        let members = &written.members;
        let Collected { problems, counts: problem_counts, .. } = self.collector.collected();
        Manifest {
            format: FORMAT,
            volbak_version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.source.backup_name().to_owned(),
            stem: pending.stem().to_owned(),
            host: hostname(),
            started_at: self.started_at,
            frozen_at,
            finished_at: self.world.clock.now(),
            local_date: self.started_at.with_timezone(&Local).format("%Y-%m-%d").to_string(),
            source: source_record(self.source),
            snapshot,
            layout,
            regions,
            options: options_record(self.options.level, &self.options.exclude, &members.levels),
            counts: written.counts,
            carried: None,
            changes: None,
            sizes: SizesRecord {
                archive_bytes: members.totals.archive_bytes,
                tar_bytes: members.totals.tar_bytes,
                index_bytes: members.index_bytes,
                members: members.totals.members,
                entries: members.totals.entries,
            },
            problems,
            problem_counts,
            completeness: Some(problem_counts.completeness()),
            digests: DigestsRecord {
                archive_sha1: hex(&members.archive_sha1),
                index_sha256: hex(&members.index_sha256),
                checksum_sha256: hex(&sha256(checksum_text(pending.stem(), written).as_bytes())),
            },
            self_sha256: String::new(),
        }
    }

    fn step(&self, step: &str) {
        self.collector.on_event(&Event::Step { step: step.to_owned() });
    }
}

/// The checksum file: what `sha1sum` would print in the archive's own directory.
fn checksum_text(stem: &str, written: &WrittenArchive) -> String {
    format!("{}  {stem}{ARCHIVE}\n", hex(&written.members.archive_sha1))
}
