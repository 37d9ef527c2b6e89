//! Objects that this host read or wrote, kept in its own directory: an object with the same ETag and length has the same
//! bytes. It is only a cache: without it, or with a torn file in it, the store is asked.

use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::outside::replaced::replace;

/// A longer object is not kept.
pub(super) const MOST_BYTES: u64 = 64 << 20;
/// Files beyond these limits are removed, those first that were used longest ago.
const MOST_IN_ALL: u64 = 1 << 30;
const MOST_UNUSED: Duration = Duration::from_secs(60 * 24 * 3600);
/// The time of use is noted only so often.
const NOTED_EVERY: Duration = Duration::from_secs(24 * 3600);
const DIGEST_BYTES: usize = 32;
const SUFFIX: &str = ".object";
const NAMES_SUFFIX: &str = ".names";

/// The cache for one bucket of one store.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// `None` if nothing is kept.
    directory: Option<PathBuf>,
    scope: String,
}

/// An object as a listing shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) key: &'a str,
    pub(super) etag: &'a str,
    pub(super) len: u64,
}

impl Cache {
    /// A cache in `directory`, which is made. Nothing is kept in one that belongs to somebody else or that others can
    /// change or read. `scope` names the store and the bucket.
    pub(super) fn new(directory: &Path, scope: String) -> Self {
        // Without it, each use costs a request.
        let _ = DirBuilder::new().mode(0o700).create(directory);
        Self::existing(directory, scope)
    }

    /// As [`Self::new`], without making the directory.
    pub(super) fn existing(directory: &Path, scope: String) -> Self {
        let is_own = directory.symlink_metadata().is_ok_and(|facts| {
            facts.is_dir() && facts.uid() == rustix::process::geteuid().as_raw() && facts.mode() & 0o7777 == 0o700
        });
        Self { directory: is_own.then(|| directory.to_owned()), scope }
    }

    fn file_of(&self, named: Named<'_>) -> Option<PathBuf> {
        // Without an ETag nothing says that an object is still the same.
        let directory = self.directory.as_ref().filter(|_| !named.etag.is_empty() && named.len <= MOST_BYTES)?;
        let hash = hash([&self.scope, named.key, named.etag, &named.len.to_string()]);
        Some(directory.join(format!("{hash}{SUFFIX}")))
    }

    /// The file for the names below a prefix; `None` if nothing is kept.
    pub(super) fn names_file(&self, prefix: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(format!("{}{NAMES_SUFFIX}", hash([&self.scope, prefix]))))
    }

    /// Whether a file of this object is there. It may be torn.
    pub(super) fn has(&self, named: Named<'_>) -> bool {
        let len = |path: PathBuf| path.symlink_metadata().ok().map(|facts| facts.len());
        self.file_of(named).and_then(len) == Some(named.len + DIGEST_BYTES as u64)
    }

    /// The bytes of this object, if they are here.
    pub(super) fn read(&self, named: Named<'_>) -> Option<Vec<u8>> {
        let path = self.file_of(named)?;
        let file = File::open(&path).ok()?;
        let mut bytes = Vec::new();
        (&file).take(named.len + DIGEST_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
        let at = bytes.len().checked_sub(DIGEST_BYTES).filter(|at| *at as u64 == named.len)?;
        let digest = bytes.split_off(at);
        if blake3::hash(&bytes).as_bytes() != digest.as_slice() {
            return None;
        }
        let is_old = file.metadata().and_then(|facts| facts.modified()).is_ok_and(|used| is_before(used, NOTED_EVERY));
        if is_old {
            // It is removed sooner, and read again.
            let _ = file.set_modified(SystemTime::now());
        }
        Some(bytes)
    }

    /// Keeps the bytes of an object. If there is no room, it is read again.
    pub(super) fn keep(&self, named: Named<'_>, bytes: &[u8]) {
        if let Some(path) = self.file_of(named).filter(|_| bytes.len() as u64 == named.len) {
            let kept = [bytes, blake3::hash(bytes).as_bytes()].concat();
            let _ = replace(&path, &kept, 0o600);
        }
    }

    /// Removes what was not used for long, and what is too much.
    pub(super) fn tidy(&self) {
        let Some(entries) = self.directory.as_ref().and_then(|directory| fs::read_dir(directory).ok()) else { return };
        let facts = |entry: fs::DirEntry| {
            let facts = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((facts.modified().ok()?, facts.len(), entry.path()))
        };
        let mut files: Vec<_> = entries.flatten().filter_map(facts).collect();
        files.sort_unstable_by(|one, other| other.cmp(one));
        let mut all = 0_u64;
        for (used, len, path) in files {
            all = all.saturating_add(len);
            if all > MOST_IN_ALL || is_before(used, MOST_UNUSED) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// A file name for these texts.
fn hash<const COUNT: usize>(texts: [&str; COUNT]) -> blake3::Hash {
    let mut hash = blake3::Hasher::new();
    for text in texts {
        hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hash.finalize()
}

fn is_before(time: SystemTime, by: Duration) -> bool {
    SystemTime::now().duration_since(time).is_ok_and(|age| age > by)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    use super::{Cache, Named};

    const ONE: Named<'_> = Named { key: "h/a", etag: "e", len: 3 };

    #[test]
    fn only_the_same_object_is_found_and_only_whole() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("cache");
        let cache = Cache::new(&at, "store".to_owned());
        cache.keep(ONE, b"abc");
        assert_eq!(fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o700);
        let file = fs::read_dir(&at).unwrap().next().unwrap().unwrap().path();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!((cache.has(ONE), cache.read(ONE)), (true, Some(b"abc".to_vec())));
        for other in [Named { key: "h/b", ..ONE }, Named { etag: "f", ..ONE }, Named { len: 4, ..ONE }] {
            assert_eq!((cache.has(other), cache.read(other)), (false, None), "{other:?}");
        }
        assert_eq!(Cache::new(&at, "another".to_owned()).read(ONE), None);
        // Bytes of another length are not those of the object.
        cache.keep(Named { len: 2, ..ONE }, b"abc");
        assert_eq!(cache.read(Named { len: 2, ..ONE }), None);
        cache.keep(Named { etag: "", ..ONE }, b"abc");
        assert_eq!(cache.read(Named { etag: "", ..ONE }), None);
        let mut torn = fs::read(&file).unwrap();
        torn[1] ^= 1;
        fs::write(&file, torn).unwrap();
        assert_eq!(cache.read(ONE), None);
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(SystemTime::now() - Duration::from_secs(100 * 24 * 3600))
            .unwrap();
        cache.tidy();
        assert!(!file.exists());
    }

    #[test]
    fn a_directory_of_others_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let cache = Cache::new(dir.path(), "store".to_owned());
        cache.keep(ONE, b"abc");
        assert_eq!((cache.read(ONE), fs::read_dir(dir.path()).unwrap().count()), (None, 0));
    }
}
