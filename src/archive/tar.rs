//! Writes entries as headers, data and padding to the tar stream, and ends members at entry borders.

mod area;
mod border;
mod room;
mod stream;

use sha2::Digest;

use self::area::{put_area, put_cut_area, runs_of};
use self::border::{CutRule, ends_member};
use self::room::Room;
use self::stream::TarStream;
use super::codec::{MemberSizes, SharedMembers};
use super::counts::Counts;
use super::data::DataOutcome;
use super::error::{ArchiveError, StopCheck};
use super::head_digest::HeadDigests;
use super::index::{EntryLine, IndexedKind};
use super::members::{MemberWriter, WrittenMembers};
use super::pax::{self, EntryType, Head};
use super::placed::{Link, MemberPlace, Placed, PreviousLine, Same, Spent, tell};
use super::runs::Runs;
use crate::entry::{Entry, EntryKind, FileContent, Metadata};
use crate::events::{Observer, Severity};
use crate::shown;

/// Writes the entries of an archive in order.
pub(super) struct TarWriter<'a> {
    stream: TarStream<'a>,
    /// The tar offset of the next entry.
    tar_offset: u64,
    /// The limits of the archive and of the current filesystem.
    room: Room,
    shared: SharedMembers,
    /// Where the current entry was in the previous archive.
    place: MemberPlace,
    cuts: CutRule,
    counts: Counts,
    head_digests: HeadDigests,
    spent: Spent,
}

/// An entry's data area, before it is written.
struct Area<'a> {
    runs: &'a Runs,
    content: &'a dyn FileContent,
    /// The entry's line in the previous index.
    previous: Option<&'a PreviousLine>,
}

/// The facts for an entry's line besides headers and data area.
struct Facts<'a> {
    kind: IndexedKind,
    metadata: &'a Metadata,
}

/// The result of writing an entry's data area.
#[derive(Clone, Copy, Default)]
struct Written {
    content: Option<[u8; 32]>,
    /// The archive's data differs from the file's.
    is_damaged: bool,
    /// Its members end at borders of the file or region.
    is_cut: bool,
}

impl<'a> TarWriter<'a> {
    pub(super) fn new(members: MemberWriter, sizes: MemberSizes, stop: StopCheck, observer: &'a dyn Observer) -> Self {
        Self {
            shared: sizes.shared,
            place: MemberPlace::Unknown,
            cuts: CutRule::new(sizes.file_bytes),
            stream: TarStream::new(members, stop, observer),
            tar_offset: 0,
            room: Room::UNLIMITED,
            counts: Counts::default(),
            head_digests: HeadDigests::default(),
            spent: Spent::default(),
        }
    }

    pub(super) fn observer(&self) -> &'a dyn Observer {
        self.stream.observer
    }

    /// The members of the stream.
    pub(super) fn members(&mut self) -> &mut MemberWriter {
        &mut self.stream.members
    }

    pub(super) fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    /// Where members end in large files.
    pub(super) fn cuts(&mut self) -> &mut CutRule {
        &mut self.cuts
    }

    /// The bytes of the current filesystem that count for its limit.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.room.taken_bytes()
    }

    pub(super) fn check_stop(&self) -> Result<(), ArchiveError> {
        self.stream.check_stop()
    }

    /// Fails if no more entry may be added.
    pub(super) fn check(&self) -> Result<(), ArchiveError> {
        self.check_stop()?;
        self.room.check(0)?;
        self.room.check_archive(self.tar_offset, 0)
    }

    /// Collects a used entry.
    pub(super) fn spend(&mut self, entry: Entry) {
        self.spent.add(entry);
    }

    /// A batch of used entries, once there are a few hundred.
    pub(super) fn take_spent(&mut self) -> Option<Vec<Entry>> {
        self.spent.take()
    }

    /// Frees the used entries.
    pub(super) fn free_spent(&mut self) {
        self.spent.clear();
    }

    /// Ends a filesystem and resets its limit.
    pub(super) fn end_filesystem(&mut self) {
        self.spent.clear();
        self.room.start_filesystem();
        self.cuts.start_filesystem();
    }

    /// Ends the stream and waits until all of it is written.
    pub(super) fn finish(mut self) -> Result<(WrittenMembers, Counts), ArchiveError> {
        self.stream.end()?;
        let Self { stream, counts, tar_offset, .. } = self;
        let members = stream.members.finish()?;
        if members.totals.tar_bytes != tar_offset + pax::END.len() as u64 {
            let what = "the tar stream is not as long as its entries together";
            return Err(ArchiveError::Write(std::io::Error::other(what)));
        }
        Ok((members, counts))
    }

    /// Adds an entry, read from the source. Its first `present_bytes` were already copied from the previous
    /// archive. Returns the entry's path if its data changed and nothing else shows it.
    pub(super) fn append(&mut self, mut placed: Placed, present_bytes: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        if !placed.is_further_name() {
            placed.take_flags();
        }
        self.stream.present_bytes = present_bytes;
        let Placed { entry, path, link, previous, is_due, place } = placed;
        self.place = place;
        self.stream.members.compare_all(is_due);
        let appended = self.put(&entry, path, &link, previous.as_ref());
        self.stream.members.compare_all(false);
        self.place = MemberPlace::Unknown;
        self.stream.present_bytes = 0;
        let changed = appended?;
        self.spend(entry);
        Ok(changed)
    }

    /// Adds the raw image of a region as `path`.
    pub(super) fn append_raw_image(
        &mut self,
        path: Vec<u8>,
        metadata: &Metadata,
        image: &dyn FileContent,
    ) -> Result<(), ArchiveError> {
        let runs = runs_of(&self.stream, &self.room, &path, image, metadata.size)?;
        let head = pax::head(&path, EntryType::SparseFile(runs.area()), metadata, &[]);
        self.counts.raw_images += 1;
        let facts = Facts { kind: IndexedKind::RawImage, metadata };
        self.put_data(path, &head, &facts, &Area { runs: &runs, content: image, previous: None }).map(drop)
    }

    /// Whether the current member may end before an entry of this length.
    pub(super) fn may_end_member_before(&self, entry_bytes: Option<u64>) -> bool {
        self.shared.may_end_before(entry_bytes, self.stream.members.current_bytes())
    }

    /// The length of the tar stream so far.
    pub(super) fn tar_offset(&self) -> u64 {
        self.tar_offset
    }

    /// Advances the tar offset by the length of copied entries.
    pub(super) fn note_copied(&mut self, tar_bytes: u64) {
        self.tar_offset += tar_bytes;
    }

    /// Counts a copied entry, and repeats reports of what is left out of it; returns its bytes.
    pub(super) fn count_copied(&mut self, placed: &Placed, same: &Same) -> u64 {
        self.tell_left_out(&placed.path, &same.left_out_xattrs);
        let counts = &mut self.counts;
        if placed.is_further_name() {
            counts.hard_links += 1;
            return 0;
        }
        counts.note(&placed.entry.kind);
        counts.sparse_files += u64::from(same.is_sparse);
        counts.data_bytes += same.data_bytes;
        self.room.take(same.data_bytes);
        same.data_bytes
    }

    fn put(
        &mut self,
        entry: &Entry,
        path: Vec<u8>,
        link: &Link,
        previous: Option<&PreviousLine>,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        if let Link::Further(_) = link {
            self.counts.hard_links += 1;
        } else {
            self.counts.note(&entry.kind);
        }
        let (entry_type, kind) = match (link, &entry.kind) {
            (Link::Further(first), _) => (EntryType::HardLink(first), IndexedKind::HardLink),
            (_, EntryKind::File(content)) => return self.put_file(path, entry, content.as_ref(), previous),
            (_, EntryKind::Directory) => (EntryType::Directory, IndexedKind::Directory),
            (_, EntryKind::Symlink(target)) => (EntryType::Symlink(target), IndexedKind::Symlink),
            (_, EntryKind::CharDevice(number)) => (EntryType::CharDevice(*number), IndexedKind::CharDevice),
            (_, EntryKind::BlockDevice(number)) => (EntryType::BlockDevice(*number), IndexedKind::BlockDevice),
            (_, EntryKind::Fifo) => (EntryType::Fifo, IndexedKind::Fifo),
            (_, EntryKind::Socket) => {
                self.tell(Severity::Notice, &path, "is a socket, which tar cannot hold; left out");
                return Ok(None);
            }
        };
        // None of these has a data area.
        let head = self.head(&path, entry_type, entry);
        let start = self.begin_entry(head.bytes.len() as u64)?;
        self.stream.members.push(&head.bytes)?;
        self.end_entry(path, &head, &Facts { kind, metadata: &entry.metadata }, start, Written::default())?;
        Ok(None)
    }

    fn put_file(
        &mut self,
        path: Vec<u8>,
        entry: &Entry,
        content: &dyn FileContent,
        previous: Option<&PreviousLine>,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        let runs = runs_of(&self.stream, &self.room, &path, content, entry.metadata.size)?;
        let (entry_type, kind) = if runs.is_whole() {
            (EntryType::File, IndexedKind::File)
        } else {
            self.counts.sparse_files += 1;
            (EntryType::SparseFile(runs.area()), IndexedKind::SparseFile)
        };
        let head = self.head(&path, entry_type, entry);
        // Its first part is already in the archive, and the rest must fit.
        let is_present = self.stream.present_bytes > 0;
        if is_present && previous.is_none_or(|previous| previous.head != self.head_digests.of(&head.bytes)) {
            return Err(ArchiveError::Carry(shown::path(&path)));
        }
        self.put_data(path, &head, &Facts { kind, metadata: &entry.metadata }, &Area { runs: &runs, content, previous })
    }

    fn head(&self, path: &[u8], entry_type: EntryType<'_>, entry: &Entry) -> Head {
        // A hard link takes its attributes from the first name.
        let xattrs = if matches!(entry_type, EntryType::HardLink(_)) { &[] } else { entry.xattrs.as_slice() };
        let head = pax::head(path, entry_type, &entry.metadata, xattrs);
        self.tell_left_out(path, &head.left_out_xattrs);
        head
    }

    /// Adds an entry with a data area: the sparse map, if any, and its data runs.
    fn put_data(
        &mut self,
        path: Vec<u8>,
        head: &Head,
        facts: &Facts<'_>,
        area: &Area<'_>,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Area { runs, content, previous } = *area;
        let is_mixed = self.stream.present_bytes > 0;
        let area_bytes = head.area_bytes();
        // Checked before writing: its length alone may exceed the space at the destination.
        self.room.check(area_bytes)?;
        self.room.take(area_bytes);
        let cut = self.cuts.distance(facts.kind, runs.area());
        if cut.is_some() {
            self.stream.members.end_member()?;
        }
        let start = self.begin_entry(head.entry_bytes())?;
        self.stream.push(&head.bytes)?;
        let (stream, map_bytes) = (&mut self.stream, head.sparse_map_bytes);
        let mut outcome = match cut {
            Some(distance) => put_cut_area(stream, runs, content, map_bytes, distance)?,
            None => put_area(stream, runs, content, map_bytes)?,
        };
        if runs.unasked.as_ref().is_some_and(|unasked| unasked.left_out) {
            outcome.is_cut = true;
        }
        // Less than a block; the member's length is a multiple of the block size.
        self.stream.push(&pax::END[..usize::try_from(pax::padding_after(area_bytes)).unwrap_or(0)])?;
        self.counts.data_bytes += head.data_bytes;

        let is_damaged = self.tell_outcome(&path, content, facts, &outcome);
        let digest: [u8; 32] = outcome.digest.finalize().into();
        let other = previous.filter(|previous| !is_damaged && previous.content != Some(digest));
        let is_changed_unseen = other.is_some_and(|previous| {
            previous.head == self.head_digests.of(&head.bytes)
                && (previous.ino, previous.ctime) == (facts.metadata.ino, facts.metadata.ctime)
        });
        let is_damaged = is_damaged || (is_changed_unseen && is_mixed);
        let changed = is_changed_unseen.then(|| path.clone());
        self.end_entry(path, head, facts, start, Written { content: Some(digest), is_damaged, is_cut: cut.is_some() })?;
        Ok(changed)
    }

    /// Reports problems with a file's data; true if the archive's data differs from it.
    fn tell_outcome(&self, path: &[u8], content: &dyn FileContent, facts: &Facts<'_>, outcome: &DataOutcome) -> bool {
        let size = facts.metadata.size;
        for what in outcome.complaints(size) {
            self.tell(Severity::Error, path, what);
        }
        if let Some(what) = outcome.warning() {
            self.tell(Severity::Warning, path, what);
        }
        let grew = facts.kind != IndexedKind::RawImage && content.is_longer_than(size);
        if grew {
            self.tell(Severity::Error, path, format!("grew while it was read; its first {size} bytes are archived"));
        }
        outcome.is_damaged() || grew
    }

    /// Ends the current member if this entry needs its own members or would make it too long.
    fn begin_entry(&mut self, entry_bytes: u64) -> Result<u64, ArchiveError> {
        self.room.check_archive(self.tar_offset, entry_bytes)?;
        let members = &mut self.stream.members;
        if self.shared.end_before(entry_bytes, members.current_bytes()) {
            members.end_member()?;
        }
        Ok(self.tar_offset)
    }

    fn end_entry(
        &mut self,
        path: Vec<u8>,
        head: &Head,
        facts: &Facts<'_>,
        start: u64,
        written: Written,
    ) -> Result<(), ArchiveError> {
        let tar_length = head.entry_bytes();
        self.tar_offset += tar_length;
        self.room.take_head(head.bytes.len() as u64);
        let members = &mut self.stream.members;
        let is_last = ends_member(self.shared, &path, self.place, tar_length, members.current_bytes());
        let line = EntryLine {
            kind: facts.kind,
            damaged: written.is_damaged,
            tar_offset: start,
            tar_length,
            size: facts.metadata.size,
            ino: facts.metadata.ino,
            ctime: facts.metadata.ctime,
            head: self.head_digests.of(&head.bytes),
            content: written.content,
            path,
        };
        let is_cut = written.is_cut && head.data_bytes > 0;
        members.note_entry(line, &head.bytes);
        if is_cut {
            members.end_cut_member();
        }
        if is_last || is_cut { members.end_member() } else { Ok(()) }
    }

    fn tell_left_out(&self, path: &[u8], names: &[Vec<u8>]) {
        for name in names {
            let what = format!("its attribute {} is not in a form that tar can hold; left out", shown::path(name));
            self.tell(Severity::Error, path, what);
        }
    }

    fn tell(&self, severity: Severity, path: &[u8], what: impl Into<String>) {
        tell(self.stream.observer, severity, path, what);
    }
}
