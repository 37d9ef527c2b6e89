//! The marker of a filesystem whose files are not all restored yet.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::entry::Timestamp;
use crate::outside::inode_flags;
use crate::run::restore::attributes::times;

/// A file that marks a filesystem as incomplete.
pub(super) struct Mark {
    name: String,
}

impl Mark {
    pub(super) fn put(root: &OwnedFd) -> rustix::io::Result<Self> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let name = format!(".volbak-tmp.unfinished-restore-{}-{}", std::process::id(), now.tv_nsec);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(root, name.as_str(), flags, Mode::RUSR)?);
        file.sync_all().map_err(|_| rustix::io::Errno::IO)?;
        rustix::fs::syncfs(root)?;
        Ok(Self { name })
    }

    /// Removes it; the directory keeps its restored time.
    pub(super) fn remove(self, root: &OwnedFd) -> rustix::io::Result<()> {
        rustix::fs::syncfs(root)?;
        let facts = rustix::fs::fstat(root)?;
        // Names cannot be removed from an immutable or append-only directory.
        let locks = inode_flags::of_open(root).0 & inode_flags::LOCKS;
        if locks != 0 {
            inode_flags::remove(root, locks)?;
        }
        rustix::fs::unlinkat(root, self.name.as_str(), AtFlags::empty())?;
        let nsec = u32::try_from(facts.st_mtime_nsec).unwrap_or(0);
        let mtime = Timestamp { sec: facts.st_mtime, nsec };
        rustix::fs::futimens(root.as_fd(), &times(mtime))?;
        if locks != 0 {
            // A failure to set them was already reported.
            let _ = inode_flags::add(root, locks);
        }
        Ok(())
    }
}
