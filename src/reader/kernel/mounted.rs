//! The kernel's reader: a mount that is never attached to the file tree, over a loop device that clears itself.
//!
//! Journals are replayed, never skipped: `noload` and `norecovery` show an old state. Where the source may be written,
//! which is true of our own snapshots alone, the replay goes there; elsewhere it goes to a temporary copy. When the
//! process dies, the kernel undoes mount and loop device by itself.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::btrfs::Subvolumes;
use super::error_counters::Counters;
use super::log::{KernelLog, Logged};
use super::loop_device::LoopDevice;
use super::scratch::{ScratchError, copy_region};
use super::tree::{KernelTree, TreeWalk};
use crate::events::Severity;
use crate::outside::{BlockRead, Cancel, FileBlocks};
use crate::reader::exclude::Excludes;
use crate::shown;
use crate::units::ByteRange;

/// Any btrfs may have this many directories: 400 snapshots of a whole system, at 10,000 each.
const MIN_BTRFS_DIRECTORIES: u64 = 4 << 20;

/// Why a filesystem could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// No loop device could be made.
    #[error("no loop device could be made for it")]
    Loop(#[source] io::Error),
    /// The kernel refused to mount it.
    #[error("the kernel cannot mount it as {fs}{}", shown_log(log))]
    Mount {
        /// The filesystem's name.
        fs: String,
        /// What the kernel said about it, if anything.
        log: String,
        /// Its error number.
        source: io::Error,
    },
    /// It must not be mounted, since its mount would reach something outside its region.
    #[error("it is not mounted: {0}")]
    ReachesOutside(&'static str),
    /// Its journal must be replayed, and no copy could be made for that.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
}

fn shown_log(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}

/// A filesystem to be mounted.
#[derive(Debug)]
pub struct MountSource<'a> {
    /// What holds it; open for writing when `writable`.
    pub backing: &'a File,
    /// Its bytes in `backing`.
    pub range: ByteRange,
    /// Its name as mount(8) knows it: `ext2`, `ext3`, `ext4`, `xfs`, `btrfs`, `vfat`.
    pub fs: &'a str,
    /// Whether a journal may be replayed into `backing`.
    pub writable: bool,
    /// Whether read-only snapshots in a btrfs are walked.
    pub with_snapshots: bool,
    /// Where a copy is made for replaying a journal when `backing` must not be written.
    pub scratch: &'a Path,
}

/// A mounted filesystem. It goes away with this value.
#[derive(Debug)]
pub struct Mounted {
    mount: OwnedFd,
    /// Of a btrfs, where they could be asked for.
    subvolumes: Option<Arc<Subvolumes>>,
    /// What its own system has counted as errors, which concerns whoever it belongs to.
    pub complaints: Vec<String>,
    /// What the kernel says of it while it is mounted, and the name of its device.
    log: KernelLog,
    device: String,
    /// Where it lies, and how many errors were counted in it at the begin.
    counters: Counters,
    fs: String,
    /// Whether the journal was replayed into a temporary copy.
    pub from_copy: bool,
    /// Whether it says itself that it was not unmounted: ext2 to ext4 alone do.
    pub was_in_use: Option<bool>,
}

impl Mounted {
    /// Mounts `source` read-only, `nosuid`, `nodev` and `noexec`, attached to nothing.
    pub fn open(source: &MountSource<'_>, cancel: &Cancel) -> Result<Self, MountError> {
        let blocks = FileBlocks::new(
            source.backing.try_clone().map_err(MountError::Loop)?,
            source.range.end().unwrap_or(u64::MAX),
        );
        if let Some(reason) = reaches_outside(source.fs, &blocks, source.range.start) {
            return Err(MountError::ReachesOutside(reason));
        }
        let was_in_use = was_in_use(source.fs, &blocks, source.range.start);
        let log = KernelLog::from_now();
        match mount_range(source.backing, source.range, source.fs, source.writable) {
            Ok(mount) => Ok(Self::new(mount, source, (blocks, source.range.start), log, was_in_use)),
            Err(MountError::Mount { source: error, .. })
                if !source.writable && needs_replay(source.fs, &error, &blocks, source.range.start) =>
            {
                let copy = copy_region(source.backing, source.range, source.scratch, cancel)?;
                let log = KernelLog::from_now();
                let mount = mount_range(&copy.file, copy.range, source.fs, true)?;
                let blocks = FileBlocks::new(copy.file, copy.range.end().unwrap_or(u64::MAX));
                let mounted = Self::new(mount, source, (blocks, copy.range.start), log, was_in_use);
                Ok(Self { from_copy: true, ..mounted })
            }
            Err(error) => Err(error),
        }
    }

    /// `place` is what was mounted, a journal being replayed, and where it begins there.
    fn new(
        (mount, device): (OwnedFd, String),
        source: &MountSource<'_>,
        place: (FileBlocks, u64),
        log: KernelLog,
        was_in_use: Option<bool>,
    ) -> Self {
        let (mut subvolumes, mut complaints) = (None, Vec::new());
        let counters = Counters::new(source.fs, place, &mount);
        if source.fs == "btrfs" {
            let root = rustix::fs::openat(&mount, c".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            // Without the right to ask, nothing is left out, and no error is known.
            subvolumes = root.as_ref().ok().and_then(|root| Subvolumes::read(root).ok());
            if let (Some(subvolumes), false) = (&mut subvolumes, source.with_snapshots) {
                subvolumes.leave_out_snapshots();
            }
        }
        complaints.extend(counters.complaint());
        let subvolumes = subvolumes.map(Arc::new);
        let fs = source.fs.to_owned();
        Self { mount, subvolumes, complaints, log, device, counters, fs, from_copy: false, was_in_use }
    }

    /// What the kernel met in it since it was mounted, and how bad that is: each call that failed was reported where it
    /// did, but not each error makes a call fail. Asked once, before it goes away.
    pub fn met(&self) -> Vec<(Severity, String)> {
        let mut met = Vec::new();
        // Btrfs has a second copy of most metadata; where it has none, the call fails.
        let (severity, effect) =
            if self.fs == "btrfs" { (Severity::Warning, "") } else { (Severity::Error, ", files may be missing") };
        let Logged { first, count } = self.log.errors_of(&self.device);
        if count > 0 {
            let first = first.join("; ");
            met.push((severity, format!("the kernel logged {count} errors while it was read{effect}: {first}")));
        }
        if let Some(more) = self.counters.more(&self.mount) {
            met.push((severity, format!("errors were counted while it was read: {more}")));
        }
        met
    }

    /// What its files take on a filesystem of the same kind that shares nothing; `None` when that is not known.
    pub fn restored_bytes(&self) -> Option<u64> {
        self.subvolumes.as_ref()?.unshared_bytes(&self.root().ok()?).ok()
    }

    /// Its name, as mount(8) knows it.
    pub fn fs(&self) -> &str {
        &self.fs
    }

    /// A descriptor of the root directory.
    pub fn root(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.mount, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// A walk over all of it.
    pub fn walk(&self, excludes: Excludes) -> io::Result<TreeWalk> {
        let tree = KernelTree::new(self.root()?, self.subvolumes.clone());
        Ok(TreeWalk::over(tree, excludes, self.max_directories()?))
    }

    /// Calls `with` with each name in the root directory, as far as they can be read.
    pub fn for_each_root_name(&self, mut with: impl FnMut(&[u8])) {
        let entries = self.root().and_then(|root| Ok(rustix::fs::Dir::new(root)?));
        for entry in entries.into_iter().flatten().map_while(Result::ok) {
            with(entry.file_name().to_bytes());
        }
    }

    /// How many bytes its files take, as the filesystem itself counts them.
    pub fn used_bytes(&self) -> io::Result<u64> {
        let facts = rustix::fs::fstatvfs(&self.mount)?;
        Ok(facts.f_blocks.saturating_sub(facts.f_bfree).saturating_mul(facts.f_frsize))
    }

    /// How many directories it can have; `None` when that is not known.
    fn max_directories(&self) -> io::Result<Option<u64>> {
        let facts = rustix::fs::fstatvfs(&self.mount)?;
        let used_inodes = (facts.f_files > 0).then(|| facts.f_files.saturating_sub(facts.f_ffree));
        Ok(used_inodes.or_else(|| max_directories_in(&self.fs, self.used_bytes().ok()?, facts.f_frsize)))
    }
}

/// How many directories fit into `used_bytes`, on filesystems that do not count their inodes. A damaged or hostile one
/// that leads to the same directory by several ways doubles what a walk sees with each level.
fn max_directories_in(fs: &str, used_bytes: u64, frsize: u64) -> Option<u64> {
    match fs {
        // Microsoft's FAT specification, "Directory Structure": a directory has at least one cluster, which is what
        // `f_frsize` says; the root of FAT12 and FAT16 lies outside of them.
        "vfat" => used_bytes.checked_div(frsize).map(|clusters| clusters + 1),
        // Btrfs on-disk format: an inode item has 160 bytes, and its key and references more than as much again, so
        // that this holds even where used bytes of a doubled profile are counted by half. Snapshots share these items,
        // so a small filesystem may rightly show many more.
        "btrfs" => Some((used_bytes / 160).max(MIN_BTRFS_DIRECTORIES)),
        _ => None,
    }
}

/// Options besides `ro`. What the filesystem itself may ask for is overruled where it could harm the host.
fn options(fs: &str) -> &'static [(&'static str, Option<&'static str>)] {
    match fs {
        // The superblock may say errors=panic: a tenant's disk must not stop the host.
        "ext2" | "ext3" | "ext4" => &[("errors", Some("remount-ro"))],
        "xfs" => &[("nouuid", None)],
        // The top of all subvolumes, whichever one the tenant made the default.
        "btrfs" => &[("subvolid", Some("5"))],
        // Owners and modes are not on the disk: without these they would follow the umask of whoever runs volbak.
        "vfat" => &[("umask", Some("0022")), ("tz", Some("UTC")), ("utf8", None), ("errors", Some("remount-ro"))],
        _ => &[],
    }
}

/// Whether the kernel has a driver for this filesystem, or can load one. Where it may not be asked, it counts as one
/// that has.
pub fn kernel_knows(fs: &str) -> bool {
    let driver = if fs.starts_with("ext") { "ext4" } else { fs };
    !matches!(fsopen(driver, FsOpenFlags::FSOPEN_CLOEXEC), Err(Errno::NODEV))
}

/// Why the kernel's driver for this filesystem cannot be had.
pub fn driver_obstacle(fs: &str) -> Option<&'static str> {
    let driver = if fs.starts_with("ext") { "ext4" } else { fs };
    match fsopen(driver, FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => None,
        Err(Errno::NODEV) => Some("this kernel has no driver for it"),
        Err(Errno::PERM | Errno::ACCESS) => Some("a mount needs root"),
        Err(_) => Some("this kernel cannot be asked for its driver (fsopen, Linux 5.2)"),
    }
}

/// Mounts the filesystem on `device` for writing, attached to nothing, `nosuid`, `nodev` and `noexec`; gives its root
/// directory. With `compress`, which btrfs alone knows, it compresses what is written. It is unmounted when the last
/// descriptor in it is closed.
pub fn mount_writable(device: &Path, fs: &str, compress: bool) -> Result<OwnedFd, MountError> {
    let more: &[(&str, Option<&str>)] = if compress { &[("compress", Some("zstd"))] } else { &[] };
    let mount = mount_as(device, fs, true, more)?;
    let root = rustix::fs::openat(&mount, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    root.map_err(|error| MountError::Mount { fs: fs.to_owned(), log: String::new(), source: error.into() })
}

/// The mount, and its device's name.
fn mount_range(backing: &File, range: ByteRange, fs: &str, writable: bool) -> Result<(OwnedFd, String), MountError> {
    let device = LoopDevice::attach(backing, range, writable).map_err(MountError::Loop)?;
    let name = device.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((mount_device(device.path(), fs)?, name))
}

/// Mounts the filesystem on the block device `device`, attached to nothing. The mount keeps the device busy, so a loop
/// device may be let go of afterwards.
fn mount_device(device: &Path, fs: &str) -> Result<OwnedFd, MountError> {
    mount_as(device, fs, false, &[])
}

fn mount_as(device: &Path, fs: &str, writable: bool, more: &[(&str, Option<&str>)]) -> Result<OwnedFd, MountError> {
    // One driver serves all three, and knows a journal where ext2's own would not.
    let driver = if fs.starts_with("ext") { "ext4" } else { fs };
    let failed = |log: String, error: Errno| MountError::Mount { fs: fs.to_owned(), log, source: error.into() };
    let context = fsopen(driver, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| failed(String::new(), error))?;
    let configured = (|| {
        fsconfig_set_string(context.as_fd(), "source", device)?;
        if !writable {
            fsconfig_set_flag(context.as_fd(), "ro")?;
        }
        for (key, value) in options(fs).iter().chain(more) {
            match value {
                Some(value) => fsconfig_set_string(context.as_fd(), *key, *value)?,
                None => fsconfig_set_flag(context.as_fd(), *key)?,
            }
        }
        fsconfig_create(context.as_fd())
    })();
    configured.map_err(|error| failed(read_log(&context), error))?;
    let mut attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, !writable);
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|error| failed(read_log(&context), error))
}

/// What the kernel has to say about a mount, on one line.
fn read_log(context: &OwnedFd) -> String {
    let mut lines = Vec::new();
    let mut buf = [0_u8; 1024];
    while lines.len() < 4
        && let Ok(len) = rustix::io::read(context, &mut buf)
        && len > 0
    {
        lines.push(shown::bytes(buf[..len].trim_ascii()));
    }
    lines.join("; ")
}

/// Whether a mount failed because a journal must be replayed and the device is read-only. The kernel says EROFS then,
/// and EIO for btrfs.
fn needs_replay(fs: &str, error: &io::Error, blocks: &dyn BlockRead, start: u64) -> bool {
    match Errno::from_io_error(error) {
        Some(Errno::ROFS) => true,
        // Btrfs on-disk format, superblock at 64 KiB: log_root at 0x60, 0 when there is no log tree.
        Some(Errno::IO) if fs == "btrfs" => {
            field(blocks, start, 0x1_0000 + 0x60, 8).is_some_and(|log_root| log_root != [0; 8])
        }
        _ => false,
    }
}

/// Whether an ext filesystem was in use when it was frozen: a journal is to be replayed, or, without one, it is not
/// marked as clean. `None` for the others.
fn was_in_use(fs: &str, blocks: &dyn BlockRead, start: u64) -> Option<bool> {
    if !fs.starts_with("ext") {
        return None;
    }
    // ext4 disk layout, super block: s_state 0x3A (0x1 is clean), s_feature_incompat 0x60 (RECOVER 0x4).
    let superblock = field(blocks, start, 1024, 1024)?;
    Some(superblock[0x60] & 0x4 != 0 || superblock[0x3A] & 0x1 == 0)
}

/// `len` bytes at `offset` of the region that begins at `start`; `None` when they cannot be read.
fn field(blocks: &dyn BlockRead, start: u64, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    blocks.read_at(start.checked_add(offset)?, &mut bytes).ok().map(|()| bytes)
}

/// Why the kernel must not be asked to mount it: its superblock names devices beyond its own region, which a tenant
/// could point at somebody else's data.
pub fn reaches_outside(fs: &str, blocks: &dyn BlockRead, start: u64) -> Option<&'static str> {
    let field = |offset: u64, len: usize| field(blocks, start, offset, len);
    match fs {
        "ext2" | "ext3" | "ext4" => {
            // ext4 disk layout, super block: s_feature_compat 0x5C (HAS_JOURNAL 0x4), s_journal_inum 0xE0,
            // s_mount_opts 0x200. The block starts at byte 1024.
            let superblock = field(1024, 1024)?;
            let has_journal = superblock[0x5C] & 0x4 != 0;
            let internal = superblock[0xE0..0xE4] != [0; 4];
            if has_journal && !internal {
                return Some("its journal lies on another device");
            }
            superblock[0x200..0x240]
                .windows(8)
                .any(|bytes| bytes == b"journal_")
                .then_some("its mount options name a journal device")
        }
        // Btrfs on-disk format, superblock at 64 KiB: num_devices at 0x88.
        "btrfs" => (field(0x1_0000 + 0x88, 8)? != 1_u64.to_le_bytes()).then_some("it spreads over several devices"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{MIN_BTRFS_DIRECTORIES, max_directories_in};

    #[test]
    fn directories_are_bounded_by_what_they_take() {
        assert_eq!(max_directories_in("vfat", 10 * 4096, 4096), Some(11));
        assert_eq!(max_directories_in("vfat", 0, 4096), Some(1));
        assert_eq!(max_directories_in("vfat", 4096, 0), None);
        assert_eq!(max_directories_in("btrfs", 1 << 20, 4096), Some(MIN_BTRFS_DIRECTORIES));
        assert_eq!(max_directories_in("btrfs", 160 << 30, 4096), Some(1 << 30));
        assert_eq!(max_directories_in("ext4", 1 << 20, 4096), None);
    }
}
