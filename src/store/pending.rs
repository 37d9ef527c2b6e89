//! A backup that is being written: under temporary names first, then published.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;

use chrono::{NaiveDateTime, TimeDelta};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::StoreError;
use super::local::{VolumeDirectory, sync_directory};
use super::writer::{ARCHIVE_STAGE_BYTES, INDEX_STAGE_BYTES, LateError, StagedWriter, SyncingWriter};
use crate::archive::gzip;
use crate::archive::members::ArchiveFile;
use crate::outside::let_go_of_pages;

/// Every temporary name begins with this, and nothing else does.
pub const TEMPORARY_PREFIX: &str = ".volbak-tmp.";

/// The four files, in the order in which they get their final names: the one that makes the backup complete is last.
pub const SUFFIXES: [&str; 4] = [INDEX, CHECKSUM, ARCHIVE, MANIFEST];
/// The archive's suffix.
pub const ARCHIVE: &str = gzip::SUFFIX;
/// The checksum's suffix.
pub const CHECKSUM: &str = ".checksum";
/// The index's suffix.
pub const INDEX: &str = ".index";
/// The manifest's suffix.
pub const MANIFEST: &str = ".manifest.json";

/// A backup under temporary names. Dropped before it is published, it leaves nothing.
#[derive(Debug)]
pub struct PendingBackup {
    volume: VolumeDirectory,
    stem: String,
    archive: TemporaryFile,
    index: TemporaryFile,
}

#[derive(Debug)]
struct TemporaryFile {
    file: File,
    late_error: LateError,
}

/// What [`PendingBackup::publish`] has to write and to check.
#[derive(Debug)]
pub struct ToPublish<'a> {
    /// The whole checksum file; `None` for none.
    pub checksum: Option<&'a [u8]>,
    /// The whole manifest.
    pub manifest: &'a [u8],
    /// How long the archive must be.
    pub archive_bytes: u64,
    /// How long the index must be.
    pub index_bytes: u64,
}

impl PendingBackup {
    /// Begins a backup of the volume `name` at the local time `local_now`. Its stem is one that no file has yet.
    pub fn begin(volume: VolumeDirectory, name: &str, local_now: NaiveDateTime) -> Result<Self, StoreError> {
        let stem = free_stem(&volume, name, local_now)?;
        let archive = TemporaryFile::create(&volume, &stem, ARCHIVE)?;
        let index = TemporaryFile::create(&volume, &stem, INDEX).inspect_err(|_| {
            // The archive's file is empty; its removal failing too changes nothing about the error.
            let _ = unlink(&volume, &temporary_name(&stem, ARCHIVE));
        })?;
        Ok(Self { volume, stem, archive, index })
    }

    /// What the four names begin with.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// Where the archive is written to; with `share`, what it has in common with others need not be copied.
    pub fn archive_writer(&self, share: bool) -> io::Result<Box<dyn ArchiveFile>> {
        let mut writer = self.archive.writer(ARCHIVE_STAGE_BYTES)?;
        if share {
            writer.share_in(self.volume.directory.try_clone()?);
        }
        Ok(Box::new(writer))
    }

    /// Where the index is written to.
    pub fn index_writer(&self) -> io::Result<Box<dyn Write + Send>> {
        Ok(Box::new(self.index.writer(INDEX_STAGE_BYTES)?))
    }

    /// Forgets all that was written to archive and index, so that both can be written anew. Their writers must be gone.
    pub fn start_over(&self) -> Result<(), StoreError> {
        for (file, suffix) in [(&self.archive, ARCHIVE), (&self.index, INDEX)] {
            // What could not be written is of no interest any more.
            let _ = file.late_error.take();
            let emptied = file.file.set_len(0).and_then(|()| (&file.file).seek(SeekFrom::Start(0)));
            let path = self.volume.path.join(temporary_name(&self.stem, suffix));
            emptied.map_err(StoreError::io("emptying", &path))?;
        }
        Ok(())
    }

    /// Where the index lies until it is published.
    pub fn index_path(&self) -> PathBuf {
        self.volume.path.join(temporary_name(&self.stem, INDEX))
    }

    /// Gives the files their final names, after all of them are on the disk and as long as they should be.
    /// Gives the archive's path. After an error nothing is left under a final name, unless it was the very last step that
    /// failed: telling the disk about the names of a backup that is complete.
    pub fn publish(self, content: &ToPublish<'_>) -> Result<PathBuf, StoreError> {
        let Self { volume, stem, archive, index } = &self;
        let written = |suffix: &str, bytes: &[u8]| {
            let file = TemporaryFile::create(volume, stem, suffix)?;
            let path = volume.path.join(temporary_name(stem, suffix));
            (&file.file).write_all(bytes).map_err(StoreError::io("writing", &path))?;
            file.settle(path, bytes.len() as u64)
        };
        let settled = |file: &TemporaryFile, suffix: &str, expected_bytes: u64| {
            file.settle(volume.path.join(temporary_name(stem, suffix)), expected_bytes)
        };
        // The disk takes all of it sooner when it is asked for all at once.
        std::thread::scope(|scope| {
            let syncing = || StoreError::io("syncing", &volume.path);
            let archive = std::thread::Builder::new()
                .name("sync".to_owned())
                .spawn_scoped(scope, || settled(archive, ARCHIVE, content.archive_bytes))
                .map_err(syncing())?;
            let index = settled(index, INDEX, content.index_bytes);
            let checksum = content.checksum.map_or(Ok(()), |checksum| written(CHECKSUM, checksum));
            let archive = archive.join().unwrap_or_else(|_| Err(syncing()(io::Error::other("its thread panicked"))));
            index.and(checksum).and(archive)
        })?;
        written(MANIFEST, content.manifest)?;
        // From here on a crash leaves the temporary manifest, by which the next run knows what is ours.
        sync_directory(&volume.directory, &volume.path)?;
        for (done, suffix) in SUFFIXES.into_iter().enumerate() {
            if suffix == CHECKSUM && content.checksum.is_none() {
                continue;
            }
            if let Err(error) = rename_new(volume, &temporary_name(stem, suffix), &format!("{stem}{suffix}")) {
                for published in &SUFFIXES[..done] {
                    // What cannot be taken back is known by the temporary manifest, if that is still there.
                    let _ = unlink(volume, &format!("{stem}{published}"));
                }
                return Err(error);
            }
        }
        sync_directory(&volume.directory, &volume.path)?;
        Ok(volume.path.join(format!("{stem}{ARCHIVE}")))
    }
}

impl Drop for PendingBackup {
    fn drop(&mut self) {
        // The manifest last: it is what the remains are known by. After publishing, none of these names is there.
        for suffix in [INDEX, CHECKSUM, ARCHIVE, MANIFEST] {
            let _ = unlink(&self.volume, &temporary_name(&self.stem, suffix));
        }
    }
}

impl TemporaryFile {
    fn create(volume: &VolumeDirectory, stem: &str, suffix: &str) -> Result<Self, StoreError> {
        let name = temporary_name(stem, suffix);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&volume.directory, &name, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(StoreError::errno("making", &volume.path.join(&name)))?;
        Ok(Self { file, late_error: LateError::default() })
    }

    fn writer(&self, stage_bytes: usize) -> io::Result<StagedWriter> {
        let file = SyncingWriter::new(self.file.try_clone()?, self.late_error.clone())?;
        StagedWriter::new(file, stage_bytes)
    }

    /// Waits until it is on the disk, and checks its length there.
    fn settle(&self, path: PathBuf, expected_bytes: u64) -> Result<(), StoreError> {
        self.late_error.take().map_or_else(|| self.file.sync_all(), Err).map_err(StoreError::io("syncing", &path))?;
        let_go_of_pages(&self.file, 0, None);
        let found_bytes = self.file.metadata().map_err(StoreError::io("asking", &path))?.len();
        if found_bytes == expected_bytes {
            Ok(())
        } else {
            Err(StoreError::WrongLength { path, found_bytes, expected_bytes })
        }
    }
}

/// Removes what a run that was cut off left in a volume's directory; says which files. Only for whoever holds the
/// destination's lock.
///
/// A file under a final name belongs to such a backup when the temporary manifest of its stem is there, its own
/// temporary file is not (or is the same file), and no final manifest is.
pub fn remove_remains(volume: &VolumeDirectory) -> Result<Vec<PathBuf>, StoreError> {
    let names = volume.file_names()?;
    let mut removed = Vec::new();
    let has = |name: &str| names.binary_search_by(|other| other.as_str().cmp(name)).is_ok();
    let mut remove = |name: &str| {
        removed.push(volume.path.join(name));
        unlink(volume, name)
    };
    let mut manifests = Vec::new();
    for name in names.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)) {
        let stem = name.strip_prefix(TEMPORARY_PREFIX).and_then(|name| name.strip_suffix(MANIFEST));
        let Some(stem) = stem else { continue };
        if !has(&format!("{stem}{MANIFEST}")) {
            for suffix in [ARCHIVE, CHECKSUM, INDEX] {
                let last = format!("{stem}{suffix}");
                let temporary = temporary_name(stem, suffix);
                // Both names of one file: the rename was a link, and was cut off between its two steps.
                if has(&last) && (!has(&temporary) || is_same_file(volume, &last, &temporary)) {
                    remove(&last)?;
                }
            }
        }
        manifests.push(name);
    }
    for name in names.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX) && !name.ends_with(MANIFEST)) {
        remove(name)?;
    }
    // What the rest was known by goes last, and only after the rest is gone for good.
    if !manifests.is_empty() {
        sync_directory(&volume.directory, &volume.path)?;
    }
    for name in manifests {
        remove(name)?;
    }
    Ok(removed)
}

fn is_same_file(volume: &VolumeDirectory, one: &str, other: &str) -> bool {
    let facts = |name: &str| {
        let stat = rustix::fs::statat(&volume.directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    facts(one).is_some() && facts(one) == facts(other)
}

/// The name under which a file is written.
pub(super) fn temporary_name(stem: &str, suffix: &str) -> String {
    format!("{TEMPORARY_PREFIX}{stem}{suffix}")
}

/// `NAME_DD_MM_YYYY`, or with `_HHMMSS` when a file of that stem is there already; seconds later when that is, too.
fn free_stem(volume: &VolumeDirectory, name: &str, local_now: NaiveDateTime) -> Result<String, StoreError> {
    let names = volume.file_names()?;
    let is_free = |stem: &str| {
        let taken = |name: &str| names.binary_search_by(|other| other.as_str().cmp(name)).is_ok();
        SUFFIXES.iter().all(|suffix| !taken(&format!("{stem}{suffix}")) && !taken(&temporary_name(stem, suffix)))
    };
    let first = format!("{name}_{}", local_now.format("%d_%m_%Y"));
    let later = (0..60).map(|seconds| {
        let time = local_now.checked_add_signed(TimeDelta::seconds(seconds)).unwrap_or(local_now);
        format!("{name}_{}", time.format("%d_%m_%Y_%H%M%S"))
    });
    std::iter::once(first)
        .chain(later)
        .find(|stem| is_free(stem))
        .ok_or_else(|| StoreError::NoFreeName(volume.path.clone()))
}

pub(super) fn unlink(volume: &VolumeDirectory, name: &str) -> Result<(), StoreError> {
    match rustix::fs::unlinkat(&volume.directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(StoreError::errno("removing", &volume.path.join(name))(error)),
    }
}

/// Renames, and never replaces what has the new name.
fn rename_new(volume: &VolumeDirectory, from: &str, to: &str) -> Result<(), StoreError> {
    let directory = &volume.directory;
    let renamed = match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        // Not every filesystem knows the flag (NFS). A hard link never replaces anything either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            // A temporary name that stays is removed with the others.
            let linked = rustix::fs::linkat(directory, from, directory, to, AtFlags::empty());
            if linked.is_ok() {
                let _ = rustix::fs::unlinkat(directory, from, AtFlags::empty());
            }
            linked
        }
        renamed => renamed,
    };
    renamed.map_err(StoreError::errno("renaming to", &volume.path.join(to)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use chrono::NaiveDateTime;

    use super::{PendingBackup, SUFFIXES, ToPublish, remove_remains};
    use crate::store::StoreError;
    use crate::store::local::{Destination, VolumeDirectory};

    const PUBLISH: ToPublish<'_> =
        ToPublish { checksum: Some(b"sum"), manifest: b"{}", archive_bytes: 7, index_bytes: 5 };

    fn noon() -> NaiveDateTime {
        "2026-11-20T12:00:00".parse().unwrap()
    }

    fn volume(root: &Path) -> VolumeDirectory {
        Destination::open(root).unwrap().volume_directory("vol-1").unwrap()
    }

    fn pending(root: &Path) -> PendingBackup {
        let pending = PendingBackup::begin(volume(root), "vol-1", noon()).unwrap();
        pending.archive_writer(true).unwrap().write_all(b"archive").unwrap();
        pending.index_writer().unwrap().write_all(b"index").unwrap();
        pending
    }

    fn names(root: &Path) -> Vec<String> {
        volume(root).file_names().unwrap()
    }

    #[test]
    fn four_private_files_appear_and_a_second_backup_gets_the_time() {
        let dir = tempfile::tempdir().unwrap();
        pending(dir.path()).publish(&PUBLISH).unwrap();
        let path = pending(dir.path()).publish(&PUBLISH).unwrap();
        assert!(path.ends_with("vol-1/vol-1_20_11_2026_120000.tar.gz"), "{}", path.display());
        pending(dir.path()).publish(&PUBLISH).unwrap();
        assert_eq!(names(dir.path()).len(), 12);
        for name in names(dir.path()) {
            let mode = fs::metadata(dir.path().join("vol-1").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
    }

    #[test]
    fn a_checksum_can_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        pending(dir.path()).publish(&ToPublish { checksum: None, ..PUBLISH }).unwrap();
        let expected = ["vol-1_20_11_2026.index", "vol-1_20_11_2026.manifest.json", "vol-1_20_11_2026.tar.gz"];
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn a_backup_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(pending(dir.path()));
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_file_of_another_length_than_was_written_is_not_published() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = ToPublish { archive_bytes: 8, ..PUBLISH };
        assert!(matches!(pending(dir.path()).publish(&wrong), Err(StoreError::WrongLength { found_bytes: 7, .. })));
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn nothing_existing_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let pending = pending(dir.path());
        let foreign = dir.path().join("vol-1/vol-1_20_11_2026.tar.gz");
        fs::write(&foreign, "somebody else's").unwrap();
        pending.publish(&PUBLISH).unwrap_err();
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "somebody else's");
        assert_eq!(names(dir.path()), ["vol-1_20_11_2026.tar.gz"]);
    }

    #[test]
    fn the_remains_of_a_crash_at_every_step_are_removed_and_nothing_else() {
        for renamed in 0..SUFFIXES.len() {
            let dir = tempfile::tempdir().unwrap();
            let volume = volume(dir.path());
            let path = |name: &str| dir.path().join("vol-1").join(name);
            for foreign in ["vol-1_19_11_2026.tar.gz", "vol-1_19_11_2026.index", "vol-1_20_11_2026_1.tar.gz", "notes"] {
                fs::write(path(foreign), "").unwrap();
            }
            let before = volume.file_names().unwrap();
            for (number, suffix) in SUFFIXES.iter().enumerate() {
                let prefix = if number < renamed { "" } else { ".volbak-tmp." };
                fs::write(path(&format!("{prefix}vol-1_20_11_2026{suffix}")), "").unwrap();
            }
            assert_eq!(remove_remains(&volume).unwrap().len(), 4, "{renamed}");
            assert_eq!(volume.file_names().unwrap(), before);
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
        remove_remains(&volume).unwrap();
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_complete_backup_beside_a_temporary_manifest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        pending(dir.path()).publish(&PUBLISH).unwrap();
        fs::write(dir.path().join("vol-1/.volbak-tmp.vol-1_20_11_2026.manifest.json"), "").unwrap();
        assert_eq!(remove_remains(&volume(dir.path())).unwrap().len(), 1);
        assert_eq!(names(dir.path()).len(), 4);
    }
}
