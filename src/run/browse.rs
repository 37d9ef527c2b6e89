//! Browses backups without restoring them: lists entries, prints a file, compares two backups.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::Serialize;

use crate::archive::index::{EntryLine, IndexedKind, Line, escape_path};
use crate::archive::kind::ArchiveKind;
use crate::archive::read::entries::{EntryReader, Item};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::archive::read::index_file::{IndexError, IndexReader};
use crate::archive::read::index_plan::IndexPlan;
use crate::archive::read::sparse::RunMap;
use crate::archive::read::stream::{MemberStream, ReadOptions, ReadPlan};
use crate::events::{Observer, Silent};
use crate::outside::digest::sha256_of;
use crate::outside::host::processors;
use crate::outside::{BlockRead, Cancel};
use crate::run::check::content::contradiction;
use crate::run::image_files::{self, FoundEntry, ImageFiles, WantedFiles};
use crate::run::restore::part_of_region::base_of;
use crate::run::restore::select::{BadPattern, Selection, plain};
use crate::shown::hex;
use crate::store::open::OpenError;
use crate::store::{Backup, IsImage};

/// Why a backup cannot be browsed.
#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    /// A file of the backup cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is an image.
    #[error(transparent)]
    Image(#[from] IsImage),
    /// The files of an image cannot be read.
    #[error(transparent)]
    ImageFiles(Box<dyn std::error::Error + Send + Sync>),
    /// The index is damaged.
    #[error("the index is damaged; `volbak verify` says more")]
    Index(#[from] IndexError),
    /// The index does not match the manifest.
    #[error("the index was changed since it was written: its SHA-256 is not the one in the manifest")]
    IndexChanged,
    /// An invalid pattern.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// The path does not exist.
    #[error("the backup has no {0}")]
    NotFound(String),
    /// The path has no content.
    #[error("{path} is {what}, not a file")]
    NotAFile {
        /// The path.
        path: String,
        /// Its type.
        what: &'static str,
    },
    /// The content in the archive differs from what was backed up.
    #[error("{path} is damaged in the archive: {what}")]
    Damaged {
        /// The path.
        path: String,
        /// The difference.
        what: String,
    },
    /// Reading or writing failed.
    #[error("{path} could not be printed")]
    Io {
        /// The path.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedEntry {
    /// The type: `f`, `d` and so on, as in the index.
    pub kind: char,
    /// Whether part of it could not be read for the backup.
    pub damaged: bool,
    /// A file's length in bytes.
    pub size: u64,
    /// The path without `./`, escaped as in the index.
    pub path: String,
    /// SHA-256 of a file without holes.
    pub sha256: Option<String>,
}

impl ListedEntry {
    fn of(line: &EntryLine) -> Self {
        let digest = line.content.as_ref().filter(|_| line.kind == IndexedKind::File);
        Self {
            kind: line.kind.letter(),
            damaged: line.damaged,
            size: line.size,
            path: escape_path(plain(&line.path)),
            sha256: digest.map(|digest| hex(digest)),
        }
    }
}

/// The entries of a backup, from its index.
pub struct Entries {
    index: IndexReader,
}

impl Entries {
    /// Opens the index of `files`, after comparing it with the manifest.
    pub(crate) fn of(files: &Backup, cancel: &Cancel) -> Result<Self, BrowseError> {
        Ok(Self { index: open_index(files, cancel)? })
    }
}

impl Iterator for Entries {
    type Item = Result<ListedEntry, BrowseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.index.next_line() {
                Ok(Some(Line::Entry(line))) => return Some(Ok(ListedEntry::of(&line))),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

/// Calls `each` for every entry at or below `path` (`""` for all), in the archive's order. With `deep` false, only
/// for the entry itself and the direct content of a directory. Reads only the index; of an image, its filesystems, whose
/// problems go to `observer`.
pub fn list(
    files: &Backup,
    path: &str,
    deep: bool,
    cancel: &Cancel,
    observer: &dyn Observer,
    mut each: impl FnMut(ListedEntry) -> io::Result<()>,
) -> Result<u64, BrowseError> {
    if files.kind() == ArchiveKind::Image {
        return list_image(files, path, deep, cancel, observer, each);
    }
    let selection = Selection::from(&base_of(files), &[path.to_owned()])?;
    let deepest = if deep { usize::MAX } else { depth_of(selection.path()) + 1 };
    let mut listed = 0;
    let mut reader = open_index(files, cancel)?;
    while let Some(line) = reader.next_line()? {
        let Line::Entry(line) = line else { continue };
        let is_directory = line.kind == IndexedKind::Directory;
        if depth_of(plain(&line.path)) <= deepest && selection.wants(&line.path, is_directory) {
            listed += 1;
            let entry = ListedEntry::of(&line);
            let path = entry.path.clone();
            each(entry).map_err(|source| BrowseError::Io { path, source })?;
        }
    }
    if listed == 0 { Err(BrowseError::NotFound(path.to_owned())) } else { Ok(listed) }
}

/// Like [`list`], for an image, whose filesystems are read.
fn list_image(
    files: &Backup,
    path: &str,
    deep: bool,
    cancel: &Cancel,
    observer: &dyn Observer,
    mut each: impl FnMut(ListedEntry) -> io::Result<()>,
) -> Result<u64, BrowseError> {
    let mut listed = 0;
    let mut stopped = None;
    let ended = image_files::for_each_entry(files, &[path.to_owned()], cancel, observer, &mut |selection, found| {
        let deepest = if deep { usize::MAX } else { depth_of(selection.path()) + 1 };
        let is_directory = found.kind == 'd';
        if depth_of(&found.path) > deepest || !selection.wants(&found.path, is_directory) {
            return Ok(());
        }
        listed += 1;
        let FoundEntry { path, kind, size } = found;
        let entry = ListedEntry { kind, damaged: false, size, path: escape_path(&path), sha256: None };
        let path = entry.path.clone();
        each(entry).map_err(|source| {
            // It ends the walk, and is told as it is.
            stopped = Some(BrowseError::Io { path, source });
            io::ErrorKind::Other.into()
        })
    });
    match (stopped, ended) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(BrowseError::ImageFiles(error.into())),
        (None, Ok(())) if listed == 0 => Err(BrowseError::NotFound(path.to_owned())),
        (None, Ok(())) => Ok(listed),
    }
}

/// The number of names in a path.
fn depth_of(path: &[u8]) -> usize {
    if path.is_empty() { 0 } else { path.split(|byte| *byte == b'/').count() }
}

/// Writes the content of a file to `out`, holes as zeros, and verifies it against the index. After an error, the
/// output must not be used. Returns its length.
pub fn cat(files: &Backup, path: &str, cancel: &Cancel, out: &mut impl Write) -> Result<u64, BrowseError> {
    if files.kind() == ArchiveKind::Image {
        let wanted = WantedFiles { paths: &[path.to_owned()], region: None };
        let how = (processors(), cancel);
        let taken = ImageFiles::take(files, wanted, &std::env::temp_dir(), how, &Silent);
        let taken = taken.map_err(|error| BrowseError::ImageFiles(error.into()))?;
        if let Some(what) = taken.first_error() {
            return Err(BrowseError::Damaged { path: path.to_owned(), what: what.to_owned() });
        }
        return cat(taken.backup(), path, cancel, out);
    }
    let selection = Selection::from(&base_of(files), &[path.to_owned()])?;
    let archive = files.open_archive()?;
    let mut target = None;
    // A hard link's content is at its target, which cannot be a hard link itself.
    for _ in 0..2 {
        let literal = target.take();
        let found = cat_once(files, &archive, path, &selection, literal.as_deref(), cancel, out)?;
        match found {
            Content::Written(bytes) => return Ok(bytes),
            Content::LinkTo(other) => target = Some(other),
        }
    }
    Err(BrowseError::NotFound(path.to_owned()))
}

enum Content {
    Written(u64),
    LinkTo(Vec<u8>),
}

fn cat_once(
    files: &Backup,
    archive: &Arc<dyn BlockRead>,
    path: &str,
    selection: &Selection,
    literal: Option<&[u8]>,
    cancel: &Cancel,
    out: &mut impl Write,
) -> Result<Content, BrowseError> {
    let io_error = |source| BrowseError::Io { path: path.to_owned(), source };
    // The index is searched first, so that only this entry is read from the archive.
    let mut chosen = None;
    let mut reader = open_index(files, cancel)?;
    while let Some(line) = reader.next_line()? {
        let Line::Entry(line) = line else { continue };
        let exact = match literal {
            Some(literal) => line.path == literal,
            None => selection.names(&line.path),
        };
        if exact {
            chosen = Some(line);
        }
    }
    let Some(chosen) = chosen else { return Err(BrowseError::NotFound(path.to_owned())) };
    if chosen.kind == IndexedKind::Directory {
        return Err(BrowseError::NotAFile { path: path.to_owned(), what: "a directory" });
    }
    let wanted = chosen.tar_offset;
    let select = Box::new(move |line: &EntryLine| line.tar_offset == wanted);
    let plan = ReadPlan::Index(Box::new(IndexPlan::new(open_index(files, cancel)?, Some(select))));
    let options = ReadOptions { threads: 2, hash_archive: false, stop: vec![cancel.flag()] };
    let stream = MemberStream::new(Arc::clone(archive), plan, &options).map_err(io_error)?;
    let mut reader = EntryReader::new(stream, true, true);
    let damaged = |what: String| BrowseError::Damaged { path: path.to_owned(), what };
    match reader.next_item() {
        None => Err(damaged("its members cannot be read".to_owned())),
        Some(Item::Lost { what, .. }) => Err(damaged(what)),
        Some(Item::Entry(head, line)) => {
            if let HeadKind::HardLink(target) = &head.kind {
                return Ok(Content::LinkTo(target.clone()));
            }
            let what = match head.kind {
                HeadKind::File => None,
                HeadKind::Symlink(_) => Some("a symbolic link"),
                _ => Some("a special file"),
            };
            if let Some(what) = what {
                return Err(BrowseError::NotAFile { path: path.to_owned(), what });
            }
            write_content(&head, &mut reader, out, path)?;
            let content = reader.content_sha256();
            match line.and_then(|line| contradiction(&head, &line, content)) {
                Some(what) => Err(damaged(what)),
                None => Ok(Content::Written(head.size)),
            }
        }
    }
}

fn write_content(
    head: &EntryHead,
    reader: &mut EntryReader<MemberStream>,
    out: &mut impl Write,
    path: &str,
) -> Result<(), BrowseError> {
    let io_error = |source| BrowseError::Io { path: path.to_owned(), source };
    let mut at = 0;
    let mut runs = head.runs.as_ref().map(RunMap::runs);
    let mut run_left = 0;
    loop {
        let mut data = match reader.next_data() {
            Ok(Some(data)) => data,
            Ok(None) => break,
            Err(lost) => return Err(BrowseError::Damaged { path: path.to_owned(), what: lost.what }),
        };
        let Some(runs) = &mut runs else {
            out.write_all(data).map_err(io_error)?;
            at += data.len() as u64;
            continue;
        };
        while !data.is_empty() {
            if run_left == 0 {
                let Some(run) = runs.next_run().map_err(io_error)? else { break };
                write_zeros(out, run.start.saturating_sub(at)).map_err(io_error)?;
                (at, run_left) = (run.start, run.len);
            }
            let len = usize::try_from(run_left).map_or(data.len(), |left| left.min(data.len()));
            out.write_all(&data[..len]).map_err(io_error)?;
            data = &data[len..];
            at += len as u64;
            run_left -= len as u64;
        }
    }
    write_zeros(out, head.size.saturating_sub(at)).map_err(io_error)
}

fn write_zeros(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(count), out).map(|_| ())
}

/// How an entry differs between two backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only in the second backup.
    Added,
    /// Only in the first backup.
    Removed,
    /// Its content or type differs.
    Content,
    /// Its content is the same, but its headers differ: owner, mode, time, attributes, link target.
    Attributes,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path without `./`, escaped as in the index.
    pub path: String,
    /// The kind of difference.
    pub change: Change,
    /// Its length in bytes in the first backup, if it has it.
    pub size_before: Option<u64>,
    /// Its length in bytes in the second backup, if it has it.
    pub size_after: Option<u64>,
}

/// The fields to compare.
struct Facts {
    kind: IndexedKind,
    size: u64,
    head: [u8; 16],
    content: Option<[u8; 16]>,
}

/// The differences between two backups, from their indexes only, sorted by path. Memory: about 150 bytes and the
/// path for each entry of the first.
pub fn diff(before: &Backup, after: &Backup, cancel: &Cancel) -> Result<Vec<Difference>, BrowseError> {
    let mut first: BTreeMap<Vec<u8>, Facts> = BTreeMap::new();
    let mut reader = open_index(before, cancel)?;
    while let Some(line) = reader.next_line()? {
        if let Line::Entry(line) = line {
            first.insert(plain(&line.path).to_vec(), facts_of(&line));
        }
    }
    let mut differences = Vec::new();
    let mut reader = open_index(after, cancel)?;
    while let Some(line) = reader.next_line()? {
        let Line::Entry(line) = line else { continue };
        let path = plain(&line.path);
        let now = facts_of(&line);
        let was = first.remove(path);
        let change = match &was {
            None => Change::Added,
            Some(was) if was.kind != now.kind || was.size != now.size || was.content != now.content => Change::Content,
            Some(was) if was.head != now.head => Change::Attributes,
            Some(_) => continue,
        };
        let (size_before, size_after) = (was.map(|was| was.size), Some(now.size));
        differences.push(Difference { path: escape_path(path), change, size_before, size_after });
    }
    differences.extend(first.into_iter().map(|(path, was)| Difference {
        path: escape_path(&path),
        change: Change::Removed,
        size_before: Some(was.size),
        size_after: None,
    }));
    differences.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(differences)
}

fn facts_of(line: &EntryLine) -> Facts {
    let content = line.content.and_then(|digest| digest.first_chunk().copied());
    Facts { kind: line.kind, size: line.size, head: line.head, content }
}

/// Opens the index, after comparing it with the manifest.
pub(crate) fn open_index(files: &Backup, cancel: &Cancel) -> Result<IndexReader, BrowseError> {
    files.require_files()?;
    let file = files.open_index()?;
    if let Some(manifest) = files.manifest() {
        let path = files.index_path().display().to_string();
        let len = manifest.sizes.index_bytes;
        let is_as_long = file.len_bytes() == len;
        let digest = if is_as_long { Some(sha256_of(&*file, len, cancel)) } else { None };
        let digest = digest.transpose().map_err(|source| BrowseError::Io { path, source })?;
        if digest.is_none_or(|digest| hex(&digest) != manifest.digests.index_sha256) {
            return Err(BrowseError::IndexChanged);
        }
    }
    Ok(IndexReader::new(file)?)
}
