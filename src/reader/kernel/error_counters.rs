//! Error counters kept by filesystems: errors that the guest counted, and errors added while the filesystem was
//! read here.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::btrfs;
use crate::field::le32;
use crate::outside::{BlockRead, FileBlocks};
use crate::reader::ext4::recorded_errors;

/// ext4 disk layout, super block at byte 1024: `s_error_count` at 0x194.
const EXT_SUPERBLOCK: (u64, usize) = (1024, 1024);
const EXT_ERROR_COUNT: usize = 0x194;
/// Btrfs on-disk format: superblock at 64 KiB.
const BTRFS_SUPERBLOCK: (u64, usize) = (64 << 10, 4096);

/// The counters at mount time.
#[derive(Debug)]
pub(super) enum Counters {
    /// ext: the superblock on the device. The kernel does not update it on a read-only device.
    Ext { place: (FileBlocks, u64), superblock: Vec<u8> },
    /// btrfs: the device number and its counters.
    Btrfs { device: u64, counted: Vec<String> },
    /// A filesystem without counters.
    None,
}

impl Counters {
    /// Reads the counters: for ext from the device, for btrfs from the kernel.
    pub(super) fn new(fs: &str, place: (FileBlocks, u64), mount: &OwnedFd) -> Self {
        match fs {
            "ext2" | "ext3" | "ext4" => {
                let superblock = read(&place, EXT_SUPERBLOCK).unwrap_or_default();
                Self::Ext { place, superblock }
            }
            "btrfs" => read(&place, BTRFS_SUPERBLOCK)
                .and_then(|superblock| btrfs::device_of(&superblock))
                .map_or(Self::None, |device| Self::Btrfs { device, counted: counted(mount, device) }),
            _ => Self::None,
        }
    }

    /// The errors that the guest counted, in words.
    pub(super) fn complaint(&self) -> Option<String> {
        match self {
            Self::Ext { superblock, .. } => recorded_errors(superblock),
            Self::Btrfs { counted, .. } if !counted.is_empty() => Some(format!(
                "the system that it belongs to has counted errors ({}); `btrfs device stats` there shows them",
                counted.join(", ")
            )),
            Self::Btrfs { .. } | Self::None => None,
        }
    }

    /// The errors counted since, in words.
    pub(super) fn more(&self, mount: &OwnedFd) -> Option<String> {
        match self {
            Self::Ext { place, superblock } => {
                let now = read(place, EXT_SUPERBLOCK)?;
                let count = |superblock: &[u8]| le32(superblock, EXT_ERROR_COUNT);
                let more = count(&now)?.saturating_sub(count(superblock)?);
                (more > 0).then(|| format!("{more} by ext4"))
            }
            Self::Btrfs { device, counted: before } => {
                let now = counted(mount, *device);
                (now != *before).then(|| format!("{} by btrfs", now.join(", ")))
            }
            Self::None => None,
        }
    }
}

fn counted(mount: &OwnedFd, device: u64) -> Vec<String> {
    let root = rustix::fs::openat(mount, c".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    root.ok().and_then(|root| btrfs::counted_errors(&root, device).ok()).unwrap_or_default()
}

fn read((blocks, start): &(FileBlocks, u64), (offset, len): (u64, usize)) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    blocks.read_at(start.checked_add(offset)?, &mut bytes).ok().map(|()| bytes)
}
