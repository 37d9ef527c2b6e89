//! The lock of a new backup in an object store: until when nobody may delete its files.

use chrono::{NaiveDate, Utc};

use super::api::Store;
use super::error::StoreError;
use crate::manifest::LockedRecord;

/// Has the store lock the files of a new backup of the volume `name`, if its options ask for that. The files are published
/// later. Fails if the store has no lock. `manifest` is the suffix of manifests.
pub(crate) fn begin_lock(
    volume: &dyn Store,
    name: &str,
    stem: &str,
    date: NaiveDate,
    manifest: &str,
) -> Result<Option<LockedRecord>, StoreError> {
    let Some(options) = volume.lock_options() else { return Ok(None) };
    let of_manifest = |file: &String| {
        let stem = file.strip_suffix(manifest)?.strip_prefix(name)?.strip_prefix('_')?;
        NaiveDate::parse_from_str(stem.get(.."DD_MM_YYYY".len())?, "%d_%m_%Y").ok()
    };
    let before = volume.list()?.files.iter().filter_map(of_manifest).max();
    let lock = options.lock(Utc::now(), date, before);
    volume.lock_files(stem, lock)?;
    Ok(Some(lock))
}
