//! Which backup the next one carries forward from, and what of it is to be trusted.

use std::path::Path;

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use super::backup::same_source::is_same_source;
use super::locate::{self, is_bad};
use super::record::timestamp;
use crate::archive::carry::Share;
use crate::archive::carry::parent::Parent;
use crate::archive::level::CompressionLevel;
use crate::entry::Timestamp;
use crate::error::with_causes;
use crate::layout::Region;
use crate::manifest::{FORMAT, Manifest, SourceRecord};
use crate::store::catalog::{BackupState, CatalogEntry};
use crate::store::retention::is_future;
use crate::store::{Backup, ReadError};

/// Filesystems on which an inode number is the file's own and a change time shows each change.
const CARRIED_FILESYSTEMS: [&str; 5] = ["ext2", "ext3", "ext4", "xfs", "btrfs"];
/// A file may have been changed once more in the tick of its change time: two seconds at most, on ext3.
const TICK_SECONDS: i64 = 2;
/// While a filesystem is in use, data that was written to a file comes to the disk after its change time: Linux lets it
/// lie in memory for 30 seconds (vm.dirty_expire_centisecs) and looks every 5. The snapshot of a busy guest so has files
/// with new times and old data; this is long enough also for one that is slow to write.
const WRITEBACK_SECONDS: i64 = 120;

/// Which backup is carried forward from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ParentChoice {
    /// The newest of the same source.
    #[default]
    Newest,
    /// This one: an archive's path, a volume, or a volume with `@DATE`.
    Named(String),
    /// None: all is read.
    Full,
}

/// The backup that is carried forward from.
pub(super) struct Previous {
    pub(super) parent: Parent,
    pub(super) share: Share,
    pub(super) trust: Trust,
    pub(super) archive_sha1: String,
}

/// What of the previous backup may be carried.
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
            // An inode with a time in the future would make all others look old.
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

    /// Before which time an entry of a region must have been changed last to be carried; `None` when nothing of it is.
    pub(super) fn carry_before(&self, region: &Region, archive_path: &str) -> Option<Timestamp> {
        let (fs, uuid) = (region.holds.fs.as_deref()?, region.holds.uuid.as_deref()?);
        let is_same = |known: &&TrustedRegion| {
            known.name == region.name && known.archive_path == archive_path && known.fs == fs && known.uuid == uuid
        };
        let known = self.regions.iter().find(is_same)?;
        CARRIED_FILESYSTEMS.contains(&fs).then_some(known.before)
    }
}

/// What is to be backed up, as far as it decides on what can be carried.
pub(super) struct Wanted<'a> {
    pub(super) source: &'a SourceRecord,
    pub(super) level: CompressionLevel,
    pub(super) choice: &'a ParentChoice,
    pub(super) full_read_every_days: u32,
    pub(super) today: NaiveDate,
    pub(super) now: DateTime<Utc>,
}

/// Chooses and opens the previous backup. `None` when there is none; an error says why the one there cannot be used.
pub(super) fn previous(
    wanted: &Wanted<'_>,
    backups: &[CatalogEntry],
    destination: &Path,
) -> Result<Option<Previous>, String> {
    let (files, manifest) = match wanted.choice {
        ParentChoice::Full => return Ok(None),
        ParentChoice::Named(name) => {
            let found = locate::find(name, Some(destination), wanted.now).map_err(|error| with_causes(&error))?;
            let files = found.files;
            let manifest = read_manifest(&files)?;
            if locate::files_are_bad(&files, &manifest) {
                return Err(format!("{} is bad, as it was verified", files.stem()));
            }
            (files, manifest)
        }
        ParentChoice::Newest => match newest(wanted.source, wanted.now, backups) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(why) => return Err(why),
        },
    };
    open(wanted, &files, &manifest).map(Some).map_err(|why| format!("{}: {why}", files.stem()))
}

/// The newest of the same source that is not dated in the future, of `backups` in the order of their dates.
fn newest(
    source: &SourceRecord,
    now: DateTime<Utc>,
    backups: &[CatalogEntry],
) -> Result<Option<(Backup, Manifest)>, String> {
    // What was carried from a bad backup may be just as bad, and would pass every check but the one that found it.
    let mut bad_sha1s: Vec<&str> = Vec::new();
    let mut bad_stem = None;
    let mut newest = None;
    for backup in backups {
        let BackupState::Complete { manifest } = &backup.state else { continue };
        // A clock that was ahead for a night would otherwise make this one the newest for a long time.
        if !is_same_source(&manifest.source, source) || is_future(manifest.started_at, now) {
            continue;
        }
        let files = backup.files();
        let parent_sha1 = manifest.carried.as_ref().map(|carried| carried.parent_archive_sha1.as_str());
        if is_bad(backup, manifest) || parent_sha1.is_some_and(|sha1| bad_sha1s.contains(&sha1)) {
            bad_sha1s.push(&manifest.digests.archive_sha1);
            bad_stem = Some(backup.stem.as_str());
            continue;
        }
        newest = Some((files, manifest));
    }
    match (newest, bad_stem) {
        (Some((files, manifest)), _) => Ok(Some((files, (**manifest).clone()))),
        (None, None) => Ok(None),
        (None, Some(stem)) => {
            Err(format!("{stem} is bad, as it was verified, or carried from one that is, and there is no other"))
        }
    }
}

fn read_manifest(files: &Backup) -> Result<Manifest, String> {
    files.read_manifest().map_err(|error| match error {
        ReadError::Io(error) => format!("{}: {error}", files.manifest_path().display()),
        error => with_causes(&error),
    })
}

fn open(wanted: &Wanted<'_>, files: &Backup, manifest: &Manifest) -> Result<Previous, String> {
    if manifest.format != FORMAT {
        return Err(format!("it has the format {}, which is another one", manifest.format));
    }
    if let CompressionLevel::Fixed(level) = wanted.level {
        let before = &manifest.options;
        if before.auto_level.is_some() || before.level != level {
            let auto = if before.auto_level.is_some() { "auto" } else { "" };
            return Err(format!("it was compressed at level {auto}{}, and now it is {level}", before.level));
        }
    }
    let day = NaiveDate::parse_from_str(&manifest.local_date, "%Y-%m-%d")
        .map_err(|_| "its manifest has no date".to_owned())?;
    let archive = files.open_archive().map_err(|error| with_causes(&error))?;
    let index = files.open_index().map_err(|error| with_causes(&error))?;
    let archive_bytes = archive.len_bytes();
    if archive_bytes != manifest.sizes.archive_bytes {
        let said = manifest.sizes.archive_bytes;
        return Err(format!("its archive has {archive_bytes} bytes, and its manifest says {said}"));
    }
    let parent = Parent::open(&*archive, index, &manifest.as_parent()).map_err(|error| with_causes(&error))?;
    let share = Share {
        every_days: wanted.full_read_every_days,
        parent_day: i64::from(day.num_days_from_ce()),
        today: i64::from(wanted.today.num_days_from_ce()),
    };
    let trust = Trust::new(manifest, &parent);
    Ok(Previous { parent, share, trust, archive_sha1: manifest.digests.archive_sha1.clone() })
}
