//! A destination that is a local directory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::StoreError;
use crate::shown;
use crate::units::ByteLen;

/// The directory of what belongs to no single volume.
pub const OWN_DIRECTORY: &str = ".volbak";
const LOCK_FILE: &str = "lock";
const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const HOLDER_MAX_BYTES: u64 = 512;
const HOLDER_WRITES_WITHIN: Duration = Duration::from_millis(200);

/// A destination that is there.
#[derive(Debug)]
pub struct Destination {
    root: PathBuf,
    directory: OwnedFd,
}

/// A volume's directory in a destination.
#[derive(Debug)]
pub struct VolumeDirectory {
    pub(super) path: PathBuf,
    pub(super) directory: OwnedFd,
}

/// The right to change a destination. The kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl Destination {
    /// Opens the directory `root`, which must be there: making it could fill the disk that it was to be mounted on.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        // The destination itself may be a symbolic link; what is in it may not.
        let flags = DIRECTORY_FLAGS.difference(OFlags::NOFOLLOW);
        match rustix::fs::open(root, flags, Mode::empty()) {
            Ok(directory) => Ok(Self { root: root.to_owned(), directory }),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(StoreError::Missing(root.to_owned())),
            Err(error) => Err(StoreError::errno("opening", root)(error)),
        }
    }

    /// The same destination once more.
    pub fn try_clone(&self) -> Result<Self, StoreError> {
        let directory = self.directory.try_clone().map_err(StoreError::io("opening", &self.root))?;
        Ok(Self { root: self.root.clone(), directory })
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.directory
    }

    /// Its path, as it was given.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What a user of it may still write.
    pub fn free_space(&self) -> Result<ByteLen, StoreError> {
        let facts = rustix::fs::fstatvfs(&self.directory).map_err(StoreError::errno("asking", &self.root))?;
        Ok(ByteLen(facts.f_bavail.saturating_mul(facts.f_frsize)))
    }

    /// Takes the lock, or says who holds it.
    pub fn lock(&self, now: DateTime<Utc>) -> Result<RunLock, StoreError> {
        let own = self.subdirectory(OWN_DIRECTORY)?;
        let path = own.path.join(LOCK_FILE);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut file = rustix::fs::openat(&own.directory, LOCK_FILE, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(StoreError::errno("opening", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                // A holder that has the lock since just now has yet to write down who it is.
                std::thread::sleep(HOLDER_WRITES_WITHIN);
                let mut holder = Vec::new();
                // Whatever cannot be read of it only makes the message poorer.
                let _ = file.take(HOLDER_MAX_BYTES).read_to_end(&mut holder);
                let mut holder = shown::bytes(holder.trim_ascii());
                if holder.is_empty() {
                    "it does not say who it is".clone_into(&mut holder);
                }
                return Err(StoreError::Locked { destination: self.root.clone(), holder });
            }
            Err(error) => return Err(StoreError::errno("locking", &path)(error)),
        }
        let holder = format!(
            "process {} on {} since {}\n",
            std::process::id(),
            rustix::system::uname().nodename().to_string_lossy(),
            now.format("%Y-%m-%d %H:%M:%S UTC")
        );
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(holder.as_bytes()))
            .map_err(StoreError::io("writing", &path))?;
        Ok(RunLock { _file: file })
    }

    /// The directory of the volume `name`, made when it is not there yet. The name must be a single path component.
    pub fn volume_directory(&self, name: &str) -> Result<VolumeDirectory, StoreError> {
        let volume = self.subdirectory(name)?;
        match self.true_name(name, &volume)? {
            None => Ok(volume),
            Some(is) => Err(StoreError::SameName { path: volume.path, is }),
        }
    }

    /// The name that the directory of a volume has, where that is another one than it was found by: on a filesystem that
    /// does not tell capital and small letters apart, or two spellings of Unicode.
    fn true_name(&self, name: &str, volume: &VolumeDirectory) -> Result<Option<String>, StoreError> {
        let swapped: String = name
            .chars()
            .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        let look = |name: &str| rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        // All volumes are listed only where that may be: a destination has thousands of them.
        let is_plain = name.is_ascii() && !name.ends_with(['.', ' ']);
        if is_plain && (swapped == name || look(&swapped).is_err()) {
            return Ok(None);
        }
        if self.volume_names()?.iter().any(|there| there == name) {
            return Ok(None);
        }
        let same = |facts: &rustix::fs::Stat, other: &rustix::fs::Stat| {
            (facts.st_dev, facts.st_ino) == (other.st_dev, other.st_ino)
        };
        let own = rustix::fs::fstat(&volume.directory).map_err(StoreError::errno("asking", &volume.path))?;
        let is_it = |there: &String| look(there).is_ok_and(|facts| same(&facts, &own));
        Ok(self.volume_names()?.into_iter().find(is_it))
    }

    /// The directory of the volume `name`, if it is there.
    pub fn existing_volume_directory(&self, name: &str) -> Result<Option<VolumeDirectory>, StoreError> {
        existing_below(&self.directory, &self.root, name)
    }

    /// The names of the directories in it, sorted, `.volbak` and other hidden ones left out.
    pub fn volume_names(&self) -> Result<Vec<String>, StoreError> {
        let failed = || StoreError::io("listing", &self.root);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let is_directory = entry.file_type().map_err(failed())?.is_dir();
            if let (true, Ok(name)) = (is_directory, entry.file_name().into_string())
                && !name.starts_with('.')
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn subdirectory(&self, name: &str) -> Result<VolumeDirectory, StoreError> {
        made_below(&self.directory, &self.root, name)
    }
}

fn existing_below(parent: &OwnedFd, parent_path: &Path, name: &str) -> Result<Option<VolumeDirectory>, StoreError> {
    let path = parent_path.join(name);
    match rustix::fs::openat(parent, name, DIRECTORY_FLAGS, Mode::empty()) {
        Ok(directory) => Ok(Some(VolumeDirectory { path, directory })),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(StoreError::errno("opening", &path)(error)),
    }
}

fn made_below(parent: &OwnedFd, parent_path: &Path, name: &str) -> Result<VolumeDirectory, StoreError> {
    let path = parent_path.join(name);
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => sync_directory(parent, parent_path)?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(StoreError::errno("making", &path)(error)),
    }
    let directory = rustix::fs::openat(parent, name, DIRECTORY_FLAGS, Mode::empty())
        .map_err(StoreError::errno("opening", &path))?;
    Ok(VolumeDirectory { path, directory })
}

impl VolumeDirectory {
    pub(super) fn subdirectory(&self, name: &str) -> Result<Self, StoreError> {
        made_below(&self.directory, &self.path, name)
    }

    pub(super) fn existing_subdirectory(&self, name: &str) -> Result<Option<Self>, StoreError> {
        existing_below(&self.directory, &self.path, name)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the files in it, sorted. Names that are not UTF-8 are nobody's backup and left out.
    pub fn file_names(&self) -> Result<Vec<String>, StoreError> {
        let failed = || StoreError::errno("listing", &self.path);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens the regular file `name` for reading. What lies in a destination may be anything: a link, a fifo or a
    /// device in its place is an error, and nothing waits for it.
    pub fn open_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::empty())
            .map(File::from)
            .map_err(StoreError::errno("opening", &path))?;
        let is_file = file.metadata().map_err(StoreError::io("asking", &path))?.is_file();
        if is_file { Ok(file) } else { Err(StoreError::errno("reading", &path)(Errno::INVAL)) }
    }
}

/// Makes sure that the names in a directory outlive a power cut.
pub(super) fn sync_directory(directory: &OwnedFd, path: &Path) -> Result<(), StoreError> {
    match rustix::fs::fsync(directory) {
        // Some network filesystems know no such thing for directories.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(StoreError::errno("syncing", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use chrono::DateTime;

    use super::{Destination, OWN_DIRECTORY};
    use crate::store::StoreError;

    #[test]
    fn a_destination_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Destination::open(&dir.path().join("x")), Err(StoreError::Missing(_))));
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(Destination::open(&dir.path().join("file")), Err(StoreError::Missing(_))));
    }

    #[test]
    fn the_second_to_ask_for_the_lock_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let destination = Destination::open(dir.path()).unwrap();
        let lock = destination.lock(DateTime::UNIX_EPOCH).unwrap();
        let Err(StoreError::Locked { holder, .. }) = destination.lock(DateTime::UNIX_EPOCH) else {
            panic!("locked twice")
        };
        assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
        drop(lock);
        destination.lock(DateTime::UNIX_EPOCH).unwrap();
        let mode = std::fs::metadata(dir.path().join(OWN_DIRECTORY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
    }

    #[test]
    fn a_link_in_a_volumes_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("vol-1")).unwrap();
        let destination = Destination::open(dir.path()).unwrap();
        assert!(destination.volume_directory("vol-1").is_err());
        assert!(destination.existing_volume_directory("vol-1").unwrap().is_none());
    }
}
