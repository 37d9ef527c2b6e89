//! Selects the backup to carry forward from, and decides how far to trust it.

use std::io::{self, Write};
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, Utc};

mod error;
mod tainted;

pub(super) use self::error::PreviousError;
use self::error::UnusableError;
use self::tainted::tainted;
use super::backup::earlier::{EarlierBackup, EarlierBackups};
use super::backup::same_source::is_same_source;
use super::locate;
use super::record::timestamp;
use crate::archive::carry::Share;
use crate::archive::carry::parent::Parent;
use crate::archive::image::parent::{ImageParent, ImageParentFacts};
use crate::archive::kind::{ArchiveKind, BackupMode};
use crate::archive::level::CompressionLevel;
use crate::encryption::EncryptionOptions;
use crate::entry::Timestamp;
use crate::layout::Region;
use crate::manifest::{DigestsRecord, EncryptionRecord, Manifest, PoolRecord, SourceRecord};
use crate::outside::digest::sha256_of;
use crate::outside::unnamed::unnamed_file;
use crate::outside::{BlockRead, Cancel, FileBlocks};
use crate::shown::hex;
use crate::store::index_cache::{IndexCache, Kept};
use crate::store::retention::is_future;
use crate::store::shared::ArchiveLayout;
use crate::store::{Backup, Destination, ReadError};

/// Filesystems with stable inode numbers, where every change updates the change time.
const CARRIED_FILESYSTEMS: [&str; 5] = ["ext2", "ext3", "ext4", "xfs", "btrfs"];
/// A file may have been changed again within the tick of its change time: at most two seconds, on ext3.
const TICK_SECONDS: i64 = 2;
/// In a filesystem in use, data reaches the disk after its change time: Linux keeps dirty pages for 30 seconds
/// (vm.dirty_expire_centisecs) and checks every 5. A snapshot of a busy guest therefore has files with new times
/// and old data. This margin also covers slow writes.
const WRITEBACK_SECONDS: i64 = 120;

/// The backup to carry forward from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ParentChoice {
    /// The newest of the same source.
    #[default]
    Newest,
    /// This one: an archive's path, a volume, or a volume with `@DATE`.
    Named(String),
    /// None: everything is read.
    Full,
}

/// The backup that is carried forward from.
pub(super) struct Previous {
    pub(super) parent: Parent,
    pub(super) share: Share,
    pub(super) trust: Trust,
    /// Those of its files as they are published.
    pub(super) digests: DigestsRecord,
    /// Where the last re-read stretch ended in its tar stream.
    pub(super) reread_from: u64,
}

/// How far the previous backup is trusted.
#[derive(Debug, Default)]
pub(super) struct Trust {
    regions: Vec<TrustedRegion>,
}

#[derive(Debug)]
struct TrustedRegion {
    name: String,
    archive_path: String,
    fs: String,
    uuid: String,
    before: Timestamp,
}

impl Trust {
    fn new(manifest: &Manifest, parent: &Parent) -> Self {
        let regions = manifest.regions.iter().filter_map(|record| {
            let region = manifest.layout.regions.iter().find(|region| region.name == record.name)?;
            let archive_path = record.files_path().map(str::to_owned)?;
            let newest = parent.newest_change(&archive_path)?;
            // Ignores an inode time in the future, which would make all others look old.
            let newest = newest.min(timestamp(manifest.frozen_at));
            let doubt_seconds = if record.in_use == Some(false) { TICK_SECONDS } else { WRITEBACK_SECONDS };
            Some(TrustedRegion {
                name: record.name.clone(),
                archive_path,
                fs: region.holds.fs.clone()?,
                uuid: region.holds.uuid.clone()?,
                before: Timestamp { sec: newest.sec.saturating_sub(doubt_seconds), ..newest },
            })
        });
        Self { regions: regions.collect() }
    }

    /// Entries of a region can be carried if they last changed before this time; `None`: carry nothing.
    pub(super) fn carry_before(&self, region: &Region, archive_path: &str) -> Option<Timestamp> {
        let (fs, uuid) = (region.holds.fs.as_deref()?, region.holds.uuid.as_deref()?);
        let is_same = |known: &&TrustedRegion| {
            known.name == region.name && known.archive_path == archive_path && known.fs == fs && known.uuid == uuid
        };
        let known = self.regions.iter().find(is_same)?;
        CARRIED_FILESYSTEMS.contains(&fs).then_some(known.before)
    }
}

/// The new backup, as far as it decides what can be carried.
pub(super) struct Sought<'a> {
    pub(super) source: &'a SourceRecord,
    pub(super) kind: ArchiveKind,
    /// The name of its volume.
    pub(super) name: &'a str,
    /// How it is encrypted.
    pub(super) encryption: Option<&'a EncryptionOptions>,
    pub(super) level: CompressionLevel,
    pub(super) layout: ArchiveLayout,
    pub(super) choice: &'a ParentChoice,
    pub(super) full_read_every_days: u32,
    pub(super) today: NaiveDate,
    pub(super) now: DateTime<Utc>,
}

/// Chooses and opens the previous backup. `None` if there is none; an error says why the existing one cannot be
/// used.
pub(super) fn previous(
    wanted: &Sought<'_>,
    backups: &EarlierBackups<'_>,
    destination: &Destination,
) -> Result<Option<Previous>, PreviousError> {
    let Some((files, manifest)) = choose(wanted, backups, destination, BackupMode::Files)? else { return Ok(None) };
    let opened = open(wanted, &files, manifest);
    opened.map(Some).map_err(|why| PreviousError::Unusable { stem: files.stem().to_owned(), why })
}

/// The image backup that members are copied from.
pub(super) struct PreviousImage {
    pub(super) parent: ImageParent,
    pub(super) digests: DigestsRecord,
    /// Its thin pool, if its index has digests of what that said.
    pub(super) pool: Option<PoolRecord>,
}

/// Like [`previous`], for an image backup.
pub(super) fn previous_image(
    wanted: &Sought<'_>,
    backups: &EarlierBackups<'_>,
    destination: &Destination,
) -> Result<Option<PreviousImage>, PreviousError> {
    let Some((files, manifest)) = choose(wanted, backups, destination, BackupMode::Image)? else { return Ok(None) };
    let opened = open_image(wanted, &files, manifest);
    opened.map(Some).map_err(|why| PreviousError::Unusable { stem: files.stem().to_owned(), why })
}

/// The backup of files or image that is carried forward from.
fn choose(
    wanted: &Sought<'_>,
    backups: &EarlierBackups<'_>,
    destination: &Destination,
    mode: BackupMode,
) -> Result<Option<(Backup, Manifest)>, PreviousError> {
    // An image is read and sent as a whole: what it has of the previous one is not in long ranges.
    let is_possible = destination.is_local() || mode == BackupMode::Files;
    match wanted.choice {
        ParentChoice::Full => Ok(None),
        ParentChoice::Named(_) if !is_possible => Err(PreviousError::ImageInObjectStore),
        ParentChoice::Newest if !is_possible => Ok(None),
        ParentChoice::Named(name) => {
            let found = locate::find(name, Some(destination), wanted.now)?;
            let files = found.files;
            if !destination.is_local() && !files.directory().starts_with(destination.root()) {
                return Err(PreviousError::Elsewhere(files.archive_path()));
            }
            if destination.is_local() && !files.is_local() {
                return Err(PreviousError::Elsewhere(files.archive_path()));
            }
            let manifest = read_manifest(&files)?;
            if let Some(note) = locate::bad_note_with(&files, &manifest) {
                return Err(PreviousError::Bad(note));
            }
            if manifest.kind().mode() != mode {
                let stem = files.stem().to_owned();
                return Err(PreviousError::Unusable { stem, why: UnusableError::OtherKind });
            }
            Ok(Some((files, manifest)))
        }
        ParentChoice::Newest => newest(wanted.source, wanted.now, backups, mode),
    }
}

/// The newest backup of the same source that is not dated in the future, from `backups` ordered by date.
fn newest(
    source: &SourceRecord,
    now: DateTime<Utc>,
    backups: &EarlierBackups<'_>,
    mode: BackupMode,
) -> Result<Option<(Backup, Manifest)>, PreviousError> {
    let of_source: Vec<&EarlierBackup<'_>> = backups
        .iter()
        .filter(|backup| backup.manifest.kind().mode() == mode && is_same_source(&backup.manifest.source, source))
        .collect();
    let manifests: Vec<&Manifest> = of_source.iter().map(|backup| backup.manifest).collect();
    let tainted = tainted(&manifests, of_source.iter().map(|backup| backup.may_be_bad()).collect());
    // A backup from a night with the clock ahead would otherwise be the newest for a long time.
    let possible = || of_source.iter().zip(&tainted).filter(|(backup, _)| !is_future(backup.manifest.started_at, now));
    if let Some((newest, _)) = possible().rfind(|(_, is_tainted)| !**is_tainted) {
        return Ok(Some((newest.entry.files(), newest.manifest.clone())));
    }
    match (possible().next_back(), backups.damaged()) {
        (Some((tainted, _)), _) => Err(PreviousError::AllBad(tainted.manifest.stem.clone())),
        (None, Some(stem)) => Err(PreviousError::Damaged(stem.to_owned())),
        (None, None) => Ok(None),
    }
}

fn read_manifest(files: &Backup) -> Result<Manifest, PreviousError> {
    files.read_public_manifest().map_err(|error| match error {
        ReadError::Io(source) => PreviousError::ReadManifest { path: files.manifest_path(), source },
        error => PreviousError::Manifest(error),
    })
}

/// Opens archive and index, which must be as long as the manifest says.
fn open_files(
    wanted: &Sought<'_>,
    files: &Backup,
    manifest: &Manifest,
    kept_index: Option<Arc<dyn BlockRead>>,
) -> Result<Opened, UnusableError> {
    if !manifest.has_current_format() {
        return Err(UnusableError::Format(manifest.format));
    }
    let (before, now) = (manifest.compression, wanted.kind.compression());
    if before != now {
        return Err(UnusableError::Compression { before, now });
    }
    if let CompressionLevel::Fixed(level) = wanted.level {
        let before = &manifest.options;
        if before.auto_level.is_some() || before.level != level {
            let auto = if before.auto_level.is_some() { "auto" } else { "" };
            return Err(UnusableError::Level { before: format!("{auto}{}", before.level), now: level });
        }
    }
    let day = NaiveDate::parse_from_str(&manifest.local_date, "%Y-%m-%d").map_err(|_| UnusableError::NoDate)?;
    // What this host has of the index is used; its digest is in the manifest. Copies check the archive again.
    let seen = files.seen();
    let archive = seen.open_archive_unread()?;
    let is_here = files.is_local() || kept_index.is_some();
    let index = kept_index.map_or_else(|| seen.open_index(), Ok)?;
    // It is read twice.
    let index = if is_here { index } else { copy_of(&*index, manifest.sizes.index_bytes)? };
    let published = manifest.objects.as_ref().and_then(|objects| objects.of(files.directory(), files.kind().suffix()));
    let etag = match archive.object() {
        Some(object) => Some(object.etag.clone()),
        None if archive.parts().is_some() => seen.archive_etag()?,
        None => None,
    };
    if published.zip(etag).is_some_and(|(published, now)| published.has_other_etag(&now)) {
        return Err(UnusableError::Overwritten);
    }
    let archive_bytes = archive.len_bytes();
    if archive_bytes != manifest.sizes.archive_bytes {
        let (found, said) = (archive_bytes, manifest.sizes.archive_bytes);
        return Err(UnusableError::ArchiveLength { found, said });
    }
    let share = Share {
        every_days: wanted.full_read_every_days,
        parent_day: i64::from(day.num_days_from_ce()),
        today: i64::from(wanted.today.num_days_from_ce()),
    };
    Ok(Opened { archive, index, share })
}

/// The manifest with all facts, and the index if this host keeps it, since the published one is encrypted.
fn readable(wanted: &Sought<'_>, manifest: Manifest) -> Result<(Manifest, Option<Arc<dyn BlockRead>>), UnusableError> {
    match wanted.encryption {
        Some(encryption) => kept_of(wanted, encryption, &manifest).map(|kept| (kept.manifest, Some(kept.index))),
        None if manifest.encryption.is_some() => Err(UnusableError::NotEncryptedNow),
        None => Ok((manifest, None)),
    }
}

/// What this host keeps of the previous backup, which it cannot decrypt.
fn kept_of(wanted: &Sought<'_>, encryption: &EncryptionOptions, published: &Manifest) -> Result<Kept, UnusableError> {
    let record = published.encryption.as_ref().ok_or(UnusableError::NotEncryptedBefore)?;
    if record.recipients != encryption.recipients.names() {
        return Err(UnusableError::OtherRecipients);
    }
    let kept = IndexCache::new(&encryption.index_cache).of(wanted.name, published);
    let mut kept = kept.ok_or_else(|| UnusableError::NotKept(encryption.index_cache.clone()))?;
    kept.manifest.objects.clone_from(&published.objects);
    Ok(kept)
}

/// A copy of the table of segments, which is the one that this host wrote.
fn segments_of(files: &Backup, record: &EncryptionRecord) -> Result<Arc<dyn BlockRead>, UnusableError> {
    let table = files.seen().open_segments()?;
    if table.len_bytes() != record.segments_bytes {
        return Err(UnusableError::OtherSegments);
    }
    let table = copy_of(&*table, record.segments_bytes)?;
    let digest = sha256_of(&*table, table.len_bytes(), &Cancel::default()).map_err(UnusableError::FetchIndex)?;
    if hex(&digest) == record.segments_sha256 { Ok(table) } else { Err(UnusableError::OtherSegments) }
}

/// A copy of an index, or of a table of segments, in a file without a name.
fn copy_of(index: &dyn BlockRead, said_bytes: u64) -> Result<Arc<dyn BlockRead>, UnusableError> {
    if index.len_bytes() != said_bytes {
        return Err(UnusableError::IndexLength { found: index.len_bytes(), said: said_bytes });
    }
    let copied = || -> io::Result<FileBlocks> {
        let mut copy = unnamed_file()?;
        let (mut at, mut piece) = (0, vec![0; 1 << 20]);
        while at < said_bytes {
            let read = index.read_some(at, &mut piece)?;
            copy.write_all(piece.get(..read).unwrap_or_default())?;
            at += read.max(1) as u64;
        }
        FileBlocks::of_file(copy)
    };
    Ok(Arc::new(copied().map_err(UnusableError::FetchIndex)?))
}

/// The open files of the previous backup.
struct Opened {
    archive: Arc<dyn BlockRead>,
    index: Arc<dyn BlockRead>,
    share: Share,
}

fn open_image(wanted: &Sought<'_>, files: &Backup, manifest: Manifest) -> Result<PreviousImage, UnusableError> {
    let digests = manifest.published_digests();
    let (manifest, kept) = readable(wanted, manifest)?;
    let manifest = &manifest;
    let Opened { archive, index, share } = open_files(wanted, files, manifest, kept)?;
    let facts = ImageParentFacts {
        stem: manifest.stem.clone(),
        index_sha256: manifest.digests.index_sha256.clone(),
        archive_bytes: manifest.sizes.archive_bytes,
        members: manifest.sizes.members,
    };
    let mut parent = ImageParent::open(archive, index, &facts, share)?;
    // Without the table that this host wrote, all segments are hashed: each of them is read.
    if let Some(table) = manifest.encryption.as_ref().and_then(|record| segments_of(files, record).ok()) {
        parent.set_segments(table);
    }
    let pool = manifest.image.as_ref().and_then(|image| image.pool.clone());
    Ok(PreviousImage { parent, digests, pool })
}

fn open(wanted: &Sought<'_>, files: &Backup, manifest: Manifest) -> Result<Previous, UnusableError> {
    let digests = manifest.published_digests();
    let (manifest, kept) = readable(wanted, manifest)?;
    let manifest = &manifest;
    let Opened { archive, index, share } = open_files(wanted, files, manifest, kept)?;
    match (wanted.layout, archive.parts()) {
        (ArchiveLayout::Shared, None) => return Err(UnusableError::PlainLayout),
        // In a directory its members are copied.
        (ArchiveLayout::Plain, Some(parts)) if parts.is_remote() => return Err(UnusableError::SharedLayout),
        _ => {}
    }
    let mut parent = Parent::open(&*archive, index, &manifest.as_parent())?;
    match manifest.encryption.as_ref().map(|record| segments_of(files, record)) {
        Some(Ok(table)) => parent.set_segments(table),
        // All segments are read, and can be hashed.
        Some(Err(_)) if files.is_local() => {}
        Some(Err(error)) => return Err(error),
        None => {}
    }
    let trust = Trust::new(manifest, &parent);
    let on_server = manifest.carried.as_ref().and_then(|carried| carried.on_server);
    let reread_from = on_server.map_or(0, |on_server| on_server.reread_to);
    Ok(Previous { parent, share, trust, digests, reread_from })
}
