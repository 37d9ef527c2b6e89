//! File records, their attributes, and the runs of clusters that these have.

use super::boot::{Boot, SECTOR};
use crate::field::{le16, le32, le64};
use crate::outside::BlockRead;
use crate::used::map::Whole;

pub(super) const ATTRIBUTE_LIST: u32 = 0x20;
const FILE_NAME: u32 = 0x30;
pub(super) const VOLUME_INFORMATION: u32 = 0x70;
pub(super) const DATA: u32 = 0x80;
const ROOT_RECORD: u64 = 5;
/// The number of a record in a reference to it.
const REFERENCE_MASK: u64 = 0xFFFF_FFFF_FFFF;
const END: u32 = 0xFFFF_FFFF;
/// `ATTR_IS_COMPRESSED`, `ATTR_IS_ENCRYPTED`, `ATTR_IS_SPARSE`.
const FLAGS_NOT_PLAIN: u16 = 0x1 | 0x4000 | 0x8000;
/// The most runs that the table, the bitmap or the log may have.
const RUNS_MAX: usize = 1 << 20;

/// Puts the last two bytes of each sector of a record back, of which the record has copies; `None` where they are not what
/// they should be, so that a write of it was cut off.
pub(super) fn without_fixups(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (at, count) = (usize::from(le16(&bytes, 4)?), usize::from(le16(&bytes, 6)?));
    if count != bytes.len() / SECTOR + 1 {
        return None;
    }
    let mark = le16(&bytes, at)?;
    for sector in 1..count {
        let end = sector * SECTOR - 2;
        if le16(&bytes, end)? != mark {
            return None;
        }
        let right = [*bytes.get(at + 2 * sector)?, *bytes.get(at + 2 * sector + 1)?];
        bytes.get_mut(end..end + 2)?.copy_from_slice(&right);
    }
    Some(bytes)
}

/// A run of clusters: the first, `None` for a hole, and how many.
pub(super) type Run = (Option<u64>, u64);

/// A file record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record(Vec<u8>);

impl Record {
    /// A record as it is on the disk; `Ok(None)` when it was never used.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Whole> {
        let damaged = || Whole::in_doubt("a record of its master file table is damaged");
        match bytes.get(..4) {
            Some(b"FILE") => without_fixups(bytes.to_vec()).map(|bytes| Some(Self(bytes))).ok_or_else(damaged),
            Some([0, 0, 0, 0]) => Ok(None),
            _ => Err(damaged()),
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        le16(&self.0, 0x16).is_some_and(|flags| flags & 1 != 0)
    }

    /// Whether one of its names is this one, in ASCII, in the root directory; case does not matter.
    pub(super) fn is_in_root_as(&self, name: &[u8]) -> bool {
        self.attributes().filter(|attribute| attribute.kind == FILE_NAME).any(|attribute| {
            let Some(value) = attribute.value() else { return false };
            let is_in_root = le64(value, 0).is_some_and(|parent| parent & REFERENCE_MASK == ROOT_RECORD);
            let units = value.get(0x42..0x42 + 2 * name.len()).unwrap_or_default().chunks_exact(2);
            is_in_root
                && value.get(0x40).copied().map(usize::from) == Some(name.len())
                && units.len() == name.len()
                && units.zip(name).all(|(unit, byte)| unit.eq_ignore_ascii_case(&[*byte, 0]))
        })
    }

    /// The record of the file to which an extension record belongs; 0 in a file's own record.
    pub(super) fn base(&self) -> u64 {
        le64(&self.0, 0x20).unwrap_or(0) & REFERENCE_MASK
    }

    /// Its attributes, as far as they lie in the record.
    pub(super) fn attributes(&self) -> Attributes<'_> {
        Attributes { record: &self.0, at: le16(&self.0, 0x14).map_or(usize::MAX, usize::from), is_damaged: false }
    }
}

pub(super) struct Attributes<'a> {
    record: &'a [u8],
    at: usize,
    is_damaged: bool,
}

impl Attributes<'_> {
    /// Whether the last attribute was followed by something else than the end. Known when all were asked for.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_damaged {
            return None;
        }
        let Some(kind) = le32(self.record, self.at) else {
            self.is_damaged = true;
            return None;
        };
        if kind == END {
            return None;
        }
        let len = le32(self.record, self.at + 4).and_then(|len| usize::try_from(len).ok()).filter(|len| *len >= 24);
        let bytes = len.and_then(|len| self.record.get(self.at..self.at.checked_add(len)?));
        let Some(bytes) = bytes else {
            self.is_damaged = true;
            return None;
        };
        self.at += bytes.len();
        Some(Attribute { kind, bytes })
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    pub(super) kind: u32,
    bytes: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(super) fn is_resident(&self) -> bool {
        self.bytes.get(8) == Some(&0)
    }

    pub(super) fn has_name(&self) -> bool {
        self.bytes.get(9) != Some(&0)
    }

    /// The value of a resident one.
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        let len = usize::try_from(le32(self.bytes, 0x10)?).ok()?;
        let at = usize::from(le16(self.bytes, 0x14)?);
        self.bytes.get(at..at.checked_add(len)?).filter(|_| self.is_resident())
    }

    /// Its first cluster in the attribute, and its runs: first cluster of the volume, `None` for a hole, and count.
    pub(super) fn runs(&self) -> Option<(u64, Vec<Run>)> {
        let pairs = self.bytes.get(usize::from(le16(self.bytes, 0x20)?)..)?;
        Some((le64(self.bytes, 0x10)?, decode_pairs(pairs)?))
    }

    fn is_plain(&self) -> bool {
        le16(self.bytes, 0xC).is_some_and(|flags| flags & FLAGS_NOT_PLAIN == 0)
    }

    fn sizes(&self) -> Option<(u64, u64)> {
        Some((le64(self.bytes, 0x30)?, le64(self.bytes, 0x38)?))
    }
}

/// Mapping pairs: a byte with the lengths of both numbers, the count, and the first cluster as the difference to the one
/// before.
fn decode_pairs(pairs: &[u8]) -> Option<Vec<Run>> {
    let mut runs = Vec::new();
    let (mut at, mut cluster) = (0, 0_i64);
    loop {
        let head = *pairs.get(at)?;
        if head == 0 {
            return Some(runs);
        }
        let (count_len, cluster_len) = (usize::from(head & 0xF), usize::from(head >> 4));
        if count_len == 0 || count_len > 8 || cluster_len > 8 {
            return None;
        }
        let count = u64::try_from(signed(pairs.get(at + 1..at + 1 + count_len)?)).ok().filter(|count| *count > 0)?;
        at += 1 + count_len;
        if cluster_len == 0 {
            runs.push((None, count));
        } else {
            cluster = cluster.checked_add(signed(pairs.get(at..at + cluster_len)?))?;
            runs.push((Some(u64::try_from(cluster).ok()?), count));
        }
        at += cluster_len;
    }
}

/// At most eight bytes, little-endian, with a sign.
fn signed(bytes: &[u8]) -> i64 {
    let is_negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut all = if is_negative { [0xFF; 8] } else { [0; 8] };
    all[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    i64::from_le_bytes(all)
}

/// Where the content of an attribute is.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    /// Each run with its first cluster in the attribute, the first of the volume, and its count; no hole.
    list: Vec<(u64, u64, u64)>,
    pub(super) data_bytes: u64,
    pub(super) initialised_bytes: u64,
    pub(super) is_plain: bool,
}

impl Runs {
    /// Adds a part of the attribute, whose parts come in their order.
    pub(super) fn add(&mut self, part: &Attribute<'_>) -> Option<()> {
        let (mut at, runs) = part.runs()?;
        let behind = self.list.last().map_or(0, |(at, _, count)| at + count);
        if at == 0 {
            (self.data_bytes, self.initialised_bytes) = part.sizes()?;
            self.is_plain = part.is_plain();
        }
        if at != behind || self.list.len() + runs.len() > RUNS_MAX {
            return None;
        }
        for (first, count) in runs {
            // Neither the table nor the bitmap has holes.
            self.list.push((at, first?, count));
            at = at.checked_add(count)?;
        }
        Some(())
    }

    /// Reads the content from byte `at` on.
    pub(super) fn read(&self, blocks: &dyn BlockRead, boot: &Boot, at: u64, buf: &mut [u8]) -> Result<(), Whole> {
        let clusters = boot.clusters;
        let lost = || Whole::in_doubt("its metadata lead outside of it");
        let mut at = at;
        let mut rest = buf;
        while !rest.is_empty() {
            let cluster = at / clusters.bytes;
            let found = self.list.partition_point(|(first, _, _)| *first <= cluster).checked_sub(1);
            let (first, on_volume, count) = found.and_then(|found| self.list.get(found)).ok_or_else(lost)?;
            let inside = cluster - first;
            if inside >= *count || on_volume.checked_add(*count).is_none_or(|end| end > clusters.count) {
                return Err(lost());
            }
            let in_cluster = at % clusters.bytes;
            let left = (count - inside) * clusters.bytes - in_cluster;
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(piece);
            blocks.read_at(clusters.range(on_volume + inside, 0).start + in_cluster, now)?;
            at += piece as u64;
            rest = later;
        }
        Ok(())
    }
}
