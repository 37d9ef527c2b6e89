//! Temporary directories of verbs that unpack a backup: `.volbak-tmp.STEM.USE.PROCESS`. The next run in the same place
//! removes what a killed run left.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::collect::tell;
use crate::events::{Observer, Severity};
use crate::outside::file_lock::FileLock;
use crate::shown;
use crate::store::local::TEMPORARY_PREFIX;

/// A file in the directory, locked while its process lives. Other hosts that share the place see this lock, too; they do
/// not see the process.
const LOCK: &str = "lock";
/// A directory without a lock file is left alone for this long: it may have been made just now.
const UNLOCKED_FOR: Duration = Duration::from_secs(3600);

/// What a temporary directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The wanted files of an image backup.
    Files,
    /// A volume that is restored for a test.
    Test,
    /// The disk of a backup that is exported.
    Rebuilt,
    /// The disk of a backup that is started.
    Boot,
}

impl Use {
    const ALL: [Self; 4] = [Self::Files, Self::Test, Self::Rebuilt, Self::Boot];

    fn word(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Test => "test",
            Self::Rebuilt => "rebuilt",
            Self::Boot => "boot",
        }
    }
}

/// A directory that only its owner can enter. Dropping it removes it with its contents.
#[derive(Debug)]
pub(super) struct TemporaryDirectory {
    path: PathBuf,
    /// Released after the removal.
    _lock: Option<FileLock>,
}

impl TemporaryDirectory {
    /// Makes a directory in `scratch`, and removes those that killed runs left there.
    pub(super) fn new(scratch: &Path, stem: &str, of: Use, observer: &dyn Observer) -> io::Result<Self> {
        let path = scratch.join(format!("{TEMPORARY_PREFIX}{stem}.{}.{}", of.word(), std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            // In a container, each run may have the same number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove_unless_locked(&path, observer);
                DirBuilder::new().mode(0o700).create(&path)?;
            }
            made => made?,
        }
        let lock = lock_options().create_new(true).open(path.join(LOCK));
        let lock = lock.inspect_err(|_| drop(fs::remove_dir(&path)))?;
        // Where the filesystem has no locks, nothing is removed later either.
        let directory = Self { path, _lock: FileLock::try_take(lock).ok().flatten() };
        remove_left(scratch, &directory.path, observer);
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // If this fails, the next run removes it.
        let _ = remove(&self.path);
    }
}

/// An exclusive flock(2) on NFS needs a file that is open for writing.
fn lock_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[expect(clippy::cast_possible_wrap, reason = "flags of open(2)")]
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    options.read(true).write(true).mode(0o600).custom_flags(flags);
    options
}

/// Removes directories of runs that ended without removing them. `own` was made by this run.
fn remove_left(scratch: &Path, own: &Path, observer: &dyn Observer) {
    let (Ok(entries), Ok(made)) = (fs::read_dir(scratch), fs::symlink_metadata(own)) else { return };
    for entry in entries.filter_map(Result::ok) {
        let Some(process) = entry.file_name().to_str().and_then(process_of) else { continue };
        if Path::new("/proc").join(process.to_string()).exists() {
            continue;
        }
        let path = entry.path();
        // In a directory like /tmp, other users can make such names.
        if fs::symlink_metadata(&path).is_ok_and(|facts| facts.uid() == made.uid()) {
            remove_unless_locked(&path, observer);
        }
    }
}

/// Removes a directory whose process is gone: nothing holds its lock.
fn remove_unless_locked(path: &Path, observer: &dyn Observer) {
    let Ok(facts) = fs::symlink_metadata(path) else { return };
    if !facts.is_dir() {
        return;
    }
    let _lock = match lock_options().open(path.join(LOCK)).map(FileLock::try_take) {
        Ok(Ok(Some(lock))) => Some(lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_old(&facts) => None,
        _ => return,
    };
    let shown = shown::path(path.as_os_str().as_encoded_bytes());
    match remove(path) {
        Ok(()) => tell(observer, Severity::Notice, shown, "was left by a run that was cut off; removed"),
        Err(error) => tell(observer, Severity::Warning, shown, format!("was left by a run that was cut off: {error}")),
    }
}

/// Removes a directory, its lock file last: a removal that is cut off is completed by the next run.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    fs::remove_dir_all(path)
}

fn is_old(facts: &fs::Metadata) -> bool {
    facts.modified().is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > UNLOCKED_FOR))
}

/// The process in a name of this module's; `None` for other names.
fn process_of(name: &str) -> Option<u32> {
    let (rest, process) = name.strip_prefix(TEMPORARY_PREFIX)?.rsplit_once('.')?;
    let (_, word) = rest.rsplit_once('.')?;
    Use::ALL.iter().any(|of| of.word() == word).then(|| process.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{LOCK, TemporaryDirectory, Use, lock_options, process_of};
    use crate::events::Silent;
    use crate::outside::file_lock::FileLock;

    /// Larger than the largest process number of Linux (2^22).
    const NO_PROCESS: u32 = 5_000_000;

    #[test]
    fn only_names_of_this_module_are_known() {
        assert_eq!(process_of(".volbak-tmp.vol-1_20_11_2026.files.77"), Some(77));
        assert_eq!(process_of(".volbak-tmp.a.b.rebuilt.7"), Some(7));
        for other in ["vol.files.7", ".volbak-tmp.vol.7", ".volbak-tmp.vol.files.x", ".volbak-tmp.files.7", ".files.7"]
        {
            assert_eq!(process_of(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let of = |stem: &str, process: u32| scratch.path().join(format!(".volbak-tmp.{stem}.files.{process}"));
        let make = |stem: &str, process: u32, lock: bool| {
            fs::create_dir_all(of(stem, process).join("deep")).unwrap();
            fs::write(of(stem, process).join("deep/file"), "x").unwrap();
            if lock {
                fs::write(of(stem, process).join(LOCK), "").unwrap();
            }
            of(stem, process)
        };
        let left = make("left", NO_PROCESS, true);
        let (fresh, living) = (make("fresh", NO_PROCESS, false), make("living", std::process::id(), true));
        let elsewhere = make("elsewhere", NO_PROCESS, true);
        let held = FileLock::try_take(lock_options().open(elsewhere.join(LOCK)).unwrap()).unwrap().unwrap();
        let kept = scratch.path().join("kept");
        fs::create_dir(&kept).unwrap();
        symlink(&kept, of("link", NO_PROCESS)).unwrap();
        fs::write(kept.join(LOCK), "").unwrap();
        fs::write(of("file", NO_PROCESS), "a file").unwrap();

        let same = make("own", std::process::id(), true);
        let own = TemporaryDirectory::new(scratch.path(), "own", Use::Files, &Silent).unwrap();
        assert!(same == own.path() && !same.join("deep").exists(), "the number of this process, used before");
        assert!(TemporaryDirectory::new(scratch.path(), "own", Use::Files, &Silent).is_err(), "it is in use");
        assert!(!left.exists());
        for stays in [&fresh, &living, &elsewhere, &kept.join(LOCK), &of("file", NO_PROCESS)] {
            assert!(stays.exists(), "{}", stays.display());
        }
        drop(held);
        let path = own.path().to_owned();
        drop(own);
        assert!(!path.exists() && elsewhere.exists());
        drop(TemporaryDirectory::new(scratch.path(), "own", Use::Test, &Silent).unwrap());
        assert!(!elsewhere.exists());
    }
}
