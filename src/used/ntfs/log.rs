//! `$LogFile`: whether the volume was in use, and which clusters its log allocates or frees. Nothing is replayed: a cluster
//! whose bit the log may set counts as used.
//!
//! The layout is that of Linux' `fs/ntfs3/fslog.c` and ntfs-3g's `logfile.h`.

use super::boot::{Boot, SECTOR};
use super::record::{Runs, without_fixups};
use crate::field::{le16, le32, le64};
use crate::outside::BlockRead;
use crate::used::map::Whole;

/// Windows makes logs of 64 MiB at most.
const LOG_BYTES_MAX: u64 = 256 << 20;
const NO_CLIENT: u16 = 0xFFFF;
const IS_CLEAN: u16 = 0x2;
/// A record's header, and what follows it in one of a client.
const HEADER_BYTES: usize = 0x30;
const RECORD_CLIENT: u32 = 1;
/// `SetBitsInNonresidentBitMap` and `ClearBitsInNonresidentBitMap`.
const BIT_OPERATIONS: [u16; 2] = [0x15, 0x16];
/// More operations than this are more than a log has room for.
const OPERATIONS_MAX: usize = 1 << 21;

/// One restart page.
struct Restart {
    current_lsn: u64,
    is_clean: bool,
    oldest_lsn: u64,
    page_bytes: usize,
    system_page_bytes: u64,
    data_at: usize,
}

impl Restart {
    fn parse(page: Vec<u8>) -> Option<Self> {
        let system_page_bytes = u64::from(le32(&page, 0x10)?);
        let page_bytes = usize::try_from(le32(&page, 0x14)?).ok()?;
        let page = without_fixups(page)?;
        let area = page.get(usize::from(le16(&page, 0x18)?)..)?;
        let client = area.get(usize::from(le16(area, 0x16)?)..)?;
        let is_clean = le16(area, 0xC)? == NO_CLIENT || le16(area, 0xE)? & IS_CLEAN != 0;
        let data_at = usize::from(le16(area, 0x26)?);
        let is_right = page_bytes.is_power_of_two()
            && (1024..=65536).contains(&page_bytes)
            && system_page_bytes.is_power_of_two()
            && (0x30..page_bytes / 2).contains(&data_at)
            && data_at % 8 == 0;
        let oldest_lsn = if is_clean { 0 } else { le64(client, 0)?.min(le64(client, 8)?) };
        is_right.then_some(Self {
            current_lsn: le64(area, 0)?,
            is_clean,
            oldest_lsn,
            page_bytes,
            system_page_bytes,
            data_at,
        })
    }
}

/// `None` for a volume that was unmounted; else the clusters whose bits the log changes, first and count.
pub(super) fn allocations(blocks: &dyn BlockRead, boot: &Boot, log: &Runs) -> Result<Option<Vec<(u64, u64)>>, Whole> {
    let doubt = || Whole::in_doubt("its $LogFile is damaged");
    if log.data_bytes > LOG_BYTES_MAX || log.data_bytes < 64 << 10 || !log.is_plain {
        return Err(doubt());
    }
    let len = usize::try_from(log.data_bytes).map_err(|_| doubt())?;
    let mut first = vec![0; 4096];
    log.read(blocks, boot, 0, &mut first)?;
    if first.iter().all(|byte| *byte == 0xFF) {
        // As mkfs and chkdsk leave it; the first mount writes its restart pages.
        return Ok(None);
    }
    let restart_at = |at: u64| -> Result<Option<Restart>, Whole> {
        let mut page = vec![0; 4096];
        log.read(blocks, boot, at, &mut page)?;
        Ok(if page.starts_with(b"RSTR") { Restart::parse(page) } else { None })
    };
    let one = restart_at(0)?;
    let second_at = one.as_ref().map_or(4096, |one| one.system_page_bytes);
    let two = restart_at(second_at.min(log.data_bytes - 4096))?;
    let oldest = [&one, &two].into_iter().flatten().filter(|page| !page.is_clean).map(|page| page.oldest_lsn).min();
    let newest = match (one, two) {
        (Some(one), Some(two)) => Some(if two.current_lsn > one.current_lsn { two } else { one }),
        (one, two) => one.or(two),
    };
    let newest = newest.ok_or_else(doubt)?;
    if newest.is_clean {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    log.read(blocks, boot, 0, &mut bytes)?;
    let pages = Pages::new(&bytes, &newest);
    pages.operations(boot, oldest.unwrap_or(0)).map(Some)
}

/// The pages of records, without the fixups; `None` for one that was never written, or not wholly.
struct Pages {
    pages: Vec<Option<Vec<u8>>>,
    data_at: usize,
}

impl Pages {
    fn new(log: &[u8], restart: &Restart) -> Self {
        let first = usize::try_from(restart.system_page_bytes).unwrap_or(usize::MAX).saturating_mul(2);
        let pages = log.get(first..).unwrap_or_default().chunks_exact(restart.page_bytes);
        let page = |page: &[u8]| {
            if !page.starts_with(b"RCRD") || !page.len().is_multiple_of(SECTOR) {
                return None;
            }
            without_fixups(page.to_vec())
        };
        Self { pages: pages.map(page).collect(), data_at: restart.data_at }
    }

    /// `len` bytes of the stream of records from byte `at` of page `index` on, which may go on in the pages behind; `None`
    /// where one of these cannot be read.
    fn stream(&self, index: usize, at: usize, len: usize) -> Option<Vec<u8>> {
        let mut found = Vec::with_capacity(len.min(1 << 16));
        let (mut index, mut at) = (index, at);
        // Each page gives at least half of its length.
        while found.len() < len {
            let page = self.pages.get(index)?.as_ref()?;
            let rest = page.get(at..)?;
            found.extend_from_slice(&rest[..rest.len().min(len - found.len())]);
            index = if index + 1 < self.pages.len() { index + 1 } else { 0 };
            at = self.data_at;
        }
        Some(found)
    }

    fn operations(&self, boot: &Boot, oldest: u64) -> Result<Vec<(u64, u64)>, Whole> {
        let mut found = Vec::new();
        for (index, page) in self.pages.iter().enumerate() {
            let Some(page) = page else { continue };
            for at in (self.data_at..page.len().saturating_sub(HEADER_BYTES - 8)).step_by(8) {
                let Some(header) = page.get(at..(at + HEADER_BYTES).min(page.len())) else { break };
                if !is_record(header, oldest) {
                    continue;
                }
                self.operation(boot, index, at, header, &mut found)?;
                if found.len() > OPERATIONS_MAX {
                    return Err(Whole::in_doubt("its $LogFile has more operations than it has room for"));
                }
            }
        }
        Ok(found)
    }

    /// Adds the clusters of one record, if it is about the bits of a bitmap.
    fn operation(
        &self,
        boot: &Boot,
        index: usize,
        at: usize,
        header: &[u8],
        found: &mut Vec<(u64, u64)>,
    ) -> Result<(), Whole> {
        let len = le32(header, 0x18).and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
        let cut = || Whole::in_doubt("a record of its $LogFile that allocates clusters is cut off");
        let start = at + HEADER_BYTES;
        // The last record may have been cut off. Only where it is about clusters does it matter.
        let Some(kind) = self.stream(index, start, 4) else { return Ok(()) };
        let operations = [le16(&kind, 0), le16(&kind, 2)];
        if !operations.iter().any(|one| one.is_some_and(|one| BIT_OPERATIONS.contains(&one))) {
            return Ok(());
        }
        let client = self.stream(index, start, len).ok_or_else(cut)?;
        for (operation, at_field) in operations.into_iter().zip([4, 8]) {
            if operation.is_none_or(|one| !BIT_OPERATIONS.contains(&one)) {
                continue;
            }
            let half = |at: usize| le16(&client, at).map(u64::from).ok_or_else(cut);
            let data = usize::try_from(half(at_field)?).map_err(|_| cut())?;
            if half(at_field + 2)? < 8 {
                continue;
            }
            let word = |at: usize| le32(&client, at).map(u64::from).ok_or_else(cut);
            let (bit, count) = (word(data)?, word(data + 4)?);
            // Where in the bitmap: its cluster, the sector in that, the byte in that.
            let cluster = le64(&client, 0x18).filter(|cluster| *cluster <= boot.clusters.count).ok_or_else(cut)?;
            let byte = cluster * boot.clusters.bytes + half(0x14)? * SECTOR as u64 + half(0x10)?;
            let first = byte.saturating_mul(8).saturating_add(bit);
            // Bits of another bitmap, that of the table's own records, may lie behind the last cluster.
            let count = count.min(boot.clusters.count.saturating_sub(first));
            if count > 0 {
                found.push((first, count));
            }
        }
        Ok(())
    }
}

/// Whether these may be the first bytes of a record of a client that is still needed. Others that look like one are taken
/// for one, which makes more used, and never less.
fn is_record(header: &[u8], oldest: u64) -> bool {
    let lsn = le64(header, 0).unwrap_or(0);
    let len = le32(header, 0x18).unwrap_or(0);
    let kind = le32(header, 0x20);
    lsn >= oldest.max(1) && kind == Some(RECORD_CLIENT) && (0x20..=1 << 16).contains(&len)
}
