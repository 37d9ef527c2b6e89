//! A destination: the store's root, a folder per volume, and volbak's own folder.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::api::{Folder, Lock, RunLock, Store};
use super::error::StoreError;
use super::local::LocalStore;
use super::options::StoreOptions;
use super::presence::{Space, is_on_mount};
use super::shared::{ArchiveLayout, SharedFolder};
use crate::units::ByteLen;

/// The folder for files that belong to no single volume.
pub const OWN_DIRECTORY: &str = ".volbak";
const LOCK_FILE: &str = "lock";

/// An existing destination.
#[derive(Clone, Debug)]
pub struct Destination {
    root: Folder,
}

impl Destination {
    /// Opens the directory `root`, which must exist.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        if is_in_object_store(root) {
            return Err(StoreError::InObjectStore(root.to_owned()));
        }
        Ok(Self::over(Arc::new(LocalStore::open(root)?)))
    }

    /// The same. If it must be mounted, the empty directory below a missing mount is an error: it would look like a
    /// destination without backups.
    pub fn open_mounted(root: &Path, must_be_mounted: bool) -> Result<Self, StoreError> {
        let destination = Self::open(root)?;
        if must_be_mounted && !is_on_mount(root)? {
            return Err(StoreError::NotMounted(root.to_owned()));
        }
        Ok(destination)
    }

    /// Opens a directory, or the prefix of an object store as `options` say. Nothing is sent to a store yet.
    pub fn reach(root: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        if !is_in_object_store(root) {
            return Self::open(root);
        }
        #[cfg(feature = "s3")]
        {
            let settings = |source| StoreError::Settings { destination: root.to_owned(), source };
            let address = root.to_str().ok_or_else(|| settings("its address is not UTF-8".into()))?;
            let client = super::object::client(address, options).map_err(|error| settings(error.into()))?;
            let store =
                super::object::ObjectStore::new(client).keeping_in(&options.cache_directory).locking(options.lock);
            Ok(Self::over(Arc::new(store)))
        }
        #[cfg(not(feature = "s3"))]
        {
            let _ = options;
            Err(StoreError::NoClient(root.to_owned()))
        }
    }

    /// As [`Self::reach`]; a directory that must be mounted is, as in [`Self::open_mounted`].
    pub fn reach_mounted(root: &Path, options: &StoreOptions, must_be_mounted: bool) -> Result<Self, StoreError> {
        if is_in_object_store(root) { Self::reach(root, options) } else { Self::open_mounted(root, must_be_mounted) }
    }

    /// Whether its files are on this host: paths of it lead to files.
    pub fn is_local(&self) -> bool {
        self.root.is_local()
    }

    /// The destination in this store.
    pub fn over(root: Folder) -> Self {
        Self { root }
    }

    /// The same destination as it is now, for reading many small files: lengths and names come from one listing, and what
    /// is known of a file is not read again. `names` are the volumes that are read; all if there are several.
    pub fn surveyed(&self, names: &[String]) -> Result<Self, StoreError> {
        Ok(self.root.survey(names)?.map_or_else(|| self.clone(), Self::over))
    }

    /// Its store.
    pub fn store(&self) -> &dyn Store {
        &*self.root
    }

    /// Its store.
    pub(crate) fn into_store(self) -> Folder {
        self.root
    }

    /// Its path as given.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The space that an ordinary user may still fill.
    pub fn free_space(&self) -> Result<ByteLen, StoreError> {
        Ok(ByteLen(self.root.space()?.map_or(u64::MAX, |space| space.available_bytes)))
    }

    /// Used and available space; `None` if the store has no known limit.
    pub fn space(&self) -> Result<Option<Space>, StoreError> {
        self.root.space()
    }

    /// Whether its path still leads to the opened directory: it was not unmounted, and nothing was mounted over it.
    pub fn is_still_there(&self) -> Result<bool, StoreError> {
        self.root.is_still_there()
    }

    /// Takes the lock. The error names the holder.
    pub fn lock(&self, now: DateTime<Utc>) -> Result<RunLock, StoreError> {
        let holder = format!(
            "process {} on {} since {}\n",
            std::process::id(),
            rustix::system::uname().nodename().to_string_lossy(),
            now.format("%Y-%m-%d %H:%M:%S UTC")
        );
        match self.volume_directory(OWN_DIRECTORY)?.lock(LOCK_FILE, &holder)? {
            Lock::Taken(lock) => Ok(lock),
            Lock::Held { by } => {
                let holder = if by.is_empty() { "it has not identified itself".to_owned() } else { by };
                Err(StoreError::Locked { destination: self.root().to_owned(), holder })
            }
        }
    }

    /// The folder of the volume `name`, created if missing. The name must be a single path component.
    pub fn volume_directory(&self, name: &str) -> Result<Folder, StoreError> {
        Ok(with_composed(made(&*self.root, name)?, false))
    }

    /// The same, for a new backup in this layout.
    pub fn volume_directory_for(&self, name: &str, layout: ArchiveLayout) -> Result<Folder, StoreError> {
        Ok(with_composed(made(&*self.root, name)?, layout == ArchiveLayout::Shared))
    }

    /// The folder of the volume `name`, if it exists.
    pub fn existing_volume_directory(&self, name: &str) -> Result<Option<Folder>, StoreError> {
        Ok(self.root.folder(name, false)?.map(|folder| with_composed(folder, false)))
    }

    /// The names of its folders, sorted, without `.volbak` and other hidden ones.
    pub fn volume_names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = self.root.list()?.folders;
        names.retain(|name| !name.starts_with('.'));
        Ok(names)
    }

    /// What the folder of the volume `name` uses; 0 if that cannot be found out.
    pub(crate) fn used_by_volume(&self, name: &str) -> u64 {
        let used =
            self.existing_volume_directory(name).and_then(|folder| folder.map_or(Ok(0), |folder| folder.used_bytes()));
        used.unwrap_or(0)
    }

    /// The folder `.volbak/NAME`, created if missing.
    pub fn own_directory(&self, name: &str) -> Result<Folder, StoreError> {
        made(&*self.volume_directory(OWN_DIRECTORY)?, name)
    }

    /// The folder `.volbak/NAME`, if it exists.
    pub fn existing_own_directory(&self, name: &str) -> Result<Option<Folder>, StoreError> {
        match self.existing_volume_directory(OWN_DIRECTORY)? {
            Some(own) => own.folder(name, false),
            None => Ok(None),
        }
    }
}

/// Whether a destination of this name is in an object store.
pub fn is_in_object_store(root: &Path) -> bool {
    let name = root.as_os_str().as_encoded_bytes();
    name.starts_with(b"s3://") || name.starts_with(b"swift://")
}

/// Files with the credentials for the destination `root` that every user of this host can read, a sentence each.
pub(crate) fn readable_credentials(root: &Path, options: &StoreOptions) -> Vec<String> {
    #[cfg(feature = "s3")]
    if let Some(address) = root.to_str().filter(|_| is_in_object_store(root)) {
        return super::object::readable_credentials(address, options);
    }
    let _ = (root, options);
    Vec::new()
}

/// The folder of a volume, in which archives may be composed.
fn with_composed(folder: Folder, composes: bool) -> Folder {
    SharedFolder::over(folder, composes)
}

fn made(parent: &dyn Store, name: &str) -> Result<Folder, StoreError> {
    let missing = || StoreError::Missing(parent.path().join(name));
    parent.folder(name, true)?.ok_or_else(missing)
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
    fn a_second_lock_fails_and_names_the_holder() {
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
