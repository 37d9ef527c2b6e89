//! The values exchanged between threads while an archive is read: members and findings.

use std::collections::VecDeque;

use crate::archive::index::{EntryLine, MemberDigest};

/// A piece of the tar stream: the data of a member.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The member's number, from 0. Pieces of other archives are counted in the same way.
    pub number: u64,
    /// Its offset in the archive; 0 for other archives, where it is unknown.
    pub archive_offset: u64,
    /// Its offset in the tar stream.
    pub tar_offset: u64,
    /// Its length in the tar stream; 0 if unknown.
    pub tar_length: u64,
    /// The data; empty if it is lost.
    pub data: Vec<u8>,
    /// Why the data is lost.
    pub lost: Option<String>,
    /// The index lines of the entries that start in it; `None` without an index.
    pub entries: Option<Vec<EntryLine>>,
}

impl Chunk {
    /// Whether the member has no data according to the index. A damaged header of the member is not trusted.
    pub fn is_padding(&self) -> bool {
        self.entries.is_some() && self.tar_length == 0
    }
}

/// A problem with the archive or its index, found while reading members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFinding {
    /// Whether the problem is in the index rather than the archive.
    pub in_index: bool,
    /// The member.
    pub member: Option<u64>,
    /// The offset of the member or of the problem in the archive.
    pub offset: u64,
    /// The problem, one line.
    pub what: String,
}

/// The structure of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Members with their length in the header.
    #[default]
    Members,
    /// Any other gzip file.
    Gzip,
    /// An uncompressed tar stream.
    Plain,
}

/// The result after the last member.
#[derive(Clone, Debug, Default)]
pub struct StreamOutcome {
    /// The structure of the archive.
    pub form: Form,
    /// SHA-1 of the archive's bytes, if requested and all bytes could be read.
    pub archive_sha1: Option<[u8; 20]>,
    /// The number of bytes read.
    pub archive_bytes: u64,
    /// The number of members read.
    pub members: u64,
    /// The length of their part of the tar stream.
    pub tar_bytes: u64,
    /// The first thousand findings.
    pub findings: Vec<StreamFinding>,
    /// The total number of findings.
    pub findings_total: u64,
    /// Whether it was cancelled.
    pub stopped: bool,
}

/// A member in progress. Its buffers are reused.
#[derive(Default)]
pub(super) struct DecodeJob {
    /// The piece is lost, or its data was decoded before.
    pub(super) is_ready: bool,
    pub(super) member: Vec<u8>,
    pub(super) chunk: Chunk,
    /// The digest in the index.
    pub(super) digest: Option<MemberDigest>,
    /// The digest of the data of a member in the index, if it has one and that is checked.
    pub(super) data_digest: Option<[u8; 32]>,
    /// The member was read, but its header is invalid.
    pub(super) header_damaged: bool,
    /// Findings about it.
    pub(super) findings: Vec<StreamFinding>,
}

/// Neighbouring members, which threads hand over to each other at once.
#[derive(Default)]
pub(super) struct Batch {
    /// In the order of the stream.
    pub(super) jobs: VecDeque<DecodeJob>,
    /// Jobs whose buffers can be used again.
    spare: Vec<DecodeJob>,
    /// The length of the members and of their data.
    bytes: u64,
}

impl Batch {
    /// A batch of so many bytes is complete: 256 KiB of data, compressed to half.
    const FULL_BYTES: u64 = 384 << 10;
    const FULL_COUNT: usize = 256;
    /// The largest length of buffers that are kept for the next members: those of one member of the largest length.
    const KEPT_BYTES: usize = 3 << 20;

    pub(super) fn spare_job(&mut self) -> DecodeJob {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn add(&mut self, job: DecodeJob) {
        self.bytes += job.member.len() as u64 + job.chunk.tar_length;
        self.jobs.push_back(job);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= Self::FULL_BYTES || self.jobs.len() >= Self::FULL_COUNT
    }

    /// Takes back a job whose piece was used.
    pub(super) fn give_back(&mut self, job: DecodeJob) {
        self.spare.push(job);
    }

    /// Makes the batch ready for other members.
    pub(super) fn clear(&mut self) {
        self.bytes = 0;
        self.spare.extend(self.jobs.drain(..));
        let mut kept_bytes = 0;
        for job in &mut self.spare {
            kept_bytes += job.member.capacity() + job.chunk.data.capacity();
            if kept_bytes > Self::KEPT_BYTES {
                kept_bytes -= job.member.capacity() + job.chunk.data.capacity();
                *job = DecodeJob::default();
            }
        }
    }
}

/// A bounded list of findings.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub(super) first: Vec<StreamFinding>,
    pub(super) total: u64,
}

impl Findings {
    pub(super) const KEPT: usize = 1000;

    pub(super) fn add(&mut self, finding: StreamFinding) {
        self.total += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(finding);
        }
    }
}
