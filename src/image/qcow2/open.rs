//! Reads the header of an image, and refuses unsupported features.

use crate::image::format::{ClusterBits, Compression};
use crate::image::qcow2::error::{Qcow2Error, unreadable};
use crate::image::qcow2::header::{COMPRESSION_TYPE, V2_BYTES, V3_BYTES};
use crate::image::qcow2::{L1_BYTES_MAX, MAGIC};
use crate::outside::BlockRead;
use crate::shown;

const CONVERT: &str = "`qemu-img convert -O qcow2` makes an image without it";
/// QEMU refuses longer names (`JSON`, 1023 bytes).
const NAME_BYTES_MAX: u32 = 1023;

/// The checked fields of a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster: ClusterBits,
    pub(super) disk_bytes: u64,
    /// As many as the disk needs.
    pub(super) l1_entries: u64,
    pub(super) l1_offset: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u32,
    pub(super) compression: Compression,
    pub(super) is_dirty: bool,
    pub(super) snapshots: u32,
}

/// Fields of the header, by their offsets in the specification.
struct Fields([u8; V3_BYTES + 8]);

impl Fields {
    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) << 32 | u64::from(self.u32(at + 4))
    }
}

impl Header {
    pub(super) fn read(blocks: &dyn BlockRead) -> Result<Self, Qcow2Error> {
        let damaged = |what: String| Qcow2Error::damaged("the header", what);
        let unsupported = |what: &str| Qcow2Error::Unsupported { what: what.to_owned(), todo: CONVERT };
        let file_bytes = blocks.len_bytes();
        let mut fields = Fields([0; V3_BYTES + 8]);
        if file_bytes < V2_BYTES as u64 {
            return Err(Qcow2Error::NotQcow2);
        }
        let looked_at = usize::try_from(file_bytes).unwrap_or(usize::MAX).min(fields.0.len());
        blocks.read_at(0, &mut fields.0[..looked_at]).map_err(unreadable(0))?;
        if !fields.0.starts_with(&MAGIC) {
            return Err(Qcow2Error::NotQcow2);
        }
        let version = fields.u32(4);
        if !(2..=3).contains(&version) {
            return Err(unsupported(&format!(
                "it is of version {version} of the format, and versions 2 and 3 are read"
            )));
        }
        let cluster = ClusterBits::new(fields.u32(20))
            .ok_or_else(|| damaged(format!("a cluster has two to the power of {} bytes", fields.u32(20))))?;
        let (mut incompatible, mut compression_type) = (0, 0);
        if version == 3 {
            incompatible = fields.u64(72);
            let header_bytes = fields.u32(100);
            if u64::from(header_bytes) > cluster.bytes() || header_bytes < 104 || looked_at < V3_BYTES {
                return Err(damaged(format!("it says that it is {header_bytes} bytes long")));
            }
            if incompatible & COMPRESSION_TYPE != 0 && header_bytes > 104 {
                compression_type = fields.0[104];
            }
            if fields.u32(96) > 6 {
                return Err(damaged(format!("a refcount has two to the power of {} bits", fields.u32(96))));
            }
        }
        if fields.u64(8) != 0 {
            return Err(unsupported(&format!(
                "it has a backing file, {}, and is no whole disk without it: shut the instance down, make a copy that is whole \
                 (`qemu-img convert -O qcow2 DISK COPY.qcow2`), and take that",
                backing_file(blocks, &fields)
            )));
        }
        if fields.u32(32) != 0 {
            return Err(unsupported("it is encrypted"));
        }
        // "Bit 1: Corrupt bit. If this bit is set then any data structure may be corrupt".
        if incompatible & 1 << 1 != 0 {
            return Err(damaged("QEMU marked the image as corrupt".to_owned()));
        }
        for (bit, what) in [(2, "it has an external data file"), (4, "it has extended L2 entries")] {
            if incompatible & 1 << bit != 0 {
                return Err(unsupported(what));
            }
        }
        if incompatible & !0b1_1111 != 0 {
            return Err(unsupported(&format!(
                "it has features that are not known (incompatible_features {incompatible:#x})"
            )));
        }
        let compression = match compression_type {
            0 => Compression::Zlib,
            1 => Compression::Zstd,
            other => return Err(unsupported(&format!("its compression_type is {other}, which is not known"))),
        };
        let (disk_bytes, l1_size, l1_offset) = (fields.u64(24), fields.u32(36), fields.u64(40));
        let group_bytes = cluster.bytes() * (cluster.bytes() / 8);
        let l1_entries = disk_bytes.div_ceil(group_bytes);
        if i64::try_from(disk_bytes).is_err() || l1_entries * 8 > L1_BYTES_MAX || u64::from(l1_size) * 8 > L1_BYTES_MAX
        {
            return Err(damaged(format!("a disk of {disk_bytes} bytes, with an L1 table of {l1_size} entries")));
        }
        if u64::from(l1_size) < l1_entries {
            return Err(damaged(format!("the L1 table has {l1_size} entries, and the disk needs {l1_entries}")));
        }
        let l1_end = l1_offset.checked_add(l1_entries * 8);
        if l1_entries > 0 && (!l1_offset.is_multiple_of(cluster.bytes()) || l1_offset == 0) {
            return Err(damaged(format!("the L1 table is at byte {l1_offset}, which is no cluster")));
        }
        if l1_entries > 0 && l1_end.is_none_or(|end| end > file_bytes) {
            let end = l1_end.unwrap_or(u64::MAX);
            return Err(Qcow2Error::CutOff { place: "the L1 table".to_owned(), end, file_bytes });
        }
        Ok(Self {
            version,
            cluster,
            disk_bytes,
            l1_entries,
            l1_offset,
            refcount_table_offset: fields.u64(48),
            refcount_table_clusters: fields.u32(56),
            compression,
            is_dirty: incompatible & 1 != 0,
            snapshots: fields.u32(60),
        })
    }
}

/// The name of the backing file, as text for people.
fn backing_file(blocks: &dyn BlockRead, fields: &Fields) -> String {
    let (offset, len) = (fields.u64(8), fields.u32(16).min(NAME_BYTES_MAX));
    let mut name = vec![0; len as usize];
    match blocks.read_at(offset, &mut name) {
        Ok(()) => shown::bytes(&name),
        Err(_) => "whose name cannot be read".to_owned(),
    }
}
