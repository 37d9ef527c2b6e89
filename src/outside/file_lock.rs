//! An exclusive flock(2).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The exclusive lock on an open file or directory. The kernel releases it when the process ends, for any reason.
///
/// Dropping it unlocks the file, and does not rely on closing it: a child that another thread has forked, and that has
/// not yet replaced itself with its program, keeps a copy of the descriptor for a moment.
#[derive(Debug)]
pub(crate) struct FileLock(OwnedFd);

impl FileLock {
    /// Locks `file` without waiting. `None` if it is locked already.
    pub(crate) fn try_take(file: impl Into<OwnedFd>) -> Result<Option<Self>, Errno> {
        let file = file.into();
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // An error leaves what closing the descriptor does.
        let _ = rustix::fs::flock(self.0.as_fd(), FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::FileLock;

    #[test]
    fn a_copy_of_the_descriptor_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let open = || std::fs::File::open(dir.path()).unwrap();
        let file = open();
        let copy = file.try_clone().unwrap();
        let lock = FileLock::try_take(file).unwrap().unwrap();
        assert!(FileLock::try_take(open()).unwrap().is_none());
        drop(lock);
        assert!(FileLock::try_take(open()).unwrap().is_some());
        drop(copy);
    }
}
