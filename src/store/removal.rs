//! Removing a backup, so that a crash at any moment leaves either the whole of it or remains that are known as such.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::StoreError;
use super::backup::RECORD;
use super::local::{VolumeDirectory, sync_directory};
use super::pending::{ARCHIVE, CHECKSUM, INDEX, MANIFEST, temporary_name, unlink};

/// Removes the files of the backup `stem`. Only for whoever holds the destination's lock.
///
/// The manifest goes first, by getting its temporary name: from then on it is no backup any more, and what is left
/// after a crash is what [`remove_remains`](super::pending::remove_remains) removes. Fails when there is no manifest:
/// what has none is not volbak's to remove.
pub fn remove_backup(volume: &VolumeDirectory, stem: &str) -> Result<(), StoreError> {
    let (manifest, set_aside) = (format!("{stem}{MANIFEST}"), temporary_name(stem, MANIFEST));
    // Without the record of its verifications a backup is whole; the record without a backup would be nobody's.
    unlink(volume, &format!("{stem}{RECORD}"))?;
    rustix::fs::renameat(&volume.directory, &manifest, &volume.directory, &set_aside)
        .map_err(StoreError::errno("removing", &volume.path.join(&manifest)))?;
    sync_directory(&volume.directory, &volume.path)?;
    for suffix in [ARCHIVE, CHECKSUM, INDEX] {
        unlink(volume, &format!("{stem}{suffix}"))?;
    }
    sync_directory(&volume.directory, &volume.path)?;
    unlink(volume, &set_aside)
}

/// Removes the volume's directory when nothing is left in it; says whether it did.
pub fn remove_if_empty(volume: VolumeDirectory) -> Result<bool, StoreError> {
    let path = volume.path;
    match rustix::fs::unlinkat(rustix::fs::CWD, &path, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(StoreError::errno("removing", &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{remove_backup, remove_if_empty};
    use crate::store::local::Destination;
    use crate::store::pending::{SUFFIXES, remove_remains};

    #[test]
    fn one_backup_goes_and_its_neighbours_stay() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Destination::open(dir.path()).unwrap().volume_directory("vol-1").unwrap();
        for stem in ["vol-1_01_11_2026", "vol-1_01_11_2026_010203", "vol-10_01_11_2026"] {
            for suffix in SUFFIXES {
                fs::write(volume.path().join(format!("{stem}{suffix}")), "").unwrap();
            }
        }
        remove_backup(&volume, "vol-1_01_11_2026").unwrap();
        let names = volume.file_names().unwrap();
        assert_eq!(names.len(), 8);
        assert!(names.iter().all(|name| !name.starts_with("vol-1_01_11_2026.")), "{names:?}");
        assert!(remove_backup(&volume, "vol-1_01_11_2026").is_err(), "there is none any more");
        assert!(!remove_if_empty(volume).unwrap());
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
            remove_remains(&volume).unwrap();
            assert_eq!(volume.file_names().unwrap(), Vec::<String>::new(), "{done}");
            assert!(remove_if_empty(volume).unwrap());
        }
    }

    #[test]
    fn an_archive_without_a_manifest_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Destination::open(dir.path()).unwrap().volume_directory("vol-1").unwrap();
        fs::write(volume.path().join("vol-1_01_11_2026.tar.gz"), "").unwrap();
        remove_backup(&volume, "vol-1_01_11_2026").unwrap_err();
        assert_eq!(volume.file_names().unwrap().len(), 1);
    }
}
