//! One record: `xlog_rec_header`, for more than 32 KiB `xlog_rec_ext_header`s behind it, and its data. The first word of each
//! block of data is kept in the headers, since the cycle stands in its place.

use std::cmp::Ordering;

use super::head::Head;
use super::ring::{BASIC_BLOCK, BLOCK_LEN, RECORD_MAGIC, Ring, damaged, not_understood};
use crate::field::{array, be32, be64, crc32c, crc32c_without, le32};
use crate::used::map::Whole;
use crate::used::xfs::superblock::Superblock;

/// `XLOG_UNMOUNT_TRANS` of the flags of an operation.
pub(super) const UNMOUNT: u8 = 0x20;
/// A record's header has a block for each of these of its largest size.
const BYTES_OF_HEADER: u32 = 32 << 10;
const RECORD_BYTES_MAX: u32 = 256 << 10;
/// The blocks of the longest record: its data, and a header for each 32 KiB.
const RECORD_BLOCKS_MAX: u64 = 520;
/// How many blocks of data a header has the first words of.
const WORDS_OF_HEADER: usize = 64;
const CRC_AT: usize = 32;
const WORDS_AT: usize = 44;
/// `XLOG_FMT_LINUX_LE`.
const LITTLE_ENDIAN: u32 = 1;
/// The length of the header that its checksum covers: of 64-bit systems, and of 32-bit ones.
const HEADER_BYTES: [usize; 2] = [328, 324];
const EXTENDED_HEADER_BYTES: usize = 260;

pub(super) struct Record {
    at: u64,
    header: Vec<u8>,
    pub(super) lsn: u64,
    pub(super) tail_lsn: u64,
    pub(super) operations: u32,
    pub(super) data_bytes: u32,
    /// The most data that a record of this mount has.
    pub(super) size_bytes: u32,
}

impl Record {
    /// The record whose header is in block `at`, which is below the log's length.
    pub(super) fn read(ring: &Ring<'_>, xfs: &Superblock, head: &Head, at: u64) -> Result<Self, Whole> {
        let mut header = vec![0; BLOCK_LEN];
        ring.read(at, &mut header)?;
        let word = |at: usize| be32(&header, at).ok_or_else(damaged);
        let version = word(8)?;
        if word(0)? != RECORD_MAGIC || version != if xfs.is_log_v2 { 2 } else { 1 } {
            return Err(damaged());
        }
        if word(300)? != LITTLE_ENDIAN {
            return Err(not_understood("a machine with another order of bytes wrote it"));
        }
        let lsn = be64(&header, 16).ok_or_else(damaged)?;
        let record = Self {
            at,
            lsn,
            tail_lsn: be64(&header, 24).ok_or_else(damaged)?,
            operations: word(40)?,
            data_bytes: word(12)?,
            size_bytes: if xfs.is_log_v2 { word(320)? } else { BYTES_OF_HEADER },
            header: Vec::new(),
        };
        let cycle = head.cycle_at(at);
        let is_right = word(4)? == cycle
            && lsn == u64::from(cycle) << 32 | at
            && array(&header, 304) == Some(xfs.uuid)
            && (1..=RECORD_BYTES_MAX).contains(&record.data_bytes)
            && record.size_bytes <= RECORD_BYTES_MAX;
        if !is_right {
            return Err(damaged());
        }
        header.resize(usize::try_from(record.header_blocks() * BASIC_BLOCK).unwrap_or(0), 0);
        ring.read(at, &mut header)?;
        Ok(Self { header, ..record })
    }

    /// The record that ends at the head.
    pub(super) fn newest(ring: &Ring<'_>, xfs: &Superblock, head: &Head) -> Result<Self, Whole> {
        let count = RECORD_BLOCKS_MAX.min(ring.len);
        let from = head.block + ring.len - count;
        let mut buf = vec![0; usize::try_from(count * BASIC_BLOCK).unwrap_or(0)];
        ring.read(from, &mut buf)?;
        let headers = buf.chunks_exact(BLOCK_LEN).map(|block| be32(block, 0) == Some(RECORD_MAGIC));
        let last = (from..).zip(headers).filter(|(_, is_header)| *is_header).last();
        let (at, _) = last.ok_or_else(damaged)?;
        let record = Self::read(ring, xfs, head, at % ring.len)?;
        match record.all_blocks().cmp(&(head.block + ring.len - at)) {
            Ordering::Equal => Ok(record),
            Ordering::Less => Err(damaged()),
            Ordering::Greater => Err(not_understood("its newest record is not complete")),
        }
    }

    /// The block from which on the log is to be replayed, as this newest record says.
    pub(super) fn tail(&self, ring: &Ring<'_>, head: &Head) -> Result<u64, Whole> {
        let (cycle, block) = (self.tail_lsn >> 32, self.tail_lsn & 0xFFFF_FFFF);
        let is_right = self.tail_lsn <= self.lsn
            && block < ring.len
            && block != head.block % ring.len
            && u64::from(head.cycle_at(block)) == cycle;
        if is_right { Ok(block) } else { Err(damaged()) }
    }

    fn header_blocks(&self) -> u64 {
        self.size_bytes.div_ceil(BYTES_OF_HEADER).max(1).into()
    }

    pub(super) fn all_blocks(&self) -> u64 {
        self.header_blocks() + u64::from(self.data_bytes).div_ceil(BASIC_BLOCK)
    }

    /// The flags of the first operation.
    pub(super) fn first_operation_flags(&self, ring: &Ring<'_>) -> Result<u8, Whole> {
        let mut block = [0; BLOCK_LEN];
        ring.read(self.at + self.header_blocks(), &mut block)?;
        Ok(block[9])
    }

    /// Its data, with the words that the cycles stand in place of. Fails where the checksum is wrong, or there is none.
    pub(super) fn data(&self, ring: &Ring<'_>, xfs: &Superblock, head: &Head) -> Result<Vec<u8>, Whole> {
        let blocks = u64::from(self.data_bytes).div_ceil(BASIC_BLOCK);
        let mut data = vec![0; usize::try_from(blocks * BASIC_BLOCK).unwrap_or(0)];
        let first = self.at + self.header_blocks();
        ring.read(first, &mut data)?;
        let len = usize::try_from(self.data_bytes).unwrap_or(usize::MAX);
        if le32(&self.header, CRC_AT) == Some(0) {
            return Err(not_understood("its records have no checksums"));
        }
        let sealed = data.get(..len).ok_or_else(damaged)?;
        let wanted = le32(&self.header, CRC_AT);
        let is_right = HEADER_BYTES.iter().any(|header| self.crc(*header, sealed, xfs) == wanted);
        if !is_right {
            return Err(Whole::in_doubt(format!(
                "the checksum of the record of its log at block {} is wrong",
                self.at
            )));
        }
        for (index, block) in data.chunks_exact_mut(BLOCK_LEN).enumerate() {
            let cycle = head.cycle_at((first + index as u64) % ring.len);
            let word = self.word(index).ok_or_else(damaged)?;
            let place = block.first_chunk_mut::<4>().ok_or_else(damaged)?;
            if *place != cycle.to_be_bytes() {
                return Err(damaged());
            }
            *place = word;
        }
        data.truncate(len);
        Ok(data)
    }

    /// The first word of a block of data.
    fn word(&self, index: usize) -> Option<[u8; 4]> {
        let (header, word) = (index / WORDS_OF_HEADER, index % WORDS_OF_HEADER);
        let words_at = if header == 0 { WORDS_AT } else { header * BLOCK_LEN + 4 };
        array(&self.header, words_at + word * 4)
    }

    fn crc(&self, header_bytes: usize, data: &[u8], xfs: &Superblock) -> Option<u32> {
        let mut crc = crc32c_without(!0, self.header.get(..header_bytes)?, CRC_AT..CRC_AT + 4)?;
        if xfs.is_log_v2 {
            for header in 1..usize::try_from(self.data_bytes.div_ceil(BYTES_OF_HEADER)).ok()? {
                let at = header * BLOCK_LEN;
                crc = crc32c(crc, self.header.get(at..at + EXTENDED_HEADER_BYTES)?);
            }
        }
        Some(!crc32c(crc, data))
    }
}
