//! btrfs's subvolumes on a restored disk. They are created before the files, so that `subvol=` and `subvolid=` in
//! fstab or on a kernel command line lead to them.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::archive::index::unescape_path;
use crate::manifest::BtrfsRecord;
use crate::reader::kernel::subvolumes::{
    ROOT_INODE, create, destroy, make_default, make_read_only, open_below, subvolume_at,
};
use crate::shown;

/// The maximum number in a backup.
const SUBVOLUMES_MAX: usize = 4096;
const PATH_BYTES_MAX: usize = 4096;
/// Ids are assigned in ascending order. Gaps are filled by subvolumes that are created and deleted, at most this
/// many.
const FILLERS_MAX: u64 = 1024;
const DIRECTORY_MODE: Mode = Mode::RWXU;

/// Why the subvolumes in a manifest cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SubvolumesError {
    /// There are more than the maximum in a backup.
    #[error("the manifest names more than {SUBVOLUMES_MAX}")]
    TooMany,
    /// One of them is invalid.
    #[error("{} in the manifest {why}", shown::text(path))]
    Bad {
        /// Its path, escaped as in the manifest.
        path: String,
        /// The reason.
        why: &'static str,
    },
}

/// The subvolumes of a filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subvolumes {
    /// By ascending id.
    list: Vec<Planned>,
    default: Option<u64>,
    keeps_ids: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Planned {
    path: Vec<u8>,
    id: u64,
    read_only: bool,
}

impl Subvolumes {
    /// Validates the manifest's record. The error gives the reason.
    pub(super) fn new(record: &BtrfsRecord) -> Result<Self, SubvolumesError> {
        if record.subvolumes.len() > SUBVOLUMES_MAX {
            return Err(SubvolumesError::TooMany);
        }
        let (mut list, mut paths, mut ids) = (Vec::new(), HashSet::new(), HashSet::new());
        for one in &record.subvolumes {
            let bad = |why| SubvolumesError::Bad { path: one.path.clone(), why };
            let path = unescape_path(&one.path).ok_or_else(|| bad("has an unknown form"))?;
            let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0) && name.len() <= 255;
            if path.len() > PATH_BYTES_MAX || !path.split(|byte| *byte == b'/').all(is_name) {
                return Err(bad("is no path"));
            }
            if !paths.insert(path.clone()) || !ids.insert(one.id) || one.id < ROOT_INODE {
                return Err(bad("contradicts another one"));
            }
            list.push(Planned { path, id: one.id, read_only: one.read_only });
        }
        list.sort_by_key(|one| one.id);
        let last = list.last().map_or(ROOT_INODE, |one| one.id);
        let keeps_ids = last - ROOT_INODE < FILLERS_MAX.saturating_add(list.len() as u64);
        Ok(Self { list, default: record.default_subvolume, keeps_ids })
    }

    /// The number of subvolumes.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether they can keep their ids.
    pub(super) fn keeps_ids(&self) -> bool {
        self.keeps_ids
    }

    /// Creates them, empty, in a new filesystem. After an error the remains are removed.
    pub(super) fn create(&self, root: &OwnedFd) -> io::Result<()> {
        let names: Vec<Vec<u8>> =
            (0..self.list.len()).map(|number| format!(".volbak-tmp.subvolume-{number}").into_bytes()).collect();
        let made = self.create_all(root, &names);
        if made.is_err() {
            for name in &names {
                // Most do not exist.
                let _ = destroy(root, name);
            }
        }
        made
    }

    fn create_all(&self, root: &OwnedFd, names: &[Vec<u8>]) -> io::Result<()> {
        let mut fillers = if self.keeps_ids { FILLERS_MAX } else { 0 };
        for (one, name) in self.list.iter().zip(names) {
            create(root, name)?;
            while fillers > 0 && subvolume_at(root, name)?.id < one.id {
                fillers -= 1;
                destroy(root, name)?;
                create(root, name)?;
            }
        }
        // Nested subvolumes, whose ids may be lower, are moved after those that contain them.
        let mut placed: Vec<(&Planned, &Vec<u8>)> = self.list.iter().zip(names).collect();
        placed.sort_by_key(|(one, _)| one.path.split(|byte| *byte == b'/').count());
        for (one, name) in placed {
            let (parent, last) = split(&one.path);
            let parent = directories(root, parent)?;
            rustix::fs::renameat(root, name.as_slice(), &parent, last)?;
        }
        Ok(())
    }

    /// Sets properties that would have prevented the restore of files: the read-only flag, and the default
    /// subvolume. Returns differences, one line each.
    pub(super) fn finish(&self, root: &OwnedFd) -> Vec<String> {
        let mut differs = Vec::new();
        for one in self.list.iter().rev().filter(|one| one.read_only) {
            if let Err(error) = make_read_only(root, &one.path) {
                differs.push(format!("its subvolume {} is not read-only: {error}", shown::path(&one.path)));
            }
        }
        if let Some(wanted) = self.default {
            let made = match self.list.iter().find(|one| one.id == wanted) {
                None => Err(io::Error::other("it is not in the backup")),
                Some(one) => subvolume_at(root, &one.path).and_then(|new| make_default(root, new.id)),
            };
            if let Err(error) = made {
                differs.push(format!("its default subvolume, {wanted}, is not the default any more: {error}"));
            }
        }
        if self.keeps_ids {
            let is_other = |one: &&Planned| subvolume_at(root, &one.path).map_or(true, |new| new.id != one.id);
            if let Some(one) = self.list.iter().find(is_other) {
                differs.push(format!("its subvolume {} has not the id {}", shown::path(&one.path), one.id));
            }
        }
        differs
    }
}

/// The parent directory of a path, and its last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.iter().rposition(|byte| *byte == b'/').map_or((b"", path), |at| (&path[..at], &path[at + 1..]))
}

/// Opens a directory, creating missing ones; the restore of files sets owner and mode.
fn directories(root: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let mut at = open_below(root.as_fd(), b"")?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        match rustix::fs::mkdirat(&at, name, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = open_below(at.as_fd(), name)?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::Subvolumes;
    use crate::manifest::{BtrfsRecord, SubvolumeRecord};

    fn record(paths: &[(&str, u64)]) -> BtrfsRecord {
        let one =
            |(path, id): &(&str, u64)| SubvolumeRecord { path: (*path).to_owned(), id: *id, ..Default::default() };
        BtrfsRecord { subvolumes: paths.iter().map(one).collect(), ..BtrfsRecord::default() }
    }

    #[test]
    fn hostile_paths_and_ids_are_refused() {
        assert_eq!(Subvolumes::new(&record(&[("@", 256), ("@/var/lib \\x0a", 300)])).unwrap().len(), 2);
        let long = "x/".repeat(3000) + "x";
        for paths in [
            &[("../x", 256)][..],
            &[("/x", 256)],
            &[("x/", 256)],
            &[("", 256)],
            &[("a/./b", 256)],
            &[("a\\x00", 256)],
            &[("\\q", 256)],
            &[(long.as_str(), 256)],
            &[("a", 256), ("a", 257)],
            &[("a", 256), ("b", 256)],
            &[("a", 5)],
        ] {
            assert!(Subvolumes::new(&record(paths)).is_err(), "{paths:?}");
        }
        let many: Vec<(String, u64)> = (0..5000).map(|number| (format!("s{number}"), 256 + number)).collect();
        let many: Vec<(&str, u64)> = many.iter().map(|(path, id)| (path.as_str(), *id)).collect();
        assert!(Subvolumes::new(&record(&many)).is_err());
        // A high id must not cause a huge number of subvolumes.
        assert!(!Subvolumes::new(&record(&[("a", u64::MAX)])).unwrap().keeps_ids());
        assert!(Subvolumes::new(&record(&[("a", 1200)])).unwrap().keeps_ids());
    }
}
