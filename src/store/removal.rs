//! Removes a backup, so that a crash leaves either the whole backup or identifiable remains.

use super::api::{Freed, Store};
use super::backup::RECORD;
use super::belongs::kind_of_stem;
use super::error::StoreError;
use super::names::{MANIFEST, files_before_manifest};

/// Removes the files of the backup `stem`. Requires the destination's lock.
///
/// The manifest goes first, by renaming it to its staged name. From then on it is no backup, and
/// [`remove_remains`](super::remains::remove_remains) removes what a crash leaves. Fails if there is no manifest:
/// volbak removes only backups that it made.
pub fn remove_backup(volume: &dyn Store, stem: &str) -> Result<Removal, StoreError> {
    let manifest = format!("{stem}{MANIFEST}");
    // Another program may have made an archive of the other kind with the same stem.
    let kind = kind_of_stem(volume, stem);
    // The record goes first: a backup without a verification record is valid, a record without a backup would be
    // an orphan.
    volume.check_removable(&manifest)?;
    volume.remove(&format!("{stem}{RECORD}"))?;
    volume.set_aside(&manifest)?;
    volume.sync()?;
    for suffix in files_before_manifest(kind).into_iter().rev() {
        volume.remove(&format!("{stem}{suffix}"))?;
    }
    volume.sync()?;
    // While the manifest is staged, the next run frees what a crash leaves.
    let freed = volume.free_unneeded();
    volume.discard(&manifest)?;
    Ok(Removal { freed })
}

/// The result of [`remove_backup`].
#[derive(Debug)]
pub struct Removal {
    /// The room that was freed of a composed archive. An error says why none was; the next removal frees it.
    pub freed: Result<Freed, StoreError>,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::remove_backup;
    use crate::store::Destination;
    use crate::store::api::Folder;
    use crate::store::names::SUFFIXES;
    use crate::store::remains::remove_remains;

    fn names(volume: &Folder) -> Vec<String> {
        let listing = volume.list().unwrap();
        [listing.files, listing.staged].concat()
    }

    #[test]
    fn one_backup_goes_and_its_neighbours_stay() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Destination::open(dir.path()).unwrap().volume_directory("vol-1").unwrap();
        for stem in ["vol-1_01_11_2026", "vol-1_01_11_2026_010203", "vol-10_01_11_2026"] {
            for suffix in SUFFIXES {
                fs::write(volume.path().join(format!("{stem}{suffix}")), "").unwrap();
            }
        }
        remove_backup(&*volume, "vol-1_01_11_2026").unwrap();
        let names = names(&volume);
        assert_eq!(names.len(), 3 * SUFFIXES.len() - 4);
        // Which of several archives is the backup's, only a valid manifest says.
        let left: Vec<&String> = names.iter().filter(|name| name.starts_with("vol-1_01_11_2026.")).collect();
        let others = [
            ".img.gz",
            ".img.gz.age",
            ".index.age",
            ".manifest.sig",
            ".segments",
            ".tar.gz.age",
            ".tar.zst",
            ".tar.zst.age",
        ];
        assert!(left.into_iter().eq(&others.map(|suffix| format!("vol-1_01_11_2026{suffix}"))));
        assert!(remove_backup(&*volume, "vol-1_01_11_2026").is_err(), "there is none any more");
        assert!(!volume.remove_if_empty().unwrap());
    }

    #[test]
    fn what_a_crash_leaves_of_a_removal_is_removed() {
        for done in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let volume = Destination::open(dir.path()).unwrap().volume_directory("vol-1").unwrap();
            fs::write(volume.path().join(".volbak-tmp.s.manifest.json"), "").unwrap();
            for suffix in [".tar.gz", ".checksum", ".index"].into_iter().skip(done) {
                fs::write(volume.path().join(format!("s{suffix}")), "").unwrap();
            }
            remove_remains(&*volume).unwrap();
            assert_eq!(names(&volume), Vec::<String>::new(), "{done}");
            assert!(volume.remove_if_empty().unwrap());
        }
    }

    #[test]
    fn an_archive_without_a_manifest_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Destination::open(dir.path()).unwrap().volume_directory("vol-1").unwrap();
        fs::write(volume.path().join("vol-1_01_11_2026.tar.gz"), "").unwrap();
        remove_backup(&*volume, "vol-1_01_11_2026").unwrap_err();
        assert_eq!(names(&volume).len(), 1);
    }
}
