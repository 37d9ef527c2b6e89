//! Entries become a tar stream, cut into members where the entries themselves say so.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::data::{DataOutcome, read_or_zero};
use super::gzip::{BadLevel, MAX_MEMBER_DATA};
use super::index::{EntryLine, IndexedKind};
use super::links::{Links, Name};
use super::members::{MemberWriter, Outputs, WrittenMembers};
use super::pax::{self, EntryType};
use super::runs::{Runs, Unasked};
use crate::events::{Event, Observer, Problem, Severity};
use crate::reader::raw::RawImage;
use crate::reader::{Entry, EntryKind, FileContent, Metadata, Timestamp};
use crate::shown;
use crate::units::ByteRange;

/// An entry that takes this much has members of its own, each of this size. Smaller entries share members that are of
/// this size on average.
const TARGET_MEMBER_BYTES: u64 = 512 * 1024;
/// A shared member is not ended before it has this much.
const MIN_MEMBER_BYTES: usize = 64 * 1024;
/// Linux's `PATH_MAX` without its final NUL: no program can make a longer path in one piece.
const LONGEST_PATH_BYTES: usize = 4095;
/// How much of a sparse map is made at once.
const MAP_PIECE_BYTES: usize = 64 * 1024;
/// The observer is told of what was read in steps of at least this size.
const PROGRESS_STEP_BYTES: u64 = 1 << 20;

/// Why an archive could not be written. Whatever was written is of no use then.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Writing failed: no space, most likely.
    #[error("the archive could not be written")]
    Write(#[source] io::Error),
    /// [`ArchiveOptions::stop`] said so.
    #[error("stopped before the archive was complete")]
    Stopped,
    /// There is no such level.
    #[error(transparent)]
    Level(#[from] BadLevel),
}

/// Asked now and then whether the work is to stop.
pub type StopCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// How an archive is written.
#[derive(Clone)]
pub struct ArchiveOptions {
    /// The compression level, 1 to 12.
    pub level: i32,
    /// How many threads compress.
    pub threads: usize,
    /// Writing stops soon after this says so.
    pub stop: StopCheck,
}

/// What went into an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Regular files, hard links to them not counted.
    pub files: u64,
    /// Of these, files with holes.
    pub sparse_files: u64,
    /// Directories, roots included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of what is counted elsewhere.
    pub hard_links: u64,
    /// Character and block devices.
    pub devices: u64,
    /// Named pipes.
    pub fifos: u64,
    /// Sockets, which are not in the archive.
    pub sockets_left_out: u64,
    /// Raw images of regions.
    pub raw_images: u64,
    /// Bytes of files and images that were stored; holes and hard links cost none.
    pub data_bytes: u64,
}

/// A finished archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenArchive {
    /// Lengths and digests.
    pub members: WrittenMembers,
    /// What is in it.
    pub counts: Counts,
}

/// Writes an archive, one filesystem or raw image after the other.
pub struct ArchiveWriter<'a> {
    members: MemberWriter,
    stop: StopCheck,
    observer: &'a dyn Observer,
    tar_offset: u64,
    prefix: Vec<u8>,
    links: Links,
    counts: Counts,
    unreported_bytes: u64,
}

impl<'a> ArchiveWriter<'a> {
    /// Starts an archive. Problems of single files are told to `observer`, and the archive goes on.
    pub fn new(outputs: Outputs, options: &ArchiveOptions, observer: &'a dyn Observer) -> Result<Self, ArchiveError> {
        Ok(Self {
            members: MemberWriter::new(outputs, options.level, options.threads)?,
            stop: Arc::clone(&options.stop),
            observer,
            tar_offset: 0,
            prefix: b".".to_vec(),
            links: Links::default(),
            counts: Counts::default(),
            unreported_bytes: 0,
        })
    }

    /// What follows is a filesystem whose root is `.` or `./directory`.
    pub fn start_filesystem(&mut self, directory: Option<&str>) {
        self.prefix = b".".to_vec();
        if let Some(directory) = directory {
            self.prefix.push(b'/');
            self.prefix.extend_from_slice(directory.as_bytes());
        }
        // The next filesystem may use the same device and inode numbers.
        self.links.clear();
    }

    /// Adds an entry of the filesystem that was started last.
    pub fn append(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        self.check_stop()?;
        let mut path = self.prefix.clone();
        if !entry.path.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&entry.path);
        }
        if path.len() > LONGEST_PATH_BYTES {
            let what = "its path is longer than 4095 bytes: archived, but tar restores it only with --strip-components";
            self.tell(Severity::Warning, &path, what);
        }
        let is_directory = matches!(entry.kind, EntryKind::Directory);
        if !is_directory && entry.metadata.nlink > 1 && !matches!(entry.kind, EntryKind::Socket) {
            let key = (entry.metadata.dev, entry.metadata.ino);
            match self.links.note(key, entry.metadata.nlink, &path) {
                Name::First => {}
                Name::Further(first) => {
                    self.counts.hard_links += 1;
                    return self.put_bare(&path, EntryType::HardLink(&first), IndexedKind::HardLink, entry);
                }
                Name::NotKept => {
                    let what = "there are too many hard links; archived, but its other names become files of their own";
                    self.tell(Severity::Warning, &path, what);
                }
            }
        }
        match &entry.kind {
            EntryKind::File(content) => {
                self.counts.files += 1;
                self.put_file(&path, content.as_ref(), entry)
            }
            EntryKind::Directory => {
                self.counts.directories += 1;
                self.put_bare(&path, EntryType::Directory, IndexedKind::Directory, entry)
            }
            EntryKind::Symlink(target) => {
                self.counts.symlinks += 1;
                self.put_bare(&path, EntryType::Symlink(target), IndexedKind::Symlink, entry)
            }
            EntryKind::CharDevice(number) => {
                self.counts.devices += 1;
                self.put_bare(&path, EntryType::CharDevice(*number), IndexedKind::CharDevice, entry)
            }
            EntryKind::BlockDevice(number) => {
                self.counts.devices += 1;
                self.put_bare(&path, EntryType::BlockDevice(*number), IndexedKind::BlockDevice, entry)
            }
            EntryKind::Fifo => {
                self.counts.fifos += 1;
                self.put_bare(&path, EntryType::Fifo, IndexedKind::Fifo, entry)
            }
            EntryKind::Socket => {
                self.counts.sockets_left_out += 1;
                self.tell(Severity::Notice, &path, "is a socket, which tar cannot hold; left out");
                Ok(())
            }
        }
    }

    /// Adds the raw image of a region of `size` bytes as `./file_name`.
    pub fn append_raw_image(
        &mut self,
        file_name: &str,
        image: &RawImage,
        size: u64,
        mtime: Timestamp,
    ) -> Result<(), ArchiveError> {
        let path = [b"./", file_name.as_bytes()].concat();
        let metadata = Metadata { mode: 0o600, size, mtime, nlink: 1, ..Metadata::default() };
        let runs = self.runs_of(&path, image, size)?;
        let head = pax::head(&path, EntryType::SparseFile(runs.area()), &metadata, &[]);
        self.counts.raw_images += 1;
        self.put_data(&path, &head, &runs, image, IndexedKind::RawImage, &metadata)
    }

    /// How many bytes of files and images it holds so far.
    pub fn data_bytes(&self) -> u64 {
        self.counts.data_bytes
    }

    /// Ends the archive and waits until all of it is written.
    pub fn finish(mut self) -> Result<WrittenArchive, ArchiveError> {
        self.check_stop()?;
        self.members.end_member()?;
        self.members.push(&pax::END, MAX_MEMBER_DATA)?;
        self.report_progress(true);
        let Self { members, counts, .. } = self;
        Ok(WrittenArchive { members: members.finish()?, counts })
    }

    fn put_file(&mut self, path: &[u8], content: &dyn FileContent, entry: &Entry) -> Result<(), ArchiveError> {
        let runs = self.runs_of(path, content, entry.metadata.size)?;
        let (entry_type, kind) = if runs.is_whole() {
            (EntryType::File, IndexedKind::File)
        } else {
            self.counts.sparse_files += 1;
            (EntryType::SparseFile(runs.area()), IndexedKind::SparseFile)
        };
        let head = self.head(path, entry_type, entry);
        self.put_data(path, &head, &runs, content, kind, &entry.metadata)
    }

    /// Adds an entry that has no data area.
    fn put_bare(
        &mut self,
        path: &[u8],
        entry_type: EntryType<'_>,
        kind: IndexedKind,
        entry: &Entry,
    ) -> Result<(), ArchiveError> {
        let head = self.head(path, entry_type, entry);
        let start = self.begin_entry(head.bytes.len() as u64)?;
        self.members.push(&head.bytes, limit_for(head.bytes.len() as u64))?;
        self.end_entry(path, &head, kind, start, &entry.metadata, None, false)
    }

    fn head(&self, path: &[u8], entry_type: EntryType<'_>, entry: &Entry) -> pax::Head {
        // A hard link takes its attributes from the name that it links to.
        let xattrs = if matches!(entry_type, EntryType::HardLink(_)) { &[] } else { entry.xattrs.as_slice() };
        let head = pax::head(path, entry_type, &entry.metadata, xattrs);
        for name in &head.left_out_xattrs {
            let what = format!("its attribute {} is not in a form that tar can hold; left out", shown::path(name));
            self.tell(Severity::Error, path, what);
        }
        head
    }

    /// Adds an entry with a data area: the sparse map, if any, and the runs of `content`.
    fn put_data(
        &mut self,
        path: &[u8],
        head: &pax::Head,
        runs: &Runs,
        content: &dyn FileContent,
        kind: IndexedKind,
        metadata: &Metadata,
    ) -> Result<(), ArchiveError> {
        let area_bytes = head.sparse_map_bytes + head.data_bytes;
        let padding = pax::padding_after(area_bytes);
        let entry_bytes = head.bytes.len() as u64 + area_bytes + padding;
        let limit = limit_for(entry_bytes);
        let start = self.begin_entry(entry_bytes)?;
        self.members.push(&head.bytes, limit)?;

        let mut outcome = DataOutcome::default();
        if head.sparse_map_bytes > 0 {
            self.put_map(runs, content, head.sparse_map_bytes, limit, &mut outcome)?;
        }
        self.put_runs(runs, content, limit, &mut outcome)?;
        if runs.unasked.as_ref().is_some_and(|unasked| unasked.left_out) {
            outcome.is_cut = true;
        }
        // Less than a block, in a member that is a whole number of blocks long.
        self.members.push(&pax::END[..usize::try_from(padding).unwrap_or(0)], limit)?;
        self.counts.data_bytes += head.data_bytes;

        let damaged = self.tell_outcome(path, content, metadata.size, kind, &outcome);
        let digest = outcome.digest.finalize().into();
        self.end_entry(path, head, kind, start, metadata, Some(digest), damaged)
    }

    /// Adds the sparse map, `map_bytes` of it whatever the file says of its runs this time.
    fn put_map(
        &mut self,
        runs: &Runs,
        content: &dyn FileContent,
        map_bytes: u64,
        limit: usize,
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
                self.put_map_piece(&text, &mut left, limit, outcome)?;
                text.clear();
            }
        }
        if let Some(run) = area.last_run() {
            text.extend_from_slice(area.lines_of(run).as_bytes());
        }
        self.put_map_piece(&text, &mut left, limit, outcome)?;
        // Less than a block.
        self.put_map_piece(&pax::END, &mut left, limit, outcome)?;
        outcome.runs_changed |= !fit.is_same();
        Ok(())
    }

    fn put_map_piece(
        &mut self,
        text: &[u8],
        left: &mut u64,
        limit: usize,
        outcome: &mut DataOutcome,
    ) -> Result<(), ArchiveError> {
        let piece = &text[..usize::try_from(*left).map_or(text.len(), |left| left.min(text.len()))];
        self.members.push(piece, limit)?;
        outcome.digest.update(piece);
        *left -= piece.len() as u64;
        Ok(())
    }

    /// Adds the data of all runs.
    fn put_runs(
        &mut self,
        runs: &Runs,
        content: &dyn FileContent,
        limit: usize,
        outcome: &mut DataOutcome,
    ) -> Result<(), ArchiveError> {
        let mut fit = runs.fit();
        let mut again = runs.iter(content);
        while let Some(run) = fit.take(again.next()) {
            self.put_run(run, content, limit, outcome)?;
        }
        outcome.runs_changed |= !fit.is_same();
        Ok(())
    }

    fn put_run(
        &mut self,
        run: ByteRange,
        content: &dyn FileContent,
        limit: usize,
        outcome: &mut DataOutcome,
    ) -> Result<(), ArchiveError> {
        let mut done = 0;
        while done < run.len {
            let space = self.members.space(limit);
            if space.is_empty() {
                self.check_stop()?;
                self.members.end_member()?;
                continue;
            }
            let len = usize::try_from(run.len - done).map_or(space.len(), |left| left.min(space.len()));
            let piece = &mut space[..len];
            read_or_zero(content, run.start + done, piece, outcome);
            outcome.digest.update(&*piece);
            self.members.commit(len);
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
        let grew = kind != IndexedKind::RawImage && matches!(content.read_at(size, &mut [0]), Ok(1..));
        if grew {
            self.tell(Severity::Error, path, format!("grew while it was read; its first {size} bytes are archived"));
        }
        outcome.is_damaged() || grew
    }

    /// Where a file holds data. Where that cannot be asked, all that follows counts as data.
    fn runs_of(&self, path: &[u8], content: &dyn FileContent, size: u64) -> Result<Runs, ArchiveError> {
        let runs = Runs::find(content, size, || self.check_stop())?;
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
        let current = self.members.current_bytes() as u64;
        if entry_bytes >= TARGET_MEMBER_BYTES || current + entry_bytes > MAX_MEMBER_DATA as u64 {
            self.members.end_member()?;
        }
        Ok(self.tar_offset)
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one index line, each from another place")]
    fn end_entry(
        &mut self,
        path: &[u8],
        head: &pax::Head,
        kind: IndexedKind,
        start: u64,
        metadata: &Metadata,
        content: Option<[u8; 32]>,
        damaged: bool,
    ) -> Result<(), ArchiveError> {
        let area_bytes = head.sparse_map_bytes + head.data_bytes;
        let tar_length = head.bytes.len() as u64 + area_bytes + pax::padding_after(area_bytes);
        let digest: [u8; 32] = Sha256::digest(&head.bytes).into();
        let mut short_head = [0; 16];
        short_head.copy_from_slice(&digest[..16]);
        self.members.note_entry(EntryLine {
            kind,
            damaged,
            tar_offset: start,
            tar_length,
            size: metadata.size,
            ino: metadata.ino,
            ctime: metadata.ctime,
            head: short_head,
            content,
            path: path.to_vec(),
        });
        self.tar_offset += tar_length;
        if ends_member(path, tar_length, self.members.current_bytes()) {
            self.members.end_member()?;
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<(), ArchiveError> {
        if (self.stop)() { Err(ArchiveError::Stopped) } else { Ok(()) }
    }

    fn report_progress(&mut self, all: bool) {
        if self.unreported_bytes >= PROGRESS_STEP_BYTES || (all && self.unreported_bytes > 0) {
            self.observer.on_event(&Event::Read { bytes: self.unreported_bytes });
            self.unreported_bytes = 0;
        }
    }

    fn tell(&self, severity: Severity, path: &[u8], what: impl Into<String>) {
        self.observer.on_event(&Event::Problem(Problem::new(severity, shown::path(path), what)));
    }
}

/// Where a member with this entry ends at the latest.
fn limit_for(entry_bytes: u64) -> usize {
    // Half a megabyte fits in any usize.
    if entry_bytes >= TARGET_MEMBER_BYTES { MAX_MEMBER_DATA / 2 } else { MAX_MEMBER_DATA }
}

/// Whether the member ends after this entry: decided by the entry alone, so that a change elsewhere changes nothing
/// here. On average one member ends for each [`TARGET_MEMBER_BYTES`].
fn ends_member(path: &[u8], entry_bytes: u64, member_bytes: usize) -> bool {
    if entry_bytes >= TARGET_MEMBER_BYTES {
        return true;
    }
    let digest: [u8; 32] = Sha256::digest(path).into();
    let fraction =
        u64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]]);
    let threshold = entry_bytes * (u64::MAX / TARGET_MEMBER_BYTES);
    fraction < threshold && member_bytes >= MIN_MEMBER_BYTES
}

#[cfg(test)]
mod tests;
