//! Loop devices: a byte range of a file or device as a block device.
//!
//! One of six files with `unsafe`: rustix has no safe form of the loop driver's ioctls. Sources: the kernel's
//! `include/uapi/linux/loop.h` and loop(4).

#![allow(unsafe_code, clippy::struct_field_names)]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl};

use crate::units::ByteRange;

/// `LOOP_CTL_GET_FREE`: returns the number of a free loop device as the ioctl's result.
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
/// `LOOP_CONFIGURE` (Linux 5.8): attaches a file and sets everything in one step.
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Another process may attach the free device first; then the next one is tried.
const MAX_ATTEMPTS: u32 = 64;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo64 {
    lo_device: u64,
    lo_inode: u64,
    lo_rdevice: u64,
    lo_offset: u64,
    lo_sizelimit: u64,
    lo_number: u32,
    lo_encrypt_type: u32,
    lo_encrypt_key_size: u32,
    lo_flags: u32,
    lo_file_name: [u8; 64],
    lo_crypt_name: [u8; 64],
    lo_encrypt_key: [u8; 32],
    lo_init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo64>() == 232 && size_of::<LoopConfig>() == 304);

struct GetFree;

// SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number or an error, as the impl says.
unsafe impl Ioctl for GetFree {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(number: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(number)
    }
}

/// A loop device that the kernel detaches when its last user is gone: this value, or a mount of it. Nothing remains
/// after kill -9.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// Shows `range` of `backing` as a block device. With `writable`, `backing` must be open for writing. Errors:
    /// no loop driver, no free device, no permission, or an offset that is no multiple of 512.
    pub fn attach(backing: &File, range: ByteRange, writable: bool) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        // A descriptor is not negative while its file is open.
        let fd = u32::try_from(backing.as_fd().as_raw_fd()).map_err(|_| Errno::BADF)?;
        for _ in 0..MAX_ATTEMPTS {
            // SAFETY: the impl of Ioctl above describes this ioctl correctly.
            let number = unsafe { ioctl(&control, GetFree) }?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let open = OpenOptions::new().read(true).write(writable).open(&path)?;
            let read_only_flag = if writable { 0 } else { LO_FLAGS_READ_ONLY };
            let config = LoopConfig {
                fd,
                block_size: 0,
                info: LoopInfo64 {
                    lo_device: 0,
                    lo_inode: 0,
                    lo_rdevice: 0,
                    lo_offset: range.start,
                    lo_sizelimit: range.len,
                    lo_number: 0,
                    lo_encrypt_type: 0,
                    lo_encrypt_key_size: 0,
                    lo_flags: LO_FLAGS_AUTOCLEAR | read_only_flag,
                    lo_file_name: [0; 64],
                    lo_crypt_name: [0; 64],
                    lo_encrypt_key: [0; 32],
                    lo_init: [0; 2],
                },
                reserved: [0; 8],
            };
            // SAFETY: LOOP_CONFIGURE reads one struct loop_config; the assertion above checks its layout.
            match unsafe { ioctl(&open, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) } {
                Ok(()) => return Ok(Self { path, _open: open }),
                Err(Errno::BUSY) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "other processes took every free loop device first"))
    }

    /// The device node, `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
