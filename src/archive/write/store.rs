//! Entries that are read become headers, data and padding in the tar stream.

use sha2::{Digest, Sha256};

use super::place::{Before, Link, Placed};
use super::{
    ArchiveWriter, MAP_PIECE_BYTES, MIN_MEMBER_BYTES, SHARED_MEMBER_BYTES, SHARED_MEMBER_ENTRIES, TARGET_MEMBER_BYTES,
    USUAL_HEAD_BYTES,
};
use crate::archive::data::{DataOutcome, read_or_zero};
use crate::archive::error::ArchiveError;
use crate::archive::gzip::MAX_MEMBER_DATA;
use crate::archive::index::{EntryLine, IndexedKind};
use crate::archive::pax::{self, EntryType};
use crate::archive::runs::{Runs, Unasked};
use crate::entry::{Entry, EntryKind, FileContent, Metadata};
use crate::events::Severity;
use crate::shown;
use crate::units::ByteRange;

/// Asks an open file for its flags; true when it has others than are known of it.
pub(super) fn take_flags(entry: &mut Entry) -> bool {
    let EntryKind::File(content) = &entry.kind else { return false };
    let Some((flags, project)) = content.inode_flags() else { return false };
    let is_new = (flags, project) != (entry.metadata.flags, entry.metadata.project);
    (entry.metadata.flags, entry.metadata.project) = (flags, project);
    is_new
}

impl ArchiveWriter<'_> {
    /// Adds an entry, read from the source.
    pub(super) fn store(&mut self, placed: Placed) -> Result<(), ArchiveError> {
        let Placed { mut entry, path, link, before } = placed;
        if !matches!(link, Link::Further(_)) {
            take_flags(&mut entry);
        }
        self.put(&entry, path, &link, before.as_ref())?;
        self.spend(entry);
        Ok(())
    }

    fn put(&mut self, entry: &Entry, path: Vec<u8>, link: &Link, before: Option<&Before>) -> Result<(), ArchiveError> {
        if let Link::Further(first) = link {
            self.counts.hard_links += 1;
            return self.put_bare(path, EntryType::HardLink(first), IndexedKind::HardLink, entry);
        }
        match &entry.kind {
            EntryKind::File(content) => {
                self.counts.files += 1;
                self.put_file(path, entry, content.as_ref(), before)
            }
            EntryKind::Directory => {
                self.counts.directories += 1;
                self.put_bare(path, EntryType::Directory, IndexedKind::Directory, entry)
            }
            EntryKind::Symlink(target) => {
                self.counts.symlinks += 1;
                self.put_bare(path, EntryType::Symlink(target), IndexedKind::Symlink, entry)
            }
            EntryKind::CharDevice(number) => {
                self.counts.devices += 1;
                self.put_bare(path, EntryType::CharDevice(*number), IndexedKind::CharDevice, entry)
            }
            EntryKind::BlockDevice(number) => {
                self.counts.devices += 1;
                self.put_bare(path, EntryType::BlockDevice(*number), IndexedKind::BlockDevice, entry)
            }
            EntryKind::Fifo => {
                self.counts.fifos += 1;
                self.put_bare(path, EntryType::Fifo, IndexedKind::Fifo, entry)
            }
            EntryKind::Socket => {
                self.counts.sockets_left_out += 1;
                self.tell(Severity::Notice, &path, "is a socket, which tar cannot hold; left out");
                Ok(())
            }
        }
    }

    fn put_file(
        &mut self,
        path: Vec<u8>,
        entry: &Entry,
        content: &dyn FileContent,
        before: Option<&Before>,
    ) -> Result<(), ArchiveError> {
        let runs = self.runs_of(&path, content, entry.metadata.size)?;
        let (entry_type, kind) = if runs.is_whole() {
            (EntryType::File, IndexedKind::File)
        } else {
            self.counts.sparse_files += 1;
            (EntryType::SparseFile(runs.area()), IndexedKind::SparseFile)
        };
        let head = self.head(&path, entry_type, entry);
        // Its first part is in the archive already, and the rest must fit to it.
        if self.has_carried_part && before.is_none_or(|before| before.head != self.head_digests.of(&head.bytes)) {
            return Err(ArchiveError::Carry(shown::path(&path)));
        }
        self.put_data(path, &head, &runs, content, kind, &entry.metadata, before)
    }

    /// Adds an entry that has no data area.
    fn put_bare(
        &mut self,
        path: Vec<u8>,
        entry_type: EntryType<'_>,
        kind: IndexedKind,
        entry: &Entry,
    ) -> Result<(), ArchiveError> {
        let head = self.head(&path, entry_type, entry);
        let start = self.begin_entry(head.bytes.len() as u64)?;
        self.members.push(&head.bytes)?;
        self.end_entry(path, &head, kind, start, &entry.metadata, None, false)
    }

    pub(super) fn head(&self, path: &[u8], entry_type: EntryType<'_>, entry: &Entry) -> pax::Head {
        // A hard link takes its attributes from the name that it links to.
        let xattrs = if matches!(entry_type, EntryType::HardLink(_)) { &[] } else { entry.xattrs.as_slice() };
        let head = pax::head(path, entry_type, &entry.metadata, xattrs);
        self.tell_left_out(path, &head.left_out_xattrs);
        head
    }

    pub(super) fn tell_left_out(&self, path: &[u8], names: &[Vec<u8>]) {
        for name in names {
            let what = format!("its attribute {} is not in a form that tar can hold; left out", shown::path(name));
            self.tell(Severity::Error, path, what);
        }
    }

    /// Adds an entry with a data area: the sparse map, if any, and the runs of `content`. `before` is what the previous
    /// index says of it.
    #[expect(clippy::too_many_arguments, reason = "the parts of one entry, each from another place")]
    pub(super) fn put_data(
        &mut self,
        path: Vec<u8>,
        head: &pax::Head,
        runs: &Runs,
        content: &dyn FileContent,
        kind: IndexedKind,
        metadata: &Metadata,
        before: Option<&Before>,
    ) -> Result<(), ArchiveError> {
        let area_bytes = head.sparse_map_bytes + head.data_bytes;
        let padding = pax::padding_after(area_bytes);
        let entry_bytes = head.bytes.len() as u64 + area_bytes + padding;
        // Before anything of it is written: its length alone may be more than the destination has.
        self.room.check(area_bytes)?;
        self.room.take(area_bytes);
        let start = self.begin_entry(entry_bytes)?;
        self.push(&head.bytes)?;

        let mut outcome = DataOutcome::default();
        if head.sparse_map_bytes > 0 {
            self.put_map(runs, content, head.sparse_map_bytes, &mut outcome)?;
        }
        self.put_runs(runs, content, &mut outcome)?;
        if runs.unasked.as_ref().is_some_and(|unasked| unasked.left_out) {
            outcome.is_cut = true;
        }
        // Less than a block, in a member that is a whole number of blocks long.
        self.push(&pax::END[..usize::try_from(padding).unwrap_or(0)])?;
        self.counts.data_bytes += head.data_bytes;

        let mut damaged = self.tell_outcome(&path, content, metadata.size, kind, &outcome);
        let digest: [u8; 32] = outcome.digest.finalize().into();
        if let Some(before) = before.filter(|before| !damaged && before.content != Some(digest)) {
            damaged = self.tell_changed_unseen(&path, &head.bytes, metadata, before);
        }
        self.end_entry(path, head, kind, start, metadata, Some(digest), damaged)
    }

    /// Adds the sparse map, `map_bytes` of it whatever the file says of its runs this time.
    fn put_map(
        &mut self,
        runs: &Runs,
        content: &dyn FileContent,
        map_bytes: u64,
        outcome: &mut DataOutcome,
    ) -> Result<(), ArchiveError> {
        let area = runs.area();
        let mut left = map_bytes;
        let mut fit = runs.fit();
        let mut text = area.first_line().into_bytes();
        let mut again = runs.iter(content);
        while let Some(run) = fit.take(again.next()) {
            text.extend_from_slice(area.lines_of(run).as_bytes());
            if text.len() >= MAP_PIECE_BYTES {
                self.check_stop()?;
                self.put_map_piece(&text, &mut left, outcome)?;
                text.clear();
            }
        }
        if let Some(run) = area.last_run() {
            text.extend_from_slice(area.lines_of(run).as_bytes());
        }
        self.put_map_piece(&text, &mut left, outcome)?;
        // Less than a block.
        self.put_map_piece(&pax::END, &mut left, outcome)?;
        outcome.runs_changed |= !fit.is_same();
        Ok(())
    }

    /// Adds bytes to the tar stream, without those that it has already: see [`ArchiveWriter::carried_bytes`].
    fn push(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let there = usize::try_from(self.carried_bytes).map_or(bytes.len(), |carried| carried.min(bytes.len()));
        self.carried_bytes -= there as u64;
        self.members.push(&bytes[there..])
    }

    fn put_map_piece(&mut self, text: &[u8], left: &mut u64, outcome: &mut DataOutcome) -> Result<(), ArchiveError> {
        let piece = &text[..usize::try_from(*left).map_or(text.len(), |left| left.min(text.len()))];
        self.push(piece)?;
        outcome.digest.update(piece);
        *left -= piece.len() as u64;
        Ok(())
    }

    /// Adds the data of all runs.
    fn put_runs(
        &mut self,
        runs: &Runs,
        content: &dyn FileContent,
        outcome: &mut DataOutcome,
    ) -> Result<(), ArchiveError> {
        if runs.is_whole() {
            // Nearly all files are.
            return self.put_run(ByteRange::new(0, runs.area().size()), content, outcome);
        }
        let mut fit = runs.fit();
        let mut again = runs.iter(content);
        while let Some(run) = fit.take(again.next()) {
            self.put_run(run, content, outcome)?;
        }
        outcome.runs_changed |= !fit.is_same();
        Ok(())
    }

    fn put_run(
        &mut self,
        run: ByteRange,
        content: &dyn FileContent,
        outcome: &mut DataOutcome,
    ) -> Result<(), ArchiveError> {
        let mut done = 0;
        while done < run.len {
            let space = self.members.space();
            if space.is_empty() {
                self.check_stop()?;
                self.members.end_member()?;
                continue;
            }
            let mut len = usize::try_from(run.len - done).map_or(space.len(), |left| left.min(space.len()));
            if self.carried_bytes > 0 {
                len = usize::try_from(self.carried_bytes).map_or(len, |carried| carried.min(len));
            }
            let piece = &mut space[..len];
            read_or_zero(content, run.start + done, piece, outcome);
            outcome.digest.update(&*piece);
            if self.carried_bytes > 0 {
                self.carried_bytes -= len as u64;
            } else {
                self.members.commit(len);
            }
            done += len as u64;
            self.unreported_bytes += len as u64;
            self.report_progress(false);
        }
        Ok(())
    }

    /// Tells what went wrong with a file's data; true when the archive does not hold it as it was.
    fn tell_outcome(
        &self,
        path: &[u8],
        content: &dyn FileContent,
        size: u64,
        kind: IndexedKind,
        outcome: &DataOutcome,
    ) -> bool {
        for what in outcome.complaints(size) {
            self.tell(Severity::Error, path, what);
        }
        let grew = kind != IndexedKind::RawImage && content.is_longer_than(size);
        if grew {
            self.tell(Severity::Error, path, format!("grew while it was read; its first {size} bytes are archived"));
        }
        outcome.is_damaged() || grew
    }

    /// Where a file holds data. Where that cannot be asked, all that follows counts as data.
    pub(super) fn runs_of(&self, path: &[u8], content: &dyn FileContent, size: u64) -> Result<Runs, ArchiveError> {
        let mut found_bytes = 0_u64;
        let runs = Runs::find(content, size, |run| {
            self.check_stop()?;
            found_bytes = found_bytes.saturating_add(run.len);
            self.room.check(found_bytes)
        })?;
        if let Some(Unasked { from, left_out, error }) = &runs.unasked {
            if *left_out {
                let what =
                    format!("where it holds data cannot be found from byte {from} on; left out from there: {error}");
                self.tell(Severity::Error, path, what);
            } else {
                let what = format!("its holes cannot be found from byte {from} on, read as data: {error}");
                self.tell(Severity::Warning, path, what);
            }
        }
        Ok(runs)
    }

    /// Ends the current member where this entry asks for one of its own, or would make it too long.
    fn begin_entry(&mut self, entry_bytes: u64) -> Result<u64, ArchiveError> {
        self.check_length(entry_bytes)?;
        let current = self.members.current_bytes() as u64;
        if entry_bytes >= TARGET_MEMBER_BYTES || current + entry_bytes > MAX_MEMBER_DATA as u64 {
            self.members.end_member()?;
        }
        Ok(self.tar_offset)
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one index line, each from another place")]
    fn end_entry(
        &mut self,
        path: Vec<u8>,
        head: &pax::Head,
        kind: IndexedKind,
        start: u64,
        metadata: &Metadata,
        content: Option<[u8; 32]>,
        damaged: bool,
    ) -> Result<(), ArchiveError> {
        let area_bytes = head.sparse_map_bytes + head.data_bytes;
        let tar_length = head.bytes.len() as u64 + area_bytes + pax::padding_after(area_bytes);
        self.tar_offset += tar_length;
        self.room.take((head.bytes.len() as u64).saturating_sub(USUAL_HEAD_BYTES));
        let is_last = ends_member(&path, tar_length, self.members.current_bytes());
        let line = EntryLine {
            kind,
            damaged,
            tar_offset: start,
            tar_length,
            size: metadata.size,
            ino: metadata.ino,
            ctime: metadata.ctime,
            head: self.head_digests.of(&head.bytes),
            content,
            path,
        };
        self.members.note_entry(line, &head.bytes);
        if is_last { self.members.end_member() } else { Ok(()) }
    }
}

/// Whether the member ends after this entry: decided by the entry alone, so that a change elsewhere changes nothing
/// here. On average one member ends for each [`SHARED_MEMBER_BYTES`], and for each [`SHARED_MEMBER_ENTRIES`].
fn ends_member(path: &[u8], entry_bytes: u64, member_bytes: usize) -> bool {
    if entry_bytes >= TARGET_MEMBER_BYTES {
        return true;
    }
    if member_bytes < MIN_MEMBER_BYTES {
        return false;
    }
    let digest: [u8; 32] = Sha256::digest(path).into();
    let fraction =
        u64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]]);
    let share = entry_bytes.max(SHARED_MEMBER_BYTES / SHARED_MEMBER_ENTRIES);
    fraction < share.saturating_mul(u64::MAX / SHARED_MEMBER_BYTES)
}
