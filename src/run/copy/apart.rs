//! Whether two destinations are apart: a copy inside its source would be lost with it, and each would list the other.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::CopyError;
use crate::store::is_in_object_store;

/// Fails if both are one directory, or if one lies inside the other, also through links and bind mounts.
pub(super) fn check_apart(source: &Path, target: &Path) -> Result<(), CopyError> {
    let (inode_of_source, inode_of_target) = (inode(source), inode(target));
    if source == target || (inode_of_source.is_some() && inode_of_source == inode_of_target) {
        return Err(CopyError::SamePlace { target: target.to_owned() });
    }
    // An address in an object store is no path of this host.
    for (inner, outer) in [(target, source), (source, target)] {
        if is_in_object_store(inner) && inner.starts_with(outer) {
            return Err(CopyError::Inside { inner: inner.to_owned(), outer: outer.to_owned() });
        }
    }
    for (inner, outer, inode_of_outer) in [(target, source, inode_of_source), (source, target, inode_of_target)] {
        if is_inside(inner, inode_of_outer) {
            return Err(CopyError::Inside { inner: inner.to_owned(), outer: outer.to_owned() });
        }
    }
    Ok(())
}

/// The device and the inode number; `None` if the path is no directory of this host.
fn inode(path: &Path) -> Option<(u64, u64)> {
    path.metadata().map(|facts| (facts.dev(), facts.ino())).ok()
}

/// Whether a directory above `path` is the directory with this device and inode number.
fn is_inside(path: &Path, outer: Option<(u64, u64)>) -> bool {
    let (Some(outer), Ok(real)) = (outer, path.canonicalize()) else { return false };
    real.ancestors().skip(1).any(|above| inode(above) == Some(outer))
}

#[cfg(test)]
mod tests {
    use super::check_apart;
    use crate::run::copy::CopyError;

    #[test]
    fn one_directory_under_two_names_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b", "a/vol-1"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        check_apart(&at("a"), &at("b")).unwrap();
        for (source, target) in [("a", "a"), ("a", "link"), ("link", "a"), ("a", "b/../a")] {
            let found = check_apart(&at(source), &at(target));
            assert!(matches!(found, Err(CopyError::SamePlace { .. })), "{source} {target}");
        }
        for (source, target) in [("a", "a/vol-1"), ("link", "a/vol-1"), ("a/vol-1", "a"), ("a", "link/vol-1")] {
            let found = check_apart(&at(source), &at(target));
            assert!(matches!(found, Err(CopyError::Inside { .. })), "{source} {target}");
        }
        // A destination that is no directory of this host.
        check_apart(&at("a"), std::path::Path::new("s3://bucket/prefix")).unwrap();
        let check = |one: &str, other: &str| check_apart(std::path::Path::new(one), std::path::Path::new(other));
        check("s3://bucket/prefix", "s3://bucket/prefix-2").unwrap();
        for (source, target) in [("s3://bucket/a", "s3://bucket/a/b"), ("s3://bucket/a", "s3://bucket")] {
            assert!(matches!(check(source, target), Err(CopyError::Inside { .. })), "{source} {target}");
        }
    }
}
