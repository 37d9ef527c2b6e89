//! The remains of an interrupted run in a volume's folder.

use std::path::PathBuf;

use super::api::{Listing, Store};
use super::backup::RECORD;
use super::belongs::kind_of_manifest;
use super::error::StoreError;
use super::names::{MANIFEST, files_before_manifest};
use super::open::OpenError;
use super::shared::{SEGMENTS_FOLDER, has_marks};

/// Removes the remains of an interrupted run from a volume's folder; returns the removed files. Requires the
/// destination's lock.
///
/// A published file is such a remain if the manifest of its stem is staged and not published, and the file itself
/// is not staged (unless its publication was interrupted between two steps).
pub fn remove_remains(volume: &dyn Store) -> Result<Vec<PathBuf>, StoreError> {
    let listing = volume.list()?;
    let mut removed = Vec::new();
    for stem in cut_off(&listing) {
        let manifest = format!("{stem}{MANIFEST}");
        // The listing may be stale; with a published manifest this is a complete backup.
        if !volume.is_abandoned(&manifest)? || is_published(volume, &manifest)? {
            continue;
        }
        // A staged manifest is complete. Another program may have made an archive of the other kind with this stem.
        let kind = volume.open_staged(&manifest).ok().and_then(kind_of_manifest).unwrap_or_default();
        let files = files_before_manifest(kind).into_iter().chain([RECORD]).rev();
        for name in files.map(|suffix| format!("{stem}{suffix}")) {
            if listing.has(&name) && (!listing.has_staged(&name) || volume.is_half_published(&name)) {
                volume.remove(&name)?;
                removed.push(volume.path().join(&name));
            }
        }
    }
    let (manifests, others): (Vec<&String>, Vec<&String>) =
        listing.staged.iter().partition(|name| name.ends_with(MANIFEST));
    for name in others {
        volume.discard(name)?;
        removed.push(volume.path_of_staged(name));
    }
    // The manifests identify the rest, so they are removed last, after the other removals are durable.
    if !manifests.is_empty() {
        volume.sync()?;
    }
    if !listing.staged.is_empty() || is_freeing_due(volume)? {
        volume.free_unneeded()?;
    }
    for name in manifests {
        // Of a complete backup, or of one whose files are gone now. Another run may be about to publish it.
        if !volume.is_abandoned(name)? {
            continue;
        }
        volume.discard(name)?;
        removed.push(volume.path_of_staged(name));
    }
    Ok(removed)
}

/// Whether a run was cut off while it wrote a segment; in an object store, whether one is marked.
fn is_freeing_due(volume: &dyn Store) -> Result<bool, StoreError> {
    if !volume.refuses_to_replace() {
        return has_marks(volume);
    }
    let segments = volume.folder(SEGMENTS_FOLDER, false)?;
    segments.map_or(Ok(false), |segments| Ok(!segments.list()?.staged.is_empty()))
}

/// The stems of backups whose publication or removal was interrupted or is in progress: the manifest is staged and,
/// according to the listing, not published.
pub(super) fn cut_off(listing: &Listing) -> impl Iterator<Item = &str> {
    let stems = listing.staged.iter().filter_map(|name| name.strip_suffix(MANIFEST));
    stems.filter(|stem| !listing.has(&format!("{stem}{MANIFEST}")))
}

/// Whether a file of this name is published, checked without the listing.
pub(super) fn is_published(volume: &dyn Store, name: &str) -> Result<bool, StoreError> {
    match volume.open(name) {
        Ok(_) | Err(OpenError::NotAFile { .. }) => Ok(true),
        Err(OpenError::Missing(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::remove_remains;
    use crate::store::Destination;
    use crate::store::api::Folder;
    use crate::store::names::{ARCHIVE, CHECKSUM, INDEX, MANIFEST, SUFFIXES};

    fn volume(root: &Path) -> Folder {
        Destination::open(root).unwrap().volume_directory("vol-1").unwrap()
    }

    fn names(root: &Path) -> Vec<String> {
        let listing = volume(root).list().unwrap();
        [listing.staged, listing.files].concat()
    }

    #[test]
    fn the_remains_of_a_crash_at_every_step_are_removed_and_nothing_else() {
        let of_one = [INDEX, CHECKSUM, ARCHIVE, MANIFEST];
        for renamed in 0..of_one.len() {
            let dir = tempfile::tempdir().unwrap();
            let volume = volume(dir.path());
            let path = |name: &str| dir.path().join("vol-1").join(name);
            for foreign in ["vol-1_19_11_2026.tar.gz", "vol-1_19_11_2026.index", "vol-1_20_11_2026_1.tar.gz", "notes"] {
                fs::write(path(foreign), "").unwrap();
            }
            let before = names(dir.path());
            for (number, suffix) in of_one.iter().enumerate() {
                let prefix = if number < renamed { "" } else { ".volbak-tmp." };
                fs::write(path(&format!("{prefix}vol-1_20_11_2026{suffix}")), "").unwrap();
            }
            assert_eq!(remove_remains(&*volume).unwrap().len(), 4, "{renamed}");
            assert_eq!(names(dir.path()), before);
        }
    }

    #[test]
    fn a_link_that_was_cut_off_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let volume = volume(dir.path());
        let path = |name: &str| dir.path().join("vol-1").join(name);
        fs::write(path(".volbak-tmp.vol-1_20_11_2026.manifest.json"), "").unwrap();
        fs::write(path(".volbak-tmp.vol-1_20_11_2026.tar.gz"), "ours").unwrap();
        fs::hard_link(path(".volbak-tmp.vol-1_20_11_2026.tar.gz"), path("vol-1_20_11_2026.tar.gz")).unwrap();
        remove_remains(&*volume).unwrap();
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_complete_backup_beside_a_temporary_manifest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let volume = volume(dir.path());
        for suffix in SUFFIXES {
            fs::write(volume.path().join(format!("vol-1_20_11_2026{suffix}")), "").unwrap();
        }
        fs::write(dir.path().join("vol-1/.volbak-tmp.vol-1_20_11_2026.manifest.json"), "").unwrap();
        assert_eq!(remove_remains(&*volume).unwrap().len(), 1);
        assert_eq!(names(dir.path()).len(), SUFFIXES.len());
    }
}
