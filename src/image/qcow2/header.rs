//! The header: "Header", "The first cluster of a qcow2 image contains the file header".

use crate::image::format::{Compat, Compression, Qcow2Options};
use crate::image::qcow2::MAGIC;

/// A header of version 2.
pub(super) const V2_BYTES: usize = 72;
/// The shortest header of version 3, without `compression_type`.
pub(super) const V3_BYTES: usize = 104;
/// What is written as version 3: with `compression_type`, padded to 8 bytes.
const WRITTEN_V3_BYTES: u32 = 112;
/// `incompatible_features`, bit 3: `compression_type` is not 0.
pub(super) const COMPRESSION_TYPE: u64 = 1 << 3;
/// `refcount_order`: entries of 16 bits.
const REFCOUNT_ORDER: u32 = 4;

/// What a new image's header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) options: Qcow2Options,
    pub(super) disk_bytes: u64,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u32,
}

impl Written {
    /// The header, with the end of the header extensions after it, which is zeros.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(MAGIC);
        let version: u32 = match self.options.compat {
            Compat::V2 => 2,
            Compat::V3 => 3,
        };
        bytes.extend(version.to_be_bytes());
        bytes.extend([0; 12]); // backing_file_offset, backing_file_size
        bytes.extend(self.options.cluster.bits().to_be_bytes());
        bytes.extend(self.disk_bytes.to_be_bytes());
        bytes.extend([0; 4]); // crypt_method
        bytes.extend(self.l1_entries.to_be_bytes());
        bytes.extend(self.l1_offset.to_be_bytes());
        bytes.extend(self.refcount_table_offset.to_be_bytes());
        bytes.extend(self.refcount_table_clusters.to_be_bytes());
        bytes.extend([0; 12]); // nb_snapshots, snapshots_offset
        if self.options.compat == Compat::V3 {
            let zstd = self.options.compression == Some(Compression::Zstd);
            bytes.extend((if zstd { COMPRESSION_TYPE } else { 0 }).to_be_bytes());
            bytes.extend([0; 16]); // compatible_features, autoclear_features
            bytes.extend(REFCOUNT_ORDER.to_be_bytes());
            bytes.extend(WRITTEN_V3_BYTES.to_be_bytes());
            bytes.push(u8::from(zstd)); // compression_type
            bytes.extend([0; 7]);
        }
        bytes.extend([0; 8]); // the end of the header extensions
        bytes
    }
}
