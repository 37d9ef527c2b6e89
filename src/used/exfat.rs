//! exFAT: the allocation bitmap, which the root directory names ("exFAT file system specification", Microsoft). It must have as
//! used all that the directories lead to.

mod directories;

use super::bits::Clusters;
use super::map::{RunSet, UsedMap, Whole};
use crate::field::{le16, le32, le64};
use crate::outside::{BlockRead, Cancel};
use crate::units::ByteRange;

const VOLUME_DIRTY: u16 = 0x2;
const ENTRY_BYTES: usize = 32;
/// `EntryType` of the bitmap, and of the table of capital letters.
const BITMAP: u8 = 0x81;
const CAPITALS: u8 = 0x82;
/// A root directory of more clusters than this is not gone through.
const ROOT_CLUSTERS_MAX: u64 = 1 << 16;

struct Exfat<'a> {
    blocks: &'a dyn BlockRead,
    table_at: u64,
    clusters: Clusters,
}

impl Exfat<'_> {
    /// The clusters of a chain in their order.
    fn chain(&self, first: u64, max: u64) -> Result<Vec<u64>, Whole> {
        let mut chain = Vec::new();
        let mut cluster = first;
        loop {
            if cluster < 2 || cluster >= self.clusters.count + 2 || chain.len() as u64 >= max {
                return Err(Whole::in_doubt("a chain of its allocation table leads nowhere, or has no end"));
            }
            chain.push(cluster);
            cluster = self.next(cluster)?;
            if cluster == 0xFFFF_FFFF {
                return Ok(chain);
            }
        }
    }

    /// The cluster that the allocation table has behind this one.
    fn next(&self, cluster: u64) -> Result<u64, Whole> {
        let mut next = [0; 4];
        self.blocks.read_at(self.table_at + cluster * 4, &mut next)?;
        Ok(u32::from_le_bytes(next).into())
    }

    fn read(&self, cluster: u64) -> Result<Vec<u8>, Whole> {
        let mut bytes = vec![0; usize::try_from(self.clusters.bytes).unwrap_or(0)];
        self.blocks.read_at(self.clusters.range(cluster - 2, 0).start, &mut bytes)?;
        Ok(bytes)
    }
}

/// The map of the filesystem in `blocks`.
pub(super) fn map(blocks: &dyn BlockRead, cancel: &Cancel) -> Result<UsedMap, Whole> {
    let len = blocks.len_bytes();
    let mut sector = [0; 512];
    blocks.read_at(0, &mut sector)?;
    let senseless = || Whole::in_doubt("its boot sector makes no sense");
    let word = |at: usize| le32(&sector, at).map(u64::from).ok_or_else(senseless);
    let shift = |at: usize| sector.get(at).copied().map(u32::from).ok_or_else(senseless);
    let (sector_shift, cluster_shift) = (shift(108)?, shift(109)?);
    if !(9..=12).contains(&sector_shift) || sector_shift + cluster_shift > 25 {
        return Err(senseless());
    }
    let sector_bytes = 1_u64 << sector_shift;
    let clusters =
        Clusters { first_byte: word(88)? * sector_bytes, bytes: sector_bytes << cluster_shift, count: word(92)? };
    let (table_at, table_bytes) = (word(80)? * sector_bytes, word(84)? * sector_bytes);
    let content_end = clusters.range(clusters.count, 0).start;
    if content_end > len || clusters.count == 0 || (clusters.count + 2) * 4 > table_bytes {
        return Err(senseless());
    }
    if le16(&sector, 106).is_none_or(|flags| flags & VOLUME_DIRTY != 0) {
        return Err(Whole::out_of_date("it was in use: its allocation bitmap may be out of date"));
    }
    if sector.get(110) != Some(&1) {
        return Err(Whole::no_map("it has two allocation tables, of which no map is read"));
    }
    let exfat = Exfat { blocks, table_at, clusters };
    let root = exfat.chain(word(96)?, ROOT_CLUSTERS_MAX)?;
    let mut bitmap = None;
    // What must be used: runs of clusters, first and count.
    let mut must = Vec::new();
    must.extend(root.iter().map(|cluster| (*cluster, 1)));
    'root: for cluster in &root {
        for entry in exfat.read(*cluster)?.chunks_exact(ENTRY_BYTES) {
            let first = le32(entry, 20).map(u64::from).ok_or_else(senseless)?;
            let bytes = le64(entry, 24).ok_or_else(senseless)?;
            match entry[0] {
                0 => break 'root,
                BITMAP if bitmap.is_none() => bitmap = Some((first, bytes)),
                BITMAP => return Err(Whole::no_map("it has two allocation bitmaps, of which no map is read")),
                CAPITALS => must.push((first, 1)),
                _ => {}
            }
        }
    }
    let (first, bytes) = bitmap.ok_or_else(|| Whole::in_doubt("it has no allocation bitmap"))?;
    let wanted = clusters.count.div_ceil(8);
    if bytes < wanted {
        return Err(Whole::in_doubt("its allocation bitmap is shorter than the volume"));
    }
    let mut runs = RunSet::new(len);
    runs.add(ByteRange::new(0, clusters.first_byte));
    runs.add(ByteRange::new(content_end, len - content_end));
    let chain = exfat.chain(first, wanted.div_ceil(clusters.bytes))?;
    for (piece, cluster) in (0..).zip(&chain) {
        if cancel.is_cancelled() {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        let bits = exfat.read(*cluster)?;
        clusters.add_used(&mut runs, piece * clusters.bytes * 8, &bits);
        must.push((*cluster, 1));
    }
    if (chain.len() as u64) * clusters.bytes < wanted {
        return Err(Whole::in_doubt("its allocation bitmap is shorter than the volume"));
    }
    let map = runs.finish();
    for (first, count) in must {
        let is_inside = first >= 2 && first.checked_add(count).is_some_and(|end| end <= clusters.count + 2);
        if !is_inside || !map.covers(clusters.range(first - 2, count)) {
            return Err(Whole::in_doubt(format!("cluster {first} is in use and free in its allocation bitmap")));
        }
    }
    directories::check(&exfat, word(96)?, &map, cancel)?;
    Ok(map)
}
