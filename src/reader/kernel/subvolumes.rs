//! Btrfs subvolumes: queried while a filesystem is read, created while it is restored.
//!
//! One of six files with `unsafe`: rustix has no safe form of these ioctls. Sources: the kernel's
//! `include/uapi/linux/btrfs.h` and `btrfs_tree.h`.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

use super::tree_search::{ROOT_ITEM, ROOT_TREE, search};

/// `BTRFS_FIRST_FREE_OBJECTID`: the inode of a subvolume's root directory, and the lowest id of a subvolume.
pub const ROOT_INODE: u64 = 256;
/// `BTRFS_FS_TREE_OBJECTID`: the id of the top-level subvolume.
pub const TOP_ID: u64 = 5;

const MAGIC: u8 = 0x94;
const SUBVOL_CREATE: Opcode = opcode::write::<VolumeArgs>(MAGIC, 14);
const SNAP_DESTROY: Opcode = opcode::write::<VolumeArgs>(MAGIC, 15);
const DEFAULT_SUBVOL: Opcode = opcode::write::<u64>(MAGIC, 19);
const SUBVOL_GETFLAGS: Opcode = opcode::read::<u64>(MAGIC, 25);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(MAGIC, 26);
const GET_SUBVOL_INFO: Opcode = opcode::read::<SubvolumeInfo>(MAGIC, 60);

const SUBVOL_RDONLY: u64 = 1 << 1;
const ROOT_SUBVOL_RDONLY: u64 = 1;
const ROOT_TREE_DIR_OBJECTID: u64 = 6;
const QUOTA_TREE_OBJECTID: u64 = 8;
const DIR_ITEM_KEY: u32 = 84;
/// `BTRFS_SUBVOL_NAME_MAX`, and the bytes after it.
const NAME_MAX: usize = 4087;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolumeArgs {
    fd: i64,
    name: [u8; NAME_MAX + 1],
}

/// `struct btrfs_ioctl_get_subvol_info_args`; times and transaction ids are not used.
#[repr(C)]
struct SubvolumeInfo {
    treeid: u64,
    name: [u8; 256],
    parent_id: u64,
    dirid: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    rest: [u64; 20],
}

const _: () = assert!(size_of::<VolumeArgs>() == 4096 && size_of::<SubvolumeInfo>() == 504);

/// A subvolume, as the kernel describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subvolume {
    /// The subvolume id.
    pub id: u64,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Its UUID; zero for subvolumes made before Linux 3.6.
    pub uuid: [u8; 16],
    /// The UUID of the subvolume that it is a snapshot of; zero if it is no snapshot.
    pub parent_uuid: [u8; 16],
    /// The UUID of the sent subvolume (`btrfs receive`); zero if it was not received.
    pub received_uuid: [u8; 16],
}

/// The subvolume at `path` below `root`. `path` neither starts nor ends with `/`. Links are not followed.
pub fn subvolume_at(root: impl AsFd, path: &[u8]) -> io::Result<Subvolume> {
    subvolume_of(open_below(root.as_fd(), path)?)
}

/// The subvolume that contains `file`.
pub fn subvolume_of(file: impl AsFd) -> io::Result<Subvolume> {
    let mut info = SubvolumeInfo {
        treeid: 0,
        name: [0; 256],
        parent_id: 0,
        dirid: 0,
        generation: 0,
        flags: 0,
        uuid: [0; 16],
        parent_uuid: [0; 16],
        received_uuid: [0; 16],
        rest: [0; 20],
    };
    // SAFETY: BTRFS_IOC_GET_SUBVOL_INFO writes one struct of this layout; the assertion above checks its length.
    unsafe { ioctl(file, Updater::<GET_SUBVOL_INFO, SubvolumeInfo>::new(&mut info)) }?;
    Ok(Subvolume {
        id: info.treeid,
        read_only: info.flags & ROOT_SUBVOL_RDONLY != 0,
        uuid: info.uuid,
        parent_uuid: info.parent_uuid,
        received_uuid: info.received_uuid,
    })
}

/// The id of the default subvolume.
pub fn default_id(root: impl AsFd) -> io::Result<Option<u64>> {
    let found = first_item(root, ROOT_TREE_DIR_OBJECTID, DIR_ITEM_KEY)?;
    // `struct btrfs_dir_item`: the key of the target, 13 bytes, the length of the name, and the name `default`.
    let item = found.as_deref().and_then(|item| item.get(..8));
    Ok(item.and_then(|id| Some(u64::from_le_bytes(id.try_into().ok()?))))
}

/// Whether quotas are enabled.
pub fn has_quotas(root: impl AsFd) -> io::Result<bool> {
    Ok(first_item(root, QUOTA_TREE_OBJECTID, ROOT_ITEM)?.is_some())
}

/// The first item with this object id and type in the root tree.
fn first_item(root: impl AsFd, objectid: u64, kind: u32) -> io::Result<Option<Vec<u8>>> {
    let mut first = None;
    search(root, ROOT_TREE, objectid..=objectid, kind..=kind, |item| {
        first = Some(item.bytes.to_vec());
        ControlFlow::Break(())
    })?;
    Ok(first)
}

/// Creates the subvolume `name` in `directory`.
pub fn create(directory: impl AsFd, name: &[u8]) -> io::Result<()> {
    // SAFETY: BTRFS_IOC_SUBVOL_CREATE reads one struct of this layout; the assertion above checks its length.
    Ok(unsafe { ioctl(directory, Setter::<SUBVOL_CREATE, VolumeArgs>::new(volume_args(name)?)) }?)
}

/// Deletes the subvolume `name` in `directory`.
pub fn destroy(directory: impl AsFd, name: &[u8]) -> io::Result<()> {
    // SAFETY: BTRFS_IOC_SNAP_DESTROY reads one struct of this layout; the assertion above checks its length.
    Ok(unsafe { ioctl(directory, Setter::<SNAP_DESTROY, VolumeArgs>::new(volume_args(name)?)) }?)
}

fn volume_args(name: &[u8]) -> io::Result<VolumeArgs> {
    let mut args = VolumeArgs { fd: 0, name: [0; NAME_MAX + 1] };
    // The final NUL stays.
    args.name.get_mut(..name.len()).filter(|_| name.len() <= NAME_MAX).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(name);
    Ok(args)
}

/// Makes the subvolume at `path` read-only.
pub fn make_read_only(root: impl AsFd, path: &[u8]) -> io::Result<()> {
    let directory = open_below(root.as_fd(), path)?;
    let mut flags = 0_u64;
    // SAFETY: BTRFS_IOC_SUBVOL_GETFLAGS writes and BTRFS_IOC_SUBVOL_SETFLAGS reads one u64.
    unsafe {
        ioctl(&directory, Updater::<SUBVOL_GETFLAGS, u64>::new(&mut flags))?;
        ioctl(&directory, Setter::<SUBVOL_SETFLAGS, u64>::new(flags | SUBVOL_RDONLY))?;
    }
    Ok(())
}

/// Makes subvolume `id` the default one.
pub fn make_default(root: impl AsFd, id: u64) -> io::Result<()> {
    // SAFETY: BTRFS_IOC_DEFAULT_SUBVOL reads one u64.
    Ok(unsafe { ioctl(root, Setter::<DEFAULT_SUBVOL, u64>::new(id)) }?)
}

/// Opens a directory below `root` without following links.
pub fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let path = CString::new(if path.is_empty() { b"." } else { path }).map_err(|_| Errno::INVAL)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, &path, flags, Mode::empty(), resolve)?)
}
