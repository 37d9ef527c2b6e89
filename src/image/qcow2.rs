//! qcow2, versions 2 and 3, as QEMU's `docs/interop/qcow2.txt` has it. All numbers are big-endian.
//!
//! A guest's cluster is found in two steps: the L1 table has the offset of an L2 table, which has the offset of the
//! cluster. Refcounts say which clusters of the file are in use.

mod compress;
mod error;
mod header;
mod layout;
mod open;
mod read;
mod refcounts;
mod tables;
mod write;

pub use error::Qcow2Error;
pub use layout::{Layout, TooLarge};
pub use read::Qcow2;
pub use write::Qcow2Writer;

/// `QFI\xfb`.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";
/// L1 entry, and L2 entry of a standard cluster, bits 9 to 55: the offset in the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63: the refcount is exactly one.
const COPIED: u64 = 1 << 63;
/// L2 entry, bit 62: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// L2 entry of a standard cluster, bit 0, version 3: it reads as zeros.
const ZERO: u64 = 1;
/// QEMU refuses an L1 table of more bytes (`QCOW_MAX_L1_SIZE`).
const L1_BYTES_MAX: u64 = 32 << 20;
/// QEMU refuses a refcount table of more bytes (`QCOW_MAX_REFTABLE_SIZE`).
const REFCOUNT_TABLE_BYTES_MAX: u64 = 8 << 20;
