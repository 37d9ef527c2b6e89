//! FAT12, FAT16 and FAT32: the file allocation tables. A cluster is free when all of them have it as free. What a directory or
//! a chain leads to must be used.

mod directories;

use super::bits::Clusters;
use super::map::{MapBuilder, UsedMap, Whole};
use crate::field::{le16, le32};
use crate::outside::{BlockRead, Cancel};
use crate::units::ByteRange;

/// A table is read in pieces of this many entries, an even number.
const PIECE_ENTRIES: u64 = 1 << 18;
/// `FAT_STATE_DIRTY`, and the boot sector's byte with it for FAT32 and the others.
const STATE_DIRTY: u8 = 1;
const STATES_AT: [usize; 2] = [0x41, 0x25];

struct Fat {
    bits: u64,
    sector_bytes: u64,
    tables_at: u64,
    table_bytes: u64,
    tables: u64,
    root: Option<u64>,
    clusters: Clusters,
}

impl Fat {
    fn decode(sector: &[u8], len: u64) -> Option<Self> {
        let half = |at: usize| le16(sector, at).map(u64::from);
        let word = |at: usize| le32(sector, at).map(u64::from);
        let byte = |at: usize| sector.get(at).copied().map(u64::from);
        let (sector_bytes, in_cluster, reserved, tables) = (half(11)?, byte(13)?, half(14)?, byte(16)?);
        let total = if half(19)? == 0 { word(32)? } else { half(19)? };
        let is_32 = half(22)? == 0;
        let table_sectors = if is_32 { word(36)? } else { half(22)? };
        let is_right = sector_bytes.is_power_of_two()
            && (512..=4096).contains(&sector_bytes)
            && in_cluster.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&tables)
            // Only FAT32 has its root directory in clusters.
            && is_32 == (half(17)? == 0)
            && total * sector_bytes <= len;
        if !is_right {
            return None;
        }
        let root_sectors = (half(17)? * 32).div_ceil(sector_bytes);
        let data = reserved + tables * table_sectors + root_sectors;
        let count = total.checked_sub(data)? / in_cluster;
        // As Linux tells them apart.
        let bits = match (is_32, count) {
            (true, _) => 32,
            (false, ..=4084) => 12,
            (false, _) => 16,
        };
        let table_bytes = table_sectors * sector_bytes;
        let fits = (count + 2).checked_mul(bits)?.div_ceil(8) <= table_bytes;
        let cluster_bytes = in_cluster * sector_bytes;
        (fits && count > 0).then_some(Self {
            bits,
            sector_bytes,
            tables_at: reserved * sector_bytes,
            table_bytes,
            tables,
            root: if is_32 { Some(word(44)?) } else { None },
            clusters: Clusters { first_byte: data * sector_bytes, bytes: cluster_bytes, count },
        })
    }

    /// Calls `with` with each cluster's number and its entries in all tables.
    fn for_each(
        &self,
        blocks: &dyn BlockRead,
        cancel: &Cancel,
        mut with: impl FnMut(u64, [u32; 2]) -> Result<(), Whole>,
    ) -> Result<(), Whole> {
        let end = self.clusters.count + 2;
        let mut bufs = [Vec::new(), Vec::new()];
        let mut first = 0;
        while first < end {
            if cancel.is_cancelled() {
                return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
            }
            let entries = PIECE_ENTRIES.min(end - first);
            let (from, to) = (first * self.bits / 8, ((first + entries) * self.bits).div_ceil(8));
            for (table, buf) in (0..self.tables).zip(&mut bufs) {
                buf.resize(usize::try_from(to - from).unwrap_or(0), 0);
                blocks.read_at(self.tables_at + table * self.table_bytes + from, buf)?;
            }
            let tables = usize::try_from(self.tables).unwrap_or(1);
            for entry in 0..entries {
                if first + entry < 2 {
                    continue;
                }
                let one = self.entry(&bufs[0], entry);
                let two = if tables == 2 { self.entry(&bufs[1], entry) } else { one };
                let (Some(one), Some(two)) = (one, two) else {
                    return Err(Whole::in_doubt("its allocation table is cut off"));
                };
                with(first + entry, [one, two])?;
            }
            first += entries;
        }
        Ok(())
    }

    fn entry(&self, piece: &[u8], index: u64) -> Option<u32> {
        let at = usize::try_from(index * self.bits / 8).ok()?;
        match self.bits {
            12 => {
                let both = le16(piece, at)?;
                Some(u32::from(if index.is_multiple_of(2) { both & 0xFFF } else { both >> 4 }))
            }
            16 => le16(piece, at).map(u32::from),
            _ => le32(piece, at).map(|entry| entry & 0x0FFF_FFFF),
        }
    }

    /// The entry of one cluster in the first table.
    fn entry_of(&self, blocks: &dyn BlockRead, cluster: u64) -> Result<u64, Whole> {
        let (at, odd) = (cluster * self.bits / 8, if self.bits == 12 { cluster % 2 } else { 0 });
        let mut bytes = [0; 4];
        // The table is longer than its last entry.
        let len = if self.bits == 32 { 4 } else { 2 };
        blocks.read_at(self.tables_at + at, &mut bytes[..len])?;
        let both = u32::from_le_bytes(bytes);
        Ok(match self.bits {
            12 if odd == 1 => both >> 4,
            12 => both & 0xFFF,
            16 => both,
            _ => both & 0x0FFF_FFFF,
        }
        .into())
    }

    /// The root directory of FAT12 and FAT16, which lies before the clusters.
    fn fixed_root(&self) -> ByteRange {
        let start = self.tables_at + self.tables * self.table_bytes;
        ByteRange::new(start, self.clusters.first_byte.saturating_sub(start))
    }

    fn range_of(&self, cluster: u64) -> ByteRange {
        self.clusters.range(cluster - 2, 1)
    }
}

/// The map of the filesystem in `blocks`.
pub(super) fn map(blocks: &dyn BlockRead, cancel: &Cancel) -> Result<UsedMap, Whole> {
    let len = blocks.len_bytes();
    let mut sector = [0; 512];
    blocks.read_at(0, &mut sector)?;
    let fat = Fat::decode(&sector, len).ok_or_else(|| Whole::in_doubt("its boot sector makes no sense"))?;
    check_first_entries(&fat, &sector, blocks)?;
    let state_at = STATES_AT[usize::from(fat.bits != 32)];
    if sector.get(state_at).is_some_and(|state| state & STATE_DIRTY != 0) {
        return Err(Whole::out_of_date("it was in use: its allocation table may be out of date"));
    }
    check_clean_bits(&fat, blocks)?;
    let mut builder = MapBuilder::new(len);
    builder.add(ByteRange::new(0, fat.clusters.first_byte));
    fat.for_each(blocks, cancel, |cluster, entries| {
        if entries != [0, 0] {
            builder.add(fat.range_of(cluster));
        }
        Ok(())
    })?;
    let content_end = fat.clusters.range(fat.clusters.count, 0).start;
    builder.add(ByteRange::new(content_end, len.saturating_sub(content_end)));
    let map = builder.finish();
    if let Some(root) = fat.root
        && (root < 2 || root >= fat.clusters.count + 2 || !map.covers(fat.range_of(root)))
    {
        return Err(Whole::in_doubt("its root directory is free in its allocation table"));
    }
    // A chain must not lead to a free cluster.
    let first_end = (1_u64 << fat.bits.min(28)) - 16;
    fat.for_each(blocks, cancel, |cluster, entries| {
        for next in entries.map(u64::from).into_iter().filter(|next| *next != 0 && *next < first_end) {
            if next < 2 || next >= fat.clusters.count + 2 || !map.covers(fat.range_of(next)) {
                return Err(Whole::in_doubt(format!(
                    "cluster {cluster} leads to cluster {next}, which is free or not there"
                )));
            }
        }
        Ok(())
    })?;
    directories::check(&fat, blocks, &map, cancel)?;
    Ok(map)
}

/// The first entry of each table has the medium's byte of the boot sector, and ones: a table is where the boot sector says.
fn check_first_entries(fat: &Fat, sector: &[u8], blocks: &dyn BlockRead) -> Result<(), Whole> {
    let ones = (1_u32 << fat.bits.min(28)) - 1;
    let medium = sector.get(21).map(|medium| ones & !0xFF | u32::from(*medium));
    for table in 0..fat.tables {
        let mut first = [0; 4];
        blocks.read_at(fat.tables_at + table * fat.table_bytes, &mut first)?;
        if fat.entry(&first, 0) != medium {
            return Err(Whole::in_doubt("its allocation tables are not where its boot sector says"));
        }
    }
    Ok(())
}

/// Windows says in the second entry whether it was in use.
fn check_clean_bits(fat: &Fat, blocks: &dyn BlockRead) -> Result<(), Whole> {
    let clean = match fat.bits {
        16 => 0x8000,
        32 => 0x0800_0000,
        _ => return Ok(()),
    };
    let mut bytes = vec![0; usize::try_from(fat.sector_bytes).unwrap_or(512)];
    blocks.read_at(fat.tables_at, &mut bytes)?;
    match fat.entry(&bytes, 1) {
        Some(entry) if entry & clean != 0 => Ok(()),
        _ => Err(Whole::out_of_date("it was in use: its allocation table may be out of date")),
    }
}
