//! The master file table.

use super::boot::Boot;
use super::record::{ATTRIBUTE_LIST, DATA, Record, Runs};
use crate::field::{le16, le32, le64};
use crate::outside::{BlockRead, Cancel};
use crate::used::map::Whole;

/// The table is read in pieces of this size, a multiple of a record's.
const PIECE_BYTES: u64 = 1 << 20;
/// A list of attributes is longer than this only in files that are in very many pieces.
const LIST_BYTES_MAX: usize = 1 << 20;
const HIBERNATION_FILE: &[u8] = b"hiberfil.sys";

pub(super) struct Table<'a> {
    blocks: &'a dyn BlockRead,
    boot: &'a Boot,
    runs: Runs,
}

impl<'a> Table<'a> {
    pub(super) fn open(blocks: &'a dyn BlockRead, boot: &'a Boot) -> Result<Self, Whole> {
        let mut bytes = vec![0; usize::try_from(boot.record_bytes).unwrap_or(0)];
        blocks.read_at(boot.table_at, &mut bytes)?;
        let damaged = || Whole::in_doubt("its master file table cannot be found");
        let own = Record::parse(&bytes)?.filter(Record::is_in_use).ok_or_else(damaged)?;
        let mut table = Self { blocks, boot, runs: Runs::default() };
        let first = own.attributes().find(|one| one.kind == DATA && !one.has_name() && !one.is_resident());
        table.runs.add(&first.ok_or_else(damaged)?).ok_or_else(damaged)?;
        // Further parts of the table's own runs lie in records that the parts before lead to.
        table.runs = table.runs_in(0, &own, DATA)?;
        if table.runs.data_bytes < boot.record_bytes * 16 || !table.runs.is_plain {
            return Err(damaged());
        }
        Ok(table)
    }

    /// Record `number`, which must be in use.
    pub(super) fn record(&self, number: u64) -> Result<Record, Whole> {
        let damaged = || Whole::in_doubt(format!("file record {number} is not in use or damaged"));
        let at = number.checked_mul(self.boot.record_bytes).ok_or_else(damaged)?;
        let mut bytes = vec![0; usize::try_from(self.boot.record_bytes).unwrap_or(0)];
        self.runs.read(self.blocks, self.boot, at, &mut bytes)?;
        Record::parse(&bytes)?.filter(Record::is_in_use).ok_or_else(damaged)
    }

    /// Where the content of the nameless attribute of this kind is that belongs to record `number`.
    pub(super) fn runs_of(&self, number: u64, kind: u32) -> Result<Runs, Whole> {
        self.runs_in(number, &self.record(number)?, kind)
    }

    fn runs_in(&self, number: u64, record: &Record, kind: u32) -> Result<Runs, Whole> {
        let damaged = || Whole::in_doubt(format!("the runs of file record {number} are damaged"));
        let mut runs = Runs::default();
        let Some(list) = record.attributes().find(|one| one.kind == ATTRIBUTE_LIST) else {
            let own = record.attributes().find(|one| one.kind == kind && !one.has_name() && !one.is_resident());
            runs.add(&own.ok_or_else(damaged)?).ok_or_else(damaged)?;
            return Ok(runs);
        };
        let mut long = Vec::new();
        let list = if list.is_resident() {
            list.value().ok_or_else(damaged)?
        } else {
            let mut of_list = Runs::default();
            of_list.add(&list).ok_or_else(damaged)?;
            let len = usize::try_from(of_list.data_bytes).ok().filter(|len| *len <= LIST_BYTES_MAX);
            long.resize(len.ok_or_else(damaged)?, 0);
            of_list.read(self.blocks, self.boot, 0, &mut long)?;
            &long
        };
        // Of each part: kind, length of the entry, length of its name, first cluster, record that has it.
        let mut at = 0;
        while at + 0x1A <= list.len() {
            let len = usize::from(le16(list, at + 4).ok_or_else(damaged)?);
            if len < 0x1A {
                return Err(damaged());
            }
            if le32(list, at) == Some(kind) && list.get(at + 6) == Some(&0) {
                let first = le64(list, at + 8).ok_or_else(damaged)?;
                let holder = le64(list, at + 0x10).ok_or_else(damaged)? & 0xFFFF_FFFF_FFFF;
                let other = if holder == number { None } else { Some(self.record(holder)?) };
                let holder = other.as_ref().unwrap_or(record);
                let part = holder.attributes().find(|one| {
                    one.kind == kind
                        && !one.has_name()
                        && !one.is_resident()
                        && one.runs().map(|runs| runs.0) == Some(first)
                });
                runs.add(&part.ok_or_else(damaged)?).ok_or_else(damaged)?;
            }
            at += len;
        }
        Ok(runs)
    }

    /// The first records have copies. In a volume that was not in use these are the same.
    pub(super) fn check_mirror(&self, up_to: u64) -> Result<(), Whole> {
        for number in 0..=up_to {
            let mut bytes = vec![0; usize::try_from(self.boot.record_bytes).unwrap_or(0)];
            self.blocks.read_at(self.boot.mirror_at + number * self.boot.record_bytes, &mut bytes)?;
            if Record::parse(&bytes)?.as_ref() != Some(&self.record(number)?) {
                return Err(Whole::in_doubt("its $MFTMirr contradicts its master file table"));
            }
        }
        Ok(())
    }

    /// Calls `with` with each run of each attribute of each record in use: record, first cluster, count. Returns the record of the
    /// hibernation file, if there is one.
    pub(super) fn for_each_run(
        &self,
        cancel: &Cancel,
        mut with: impl FnMut(u64, u64, u64) -> Result<(), Whole>,
    ) -> Result<Option<u64>, Whole> {
        let mut hibernation_file = None;
        let len = self.runs.initialised_bytes.min(self.runs.data_bytes);
        let len = len - len % self.boot.record_bytes;
        let record_len = usize::try_from(self.boot.record_bytes).unwrap_or(usize::MAX);
        let mut buf = Vec::new();
        let mut at = 0;
        while at < len {
            if cancel.is_cancelled() {
                return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
            }
            let piece = PIECE_BYTES.min(len - at);
            buf.resize(usize::try_from(piece).unwrap_or(0), 0);
            self.runs.read(self.blocks, self.boot, at, &mut buf)?;
            for (number, bytes) in (at / self.boot.record_bytes..).zip(buf.chunks_exact(record_len)) {
                let Some(record) = Record::parse(bytes)?.filter(Record::is_in_use) else { continue };
                let damaged = || Whole::in_doubt(format!("file record {number} is damaged"));
                if record.is_in_root_as(HIBERNATION_FILE) {
                    hibernation_file = Some(if record.base() == 0 { number } else { record.base() });
                }
                let mut attributes = record.attributes();
                for attribute in attributes.by_ref().filter(|one| !one.is_resident()) {
                    let (_, runs) = attribute.runs().ok_or_else(damaged)?;
                    for (first, count) in runs {
                        let Some(first) = first else { continue };
                        if first.checked_add(count).is_none_or(|end| end > self.boot.clusters.count) {
                            return Err(damaged());
                        }
                        with(number, first, count)?;
                    }
                }
                if attributes.is_damaged() {
                    return Err(damaged());
                }
            }
            at += piece;
        }
        Ok(hibernation_file)
    }
}
