//! Whether other users of this host can reach restored files.
//!
//! A tenant's set-user-id program lends its owner's rights to everyone who can run it. Below a directory that only
//! its owner can enter, or on a filesystem mounted `nosuid`, it lends them to no one.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

/// An upper bound of the depth of a path in Linux.
const MAX_LEVELS: usize = 4096;
/// Search permission for group or others. With an ACL, the group bits are the mask: without `x` there, no named
/// user or group may enter either.
const SEARCH_BY_OTHERS: u32 = 0o011;

/// Whether a user other than root and the current one can run files in `target`. `opens`: the target's own mode
/// will change and must be ignored.
pub(super) fn is_reachable(target: BorrowedFd<'_>, opens: bool) -> bool {
    let flags = rustix::fs::fstatvfs(target).map(|facts| facts.f_flag);
    if flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::NOSUID)) {
        return false;
    }
    // A directory that cannot be examined counts as open.
    !has_closed_directory(target, opens).unwrap_or(false)
}

/// Whether the target, or a directory above it, is closed to other users.
fn has_closed_directory(target: BorrowedFd<'_>, opens: bool) -> Result<bool, Errno> {
    let me = rustix::process::geteuid().as_raw();
    let is_closed = |facts: &Stat| facts.st_mode & SEARCH_BY_OTHERS == 0 && (facts.st_uid == 0 || facts.st_uid == me);
    let mut facts = rustix::fs::fstat(target)?;
    if !opens && is_closed(&facts) {
        return Ok(true);
    }
    let mut fd = rustix::io::fcntl_dupfd_cloexec(target, 0)?;
    for _ in 0..MAX_LEVELS {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fd = rustix::fs::openat(fd.as_fd(), c"..", flags, Mode::empty())?;
        let above = rustix::fs::fstat(&fd)?;
        if (above.st_dev, above.st_ino) == (facts.st_dev, facts.st_ino) {
            // The root directory, or the root of a detached mount.
            return Ok(false);
        }
        if is_closed(&above) {
            return Ok(true);
        }
        facts = above;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    use super::has_closed_directory;

    #[test]
    fn one_closed_directory_on_the_way_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let target = dir.path().join("a/b");
        fs::create_dir_all(&target).unwrap();
        let mode = |path: &std::path::Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let closed = |opens| has_closed_directory(File::open(&target).unwrap().as_fd(), opens).unwrap();
        mode(&target, 0o777);
        assert!(closed(false) && closed(true));
        mode(dir.path(), 0o755);
        assert!(!closed(false));
        for (of_target, expected) in [(0o700, true), (0o710, false), (0o701, false), (0o744, true), (0o750, false)] {
            mode(&target, of_target);
            assert_eq!(closed(false), expected, "{of_target:o}");
            assert!(!closed(true), "its own mode does not count");
        }
        mode(target.parent().unwrap(), 0o700);
        assert!(closed(true));
    }
}
