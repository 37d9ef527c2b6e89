//! Selects the backup to carry forward from, and decides how far to trust it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use super::backup::earlier::EarlierBackups;
use super::backup::same_source::is_same_source;
use super::locate::{self, LocateError};
use super::record::timestamp;
use crate::archive::carry::Share;
use crate::archive::carry::parent::{Parent, ParentError};
use crate::archive::image::parent::{ImageParent, ImageParentError, ImageParentFacts};
use crate::archive::kind::{ArchiveKind, BackupMode, Compression};
use crate::archive::level::CompressionLevel;
use crate::encryption::EncryptionOptions;
use crate::entry::Timestamp;
use crate::error::with_causes;
use crate::layout::Region;
use crate::manifest::{Manifest, SourceRecord, format_of};
use crate::outside::BlockRead;
use crate::store::index_cache::{IndexCache, Kept};
use crate::store::open::OpenError;
use crate::store::retention::is_future;
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
    pub(super) archive_sha1: String,
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
    pub(super) choice: &'a ParentChoice,
    pub(super) full_read_every_days: u32,
    pub(super) today: NaiveDate,
    pub(super) now: DateTime<Utc>,
}

/// Why nothing is carried forward although there is a previous backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum PreviousError {
    /// The backup named by the user was not found.
    #[error(transparent)]
    Find(#[from] LocateError),
    /// The destination is an object store.
    #[error("a backup in an object store is not carried from yet: each night is a full backup")]
    InObjectStore,
    /// The manifest of the named backup cannot be read.
    #[error("{}", path.display())]
    ReadManifest {
        /// The manifest.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The manifest of the named backup is missing or damaged.
    #[error(transparent)]
    Manifest(ReadError),
    /// A verification found the named backup bad.
    #[error("{0} was verified and is bad")]
    Bad(String),
    /// All backups of the source are bad, or carried from bad ones; this is the newest.
    #[error("{0} is bad, or has data carried forward from a bad backup, and there is no other backup")]
    AllBad(String),
    /// The backup is valid but unsuitable.
    #[error("{stem}: {}", with_causes(why))]
    Unusable {
        /// The backup.
        stem: String,
        /// The reason.
        why: UnusableError,
    },
}

/// Why a backup cannot be carried forward from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum UnusableError {
    /// Another version of volbak wrote it.
    #[error("it has the format {0}, which this version does not carry from")]
    Format(u32),
    /// Its members are compressed in another way.
    #[error("it is a {before}, and now it is {now}")]
    Compression {
        /// The format of its archive.
        before: Compression,
        /// That of the new archive.
        now: Compression,
    },
    /// Its members would keep their old compression level.
    #[error("it was compressed at level {before}, and now it is {now}")]
    Level {
        /// Its level; prefixed by `auto` if it was chosen automatically.
        before: String,
        /// The level of the new backup.
        now: i32,
    },
    /// Its manifest has no date, which the schedule of re-reads needs.
    #[error("its manifest has no date")]
    NoDate,
    /// Its archive or its index cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The archive was changed or truncated.
    #[error("its archive has {found} bytes, and its manifest says {said}")]
    ArchiveLength {
        /// Its length in bytes.
        found: u64,
        /// Its length in the manifest, in bytes.
        said: u64,
    },
    /// Its index cannot be used.
    #[error(transparent)]
    Index(#[from] ParentError),
    /// The index of the image cannot be used.
    #[error(transparent)]
    ImageIndex(#[from] ImageParentError),
    /// It is plain, and now backups are encrypted.
    #[error("it is not encrypted, and now backups are")]
    NotEncryptedBefore,
    /// It is encrypted, and now backups are not.
    #[error("it is encrypted, and now backups are not")]
    NotEncryptedNow,
    /// Its segments are for others.
    #[error("the recipients in [encryption] have changed since")]
    OtherRecipients,
    /// This host has only public keys, and no index of it.
    #[error("this host keeps no index of it in {}", .0.display())]
    NotKept(PathBuf),
    /// It is an image, and files are backed up now, or the other way round.
    #[error("one of the two backups is an image, and the other one has files")]
    OtherKind,
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
    pub(super) archive_sha1: String,
}

/// Like [`previous`], for an image backup.
pub(super) fn previous_image(
    wanted: &Sought<'_>,
    backups: &EarlierBackups<'_>,
    destination: &Destination,
) -> Result<Option<PreviousImage>, PreviousError> {
    let Some((files, manifest)) = choose(wanted, backups, destination, BackupMode::Image)? else { return Ok(None) };
    let opened = open_image(wanted, &files, &manifest);
    opened.map(Some).map_err(|why| PreviousError::Unusable { stem: files.stem().to_owned(), why })
}

/// The backup of files or image that is carried forward from.
fn choose(
    wanted: &Sought<'_>,
    backups: &EarlierBackups<'_>,
    destination: &Destination,
    mode: BackupMode,
) -> Result<Option<(Backup, Manifest)>, PreviousError> {
    match wanted.choice {
        ParentChoice::Full => Ok(None),
        ParentChoice::Named(_) if !destination.is_local() => Err(PreviousError::InObjectStore),
        // Carrying forward would download most of the previous archive, and send it again.
        ParentChoice::Newest if !destination.is_local() => Ok(None),
        ParentChoice::Named(name) => {
            let found = locate::find(name, Some(destination), wanted.now)?;
            let files = found.files;
            let manifest = read_manifest(&files)?;
            if locate::files_are_bad(&files, &manifest) {
                return Err(PreviousError::Bad(files.stem().to_owned()));
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
    // Content carried from a bad backup may be bad too, and would pass every check except the one that found it.
    let mut bad_sha1s: Vec<&str> = Vec::new();
    let mut bad_stem = None;
    let mut newest = None;
    for backup in backups.iter() {
        let manifest = backup.manifest;
        // A backup from a night with the clock ahead would otherwise be the newest for a long time.
        let is_other = manifest.kind().mode() != mode || !is_same_source(&manifest.source, source);
        if is_other || is_future(manifest.started_at, now) {
            continue;
        }
        let parent_sha1 = manifest.carried.as_ref().map(|carried| carried.parent_archive_sha1.as_str());
        if backup.is_bad() || parent_sha1.is_some_and(|sha1| bad_sha1s.contains(&sha1)) {
            bad_sha1s.push(&manifest.digests.archive_sha1);
            bad_stem = Some(backup.entry.stem.as_str());
            continue;
        }
        newest = Some(backup);
    }
    match (newest, bad_stem) {
        (Some(newest), _) => Ok(Some((newest.entry.files(), newest.manifest.clone()))),
        (None, None) => Ok(None),
        (None, Some(stem)) => Err(PreviousError::AllBad(stem.to_owned())),
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
    if manifest.format != format_of(manifest.kind()) {
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
    let archive = files.open_stored_archive()?;
    let index = kept_index.map_or_else(|| files.open_index(), Ok)?;
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

/// What this host keeps of the previous backup, which it cannot decrypt.
fn kept_of(wanted: &Sought<'_>, encryption: &EncryptionOptions, published: &Manifest) -> Result<Kept, UnusableError> {
    let record = published.encryption.as_ref().ok_or(UnusableError::NotEncryptedBefore)?;
    if record.recipients != encryption.recipients.names() {
        return Err(UnusableError::OtherRecipients);
    }
    let kept = IndexCache::new(&encryption.index_cache).of(wanted.name);
    let is_of = |kept: &Kept| {
        kept.manifest.stem == published.stem && kept.manifest.digests.archive_sha1 == published.digests.archive_sha1
    };
    kept.filter(is_of).ok_or_else(|| UnusableError::NotKept(encryption.index_cache.clone()))
}

/// The open files of the previous backup.
struct Opened {
    archive: Arc<dyn BlockRead>,
    index: Arc<dyn BlockRead>,
    share: Share,
}

fn open_image(wanted: &Sought<'_>, files: &Backup, manifest: &Manifest) -> Result<PreviousImage, UnusableError> {
    let Opened { archive, index, share } = open_files(wanted, files, manifest, None)?;
    let facts = ImageParentFacts {
        stem: manifest.stem.clone(),
        index_sha256: manifest.digests.index_sha256.clone(),
        archive_bytes: manifest.sizes.archive_bytes,
        members: manifest.sizes.members,
    };
    let parent = ImageParent::open(archive, index, &facts, share)?;
    Ok(PreviousImage { parent, archive_sha1: manifest.digests.archive_sha1.clone() })
}

fn open(wanted: &Sought<'_>, files: &Backup, manifest: Manifest) -> Result<Previous, UnusableError> {
    let (manifest, kept) = match wanted.encryption {
        Some(encryption) => kept_of(wanted, encryption, &manifest).map(|kept| (kept.manifest, Some(kept.index)))?,
        None if manifest.encryption.is_some() => return Err(UnusableError::NotEncryptedNow),
        None => (manifest, None),
    };
    let manifest = &manifest;
    let Opened { archive, index, share } = open_files(wanted, files, manifest, kept)?;
    let parent = Parent::open(&*archive, index, &manifest.as_parent())?;
    let trust = Trust::new(manifest, &parent);
    Ok(Previous { parent, share, trust, archive_sha1: manifest.digests.archive_sha1.clone() })
}
