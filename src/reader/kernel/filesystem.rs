//! A filesystem that the kernel reads: its mount, and the devices below it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::device_map::{DeviceMap, DeviceMapError};
use super::loop_device::LoopDevice;
use super::mounted::{MountError, MountSource, Mounted, driver_obstacle};
use super::scratch::ScratchError;
use super::superblocks::reaches_outside;
use crate::outside::inode_flags::fat;
use crate::reader::FsReader;
use crate::reader::exclude::Excludes;
use crate::reader::filesystem::{Filesystem, FsRegion, Means, Met, NotOpened, NotReleased, Reader};
use crate::units::{ByteRange, Extent};

/// The length of the file for the trial loop device.
const TRIED_BYTES: u64 = 4096;
/// The control node of device-mapper.
const MAPPER: &str = "/dev/mapper/control";

/// Opens filesystems that the kernel can mount.
pub(in crate::reader) struct KernelReader;

/// Why the kernel's reader does not open a filesystem.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotMounted {
    /// The extents of the region could not be joined to one device.
    #[error("its {count} pieces cannot be put together: {error}")]
    Pieces {
        /// The number of extents.
        count: usize,
        /// The cause.
        error: DeviceMapError,
    },
    /// The mount succeeded, but its root directory cannot be read.
    #[error("its {fs} is mounted, and its root cannot be read: {error}")]
    Root {
        /// The filesystem type.
        fs: String,
        /// The cause.
        error: io::Error,
    },
    /// This host or user lacks a requirement for a mount.
    #[error("{fs} is read through the kernel, and {why}")]
    Lacking {
        /// The filesystem type.
        fs: String,
        /// The missing requirement.
        why: String,
    },
    /// A mount would reach data outside the region.
    #[error("{0}")]
    ReachesOutside(&'static str),
    /// The mount failed.
    #[error(transparent)]
    Mount(MountError),
}

impl From<NotMounted> for NotOpened {
    fn from(why: NotMounted) -> Self {
        Self::Refused(Box::new(why))
    }
}

impl Reader for KernelReader {
    fn open(&self, region: &FsRegion<'_>, means: &Means<'_>) -> Result<Box<dyn Filesystem>, NotOpened> {
        let fs = region.fs;
        let backing = means.backing.open().map_err(NotOpened::Backing)?;
        let assembled = match region.pieces {
            [extent] => Assembled { file: backing, range: range_of(extent), map: None, base: None },
            pieces => {
                assemble(&backing, region, means).map_err(|error| NotMounted::Pieces { count: pieces.len(), error })?
            }
        };
        let source = MountSource {
            backing: &assembled.file,
            range: assembled.range,
            fs,
            writable: means.backing.is_writable(),
            with_snapshots: means.with_snapshots,
            scratch: means.scratch,
        };
        let mounted = Mounted::open(&source, means.cancel).map_err(|error| match error {
            MountError::Scratch(ScratchError::Cancelled) => NotOpened::Cancelled,
            MountError::Loop(error) => lacking(fs, driver_obstacle(fs).map_or_else(|| no_loop(&error), str::to_owned)),
            error => NotMounted::Mount(error).into(),
        })?;
        match mounted.root().and_then(|_| mounted.used_bytes()) {
            Ok(_) => Ok(Box::new(MountedRegion { mounted, map: assembled.map, base: assembled.base })),
            Err(error) => Err(NotMounted::Root { fs: fs.to_owned(), error }.into()),
        }
    }

    /// `Ok` does not promise a mount: the kernel may still refuse a damaged filesystem, or one with newer features.
    fn try_out(&self, region: &FsRegion<'_>) -> Result<(), NotOpened> {
        let fs = region.fs;
        if let Some(why) = reaches_outside(fs, &*region.blocks, 0) {
            return Err(NotMounted::ReachesOutside(why).into());
        }
        if let Some(why) = driver_obstacle(fs) {
            return Err(lacking(fs, why.to_owned()));
        }
        try_loop_device().map_err(|error| lacking(fs, no_loop(&error)))?;
        if region.pieces.len() > 1
            && let Err(error) = File::options().read(true).write(true).open(MAPPER)
        {
            return Err(lacking(fs, format!("its pieces cannot be put together: {MAPPER}: {error}")));
        }
        Ok(())
    }
}

fn lacking(fs: &str, why: String) -> NotOpened {
    NotMounted::Lacking { fs: fs.to_owned(), why }.into()
}

fn no_loop(error: &io::Error) -> String {
    format!("no loop device can be made: {error}")
}

/// Attaches a memory file to a loop device and releases it.
fn try_loop_device() -> io::Result<()> {
    let file = File::from(rustix::fs::memfd_create("volbak", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.set_len(TRIED_BYTES)?;
    LoopDevice::attach(&file, ByteRange::new(0, TRIED_BYTES), false).map(drop)
}

/// A region as a mountable device. Fields drop in this order: each keeps the next one busy.
struct Assembled {
    file: File,
    range: ByteRange,
    map: Option<DeviceMap>,
    base: Option<LoopDevice>,
}

fn range_of(extent: &Extent) -> ByteRange {
    ByteRange::new(extent.source_offset, extent.length)
}

/// Joins the extents of a region to one device.
fn assemble(backing: &File, region: &FsRegion<'_>, means: &Means<'_>) -> Result<Assembled, DeviceMapError> {
    let pieces = region.pieces;
    let writable = means.backing.is_writable();
    let (base, base_start, base_path) = if writable {
        (None, 0, means.backing.path().to_owned())
    } else {
        // Only the range that holds the extents: a loop device that showed the label of the tenant's physical
        // volume would be scanned by the host's LVM.
        let start = pieces.iter().map(|piece| piece.source_offset).min().unwrap_or(0);
        let end = pieces.iter().map(|piece| piece.source_offset.saturating_add(piece.length)).max().unwrap_or(0);
        let range = ByteRange::new(start, end.saturating_sub(start));
        let device = LoopDevice::attach(backing, range, false)
            .map_err(|source| DeviceMapError::Base { path: means.backing.path().to_owned(), source })?;
        let path = device.path().to_owned();
        (Some(device), start, path)
    };
    let shifted: Vec<Extent> = pieces
        .iter()
        .map(|piece| Extent { source_offset: piece.source_offset - base_start, length: piece.length })
        .collect();
    let map = DeviceMap::create(&base_path, &shifted, !writable, region.name, Arc::clone(means.commands))?;
    let path = map.path().to_owned();
    let file = File::options()
        .read(true)
        .write(writable)
        .open(&path)
        .map_err(|source| DeviceMapError::Base { path, source })?;
    let len = pieces.iter().map(|piece| piece.length).sum();
    Ok(Assembled { file, range: ByteRange::new(0, len), map: Some(map), base })
}

/// A mounted region with the devices below it. Fields drop in this order.
struct MountedRegion {
    mounted: Mounted,
    map: Option<DeviceMap>,
    base: Option<LoopDevice>,
}

impl Filesystem for MountedRegion {
    fn reader(&self) -> &'static str {
        "kernel"
    }

    fn walk(&self, excludes: Excludes) -> io::Result<Box<dyn FsReader + Send>> {
        Ok(Box::new(self.mounted.walk(excludes)?))
    }

    fn for_each_root_name(&self, with: &mut dyn FnMut(&[u8])) {
        self.mounted.for_each_root_name(with);
    }

    fn used_bytes(&self) -> io::Result<u64> {
        self.mounted.used_bytes()
    }

    fn was_in_use(&self) -> Option<bool> {
        self.mounted.was_in_use
    }

    fn complaints(&self) -> &[String] {
        &self.mounted.complaints
    }

    fn met(&self) -> Vec<Met> {
        self.mounted.met().into_iter().map(|(severity, what)| Met::Whole(severity, what)).collect()
    }

    fn restored_bytes(&self) -> Option<u64> {
        self.mounted.restored_bytes()
    }

    fn btrfs_root(&self) -> Option<OwnedFd> {
        self.mounted.root().ok().filter(|_| self.mounted.fs() == "btrfs")
    }

    fn has_fat_attributes(&self) -> bool {
        self.mounted.root().is_ok_and(fat::has_some)
    }

    fn is_copy(&self) -> bool {
        self.mounted.from_copy
    }

    fn finish(self: Box<Self>) -> Result<(), NotReleased> {
        let Self { mounted, map, base } = *self;
        drop(mounted);
        map.map_or(Ok(()), DeviceMap::finish).map_err(|error| NotReleased(Box::new(error)))?;
        drop(base);
        Ok(())
    }
}
