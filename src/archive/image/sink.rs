//! Writes the members of an image archive in order, hashes them, and writes their index lines.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use sha1::Sha1;
use sha2::Digest;

use super::index::{HEADER_LINE, Holds, ImageMember, ImageTotals, MAPPED_HEADER_LINE};
use super::mapping::MappingDigest;
use super::zeros::zero_member;
use super::{BORDER_BYTES, MAX_ZERO_BYTES};
use crate::archive::codec::{MAX_MEMBER_DATA, WIDEST};
use crate::archive::counts::CarryCounts;
use crate::archive::index::Totals;
use crate::archive::level::{HIGHEST_LEVEL, LevelControl};
use crate::archive::members::{ArchiveFile, Hashing, InOrder, KnownMembersOf, Outputs, WrittenMembers};
use crate::encryption::Recipients;
use crate::encryption::segment::GZIP_NAME;
use crate::encryption::table::{KnownSegments, NewTable, TableWriter};
use crate::outside::BlockRead;

/// A piece of the volume being read, compressed and written. Its buffers are reused.
pub(super) struct Job {
    /// Always of full length; its first `data_len` bytes are valid.
    pub(super) data: Vec<u8>,
    pub(super) data_len: usize,
    /// Its first `member_len` bytes are valid.
    pub(super) member: Vec<u8>,
    pub(super) member_len: usize,
    pub(super) digest: [u8; 32],
    pub(super) content: [u8; 32],
    pub(super) mapping: Option<MappingDigest>,
    pub(super) origin: Origin,
}

/// Where a member is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It holds zeros, and becomes a part of a member of zeros.
    Zeros,
    /// Compressed at this level.
    Compressed(i32),
    /// The same, since it was due; its content is that of the previous archive.
    Due(i32),
    /// The same, since the member of the previous archive does not match its index.
    Mismatch(i32),
    /// Copied from this offset of the previous archive.
    Carried(u64),
}

impl Job {
    pub(super) fn empty() -> Self {
        Self {
            data: vec![0; MAX_MEMBER_DATA],
            data_len: 0,
            member: vec![0; WIDEST.max_member_bytes],
            member_len: 0,
            digest: [0; 32],
            content: [0; 32],
            mapping: None,
            origin: Origin::Zeros,
        }
    }
}

/// A piece that waits for its turn.
pub(super) enum Item {
    /// This number of zeros: a multiple of the border, or up to the volume's end.
    Zeros(u64),
    /// A piece that was read.
    Read(Job),
}

/// The result of writing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) members: WrittenMembers,
    pub(super) carried: CarryCounts,
    /// Bytes in members of data.
    pub(super) data_bytes: u64,
}

/// The end of the pipeline.
pub(super) struct ImageSink {
    archive: Box<dyn ArchiveFile>,
    sha1: Sha1,
    /// For whom members are encrypted.
    recipients: Option<Recipients>,
    /// The table of segments, if they are.
    segments: Option<NewTable>,
    /// The segments of the previous archive, if it is encrypted, too.
    known_segments: Option<KnownSegments>,
    index: io::BufWriter<Hashing>,
    line: Vec<u8>,
    /// Whether the index has digests of mappings.
    is_mapped: bool,
    totals: ImageTotals,
    /// Zeros that were not written yet.
    zeros: u64,
    /// The members of zeros of whole borders that were written, with their digests.
    known: HashMap<u64, (Vec<u8>, [u8; 32])>,
    data_bytes: u64,
    carried: CarryCounts,
    levels: [u64; HIGHEST_LEVEL as usize + 1],
    control: LevelControl,
    give_back: Sender<Job>,
}

impl ImageSink {
    pub(super) fn new(
        outputs: Outputs,
        recipients: Option<Recipients>,
        is_mapped: bool,
        give_back: Sender<Job>,
        control: LevelControl,
    ) -> io::Result<Self> {
        let segments = outputs.segments.map(NewTable::buffered);
        let mut index = io::BufWriter::with_capacity(256 << 10, Hashing::new(outputs.index));
        index.write_all(if is_mapped { MAPPED_HEADER_LINE } else { HEADER_LINE }.as_bytes())?;
        Ok(Self {
            archive: outputs.archive,
            sha1: Sha1::new(),
            recipients,
            segments,
            known_segments: None,
            index,
            line: Vec::new(),
            is_mapped,
            totals: ImageTotals::default(),
            zeros: 0,
            known: HashMap::new(),
            data_bytes: 0,
            carried: CarryCounts::default(),
            levels: [0; HIGHEST_LEVEL as usize + 1],
            control,
            give_back,
        })
    }

    /// Sets the previous archive and its members.
    pub(super) fn refer_to(&mut self, previous: &Arc<dyn BlockRead>, members: KnownMembersOf) {
        self.archive.refer_to(previous, members);
    }

    /// Sets the table of segments of the previous archive.
    pub(super) fn know_segments_of(&mut self, table: &Arc<dyn BlockRead>) {
        self.known_segments = Some(KnownSegments::new(Arc::clone(table)));
    }

    /// Writes the zeros that wait. Which members they become depends on their place alone.
    fn write_zeros(&mut self) -> io::Result<()> {
        while self.zeros > 0 {
            let to_border = MAX_ZERO_BYTES - self.totals.volume_bytes % MAX_ZERO_BYTES;
            let len = self.zeros.min(to_border);
            self.zeros -= len;
            // At most 64 lengths of whole borders, and the volume's end.
            let known = if len.is_multiple_of(BORDER_BYTES) { self.known.remove(&len) } else { None };
            let (member, digest) = known.unwrap_or_else(|| {
                let member = self.zero_member(len);
                let digest = blake3::hash(&member).into();
                (member, digest)
            });
            self.archive.write_members(&member, &mut std::iter::once((member.len() as u64, digest)), None)?;
            self.sha1.update(&member);
            if let Some(segments) = &mut self.segments {
                segments.add(&member)?;
            }
            self.add_line(member.len() as u64, len, digest, (Holds::Zeros, None))?;
            if len.is_multiple_of(BORDER_BYTES) {
                self.known.insert(len, (member, digest));
            }
        }
        Ok(())
    }

    /// The member that holds this many zeros.
    fn zero_member(&self, len: u64) -> Vec<u8> {
        let member = zero_member(len);
        let Some(recipients) = &self.recipients else { return member };
        let mut segment = Vec::new();
        // At most MAX_ZERO_BYTES.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        recipients.seal_member(GZIP_NAME, &member, len, &mut segment);
        segment
    }

    fn add_line(
        &mut self,
        length: u64,
        volume_length: u64,
        digest: [u8; 32],
        (holds, mapping): (Holds, Option<MappingDigest>),
    ) -> io::Result<()> {
        let totals = &mut self.totals;
        let (number, offset, volume_offset) = (totals.members, totals.archive_bytes, totals.volume_bytes);
        self.line.clear();
        let member = ImageMember { number, offset, length, volume_offset, volume_length, digest, holds, mapping };
        member.add_to(&mut self.line, self.is_mapped);
        totals.members += 1;
        totals.archive_bytes += length;
        totals.volume_bytes += volume_length;
        self.index.write_all(&self.line)
    }
}

impl InOrder for ImageSink {
    type Item = Item;
    type Done = Written;

    fn write(&mut self, item: Item) -> io::Result<()> {
        let mut job = match item {
            Item::Zeros(len) => {
                self.zeros += len;
                return Ok(());
            }
            Item::Read(job) => job,
        };
        if job.origin == Origin::Zeros {
            self.zeros += job.data_len as u64;
            let _ = self.give_back.send(job);
            return Ok(());
        }
        self.write_zeros()?;
        let member = &job.member[..job.member_len];
        let began = Instant::now();
        let from = if let Origin::Carried(offset) = job.origin { Some(offset) } else { None };
        self.archive.write_members(member, &mut std::iter::once((member.len() as u64, job.digest)), from)?;
        let is_written = Instant::now();
        self.sha1.update(member);
        match (&mut self.segments, &mut self.known_segments, from) {
            (Some(segments), Some(known), Some(offset)) => segments.add_carried(member, known, offset)?,
            (Some(segments), ..) => segments.add(member)?,
            (None, ..) => {}
        }
        self.control.note_writing(is_written - began);
        self.control.note_busy(is_written.elapsed());
        let holds = (Holds::Data(job.content), job.mapping);
        self.add_line(job.member_len as u64, job.data_len as u64, job.digest, holds)?;
        self.data_bytes += job.data_len as u64;
        let level = match job.origin {
            Origin::Zeros => None,
            Origin::Carried(_) => {
                self.carried.members += 1;
                self.carried.bytes += job.member_len as u64;
                None
            }
            Origin::Due(level) => {
                self.carried.groups_reread += 1;
                Some(level)
            }
            Origin::Mismatch(level) => {
                self.carried.mismatches += 1;
                Some(level)
            }
            Origin::Compressed(level) => Some(level),
        };
        if let Some(level) = level {
            self.control.member_written();
            if let Some(count) = usize::try_from(level).ok().and_then(|level| self.levels.get_mut(level)) {
                *count += 1;
            }
        }
        job.data_len = 0;
        // Fails only after the producer is gone; members in progress are still written.
        let _ = self.give_back.send(job);
        Ok(())
    }

    fn finish(mut self) -> io::Result<Written> {
        self.write_zeros()?;
        let mut line = Vec::new();
        self.totals.add_to(&mut line);
        self.index.write_all(&line)?;
        let mut index = self.index.into_inner().map_err(io::IntoInnerError::into_error)?;
        index.flush()?;
        self.archive.flush()?;
        let (index_sha256, index_bytes) = index.finish();
        let ImageTotals { members, archive_bytes, volume_bytes } = self.totals;
        let members = WrittenMembers {
            totals: Totals { members, entries: 0, archive_bytes, tar_bytes: volume_bytes },
            archive_sha1: Some(self.sha1.finalize().into()),
            copied_on_server_bytes: 0,
            index_sha256,
            index_bytes,
            segments: self.segments.map(TableWriter::finish).transpose()?,
            levels: self.levels,
        };
        Ok(Written { members, carried: self.carried, data_bytes: self.data_bytes })
    }
}
