//! Finds a backup by name. Every verb accepts the same names:
//!
//! - a path: any text with a `/` in it, or with the suffix of an archive;
//! - `VOLUME` or `VOLUME@last`: the newest that is complete, not known to be bad and not dated in the future;
//! - `VOLUME@DATE`: that day's. DATE is 2026-11-20, or 20_11_2026 as in the files' names, or `today` or
//!   `yesterday`;
//! - `VOLUME@DATE_HHMMSS`: one of several of a day; `_HHMMSS.ffffff`: one of several sets of a second;
//! - `VOLUME_DD_MM_YYYY…`: the name of its files without a suffix, as `volbak list` shows it.
//!
//! An ambiguous name is an error that lists the candidates in a form that can be typed.

mod error;
mod located;
pub(super) mod moment;
mod volume;

use std::path::{Path, PathBuf};

use chrono::{DateTime, Local, Utc};

pub use self::error::LocateError;
pub use self::located::Located;
use self::moment::Moment;
pub use self::volume::typed;
use self::volume::{Entries, folder_of, typed_all, volume_of};
use crate::archive::kind::ArchiveKind;
use crate::manifest::Manifest;
use crate::run::check::record::{self, Health};
use crate::run::cloud::names::backed_up_as;
use crate::run::unsigned;
use crate::shown;
use crate::store::Destination;
use crate::store::catalog::{BackupState, CatalogEntry, list_volume};
use crate::store::retention::is_future;
use crate::store::{Backup, is_in_object_store};

/// Finds the backup `wanted`, in `destination` unless it is a path. `now` decides which dates are in the future.
pub fn find(wanted: &str, destination: Option<&Destination>, now: DateTime<Utc>) -> Result<Located, LocateError> {
    let is_in_store = is_in_object_store(Path::new(wanted));
    if !is_in_store && (wanted.contains('/') || ArchiveKind::of_name(wanted).is_some()) {
        return Ok(by_path(of_archive(Path::new(wanted))?));
    }
    let destination = destination.ok_or_else(|| LocateError::NoDestination(wanted.to_owned()))?;
    let root = destination.root();
    if is_in_store {
        return in_store(wanted, destination).map(by_path);
    }
    let (volume, entries, date) = volume_of(destination, wanted)?;
    let (volume, entries) = if entries.is_empty() { by_cloud(destination, volume)? } else { (volume, entries) };
    if entries.is_empty() {
        return Err(LocateError::NoBackup { volume, destination: root.to_owned(), there: Vec::new() });
    }
    match date.as_deref() {
        None | Some("last") => newest(&volume, &entries, root, now),
        Some(date) => of_date(wanted, &volume, &entries, date, now),
    }
}

/// Whether `wanted` names one backup for good: a path, or a volume with a date.
pub(super) fn names_a_date(wanted: &str, destination: &Destination) -> Result<bool, LocateError> {
    if wanted.contains('/') || ArchiveKind::of_name(wanted).is_some() {
        return Ok(true);
    }
    let (_, _, date) = volume_of(destination, wanted)?;
    Ok(date.is_some_and(|date| date != "last"))
}

fn by_path(files: Backup) -> Located {
    let plain = unsigned::note_beside(&files);
    let partial = files.manifest().filter(|manifest| !manifest.is_whole()).map(|manifest| {
        let errors = manifest.problem_counts.errors;
        format!("{} is partial: {errors} of its files or regions are missing or damaged", files.stem())
    });
    let notes = bad_note(&files).into_iter().chain(partial).collect();
    Located::new(files, notes, plain)
}

/// The backup of the archive at this address, which is `DESTINATION/VOLUME/ARCHIVE`.
fn in_store(wanted: &str, destination: &Destination) -> Result<Backup, LocateError> {
    let root = destination.root().to_str().unwrap_or_default().trim_end_matches('/');
    let below = wanted.strip_prefix(root).and_then(|rest| rest.strip_prefix('/'));
    let elsewhere =
        || LocateError::Elsewhere { wanted: shown::text(wanted), destination: destination.root().to_owned() };
    let (volume, name) = below.and_then(|rest| rest.split_once('/')).ok_or_else(elsewhere)?;
    let (stem, kind) =
        ArchiveKind::of_name(name).ok_or_else(|| LocateError::NotAnArchive(PathBuf::from(shown::text(wanted))))?;
    let folder = folder_of(destination, volume)?.ok_or_else(elsewhere)?;
    Ok(Backup::new(folder.detached(), stem.to_owned(), kind).with_survey(folder))
}

fn of_archive(path: &Path) -> Result<Backup, LocateError> {
    Backup::of_archive(path).ok_or_else(|| LocateError::NotAnArchive(path.to_owned()))
}

/// The volumes with backups that the cloud calls so, by their display name or UUID.
pub fn called_in_cloud(destination: &Destination, name: &str) -> Vec<String> {
    backed_up_as(destination, name).into_keys().collect()
}

/// The volume that `name` stands for: by the name of its directory, also after that of its group, or by its name or UUID in the
/// cloud. As it is without such a volume.
pub fn volume_called(destination: &Destination, name: &str) -> Result<String, LocateError> {
    let lv = name.rsplit('/').next().unwrap_or(name);
    let is_volume = !lv.is_empty() && !lv.starts_with('.') && destination.existing_volume_directory(lv)?.is_some();
    let in_cloud = if is_volume { None } else { name_by_cloud(destination, name)? };
    Ok(in_cloud.unwrap_or_else(|| lv.to_owned()))
}

/// The volume that the cloud calls so, by its display name or UUID, with its backups; as it is without such a volume.
fn by_cloud(destination: &Destination, volume: String) -> Result<(String, Entries), LocateError> {
    let Some(only) = name_by_cloud(destination, &volume)? else { return Ok((volume, Vec::new())) };
    let directory = folder_of(destination, &only)?;
    let entries = directory.map(|directory| list_volume(&*directory, &only)).transpose()?;
    Ok((only, entries.unwrap_or_default()))
}

fn name_by_cloud(destination: &Destination, volume: &str) -> Result<Option<String>, LocateError> {
    let found = backed_up_as(destination, volume);
    let mut names = found.keys();
    match (names.next(), names.next()) {
        (only, None) => Ok(only.cloned()),
        _ => Err(LocateError::Ambiguous {
            wanted: shown::text(volume),
            candidates: found
                .into_iter()
                .map(|(name, cloud)| if cloud.is_empty() { name } else { format!("{name} [{cloud}]") })
                .collect(),
        }),
    }
}

fn newest(volume: &str, entries: &[CatalogEntry], root: &Path, now: DateTime<Utc>) -> Result<Located, LocateError> {
    let mut notes = Vec::new();
    let (mut newest_complete, mut newest_damaged) = (None, None);
    for entry in entries.iter().rev() {
        let BackupState::Complete { manifest } = &entry.state else {
            // Backups without a manifest come first in the list: they have no date.
            if let BackupState::Damaged { what } = &entry.state {
                newest_damaged.get_or_insert(entry);
                notes.push(format!("{} is passed over: it is damaged: {what}", entry.stem));
            }
            continue;
        };
        newest_complete.get_or_insert(entry);
        let files = entry.files();
        let health = health(&files.seen(), manifest);
        if is_future(manifest.started_at, now) {
            let date = manifest.started_at.with_timezone(&Local).format("%Y-%m-%d %H:%M");
            notes.push(format!("{} is passed over: it is dated in the future, {date}; a clock was wrong", entry.stem));
        } else if matches!(health, Health::Bad { .. }) {
            notes.push(format!("{} is passed over: a verification found it bad", entry.stem));
        } else {
            notes.extend(note_of(health, &files));
            notes.extend(partial_note(entry, manifest, entries, now));
            return Ok(Located::new(files, notes, unsigned::note(entry, entries)));
        }
    }
    if let Some(newest) = newest_complete.or(newest_damaged) {
        let located = Located::new(newest.files(), notes.clone(), unsigned::note(newest, entries));
        let newest = Box::new(located);
        return Err(LocateError::NoneUsable { volume: volume.to_owned(), passed_over: notes, newest });
    }
    Err(LocateError::NoBackup {
        volume: volume.to_owned(),
        destination: root.to_owned(),
        there: entries.iter().map(|entry| shown_state(volume, entry, now)).collect(),
    })
}

fn of_date(
    wanted: &str,
    volume: &str,
    entries: &[CatalogEntry],
    date: &str,
    now: DateTime<Utc>,
) -> Result<Located, LocateError> {
    let named = |entry: &&CatalogEntry| entry.stem.strip_prefix(volume).and_then(|s| s.strip_prefix('_')) == Some(date);
    let chosen = if let Some(exact) = entries.iter().rfind(named) {
        exact
    } else {
        let moment = Moment::parse(date, now.with_timezone(&Local).date_naive())
            .ok_or_else(|| LocateError::BadDate(date.to_owned()))?;
        let matching: Vec<&CatalogEntry> = entries.iter().filter(|entry| moment.is_of(entry, volume)).collect();
        match matching[..] {
            [one] => one,
            [] => {
                return Err(LocateError::NoSuchDate {
                    volume: volume.to_owned(),
                    date: date.to_owned(),
                    there: typed_all(volume, entries),
                });
            }
            _ => {
                return Err(LocateError::Ambiguous {
                    wanted: wanted.to_owned(),
                    candidates: matching.iter().map(|entry| shown_state(volume, entry, now)).collect(),
                });
            }
        }
    };
    let files = chosen.files();
    let mut notes = Vec::new();
    match &chosen.state {
        BackupState::Complete { manifest } => {
            notes.extend(bad_note(&files));
            notes.extend(partial_note(chosen, manifest, entries, now));
        }
        BackupState::WithoutManifest => notes.push(format!("{} has no manifest", chosen.stem)),
        BackupState::Damaged { what } => notes.push(format!("{} is damaged: {what}", chosen.stem)),
    }
    Ok(Located::new(files, notes, unsigned::note(chosen, entries)))
}

/// What the record of a backup says against it.
pub(crate) fn bad_note(files: &Backup) -> Option<String> {
    note_of(record::of(&files.seen())?.health(), files)
}

/// Like [`bad_note`], for a backup whose manifest was read.
pub(super) fn bad_note_with(files: &Backup, manifest: &Manifest) -> Option<String> {
    note_of(health(files, manifest), files)
}

fn note_of(health: Health, files: &Backup) -> Option<String> {
    let what = match health {
        Health::Bad { .. } => "a verification found it bad; `volbak verify` says what is wrong",
        Health::Unknown => {
            "its record of verifications cannot be read, so that one may have found it bad; `volbak verify` checks it again"
        }
        Health::Unverified | Health::Good { .. } => return None,
    };
    Some(format!("{}: {what}", files.stem()))
}

fn partial_note(
    entry: &CatalogEntry,
    manifest: &Manifest,
    entries: &[CatalogEntry],
    now: DateTime<Utc>,
) -> Option<String> {
    if manifest.is_whole() {
        return None;
    }
    let whole = entries.iter().rev().find(|other| match &other.state {
        BackupState::Complete { manifest } => {
            manifest.is_whole() && !is_future(manifest.started_at, now) && !is_bad(other, manifest)
        }
        _ => false,
    });
    let other = whole.map_or_else(
        || "there is no whole one".to_owned(),
        |whole| format!("the newest whole one is {}", typed(&whole.name, whole)),
    );
    Some(format!(
        "{} is partial: {} of its files or regions are missing or damaged; {other}",
        entry.stem, manifest.problem_counts.errors
    ))
}

/// Whether a verification found this backup bad.
pub fn is_bad(entry: &CatalogEntry, manifest: &Manifest) -> bool {
    files_are_bad(&entry.files().seen(), manifest)
}

/// Whether a verification found the backup with these files and this manifest bad.
pub fn files_are_bad(files: &Backup, manifest: &Manifest) -> bool {
    matches!(health(files, manifest), Health::Bad { .. })
}

/// Whether a verification found this backup bad, or its record cannot be read, which may say so.
pub(super) fn may_be_bad(entry: &CatalogEntry, manifest: &Manifest) -> bool {
    matches!(health(&entry.files().seen(), manifest), Health::Bad { .. } | Health::Unknown)
}

fn health(files: &Backup, manifest: &Manifest) -> Health {
    let record = record::load(files, Some(manifest.identity()), manifest.sizes.archive_bytes);
    record.map_or(Health::Unverified, |record| record.health())
}

fn shown_state(volume: &str, entry: &CatalogEntry, now: DateTime<Utc>) -> String {
    let name = typed(volume, entry);
    match &entry.state {
        BackupState::WithoutManifest => format!("{name} (no manifest)"),
        BackupState::Damaged { .. } => format!("{name} (damaged)"),
        BackupState::Complete { manifest } if is_bad(entry, manifest) => format!("{name} (bad)"),
        BackupState::Complete { manifest } if is_future(manifest.started_at, now) => format!("{name} (in the future)"),
        BackupState::Complete { manifest } if !manifest.is_whole() => format!("{name} (partial)"),
        BackupState::Complete { .. } => name,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chrono::DateTime;

    use super::{LocateError, find};

    #[test]
    fn a_path_needs_no_destination() {
        let find = |wanted: &str| find(wanted, None, DateTime::UNIX_EPOCH);
        let found = find("/b/vol/vol_01_01_2026.tar.gz").unwrap();
        assert_eq!(found.files.index_path(), Path::new("/b/vol/vol_01_01_2026.index"));
        assert!(matches!(find("/b/vol.manifest.json"), Err(LocateError::NotAnArchive(_))));
        assert!(matches!(find("vol"), Err(LocateError::NoDestination(_))));
    }
}
