//! Where what is in a new image: decided before the first byte is written.

use crate::image::format::Qcow2Options;
use crate::image::qcow2::{L1_BYTES_MAX, REFCOUNT_TABLE_BYTES_MAX};
use crate::image::runs::{Amount, DataRuns};
use std::io;

/// The disk cannot be in an image with clusters of this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a disk of {disk_bytes} bytes is too large for a qcow2 image with clusters of {cluster_bytes} bytes: QEMU would refuse \
     its {table}; choose larger clusters"
)]
pub struct TooLarge {
    /// The length of the disk.
    pub disk_bytes: u64,
    /// The size of a cluster.
    pub cluster_bytes: u64,
    /// The table that is too large.
    pub table: &'static str,
}

/// The parts of a new image in their order: the header, then data clusters, each group of which is followed by its L2 table,
/// and refcount blocks among them; at the end the refcount table and the L1 table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(super) options: Qcow2Options,
    /// A multiple of 512.
    pub(super) disk_bytes: u64,
    /// Data clusters at the most. Clusters of zeros are not among those that are written.
    pub(super) data_clusters: u64,
    pub(super) l2_tables: u64,
    pub(super) l1_entries: u32,
    pub(super) l1_clusters: u64,
    /// Refcount blocks for all that is in the image at the most.
    pub(super) refcount_blocks: u64,
    pub(super) refcount_table_clusters: u32,
}

impl Layout {
    /// The layout of an image of a disk of this length, of which `runs` are data. Its length is rounded up to sectors of 512.
    pub fn of(options: Qcow2Options, disk_bytes: u64, runs: DataRuns<'_>) -> io::Result<Result<Self, TooLarge>> {
        let cluster_bytes = options.cluster.bytes();
        let group_bytes = cluster_bytes * (cluster_bytes / 8);
        let amount = Amount::of(runs, cluster_bytes, group_bytes)?;
        Ok(Self::with(options, disk_bytes, amount))
    }

    fn with(options: Qcow2Options, disk_bytes: u64, amount: Amount) -> Result<Self, TooLarge> {
        let cluster_bytes = options.cluster.bytes();
        let too_large = |table| TooLarge { disk_bytes, cluster_bytes, table };
        let disk_bytes = disk_bytes.checked_next_multiple_of(512).ok_or(too_large("L1 table"))?;
        let l1_entries = disk_bytes.div_ceil(cluster_bytes * (cluster_bytes / 8));
        if l1_entries * 8 > L1_BYTES_MAX {
            return Err(too_large("L1 table"));
        }
        let l1_clusters = (l1_entries * 8).div_ceil(cluster_bytes);
        let rest = 1 + amount.clusters + amount.groups + l1_clusters;
        let (refcount_blocks, refcount_table_clusters) = refcounts_for(options, rest);
        if refcount_table_clusters * cluster_bytes > REFCOUNT_TABLE_BYTES_MAX.max(cluster_bytes) {
            return Err(too_large("refcount table"));
        }
        Ok(Self {
            options,
            disk_bytes,
            data_clusters: amount.clusters,
            l2_tables: amount.groups,
            l1_entries: u32::try_from(l1_entries).map_err(|_| too_large("L1 table"))?,
            l1_clusters,
            refcount_blocks,
            refcount_table_clusters: u32::try_from(refcount_table_clusters).map_err(|_| too_large("refcount table"))?,
        })
    }

    /// The number of bytes of the disk as the image has it.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// The length of the image, if no cluster is all zeros and nothing is compressed.
    pub fn image_bytes_max(&self) -> u64 {
        (self.tables_at() + u64::from(self.refcount_table_clusters) + self.l1_clusters) * self.options.cluster.bytes()
    }

    /// The cluster at which the refcount table begins, if no cluster is all zeros.
    pub(super) fn tables_at(&self) -> u64 {
        1 + self.data_clusters + self.l2_tables + self.refcount_blocks
    }
}

/// How many clusters are covered by one refcount block.
pub(super) fn clusters_per_block(options: Qcow2Options) -> u64 {
    options.cluster.bytes() / 2
}

/// How many refcount blocks, and clusters of their table, go with this number of other clusters: they count themselves, too.
pub(super) fn refcounts_for(options: Qcow2Options, rest: u64) -> (u64, u64) {
    let (mut blocks, mut table) = (0, 0);
    loop {
        let needed = (rest + blocks + table).div_ceil(clusters_per_block(options));
        let needed_table = (needed * 8).div_ceil(options.cluster.bytes());
        if (needed, needed_table) == (blocks, table) {
            return (blocks, table);
        }
        (blocks, table) = (needed, needed_table);
    }
}
