//! Writes members to the archive in order, hashes them, and writes their index lines.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use sha1::{Digest, Sha1};

use super::cut::CutMember;
use super::hashing::Hashing;
use super::job::{Job, Ready, Stored};
use super::output::{ArchiveFile, KnownMembersOf, LEAST_SHARED_BLOCKS, OpenPart, Outputs, WrittenMembers};
use super::recheck::CarriedMember;
use crate::archive::codec::{Bounds, CodecRef};
use crate::archive::index::{HEADER_LINE, MemberDigest, MemberLine, Totals};
use crate::archive::level::{HIGHEST_LEVEL, LevelControl};
use crate::encryption::table::{KnownSegments, NewTable, TableWriter};
use crate::outside::BlockRead;

/// How many times longer than the padding the shared range must be.
const LEAST_SHARED_FOR_PADDING: usize = 64;

/// The end of the pipeline for members.
pub(super) struct Sink {
    codec: CodecRef,
    archive: Box<dyn ArchiveFile>,
    /// `None` once the store copied bytes that this host did not see.
    sha1: Option<Sha1>,
    copied_on_server_bytes: u64,
    index: io::BufWriter<Hashing>,
    /// The table of segments, if the archive is encrypted.
    segments: Option<NewTable>,
    /// The segments of the previous archive, if it is encrypted, too.
    known_segments: Option<KnownSegments>,
    /// Buffered lines.
    lines: Vec<u8>,
    totals: Totals,
    levels: [u64; HIGHEST_LEVEL as usize + 1],
    control: LevelControl,
    give_back: Sender<Job>,
}

impl Sink {
    pub(super) fn new(
        codec: CodecRef,
        outputs: Outputs,
        give_back: Sender<Job>,
        control: LevelControl,
    ) -> io::Result<Self> {
        let mut index = io::BufWriter::with_capacity(256 * 1024, Hashing::new(outputs.index));
        index.write_all(HEADER_LINE.as_bytes())?;
        let (totals, levels) = (Totals::default(), [0; HIGHEST_LEVEL as usize + 1]);
        let (archive, lines) = (outputs.archive, Vec::new());
        let segments = outputs.segments.map(NewTable::buffered);
        Ok(Self {
            codec,
            archive,
            sha1: Some(Sha1::new()),
            copied_on_server_bytes: 0,
            index,
            segments,
            known_segments: None,
            lines,
            totals,
            levels,
            control,
            give_back,
        })
    }

    /// Sets the previous archive and its members. Returns whether the archive can share blocks with it.
    pub(super) fn refer_to(&mut self, previous: &Arc<dyn BlockRead>, members: KnownMembersOf) -> bool {
        self.archive.refer_to(previous, members);
        previous.file().is_some_and(|file| self.block_to_share(file).is_some())
    }

    /// Sets the table of segments of the previous archive.
    pub(super) fn know_segments_of(&mut self, table: Arc<dyn BlockRead>) {
        self.known_segments = Some(KnownSegments::new(table));
    }

    /// The size of the blocks that the archive can share with this file.
    fn block_to_share(&mut self, source: &File) -> Option<NonZero<usize>> {
        if self.codec.has_exact_padding() { self.archive.block_to_share(source) } else { None }
    }

    pub(super) fn write(&mut self, ready: Ready) -> io::Result<()> {
        match ready {
            Ready::Compressed(job) if !job.cut_ends.is_empty() => self.write_cut(job),
            Ready::Compressed(job) => self.write_compressed(job),
            // Its buffer is returned on drop.
            Ready::Carried(carried) => {
                let members = carried.members.iter().map(|member| (member.line.length, member.line.digest));
                self.put(carried.bytes(), Some((&carried.archive, carried.offset())), members)?;
                self.totals.add_carried(&mut self.lines, &carried.members);
                self.write_lines()
            }
            Ready::Stored(stored) => self.write_stored(stored),
        }
    }

    fn write_compressed(&mut self, mut job: Job) -> io::Result<()> {
        self.put(&job.member[..job.member_len], None, std::iter::once((job.member_len as u64, job.digest)))?;
        let Self { lines, totals, levels, control, .. } = self;
        let (length, tar_length) = (job.member_len as u64, job.data_len as u64);
        totals.add_member(lines, (length, tar_length), job.digest, job.heads, None);
        totals.entries += job.entries.len() as u64;
        for entry in &job.entries {
            entry.add_to(lines);
        }
        control.member_written();
        if let Some(count) = usize::try_from(job.level).ok().and_then(|level| levels.get_mut(level)) {
            *count += 1;
        }
        job.entries.clear();
        job.data_len = 0;
        // Fails only after the producer is gone; members in progress are still written.
        let _ = self.give_back.send(job);
        self.write_lines()
    }

    /// Appends members of these lengths and digests. The previous archive may have them at an offset.
    fn put(
        &mut self,
        bytes: &[u8],
        from: Option<(&Arc<dyn BlockRead>, u64)>,
        members: impl Iterator<Item = (u64, MemberDigest)> + Clone,
    ) -> io::Result<()> {
        let shared = from.and_then(|(archive, offset)| Some((archive.file()?, offset)));
        if let Some((file, offset)) = shared {
            self.pad_before(file, offset, bytes.len())?;
        }
        let Self { archive, sha1, segments, known_segments, control, .. } = self;
        // Written before hashed: where the bytes are copied, this brings them into the cache faster than
        // hashing.
        let began = Instant::now();
        if let Some((file, offset)) = shared {
            archive.write_shared(bytes, file, offset)?;
        } else {
            let mut members = members.clone().map(|(length, digest)| (length, *digest.bytes()));
            archive.write_members(bytes, &mut members, from.map(|(_, offset)| offset))?;
        }
        let is_written = Instant::now();
        hash(sha1, bytes);
        if let Some(segments) = segments {
            let known = known_segments.as_mut().zip(from.map(|(_, offset)| offset));
            add_each(segments, known, bytes, members.map(|(length, _)| length))?;
        }
        control.note_writing(is_written - began);
        control.note_busy(is_written.elapsed());
        Ok(())
    }

    /// Writes the buffered lines.
    fn write_lines(&mut self) -> io::Result<()> {
        self.index.write_all(&self.lines)?;
        self.lines.clear();
        Ok(())
    }

    /// The part of an upload that is being filled.
    pub(super) fn open_part(&mut self) -> OpenPart {
        self.archive.open_part()
    }

    /// Lets the store copy members, or refers to them.
    fn write_stored(&mut self, Stored { source, members }: Stored) -> io::Result<()> {
        let start = members.first().map_or(0, |member| member.line.offset);
        let end = members.iter().try_fold(
            start,
            |end, CarriedMember { line, .. }| {
                if line.offset == end { end.checked_add(line.length) } else { None }
            },
        );
        let end = end.ok_or_else(|| io::Error::other("the members to be copied are not adjacent"))?;
        if source.is_some() {
            self.fill_part()?;
        }
        let Self { archive, sha1, segments, known_segments, lines, totals, copied_on_server_bytes, .. } = self;
        if let Some(segments) = segments {
            let none = || io::Error::other("the segments of the previous archive are not known");
            let known = known_segments.as_mut().ok_or_else(none)?;
            for CarriedMember { line, .. } in &members {
                let sha256 = known.sha256_of(line.offset, line.length).map_err(io::Error::other)?;
                segments.add_known(line.length, &sha256)?;
            }
        }
        match source {
            Some(source) => archive.copy_stored(&source, start..end)?,
            None => archive.refer_to_range(start..end)?,
        }
        *sha1 = None;
        *copied_on_server_bytes += end - start;
        totals.add_carried(lines, &members);
        self.write_lines()
    }

    /// Fills the open part with padding up to the least length of a part.
    fn fill_part(&mut self) -> io::Result<()> {
        let Bounds { min_padding_bytes, max_padding_bytes, .. } = *self.codec.bounds();
        loop {
            let OpenPart { bytes, least_bytes } = self.archive.open_part();
            if bytes == 0 || bytes >= least_bytes {
                return Ok(());
            }
            let lacking = usize::try_from(least_bytes - bytes).unwrap_or(usize::MAX);
            self.write_padding(lacking.clamp(min_padding_bytes, max_padding_bytes))?;
        }
    }

    /// Writes a member of about this length without data.
    fn write_padding(&mut self, len: usize) -> io::Result<()> {
        let Self { codec, archive, sha1, segments, lines, totals, .. } = self;
        let member = codec.padding(len);
        if let Some(segments) = segments {
            segments.add(&member)?;
        }
        archive.write_all(&member)?;
        hash(sha1, &member);
        totals.add_member(lines, (member.len() as u64, 0), MemberDigest::of(&member), None, None);
        Ok(())
    }

    /// Writes the members of a piece of a large file or a raw image.
    fn write_cut(&mut self, mut job: Job) -> io::Result<()> {
        let mut rest = job.cut.bytes.as_slice();
        let follows = |one: &CutMember, next: &CutMember| {
            one.shared_at.map(|at| at.saturating_add(one.len as u64)) == next.shared_at
        };
        let mut left = job.cut.members.len();
        for run in job.cut.members.chunk_by(follows) {
            let (bytes, behind) = rest.split_at(run.iter().map(|member| member.len).sum());
            rest = behind;
            let shared = job.previous.as_ref().zip(run.first().and_then(|member| member.shared_at));
            self.put(bytes, shared, run.iter().map(|member| (member.len as u64, member.digest)))?;
            let Self { lines, totals, levels, .. } = &mut *self;
            for member in run {
                left -= 1;
                let heads = job.heads.filter(|_| left == 0);
                let lengths = (member.len as u64, member.data_len as u64);
                totals.add_member(lines, lengths, member.digest, heads, Some(member.data_digest));
                let Some(level) = member.level else { continue };
                if let Some(count) = usize::try_from(level).ok().and_then(|level| levels.get_mut(level)) {
                    *count += 1;
                }
            }
        }
        if job.cut.members.iter().any(|member| member.level.is_some()) {
            self.control.member_written();
        }
        self.totals.entries += job.entries.len() as u64;
        job.entries.iter().for_each(|entry| entry.add_to(&mut self.lines));
        self.write_lines()?;
        job.entries.clear();
        job.cut_ends.clear();
        job.cut.clear();
        job.data_len = 0;
        // Fails only after the producer is gone; members in progress are still written.
        let _ = self.give_back.send(job);
        Ok(())
    }

    /// Writes padding before `bytes` bytes of members that are at `offset` in the previous archive, so that they have
    /// the same alignment as there and the destination can share their blocks.
    fn pad_before(&mut self, from: &File, offset: u64, bytes: usize) -> io::Result<()> {
        let Some(block) = self.block_to_share(from) else { return Ok(()) };
        let len = padding_len(offset, self.totals.archive_bytes, block, self.codec.bounds().min_padding_bytes);
        let least = len.saturating_mul(LEAST_SHARED_FOR_PADDING).max(block.get() * LEAST_SHARED_BLOCKS);
        if len == 0 || bytes < least { Ok(()) } else { self.write_padding(len) }
    }

    pub(super) fn finish(self) -> io::Result<WrittenMembers> {
        let Self { mut archive, sha1, mut index, segments, totals, levels, copied_on_server_bytes, .. } = self;
        totals.write_to(&mut index)?;
        let mut index = index.into_inner().map_err(io::IntoInnerError::into_error)?;
        index.flush()?;
        archive.flush()?;
        let (index_sha256, index_bytes) = index.finish();
        Ok(WrittenMembers {
            totals,
            archive_sha1: sha1.map(|sha1| sha1.finalize().into()),
            copied_on_server_bytes,
            index_sha256,
            index_bytes,
            segments: segments.map(TableWriter::finish).transpose()?,
            levels,
        })
    }
}

fn hash(sha1: &mut Option<Sha1>, bytes: &[u8]) {
    if let Some(sha1) = sha1 {
        sha1.update(bytes);
    }
}

/// Adds adjacent segments of these lengths to the table. The previous archive may have them, from an offset on.
fn add_each(
    table: &mut TableWriter<impl Write>,
    mut known: Option<(&mut KnownSegments, u64)>,
    mut bytes: &[u8],
    lengths: impl Iterator<Item = u64>,
) -> io::Result<()> {
    for length in lengths {
        let (segment, rest) = bytes.split_at(usize::try_from(length).map_or(bytes.len(), |len| len.min(bytes.len())));
        match &mut known {
            Some((known, offset)) => {
                table.add_carried(segment, known, *offset)?;
                *offset += length;
            }
            None => table.add(segment)?,
        }
        bytes = rest;
    }
    Ok(())
}

/// The padding at `to` that gives the same alignment to blocks as at `from`.
fn padding_len(from: u64, to: u64, block: NonZero<usize>, min_bytes: usize) -> usize {
    let within = |offset: u64| usize::try_from(offset % block.get() as u64).unwrap_or(0);
    let mut len = (within(from) + block.get() - within(to)) % block;
    while len > 0 && len < min_bytes {
        len += block.get();
    }
    len
}

impl Totals {
    /// Appends the lines of members of the previous archive, and of the entries that end in them.
    fn add_carried(&mut self, out: &mut Vec<u8>, members: &[CarriedMember]) {
        for CarriedMember { line, entries } in members {
            let begins_at = self.tar_bytes;
            self.add_member(out, (line.length, line.tar_length), line.digest, line.heads, line.data);
            self.entries += entries.len() as u64;
            entries.add_to(out, line.tar_offset, begins_at);
        }
    }

    /// Appends the next member's line to `out`.
    fn add_member(
        &mut self,
        out: &mut Vec<u8>,
        (length, tar_length): (u64, u64),
        digest: MemberDigest,
        heads: Option<[u8; 16]>,
        data: Option<[u8; 32]>,
    ) {
        let (number, offset, tar_offset) = (self.members, self.archive_bytes, self.tar_bytes);
        MemberLine { number, offset, length, tar_offset, tar_length, digest, heads, data }.add_to(out);
        self.members += 1;
        self.archive_bytes += length;
        self.tar_bytes += tar_length;
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::padding_len;
    use crate::archive::gzip::{MAX_PADDING_BYTES, MIN_PADDING_BYTES};

    #[test]
    fn padding_makes_blocks_lie_alike() {
        for block in [1, 512, 4096].map(|block| NonZero::new(block).unwrap()) {
            for (from, to) in [(0, 0), (4096, 1), (1, 4096), (1 << 40, 4095), (60, 0), (61, 0), (4095, 70_000)] {
                let len = padding_len(from, to, block, MIN_PADDING_BYTES);
                assert!(
                    len == 0 || (MIN_PADDING_BYTES..=MAX_PADDING_BYTES).contains(&len),
                    "{from} {to} {block}: {len}"
                );
                assert_eq!((to + len as u64) % block.get() as u64, from % block.get() as u64);
            }
        }
    }
}
