//! Temporary directories of verbs that unpack a backup: `.volbak-tmp.STEM.USE.PROCESS`. The next run on the same host in the
//! same place removes what a killed run left.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::collect::tell;
use crate::events::{Observer, Severity};
use crate::outside::file_lock::FileLock;
use crate::owner::Owner;
use crate::shown;
use crate::store::local::TEMPORARY_PREFIX;

/// A file in the directory with its [`Owner`], locked while the owner lives. Not every filesystem that hosts share has locks
/// that all of them see: only the owner's host removes the directory.
const LOCK: &str = "lock";
/// Far more than an owner takes.
const MAX_OWNER_BYTES: u64 = 4096;
/// A directory without an owner is left alone for this long: it may have been made just now.
const UNOWNED_FOR: Duration = Duration::from_secs(3600);

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
                remove_unless_in_use(&path, observer);
                DirBuilder::new().mode(0o700).create(&path)?;
            }
            made => made?,
        }
        let lock = lock_options().create_new(true).open(path.join(LOCK));
        let mut lock = lock.inspect_err(|_| drop(fs::remove_dir(&path)))?;
        // Where the filesystem has no locks, nothing is removed later either.
        let taken = FileLock::try_take(lock.try_clone()?).ok().flatten();
        let directory = Self { path, _lock: taken };
        lock.write_all(Owner::this_process()?.to_string().as_bytes())?;
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
        let path = entry.path();
        if path == own || !entry.file_name().to_str().is_some_and(is_known) {
            continue;
        }
        // In a directory like /tmp, other users can make such names.
        if fs::symlink_metadata(&path).is_ok_and(|facts| facts.uid() == made.uid()) {
            remove_unless_in_use(&path, observer);
        }
    }
}

/// Removes a directory that a run on this host left: nothing holds its lock.
fn remove_unless_in_use(path: &Path, observer: &dyn Observer) {
    let Ok(facts) = fs::symlink_metadata(path) else { return };
    if !facts.is_dir() {
        return;
    }
    let shown = shown::path(path.as_os_str().as_encoded_bytes());
    let _lock = match lock_options().open(path.join(LOCK)) {
        Ok(file) => {
            let owner = owner_of(&file);
            let Ok(Some(lock)) = FileLock::try_take(file) else { return };
            match owner {
                None if !is_old(&facts) => return,
                Some(owner) if !sees_locks_of(&owner) => {
                    let what = format!("is of a run on {}: remove it if nothing runs there", owner.host());
                    return tell(observer, Severity::Notice, shown, what);
                }
                _ => Some(lock),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_old(&facts) => None,
        Err(_) => return,
    };
    match remove(path) {
        Ok(()) => tell(observer, Severity::Notice, shown, "was left by a run that was cut off; removed"),
        Err(error) => tell(observer, Severity::Warning, shown, format!("was left by a run that was cut off: {error}")),
    }
}

/// The owner in a lock file; `None` when its run was cut off before it wrote one.
fn owner_of(lock: &File) -> Option<Owner> {
    let mut text = String::new();
    lock.take(MAX_OWNER_BYTES).read_to_string(&mut text).ok()?;
    text.parse().ok()
}

/// Whether a lock that is free shows that its owner has ended: it ran on this kernel, in whatever container, or on this host
/// before a restart.
fn sees_locks_of(owner: &Owner) -> bool {
    Owner::this_process().is_ok_and(|me| owner.is_of_the_same_boot(&me) || owner.host() == me.host())
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
    facts.modified().is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > UNOWNED_FOR))
}

/// Whether a name is one of this module's.
fn is_known(name: &str) -> bool {
    let mut parts = name.strip_prefix(TEMPORARY_PREFIX).unwrap_or_default().rsplitn(3, '.');
    let is_process = parts.next().is_some_and(|process| process.parse::<u32>().is_ok());
    let is_use = parts.next().is_some_and(|word| Use::ALL.iter().any(|of| of.word() == word));
    is_process && is_use && parts.next().is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{LOCK, TemporaryDirectory, Use, is_known, lock_options};
    use crate::events::Silent;
    use crate::outside::file_lock::FileLock;
    use crate::owner::Owner;

    #[test]
    fn only_names_of_this_module_are_known() {
        for name in [".volbak-tmp.vol-1_20_11_2026.files.77", ".volbak-tmp.a.b.rebuilt.7"] {
            assert!(is_known(name), "{name}");
        }
        for other in ["vol.files.7", ".volbak-tmp.vol.7", ".volbak-tmp.vol.files.x", ".volbak-tmp.files.7", ".files.7"]
        {
            assert!(!is_known(other), "{other}");
        }
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let me = Owner::this_process().unwrap().to_string();
        let parts: Vec<&str> = me.split(':').collect();
        let of = |stem: &str| scratch.path().join(format!(".volbak-tmp.{stem}.files.5"));
        let make = |stem: &str, owner: Option<String>| {
            fs::create_dir_all(of(stem).join("deep")).unwrap();
            fs::write(of(stem).join("deep/file"), "x").unwrap();
            if let Some(owner) = owner {
                fs::write(of(stem).join(LOCK), owner).unwrap();
            }
            of(stem)
        };
        let left = [
            make("left", Some(me.clone())),
            make("container", Some(format!("c0ffee:{}:1:5:1", parts[1]))),
            make("rebooted", Some(format!("{}:earlier:1:5:1", parts[0]))),
        ];
        let (fresh, unowned) = (make("fresh", None), make("unowned", Some(String::new())));
        let host = make("host", Some("another:its-boot:1:5:1".to_owned()));
        let held = make("held", Some(me));
        let lock = FileLock::try_take(lock_options().open(held.join(LOCK)).unwrap()).unwrap().unwrap();
        let kept = scratch.path().join("kept");
        fs::create_dir(&kept).unwrap();
        symlink(&kept, of("link")).unwrap();
        fs::write(kept.join(LOCK), "").unwrap();
        fs::write(of("file"), "a file").unwrap();

        let own = TemporaryDirectory::new(scratch.path(), "own", Use::Files, &Silent).unwrap();
        assert!(TemporaryDirectory::new(scratch.path(), "own", Use::Files, &Silent).is_err(), "it is in use");
        for gone in &left {
            assert!(!gone.exists(), "{}", gone.display());
        }
        for stays in [&fresh, &unowned, &host, &held, &kept.join(LOCK), &of("file")] {
            assert!(stays.exists(), "{}", stays.display());
        }
        drop(lock);
        let path = own.path().to_owned();
        drop(own);
        assert!(!path.exists() && held.exists());
        // The number of this process, used before.
        fs::create_dir_all(path.join("deep")).unwrap();
        fs::write(path.join(LOCK), Owner::this_process().unwrap().to_string()).unwrap();
        let own = TemporaryDirectory::new(scratch.path(), "own", Use::Files, &Silent).unwrap();
        assert!(!own.path().join("deep").exists() && !held.exists());
    }
}
