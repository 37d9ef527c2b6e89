//! Finds a backup by what a person calls it: an archive's path, or a volume and a date.

use std::path::{Path, PathBuf};

use crate::store::StoreError;
use crate::store::catalog::{BackupState, CatalogEntry, list_volume};
use crate::store::local::Destination;
use crate::store::pending::{ARCHIVE, CHECKSUM, INDEX, MANIFEST};

/// The suffix of the record of verifications, see [`crate::run::verify::record`].
pub const RECORD: &str = ".verified.json";

/// The paths of a backup's files, whether they are there or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFiles {
    /// The directory that they lie in.
    pub directory: PathBuf,
    /// What their names begin with.
    pub stem: String,
}

/// Why no backup was found.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The path is not that of an archive.
    #[error("{} is not the name of an archive: those end with {ARCHIVE}", .0.display())]
    NotAnArchive(PathBuf),
    /// A volume was named, and nobody said where backups are.
    #[error("{0} is no archive's path, and no destination was named in which to look for a volume of that name")]
    NoDestination(String),
    /// The destination has no backup of that volume.
    #[error("{} has no backup of {volume} that is complete", destination.display())]
    NoBackup {
        /// The volume.
        volume: String,
        /// Where it was looked for.
        destination: PathBuf,
    },
    /// It has backups, and none of that date.
    #[error("{volume} has no backup of {date}; there are: {}", there.join(", "))]
    NoSuchDate {
        /// The volume.
        volume: String,
        /// The date as it was asked for.
        date: String,
        /// The stems that are there.
        there: Vec<String>,
    },
    /// It cannot be understood as a date.
    #[error(
        "{0} is no date: write 2026-11-20, or 20_11_2026 as in the file's name, with _HHMMSS after it where needed"
    )]
    BadDate(String),
    /// The destination cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupFiles {
    /// The files of the archive at this path.
    pub fn of_archive(path: &Path) -> Result<Self, LocateError> {
        let not_one = || LocateError::NotAnArchive(path.to_owned());
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(not_one)?;
        let stem = name.strip_suffix(ARCHIVE).filter(|stem| !stem.is_empty()).ok_or_else(not_one)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { directory: directory.to_owned(), stem: stem.to_owned() })
    }

    /// The archive.
    pub fn archive(&self) -> PathBuf {
        self.with(ARCHIVE)
    }

    /// The checksum.
    pub fn checksum(&self) -> PathBuf {
        self.with(CHECKSUM)
    }

    /// The index.
    pub fn index(&self) -> PathBuf {
        self.with(INDEX)
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.with(MANIFEST)
    }

    /// The record of verifications.
    pub fn record(&self) -> PathBuf {
        self.with(RECORD)
    }

    fn with(&self, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}{suffix}", self.stem))
    }
}

/// The backup called `wanted`: an archive's path (anything with a `/` in it, or that ends as an archive does), or
/// `VOLUME` for its newest complete backup in `destination`, or `VOLUME@DATE` for that day's newest.
pub fn find(wanted: &str, destination: Option<&Path>) -> Result<BackupFiles, LocateError> {
    if wanted.contains('/') || wanted.ends_with(ARCHIVE) {
        return BackupFiles::of_archive(Path::new(wanted));
    }
    let (volume, date) = match wanted.split_once('@') {
        Some((volume, date)) => (volume, Some(date)),
        None => (wanted, None),
    };
    let root = destination.ok_or_else(|| LocateError::NoDestination(wanted.to_owned()))?;
    let no_backup = || LocateError::NoBackup { volume: volume.to_owned(), destination: root.to_owned() };
    let directory = Destination::open(root)?.existing_volume_directory(volume)?.ok_or_else(no_backup)?;
    let entries = list_volume(&directory, volume)?;
    let chosen = match date {
        None => entries.iter().rev().find(|entry| is_complete(entry)).ok_or_else(no_backup)?,
        Some(date) => {
            let day = Moment::parse(date).ok_or_else(|| LocateError::BadDate(date.to_owned()))?;
            let of_day =
                |entry: &&CatalogEntry| Moment::of_stem(&entry.stem, volume).is_some_and(|is| day.includes(&is));
            let found = entries.iter().rev().find(|entry| of_day(entry) && is_complete(entry));
            // One that is not complete is better than none when it was asked for by its date.
            found.or_else(|| entries.iter().rev().find(of_day)).ok_or_else(|| LocateError::NoSuchDate {
                volume: volume.to_owned(),
                date: date.to_owned(),
                there: entries.iter().map(|entry| entry.stem.clone()).collect(),
            })?
        }
    };
    BackupFiles::of_archive(&chosen.archive)
}

fn is_complete(entry: &CatalogEntry) -> bool {
    matches!(entry.state, BackupState::Complete { .. })
}

/// A day, or a second of it, as digits.
#[derive(Debug, PartialEq, Eq)]
struct Moment {
    year_month_day: [String; 3],
    time: Option<String>,
}

impl Moment {
    fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time.replace(':', ""))),
            None => (text, None),
        };
        let separator = if date.contains('-') { '-' } else { '_' };
        let mut parts: Vec<&str> = date.split(separator).collect();
        let time = if parts.len() == 4 { parts.pop().map(str::to_owned) } else { time };
        let [first, middle, last] = parts.try_into().ok()?;
        let (year, day) = if first.len() == 4 { (first, last) } else { (last, first) };
        let digits = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
        let good = digits(year, 4)
            && digits(middle, 2)
            && digits(day, 2)
            && time.as_deref().is_none_or(|time| digits(time, 6));
        good.then(|| Self { year_month_day: [year, middle, day].map(str::to_owned), time })
    }

    fn of_stem(stem: &str, volume: &str) -> Option<Self> {
        Self::parse(stem.strip_prefix(volume)?.strip_prefix('_')?)
    }

    fn includes(&self, other: &Self) -> bool {
        self.year_month_day == other.year_month_day && (self.time.is_none() || self.time == other.time)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{BackupFiles, LocateError, Moment, find};

    #[test]
    fn dates_are_written_in_two_ways() {
        let stem = Moment::of_stem("volume-1_20_11_2026_010203", "volume-1").unwrap();
        for same in ["2026-11-20", "20_11_2026", "20_11_2026_010203", "2026-11-20T01:02:03"] {
            assert!(Moment::parse(same).unwrap().includes(&stem), "{same}");
        }
        for other in ["2026-11-21", "20_11_2026_010204"] {
            assert!(!Moment::parse(other).unwrap().includes(&stem), "{other}");
        }
        for wrong in ["", "yesterday", "20_11", "2026-1-20", "2026-11-20T1", "a_b_c"] {
            assert_eq!(Moment::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Moment::of_stem("volume-10_20_11_2026", "volume-1"), None);
    }

    #[test]
    fn a_path_needs_no_destination() {
        let files = find("/b/vol/vol_01_01_2026.tar.gz", None).unwrap();
        assert_eq!(files.index(), Path::new("/b/vol/vol_01_01_2026.index"));
        assert_eq!(BackupFiles::of_archive(Path::new("x.tar.gz")).unwrap().archive(), Path::new("./x.tar.gz"));
        assert!(matches!(find("/b/vol.manifest.json", None), Err(LocateError::NotAnArchive(_))));
        assert!(matches!(find("vol", None), Err(LocateError::NoDestination(_))));
    }
}
