//! Checks that a destination exists, is mounted, and is still the directory that was opened; and its space.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

use super::error::StoreError;

/// The space of a destination's filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Used space of the filesystem.
    pub used_bytes: u64,
    /// The space that an ordinary user may still fill.
    pub available_bytes: u64,
}

/// Whether `path`, or a directory above it other than `/`, is a mount point. Fails if it cannot be examined.
pub fn is_on_mount(path: &Path) -> Result<bool, StoreError> {
    let real = path.canonicalize().map_err(StoreError::io("looking at", path))?;
    for directory in real.ancestors().filter(|directory| directory.parent().is_some()) {
        let facts = rustix::fs::statx(CWD, directory, AtFlags::empty(), StatxFlags::empty())
            .map_err(StoreError::errno("looking at", directory))?;
        if facts.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Disk usage of `path` and everything below, like `du`: allocated blocks, hard links once. Unreadable entries
/// count as zero.
pub fn disk_usage(path: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut waiting = vec![path.to_owned()];
    let mut bytes = 0_u64;
    while let Some(path) = waiting.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if !metadata.is_dir() && metadata.nlink() > 1 && !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
        if metadata.is_dir()
            && let Ok(entries) = std::fs::read_dir(&path)
        {
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::{disk_usage, is_on_mount};
    use crate::store::Destination;

    #[test]
    fn a_mount_point_is_one_and_the_root_does_not_count() {
        assert!(is_on_mount(Path::new("/proc")).unwrap());
        assert!(is_on_mount(Path::new("/proc/self/fdinfo")).unwrap());
        assert!(!is_on_mount(Path::new("/")).unwrap());
        assert!(is_on_mount(Path::new("/no/such/directory")).is_err());
    }

    #[test]
    fn a_destination_that_was_replaced_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("backups");
        std::fs::create_dir(&root).unwrap();
        let destination = Destination::open(&root).unwrap();
        assert!(destination.is_still_there().unwrap());
        std::fs::rename(&root, dir.path().join("moved")).unwrap();
        assert!(!destination.is_still_there().unwrap());
        std::fs::create_dir(&root).unwrap();
        assert!(!destination.is_still_there().unwrap());
        assert!(destination.space().unwrap().unwrap().available_bytes > 0);
    }

    #[test]
    fn usage_is_what_du_says() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/file"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(dir.path().join("a/file"), dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let output = Command::new("du").args(["-s", "-B1"]).arg(dir.path()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(disk_usage(dir.path()).to_string(), said.split_whitespace().next().unwrap());
    }
}
