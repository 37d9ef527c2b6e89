//! The tables of an image that is read.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::image::qcow2::error::{Qcow2Error, unreadable};
use crate::image::qcow2::open::Header;
use crate::image::qcow2::{COMPRESSED, OFFSET_MASK, REFCOUNT_TABLE_BYTES_MAX, ZERO};
use crate::outside::BlockRead;

/// Tables that were read are kept up to this size together, and two at the least.
const KEPT_BYTES: usize = 4 << 20;
/// For more clusters than this, each with a bit, it is counted how many there are instead of looked which.
const BITS_MAX: u64 = 1 << 27;
/// L1 entry: all bits that have a meaning.
const L1_MEANING: u64 = OFFSET_MASK | 1 << 63;

/// Where a cluster of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It reads as zeros.
    Zero,
    /// At this offset in the file.
    Plain(u64),
    /// Compressed, in this number of bytes at this offset, or fewer.
    Compressed(u64, u64),
}

/// The L1 table, and L2 tables as they are needed.
pub(super) struct Tables {
    pub(super) header: Header,
    l1: Vec<u64>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    tables: HashMap<u64, Arc<Vec<u64>>>,
    order: VecDeque<u64>,
}

impl Tables {
    /// Reads the L1 table, and each L2 table once to see whether they can be true: all that they point to lies in the file,
    /// and nothing twice.
    pub(super) fn read(blocks: &dyn BlockRead, header: Header) -> Result<Self, Qcow2Error> {
        let l1 = read_entries(blocks, header.l1_offset, header.l1_entries)?;
        let cluster_bytes = header.cluster.bytes();
        let tables = Self { header, l1, kept: Mutex::default() };
        let mut taken = Taken::new(blocks.len_bytes().div_ceil(cluster_bytes));
        taken.take(0, 1, || "the header".to_owned())?;
        let l1_clusters = (header.l1_entries * 8).div_ceil(cluster_bytes);
        taken.take(header.l1_offset / cluster_bytes, l1_clusters, || "the L1 table".to_owned())?;
        take_refcounts(&mut taken, blocks, &header)?;
        // All tables come before all data, so that it is a table that is at fault when data lie in it.
        for (number, entry) in (0_u64..).zip(&tables.l1) {
            let Some(offset) = tables.l2_offset(number, *entry, blocks.len_bytes())? else { continue };
            taken.take(offset / cluster_bytes, 1, || format!("the L2 table of L1 entry {number}, at byte {offset}"))?;
        }
        for (number, entry) in (0_u64..).zip(&tables.l1) {
            let Some(offset) = tables.l2_offset(number, *entry, blocks.len_bytes())? else { continue };
            let entries = read_entries(blocks, offset, cluster_bytes / 8)?;
            for (index, entry) in (0_u64..).zip(&entries) {
                let guest = (number * (cluster_bytes / 8) + index) * cluster_bytes;
                if guest >= header.disk_bytes {
                    break;
                }
                let place = tables.place(*entry, guest, blocks.len_bytes())?;
                match place {
                    Place::Plain(offset) => {
                        taken.take(offset / cluster_bytes, 1, || {
                            format!("the cluster of the disk's byte {guest}, at byte {offset} of the file")
                        })?;
                    }
                    Place::Compressed(..) => taken.compressed(blocks.len_bytes())?,
                    Place::Zero => {}
                }
            }
        }
        Ok(tables)
    }

    fn l2_offset(&self, number: u64, entry: u64, file_bytes: u64) -> Result<Option<u64>, Qcow2Error> {
        let offset = entry & OFFSET_MASK;
        if offset == 0 && entry & L1_MEANING == entry {
            return Ok(None);
        }
        let cluster_bytes = self.header.cluster.bytes();
        if entry & !L1_MEANING != 0 || !offset.is_multiple_of(cluster_bytes) {
            let what = format!("it is {entry:#x}, which is no place of a table");
            return Err(Qcow2Error::damaged(format!("L1 entry {number}"), what));
        }
        in_file(offset, cluster_bytes, file_bytes, || format!("the L2 table of L1 entry {number}"))?;
        Ok(Some(offset))
    }

    /// Where the cluster is that `entry`, that of the disk's byte `guest`, tells.
    fn place(&self, entry: u64, guest: u64, file_bytes: u64) -> Result<Place, Qcow2Error> {
        let damaged = || {
            let what = format!("it is {entry:#x}, which is no place of a cluster");
            Err(Qcow2Error::damaged(format!("the L2 entry of the disk's byte {guest}"), what))
        };
        let name = || format!("the cluster of the disk's byte {guest}");
        if entry & COMPRESSED != 0 {
            let shift = 62 - (self.header.cluster.bits() - 8);
            let offset = entry & ((1 << shift) - 1);
            let further = (entry & (COMPRESSED - 1)) >> shift;
            let bytes = (further + 1) * 512 - offset % 512;
            if entry >> 63 != 0 || offset == 0 {
                return damaged();
            }
            in_file(offset, 1, file_bytes, name)?;
            // The last one may end before its last sector does.
            return Ok(Place::Compressed(offset, bytes.min(file_bytes - offset)));
        }
        let offset = entry & OFFSET_MASK;
        let zero = if self.header.version >= 3 { ZERO } else { 0 };
        if entry & !(OFFSET_MASK | 1 << 63 | zero) != 0 || !offset.is_multiple_of(self.header.cluster.bytes()) {
            return damaged();
        }
        if entry & zero != 0 || offset == 0 {
            return Ok(Place::Zero);
        }
        // The file may end within its last cluster, where the disk ends. QEMU reads zeros in place of anything else that is
        // missing, and `qemu-img check` finds nothing wrong with it.
        let begins = guest - guest % self.header.cluster.bytes();
        let of_disk = self.header.disk_bytes.saturating_sub(begins).clamp(1, self.header.cluster.bytes());
        in_file(offset, of_disk, file_bytes, name)?;
        Ok(Place::Plain(offset))
    }

    /// Where the cluster is that holds byte `guest` of the disk, which has one.
    pub(super) fn find(&self, blocks: &dyn BlockRead, guest: u64) -> Result<Place, Qcow2Error> {
        let cluster = guest >> self.header.cluster.bits();
        let per_table = self.header.cluster.bytes() / 8;
        let Some(table) = self.table(blocks, cluster / per_table)? else { return Ok(Place::Zero) };
        self.place(table[index(cluster % per_table)], guest, blocks.len_bytes())
    }

    /// The first byte at or after `guest` that is in a cluster that is zero, or is not, as `zero` says; the disk's length, if
    /// there is none.
    pub(super) fn next(&self, blocks: &dyn BlockRead, guest: u64, zero: bool) -> Result<u64, Qcow2Error> {
        let cluster_bytes = self.header.cluster.bytes();
        let per_table = cluster_bytes / 8;
        let mut cluster = guest / cluster_bytes;
        let end = self.header.disk_bytes.div_ceil(cluster_bytes);
        while cluster < end {
            let number = cluster / per_table;
            let until = ((number + 1) * per_table).min(end);
            match self.table(blocks, number)? {
                None if zero => return Ok(guest.max(cluster * cluster_bytes)),
                None => cluster = until,
                Some(table) => {
                    for next in cluster..until {
                        let entry = table[index(next % per_table)];
                        let place = self.place(entry, next * cluster_bytes, blocks.len_bytes())?;
                        if (place == Place::Zero) == zero {
                            return Ok(guest.max(next * cluster_bytes));
                        }
                    }
                    cluster = until;
                }
            }
        }
        Ok(self.header.disk_bytes)
    }

    fn table(&self, blocks: &dyn BlockRead, number: u64) -> Result<Option<Arc<Vec<u64>>>, Qcow2Error> {
        let Some(offset) = self.l2_offset(number, self.l1[index(number)], blocks.len_bytes())? else { return Ok(None) };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = kept.tables.get(&number) {
            return Ok(Some(Arc::clone(table)));
        }
        let entries = self.header.cluster.bytes() / 8;
        let table = Arc::new(read_entries(blocks, offset, entries)?);
        let most = (KEPT_BYTES / self.header.cluster.len()).max(2);
        while kept.order.len() >= most {
            let oldest = kept.order.pop_front();
            oldest.and_then(|oldest| kept.tables.remove(&oldest));
        }
        kept.order.push_back(number);
        kept.tables.insert(number, Arc::clone(&table));
        Ok(Some(table))
    }
}

/// Fails if the file ends before `len` bytes from `offset` on do, which `name` says what they are.
fn in_file(offset: u64, len: u64, file_bytes: u64, name: impl Fn() -> String) -> Result<(), Qcow2Error> {
    let end = offset.saturating_add(len);
    if end <= file_bytes { Ok(()) } else { Err(Qcow2Error::CutOff { place: name(), end, file_bytes }) }
}

fn read_entries(blocks: &dyn BlockRead, offset: u64, count: u64) -> Result<Vec<u64>, Qcow2Error> {
    let mut entries = Vec::with_capacity(index(count));
    let mut buffer = vec![0; index(count * 8).min(64 << 10)];
    let mut at = offset;
    while entries.len() < index(count) {
        let now = buffer.len().min((index(count) - entries.len()) * 8);
        blocks.read_at(at, &mut buffer[..now]).map_err(unreadable(at))?;
        entries.extend(buffer[..now].as_chunks().0.iter().map(|bytes| u64::from_be_bytes(*bytes)));
        at += now as u64;
    }
    Ok(entries)
}

/// Takes the clusters of the refcounts: they are not followed, and data that lie in them were overwritten by QEMU, or overwrite
/// them. What lies outside of the file overlaps nothing.
fn take_refcounts(taken: &mut Taken, blocks: &dyn BlockRead, header: &Header) -> Result<(), Qcow2Error> {
    let (cluster_bytes, file_bytes) = (header.cluster.bytes(), blocks.len_bytes());
    let (offset, clusters) = (header.refcount_table_offset, u64::from(header.refcount_table_clusters));
    let bytes = clusters * cluster_bytes;
    let is_in_file = |offset: u64, bytes: u64| {
        offset.is_multiple_of(cluster_bytes) && offset.checked_add(bytes).is_some_and(|end| end <= file_bytes)
    };
    if bytes == 0 || bytes > REFCOUNT_TABLE_BYTES_MAX || !is_in_file(offset, bytes) {
        return Ok(());
    }
    taken.take(offset / cluster_bytes, clusters, || "the refcount table".to_owned())?;
    for (number, entry) in (0_u64..).zip(read_entries(blocks, offset, bytes / 8)?) {
        if entry != 0 && is_in_file(entry, cluster_bytes) {
            taken.take(entry / cluster_bytes, 1, || format!("refcount block {number}, at byte {entry}"))?;
        }
    }
    Ok(())
}

/// Which clusters of the file something points to.
struct Taken {
    clusters: u64,
    /// A bit for each cluster, unless there are too many.
    bits: Vec<u64>,
    count: u64,
    compressed: u64,
}

impl Taken {
    fn new(clusters: u64) -> Self {
        let bits = if clusters <= BITS_MAX { vec![0; index(clusters.div_ceil(64))] } else { Vec::new() };
        Self { clusters, bits, count: 0, compressed: 0 }
    }

    /// Takes `count` clusters from `first` on, which are in the file, for what `name` says.
    fn take(&mut self, first: u64, count: u64, name: impl Fn() -> String) -> Result<(), Qcow2Error> {
        for cluster in first..first + count {
            self.count += 1;
            let bit = 1 << (cluster % 64);
            let is_taken = match self.bits.get_mut(index(cluster / 64)) {
                Some(bits) => std::mem::replace(bits, *bits | bit) & bit != 0,
                None => self.count > self.clusters,
            };
            if is_taken {
                return Err(Qcow2Error::damaged(name(), "it lies where something else lies, too"));
            }
        }
        Ok(())
    }

    /// Counts a compressed cluster. The smallest has some bytes, and none has the same bytes as another.
    fn compressed(&mut self, file_bytes: u64) -> Result<(), Qcow2Error> {
        self.compressed += 1;
        if self.compressed > file_bytes / 4 {
            let what = format!("there are more than the {file_bytes} bytes of the file can hold");
            return Err(Qcow2Error::damaged("compressed clusters", what));
        }
        Ok(())
    }
}

/// An index into a table in memory.
#[expect(clippy::cast_possible_truncation, reason = "the header was checked: no table has more than 2^22 entries")]
fn index(number: u64) -> usize {
    number as usize
}
