//! The kernel's reader: a detached mount over a loop device that releases itself.
//!
//! Journals are always replayed: `noload` and `norecovery` would show an old state. The replay goes to the source
//! if that may be written, which holds only for volbak's own snapshots; otherwise it goes to a temporary copy. When
//! the process dies, the kernel releases mount and loop device.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

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
use super::superblocks::{needs_replay, reaches_outside, was_in_use};
use super::tree::{KernelTree, TreeWalk};
use crate::events::Severity;
use crate::outside::{Cancel, FileBlocks};
use crate::reader::exclude::Excludes;
use crate::shown;
use crate::shown::counted;
use crate::units::ByteRange;

/// Lower bound of the directory limit of a btrfs: 400 snapshots of a whole system with 10,000 directories each.
const MIN_BTRFS_DIRECTORIES: u64 = 4 << 20;

/// Why a filesystem could not be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// No loop device could be attached.
    #[error("no loop device could be made for it")]
    Loop(#[source] io::Error),
    /// The kernel refused to mount it.
    #[error("the kernel cannot mount it as {fs}{}", shown_log(log))]
    Mount {
        /// The filesystem type.
        fs: String,
        /// The kernel's messages, if any.
        log: String,
        /// The error from mount.
        source: io::Error,
    },
    /// It must not be mounted, since the mount would reach data outside the region.
    #[error("it is not mounted: {0}")]
    ReachesOutside(&'static str),
    /// Its journal needs a replay, and no copy could be made for that.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
}

fn shown_log(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}

/// A filesystem to be mounted.
#[derive(Debug)]
pub struct MountSource<'a> {
    /// The file or device that holds it; open for writing if `writable`.
    pub backing: &'a File,
    /// Its bytes in `backing`.
    pub range: ByteRange,
    /// The filesystem type as mount(8) knows it: `ext2`, `ext3`, `ext4`, `xfs`, `btrfs`, `vfat`.
    pub fs: &'a str,
    /// Whether a journal may be replayed into `backing`.
    pub writable: bool,
    /// Whether read-only snapshots in a btrfs are included.
    pub with_snapshots: bool,
    /// The directory for a temporary copy, if a journal must be replayed and `backing` is read-only.
    pub scratch: &'a Path,
}

/// A mounted filesystem; dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    mount: OwnedFd,
    /// The subvolumes of a btrfs, if the user may query them.
    subvolumes: Option<Arc<Subvolumes>>,
    /// Errors that the guest's kernel counted before, for the report to the owner.
    pub complaints: Vec<String>,
    /// The kernel log since the mount.
    log: KernelLog,
    device: String,
    /// The error counters at mount time.
    counters: Counters,
    fs: String,
    /// Whether the journal was replayed into a temporary copy.
    pub from_copy: bool,
    /// Whether it was in use when the source was frozen; `None` except for ext2 to ext4, the only ones that record
    /// it.
    pub was_in_use: Option<bool>,
}

impl Mounted {
    /// Mounts `source` read-only, `nosuid`, `nodev` and `noexec`, detached from the file tree.
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

    /// `place` is the file that was mounted (the source or the temporary copy) and the offset of the filesystem in
    /// it.
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
            // Without permission for the query, no subvolume is left out and no error is known.
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

    /// Damage that the kernel met since the mount, with its severity. Failed calls were reported where they
    /// occurred, but not every error makes a call fail. Called once, before unmounting.
    pub fn met(&self) -> Vec<(Severity, String)> {
        let mut met = Vec::new();
        // Btrfs keeps a second copy of most metadata; where both are damaged, the call fails.
        let (severity, effect) =
            if self.fs == "btrfs" { (Severity::Warning, "") } else { (Severity::Error, ", files may be missing") };
        let Logged { first, count } = self.log.errors_of(&self.device);
        if count > 0 {
            let first = first.join("; ");
            met.push((
                severity,
                format!(
                    "the kernel logged {} while it was read{effect}: {first}",
                    counted(count as u64, "error", "errors")
                ),
            ));
        }
        if let Some(more) = self.counters.more(&self.mount) {
            met.push((severity, format!("errors were counted while it was read: {more}")));
        }
        met
    }

    /// Bytes that its files need on a filesystem of the same kind without shared blocks; `None` if unknown.
    pub fn restored_bytes(&self) -> Option<u64> {
        self.subvolumes.as_ref()?.unshared_bytes(&self.root().ok()?).ok()
    }

    /// The filesystem type as mount(8) knows it.
    pub fn fs(&self) -> &str {
        &self.fs
    }

    /// A descriptor of the root directory.
    pub fn root(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.mount, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Walks the whole filesystem except `excludes`.
    pub fn walk(&self, excludes: Excludes) -> io::Result<TreeWalk> {
        let tree = KernelTree::new(self.root()?, self.subvolumes.clone());
        Ok(TreeWalk::over(tree, excludes, self.max_directories()?))
    }

    /// Calls `with` for each name in the root directory that can be read.
    pub fn for_each_root_name(&self, mut with: impl FnMut(&[u8])) {
        let entries = self.root().and_then(|root| Ok(rustix::fs::Dir::new(root)?));
        for entry in entries.into_iter().flatten().map_while(Result::ok) {
            with(entry.file_name().to_bytes());
        }
    }

    /// Bytes used by files, as the filesystem counts them.
    pub fn used_bytes(&self) -> io::Result<u64> {
        let facts = rustix::fs::fstatvfs(&self.mount)?;
        Ok(facts.f_blocks.saturating_sub(facts.f_bfree).saturating_mul(facts.f_frsize))
    }

    /// The maximum number of directories it can hold; `None` if unknown.
    fn max_directories(&self) -> io::Result<Option<u64>> {
        let facts = rustix::fs::fstatvfs(&self.mount)?;
        let used_inodes = (facts.f_files > 0).then(|| facts.f_files.saturating_sub(facts.f_ffree));
        Ok(used_inodes.or_else(|| max_directories_in(&self.fs, self.used_bytes().ok()?, facts.f_frsize)))
    }
}

/// The maximum number of directories in `used_bytes`, for filesystems that do not count inodes. The limit stops a
/// walk of a damaged or hostile filesystem in which several paths lead to one directory: each level would double
/// the walk.
fn max_directories_in(fs: &str, used_bytes: u64, frsize: u64) -> Option<u64> {
    match fs {
        // Microsoft's FAT specification, "Directory Structure": a directory needs at least one cluster
        // (`f_frsize`). The root of FAT12 and FAT16 is outside the clusters.
        "vfat" => used_bytes.checked_div(frsize).map(|clusters| clusters + 1),
        // Btrfs on-disk format: an inode item has 160 bytes, its key and references take as much again. So the
        // limit holds even where used bytes of a DUP profile are halved. Snapshots share these items, hence the
        // lower bound.
        "btrfs" => Some((used_bytes / 160).max(MIN_BTRFS_DIRECTORIES)),
        _ => None,
    }
}

/// Mount options besides `ro`. They override settings in the filesystem that could harm the host.
fn options(fs: &str) -> &'static [(&'static str, Option<&'static str>)] {
    match fs {
        // The superblock may request errors=panic: a tenant's disk must not stop the host.
        "ext2" | "ext3" | "ext4" => &[("errors", Some("remount-ro"))],
        "xfs" => &[("nouuid", None)],
        // The top-level subvolume, whatever default the tenant set.
        "btrfs" => &[("subvolid", Some("5"))],
        // FAT stores no owners and modes: without these options they would depend on the umask of the process.
        "vfat" => &[("umask", Some("0022")), ("tz", Some("UTC")), ("utf8", None), ("errors", Some("remount-ro"))],
        _ => &[],
    }
}

/// Whether the kernel has or can load a driver for this filesystem. True if the user may not query that.
pub fn kernel_knows(fs: &str) -> bool {
    let driver = if fs.starts_with("ext") { "ext4" } else { fs };
    !matches!(fsopen(driver, FsOpenFlags::FSOPEN_CLOEXEC), Err(Errno::NODEV))
}

/// Why the kernel has no driver for this filesystem.
pub fn driver_obstacle(fs: &str) -> Option<&'static str> {
    let driver = if fs.starts_with("ext") { "ext4" } else { fs };
    match fsopen(driver, FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => None,
        Err(Errno::NODEV) => Some("this kernel has no driver for it"),
        Err(Errno::PERM | Errno::ACCESS) => Some("a mount needs root"),
        Err(_) => Some("this kernel cannot be asked for its driver (fsopen, Linux 5.2)"),
    }
}

/// Mounts the filesystem on `device` for writing, detached, `nosuid`, `nodev` and `noexec`. Returns its root
/// directory. `compress`, for btrfs only, compresses new data. Closing the last descriptor unmounts it.
pub fn mount_writable(device: &Path, fs: &str, compress: bool) -> Result<OwnedFd, MountError> {
    let more: &[(&str, Option<&str>)] = if compress { &[("compress", Some("zstd"))] } else { &[] };
    let mount = mount_as(device, fs, true, more)?;
    let root = rustix::fs::openat(&mount, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    root.map_err(|error| MountError::Mount { fs: fs.to_owned(), log: String::new(), source: error.into() })
}

/// How long a mount that ended may still be seen.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Returns the mount and the name of its device.
fn mount_range(backing: &File, range: ByteRange, fs: &str, writable: bool) -> Result<(OwnedFd, String), MountError> {
    let device = LoopDevice::attach(backing, range, writable).map_err(MountError::Loop)?;
    let name = device.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let deadline = Instant::now() + ENDS_WITHIN;
    loop {
        match mount_device(device.path(), fs) {
            Err(MountError::Mount { source, .. })
                if fs == "btrfs" && is_taken(&source) && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(100));
            }
            mounted => return Ok((mounted?, name)),
        }
    }
}

/// Volumes that were cloned from one image have a btrfs of one UUID, which the kernel mounts once at a time (Linux,
/// fs/btrfs/volumes.c, `device_list_add`). The mount of the other one may be about to end: a child process had a
/// descriptor in it for a moment.
fn is_taken(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::EXIST | Errno::BUSY))
}

/// Mounts the filesystem on the block device `device`, detached. The mount keeps the device busy, so the caller may
/// drop a loop device afterwards.
fn mount_device(device: &Path, fs: &str) -> Result<OwnedFd, MountError> {
    mount_as(device, fs, false, &[])
}

fn mount_as(device: &Path, fs: &str, writable: bool, more: &[(&str, Option<&str>)]) -> Result<OwnedFd, MountError> {
    // The ext4 driver serves all three types and, unlike the ext2 driver, replays journals.
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

/// The kernel's messages about a mount, on one line.
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

#[cfg(test)]
mod tests;
