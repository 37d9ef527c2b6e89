//! The previous backup, from its index: its groups, and whether it is complete.

use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::group::{Group, GroupReader, LinesCheck};
use super::known_data::{CollectingData, KnownData};
use crate::archive::index::{IndexVersion, RawEntry, RawLine, escape_path};
use crate::archive::members::{KnownMember, KnownMembersOf};
use crate::archive::read::index_file::{IndexError, IndexReader, PlacedLine};
use crate::entry::Timestamp;
use crate::outside::{BlockRead, Composed, FileBlocks, Parts, StoredObject};
use crate::shown::hex;

/// The maximum number of groups, and of members of large files and raw images, to remember. Entries of further groups are
/// read, and data of further members compressed.
const MAX_GROUPS: usize = 1 << 20;

/// The maximum length of a group's entry lines, which are kept while its members are checked. Groups with longer
/// ones, possible with escaped long paths, are read.
const MAX_GROUP_LINES_BYTES: usize = 1 << 20;

/// Why the previous backup cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParentError {
    /// Its index cannot be read or is invalid.
    #[error("its index is damaged")]
    Index(#[from] IndexError),
    /// Its index does not match its manifest.
    #[error("its index has the SHA-256 {found}; the manifest says {said}")]
    OtherIndex {
        /// The digest of the index.
        found: String,
        /// The digest in the manifest.
        said: String,
    },
    /// Its index has an older version.
    #[error("its index was written by an older volbak")]
    OlderIndex,
    /// The totals of its index do not match its archive.
    #[error("its index belongs to an archive of another length")]
    OtherArchive,
    /// Its archive is neither in a local file nor an object, from which members could be copied.
    #[error("its archive is neither a file of this host nor an object")]
    NotAFile,
    /// Its archive is an object that the store does not copy from.
    #[error("its archive lies in an archive tier of the store, which does not copy from there")]
    Cold,
    /// Reading its index failed.
    #[error("its index cannot be read")]
    Io(#[from] io::Error),
}

/// Facts from a backup's manifest that its archive and index must match.
#[derive(Clone, Debug)]
pub struct ParentFacts {
    /// The common start of its file names.
    pub stem: String,
    /// The rest of its archive's name.
    pub suffix: &'static str,
    /// The archive's length.
    pub archive_bytes: u64,
    /// The number of members in the archive.
    pub members: u64,
    /// SHA-256 of the index, lower-case hex.
    pub index_sha256: String,
    /// The places of the regions in the archive (`.`, `./p1`).
    pub archive_paths: Vec<String>,
}

/// The archive that is carried from.
#[derive(Clone, Debug)]
pub(crate) enum ParentArchive {
    /// A file of this host, or one that is composed of parts of other files.
    File(Arc<dyn BlockRead>),
    /// An object, whose store copies ranges of it.
    Stored(Arc<StoredObject>),
    /// Composed of parts of objects, which a new archive refers to.
    Referred(Arc<Parts>),
}

impl ParentArchive {
    fn of(archive: &dyn BlockRead) -> Result<Self, ParentError> {
        if let Some(parts) = archive.parts() {
            if parts.is_remote() {
                return Ok(Self::Referred(Arc::clone(parts)));
            }
            return Ok(Self::File(Arc::new(Composed(Arc::clone(parts)))));
        }
        match (archive.file(), archive.object()) {
            (Some(file), _) => Ok(Self::File(Arc::new(FileBlocks::of_shared(Arc::clone(file), archive.len_bytes())))),
            (None, Some(object)) if object.is_cold => Err(ParentError::Cold),
            (None, Some(object)) if object.etag.is_empty() => Err(ParentError::NotAFile),
            (None, Some(object)) => Ok(Self::Stored(Arc::clone(object))),
            (None, None) => Err(ParentError::NotAFile),
        }
    }
}

/// A previous backup that can be carried from.
#[derive(Debug)]
pub struct Parent {
    stem: String,
    suffix: &'static str,
    archive: ParentArchive,
    tar_bytes: u64,
    groups: GroupTable,
    /// `None` if the archive is in an object store: what a changed file or a raw image has of it is not copied.
    data: Option<Arc<KnownData>>,
    /// The table of its segments, if it is encrypted.
    segments: Option<Arc<dyn BlockRead>>,
    index: Arc<dyn BlockRead>,
    reader: GroupReader,
    clocks: Vec<RegionClock>,
    left_out: u64,
}

/// The newest change time of a region's entries: approximately the guest's clock when it was frozen.
#[derive(Debug)]
struct RegionClock {
    archive_path: String,
    /// The path as escaped in an index.
    escaped_path: String,
    newest: Option<Timestamp>,
}

impl Parent {
    /// Reads `index` completely, and compares it with the manifest's facts.
    pub fn open(archive: &dyn BlockRead, index: Arc<dyn BlockRead>, said: &ParentFacts) -> Result<Self, ParentError> {
        let archive = ParentArchive::of(archive)?;
        let again = Arc::clone(&index);
        let clock_of = |archive_path: &String| RegionClock {
            archive_path: archive_path.clone(),
            escaped_path: escape_path(archive_path.as_bytes()),
            newest: None,
        };
        let mut clocks: Vec<RegionClock> = said.archive_paths.iter().map(clock_of).collect();
        // `.` matches every path, so it comes last.
        clocks.sort_by_key(|clock| std::cmp::Reverse(clock.archive_path.len()));
        let mut lines = IndexReader::hashing(index)?;
        let version = lines.version();
        match version {
            IndexVersion::One | IndexVersion::Two => return Err(ParentError::OlderIndex),
            IndexVersion::Three | IndexVersion::Four => {}
        }
        let mut collecting = Collecting::new(usize::try_from(said.members).unwrap_or(usize::MAX));
        let mut last_clock = 0;
        while let Some(placed) = lines.next_raw()? {
            if let RawLine::Entry(entry) = &placed.line {
                note_time(&mut clocks, &mut last_clock, entry);
            }
            collecting.add(&placed);
        }
        let totals = lines.totals();
        let found = lines.into_sha256().map_or_else(String::new, |digest| hex(&digest));
        if found != said.index_sha256 {
            return Err(ParentError::OtherIndex { found, said: said.index_sha256.clone() });
        }
        if totals.archive_bytes != said.archive_bytes || totals.members != said.members {
            return Err(ParentError::OtherArchive);
        }
        let (groups, data, left_out) = collecting.finish();
        let data = match &archive {
            ParentArchive::File(file) => Some(Arc::new(data.finish(Arc::clone(file), Arc::clone(&again), version))),
            ParentArchive::Stored(_) | ParentArchive::Referred(_) => None,
        };
        let tar_bytes = totals.tar_bytes;
        let (stem, reader) = (said.stem.clone(), GroupReader::new(Arc::clone(&again), version));
        let (suffix, segments) = (said.suffix, None);
        Ok(Self { stem, suffix, archive, tar_bytes, groups, data, segments, index: again, reader, clocks, left_out })
    }

    /// Sets the table of its segments, whose digest was checked: what is carried forward is not hashed for the table again, and a
    /// store copies segments that this host does not see.
    pub(crate) fn set_segments(&mut self, table: Arc<dyn BlockRead>) {
        self.segments = Some(table);
    }

    /// The table of its segments.
    pub(crate) fn segments(&self) -> Option<&Arc<dyn BlockRead>> {
        self.segments.as_ref()
    }

    /// The name of its archive.
    pub(in crate::archive) fn archive_name(&self) -> String {
        format!("{}{}", self.stem, self.suffix)
    }

    /// The common start of its file names.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// Its archive.
    pub(crate) fn archive(&self) -> &ParentArchive {
        &self.archive
    }

    /// The length of its tar stream.
    pub(crate) fn tar_bytes(&self) -> u64 {
        self.tar_bytes
    }

    /// Its members with data of large files and raw images, if they can be read.
    pub(crate) fn known_data(&self) -> Option<&Arc<KnownData>> {
        self.data.as_ref()
    }

    /// Its members, read from the index again: fewer if that has changed.
    pub(in crate::archive) fn members(&self) -> KnownMembersOf {
        let mut lines = IndexReader::new(Arc::clone(&self.index)).ok();
        Box::new(std::iter::from_fn(move || {
            loop {
                match lines.as_mut()?.next_raw() {
                    Ok(Some(PlacedLine { line: RawLine::Member(member), .. })) => {
                        let (offset, length, digest) = (member.offset, member.length, *member.digest.bytes());
                        return Some(KnownMember { offset, length, digest });
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => lines = None,
                }
            }
        }))
    }

    /// The number of groups and members beyond the limit; they are read.
    pub fn left_out_groups(&self) -> u64 {
        self.left_out
    }

    /// The newest change time among the entries of the region at `archive_path`.
    pub fn newest_change(&self, archive_path: &str) -> Option<Timestamp> {
        self.clocks.iter().find(|clock| clock.archive_path == archive_path)?.newest
    }

    /// The group whose first entry has this path; `key` is the path's key. `None` also if its lines have changed.
    pub(crate) fn group(&mut self, key: u64, path: &[u8]) -> Option<Group> {
        let place = self.groups.find(key)?;
        let group = self.reader.read(place.at, place.check).ok()?;
        group.entries.facts_of(0, path).is_some().then_some(group)
    }

    /// The lines of members, for a group with many.
    pub(crate) fn lines(&mut self) -> &mut GroupReader {
        &mut self.reader
    }
}

/// Records an entry's change time for the region of its path.
fn note_time(clocks: &mut [RegionClock], last: &mut usize, entry: &RawEntry<'_>) {
    let lies_in = |clock: &RegionClock| {
        let directory = clock.escaped_path.as_bytes();
        entry.escaped_path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    if !clocks.get(*last).is_some_and(lies_in) {
        let Some(found) = clocks.iter().position(lies_in) else { return };
        *last = found;
    }
    let newest = &mut clocks[*last].newest;
    *newest = (*newest).max(Some(entry.facts.ctime));
}

/// The lookup key of a path: the first 8 bytes of its SHA-256.
pub(crate) fn key_of(path: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(path).into();
    digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[derive(Clone, Copy, Debug)]
struct GroupStart {
    key: u64,
    /// The offset of the group's first line in the index file.
    at: u64,
    /// The check of its lines, to detect a change between the first and second reading.
    check: u64,
}

/// The position of each group's lines, by its first path.
#[derive(Debug, Default)]
struct GroupTable {
    /// Sorted by key.
    places: Vec<GroupStart>,
}

impl GroupTable {
    fn find(&self, key: u64) -> Option<GroupStart> {
        let at = self.places.binary_search_by_key(&key, |place| place.key).ok()?;
        self.places.get(at).copied()
    }
}

/// Builds the table, line by line.
struct Collecting {
    places: Vec<GroupStart>,
    data: CollectingData,
    current: Option<Current>,
    left_out: u64,
}

/// The current group.
struct Current {
    at: u64,
    members: u64,
    entries: u64,
    /// The length of the entries' lines.
    entries_bytes: usize,
    key: u64,
    check: LinesCheck,
}

impl Collecting {
    fn new(members: usize) -> Self {
        let places = Vec::with_capacity(members.min(MAX_GROUPS));
        Self { places, data: CollectingData::default(), current: None, left_out: 0 }
    }

    fn add(&mut self, placed: &PlacedLine<'_>) {
        let PlacedLine { ref line, bytes, at, was_at_border, is_at_border } = *placed;
        match line {
            RawLine::Member(member) => {
                if let Some(digest) = &member.data {
                    if self.is_full() {
                        self.left_out += 1;
                    } else {
                        self.data.add(digest, bytes, at);
                    }
                }
                if was_at_border {
                    let check = LinesCheck::default();
                    self.current = Some(Current { at, members: 0, entries: 0, entries_bytes: 0, key: 0, check });
                }
                if let Some(current) = &mut self.current {
                    current.members += 1;
                    current.check.add(bytes);
                }
            }
            RawLine::Entry(entry) => {
                if let Some(current) = &mut self.current {
                    if current.entries == 0 {
                        // An invalid path is found when the group is read.
                        current.key = entry.path().map_or(0, |path| key_of(&path));
                    }
                    current.entries += 1;
                    current.entries_bytes += bytes.len();
                    current.check.add(bytes);
                }
                if is_at_border {
                    self.end();
                }
            }
            RawLine::End(_) => {}
        }
    }

    /// Completes the current group.
    fn end(&mut self) {
        let Some(current) = self.current.take() else { return };
        // volbak never writes several members with several entries; the size of such a group would be unbounded.
        if (current.members > 1 && current.entries > 1) || current.entries_bytes > MAX_GROUP_LINES_BYTES {
            return;
        }
        if self.is_full() {
            self.left_out += 1;
            // A group saves reading, too.
            if !self.data.drop_last() {
                return;
            }
        }
        self.places.push(GroupStart { key: current.key, at: current.at, check: current.check.finish() });
    }

    fn is_full(&self) -> bool {
        self.places.len() + self.data.len() >= MAX_GROUPS
    }

    fn finish(mut self) -> (GroupTable, CollectingData, u64) {
        self.places.sort_unstable_by_key(|place| place.key);
        (GroupTable { places: self.places }, self.data, self.left_out)
    }
}
