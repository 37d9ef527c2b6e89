//! Compares a restored tree with the archive and its index.
//!
//! The tree is read as for a backup, and each entry's headers are made again: their digest must equal that in the
//! index. It covers path, type, size, owner, mode, time, attributes and link target. A file's data must match the
//! SHA-256 in the index. For sparse files both depend on the map of holes, so these are compared with the archive
//! itself, run by run and hole by hole. Each further name of a file must lead to the same inode.
//!
//! Memory: 64 bytes per entry, and as much again per sparse file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use sha2::{Digest, Sha256};

use crate::archive::index::{EntryLine, IndexedKind, Line, escape_path};
use crate::archive::pax::{self, EntryType, SparseArea};
use crate::archive::read::entries::{EntryReader, Item};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::archive::read::index_file::IndexReader;
use crate::archive::read::index_plan::IndexPlan;
use crate::archive::read::stream::{MemberStream, ReadOptions, ReadPlan};
use crate::entry::{Entry, EntryKind, FileContent, Metadata};
use crate::outside::Cancel;
use crate::outside::inode_flags::{self, fat};
use crate::reader::exclude::Excludes;
use crate::reader::kernel::tree::TreeWalk;
use crate::reader::{Found, FsReader};
use crate::run::check::{BackupFile, Finding, Findings};
use crate::run::restore::data::is_equal;
use crate::run::restore::path::parts_of;
use crate::store::Backup;

const PIECE_BYTES: usize = 256 << 10;

/// Options of the comparison.
#[derive(Clone, Debug)]
pub struct How {
    /// Whether owners, modes, times and attributes are compared: they differ if some could not be set.
    pub attributes: bool,
    /// The number of decompression threads.
    pub threads: usize,
    /// Cancels the operation.
    pub cancel: Cancel,
}

/// Why the comparison has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// The operation was cancelled.
    #[error("stopped before everything was compared")]
    Stopped,
    /// Archive, index or tree cannot be read; in words.
    #[error("the restored files could not be compared: {0}")]
    Failed(String),
}

/// The fields of an index entry needed for lookup and comparison.
struct Known {
    path: u128,
    kind: IndexedKind,
    damaged: bool,
    head: [u8; 16],
    content: [u8; 16],
}

/// Compares the tree below `root` with the backup that it was restored from.
pub fn compare(files: &Backup, root: BorrowedFd<'_>, how: &How, findings: &mut Findings) -> Result<(), CompareError> {
    let mut known = Vec::new();
    let mut reader = index_of(files)?;
    while let Some(line) = reader.next_line().map_err(failed)? {
        if let Line::Entry(line) = line {
            known.push(Known {
                path: hash(&line.path),
                kind: line.kind,
                damaged: line.damaged,
                head: line.head,
                content: line.content.as_ref().map_or([0; 16], shortened),
            });
        }
    }
    known.sort_unstable_by_key(|known| known.path);
    let areas = compare_with_archive(files, root, how, findings)?;
    let mut comparison = Comparison { known, areas, how, findings };
    comparison.walk(root)
}

fn index_of(files: &Backup) -> Result<IndexReader, CompareError> {
    IndexReader::new(files.open_index().map_err(failed)?).map_err(failed)
}

fn failed(error: impl std::error::Error + 'static) -> CompareError {
    CompareError::Failed(crate::error::with_causes(&error))
}

/// Compares sparse files and further names with the archive, since the index alone is not sufficient. Returns the
/// data area of each sparse file in the archive, by the hash of its path.
fn compare_with_archive(
    files: &Backup,
    root: BorrowedFd<'_>,
    how: &How,
    findings: &mut Findings,
) -> Result<BTreeMap<u128, SparseArea>, CompareError> {
    let wanted =
        |line: &EntryLine| matches!(line.kind, IndexedKind::SparseFile | IndexedKind::RawImage | IndexedKind::HardLink);
    let plan = ReadPlan::Index(Box::new(IndexPlan::new(index_of(files)?, Some(Box::new(wanted)))));
    let options = ReadOptions { threads: how.threads, hash_archive: false, stop: vec![how.cancel.flag()] };
    let archive = files.open_archive().map_err(failed)?;
    let mut reader = EntryReader::new(MemberStream::new(archive, plan, &options).map_err(failed)?, true, false);
    let mut areas = BTreeMap::new();
    while let Some(item) = reader.next_item() {
        match item {
            Item::Lost { line, what, .. } => {
                differs(findings, line.as_ref().map_or(b"", |line| line.path.as_slice()), &what);
            }
            Item::Entry(head, _) => {
                let compared = if let HeadKind::HardLink(target) = &head.kind {
                    is_same_inode(root, &head.path, target)
                } else {
                    areas.insert(hash(&head.path), area_of(&head).map_err(failed)?);
                    has_same_data(root, &head, &mut reader)
                };
                match compared {
                    Ok(None) => {}
                    Ok(Some(what)) => differs(findings, &head.path, what),
                    Err(error) => differs(findings, &head.path, &format!("cannot be looked at: {error}")),
                }
            }
        }
    }
    let outcome = reader.into_source().0.finish();
    if outcome.stopped { Err(CompareError::Stopped) } else { Ok(areas) }
}

fn area_of(head: &EntryHead) -> io::Result<SparseArea> {
    let mut area = SparseArea::new(head.size);
    if let Some(map) = &head.runs {
        let mut runs = map.runs();
        while let Some(run) = runs.next_run()? {
            area.add(run);
        }
    }
    Ok(area)
}

/// The problem with a further name, if any.
fn is_same_inode(root: BorrowedFd<'_>, path: &[u8], target: &[u8]) -> io::Result<Option<&'static str>> {
    let inode = |path: &[u8]| stat_of(root, path).map(|facts| (facts.st_dev, facts.st_ino));
    Ok((inode(path)? != inode(target)?).then_some("is not the hard link that it is in the archive"))
}

/// An entry's metadata including flags that statx(2) does not show: the walk queries them only where they are
/// likely.
fn with_all_flags(root: BorrowedFd<'_>, path: &[u8], metadata: &Metadata) -> Option<Metadata> {
    let (directory, name) = directory_of(root, path).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, name, flags, Mode::empty()).ok()?;
    let (flags, project) = inode_flags::of_open(&file);
    Some(Metadata { flags, project, ..*metadata })
}

/// All FAT attributes that an entry could have: the test's filesystem does not store them.
fn with_fat_attributes(metadata: &Metadata) -> impl Iterator<Item = Metadata> {
    let of = |number: usize| {
        let each = fat::ATTRIBUTES.iter().enumerate().filter(|(at, _)| number & 1 << at != 0);
        each.fold(fat::KNOWN, |flags, (_, (bit, ..))| flags | bit)
    };
    (0..1 << fat::ATTRIBUTES.len()).map(move |number| Metadata { flags: metadata.flags | of(number), ..*metadata })
}

/// The problem with a sparse file, if any.
fn has_same_data(
    root: BorrowedFd<'_>,
    head: &EntryHead,
    reader: &mut EntryReader<MemberStream>,
) -> io::Result<Option<&'static str>> {
    let (directory, name) = directory_of(root, &head.path)?;
    // Does not block, whatever the node is.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(&directory, name, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    let same = metadata.is_file() && metadata.len() == head.size && is_equal(&file, head, reader)?;
    Ok((!same).then_some("has other data than in the archive"))
}

fn stat_of(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Stat> {
    let (directory, name) = directory_of(root, path)?;
    Ok(rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The parent directory of `path`, and its last component. Resolved step by step, since a path may exceed the
/// kernel's limit.
fn directory_of<'p>(root: BorrowedFd<'_>, path: &'p [u8]) -> io::Result<(OwnedFd, &'p [u8])> {
    let parts = parts_of(path).map_err(io::Error::other)?;
    let Some((name, parents)) = parts.split_last() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut directory = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for part in parents {
        directory = rustix::fs::openat(&directory, *part, flags, Mode::empty())?;
    }
    Ok((directory, name))
}

struct Comparison<'a> {
    known: Vec<Known>,
    areas: BTreeMap<u128, SparseArea>,
    how: &'a How,
    findings: &'a mut Findings,
}

impl Comparison<'_> {
    fn walk(&mut self, root: BorrowedFd<'_>) -> Result<(), CompareError> {
        let walked = rustix::io::fcntl_dupfd_cloexec(root, 0).map_err(failed)?;
        let mut walk = TreeWalk::new(walked, Excludes::nothing(), None);
        let mut found_entries = 0_usize;
        while let Some(found) = walk.next_found() {
            if self.how.cancel.is_cancelled() {
                return Err(CompareError::Stopped);
            }
            let entry = match found {
                Found::Entry(entry) => entry,
                Found::Problem(problem) | Found::Sealed(problem) => {
                    self.findings.about(BackupFile::Archive, format!("restored for a test, {problem}"));
                    continue;
                }
            };
            let path = if entry.path.is_empty() { b".".to_vec() } else { [b"./", entry.path.as_slice()].concat() };
            if let Ok(at) = self.known.binary_search_by_key(&hash(&path), |known| known.path) {
                found_entries += 1;
                self.entry(root, &path, &entry, at);
            } else if path != b"./lost+found" && path != b"." {
                // lost+found belongs to the filesystem itself, and so does the root if the archive has none: each region of a
                // disk with several has a directory or an image below it.
                differs(self.findings, &path, "was restored, but is not in the index");
            }
        }
        if found_entries < self.known.len() {
            let missing = self.known.len() - found_entries;
            self.findings
                .about(BackupFile::Archive, format!("restored for a test, {missing} of its entries are not there"));
        }
        Ok(())
    }

    fn entry(&mut self, root: BorrowedFd<'_>, path: &[u8], entry: &Entry, at: usize) {
        let known = &self.known[at];
        let area = match known.kind {
            // Its target is checked under its own name.
            IndexedKind::HardLink => return,
            IndexedKind::SparseFile | IndexedKind::RawImage => match self.areas.get(&known.path) {
                // If a file's holes changed while it was read, its headers describe another map.
                Some(area) if !known.damaged => Some(*area),
                _ => return,
            },
            _ => None,
        };
        let is_same = |metadata: &Metadata| head_of(path, entry, metadata, area) == known.head;
        if self.how.attributes
            && !is_same(&entry.metadata)
            && !with_all_flags(root, path, &entry.metadata)
                .is_some_and(|metadata| is_same(&metadata) || with_fat_attributes(&metadata).any(|it| is_same(&it)))
        {
            differs(self.findings, path, "has other attributes than in the archive");
        }
        if let (IndexedKind::File, EntryKind::File(content)) = (known.kind, &entry.kind) {
            match sha256_of(content.as_ref()) {
                Ok(digest) if shortened(&digest) == known.content => {}
                Ok(_) => differs(self.findings, path, "has other data than in the archive"),
                Err(error) => differs(self.findings, path, &format!("cannot be read: {error}")),
            }
        }
    }
}

fn differs(findings: &mut Findings, path: &[u8], what: &str) {
    let what = format!("restored for a test, it {what}");
    let path = Some(escape_path(path));
    findings.add(Finding { file: BackupFile::Archive, member: None, offset: None, path, what });
}

fn hash(path: &[u8]) -> u128 {
    u128::from_be_bytes(shortened(&Sha256::digest(path).into()))
}

fn shortened(digest: &[u8; 32]) -> [u8; 16] {
    *digest.first_chunk().unwrap_or(&[0; 16])
}

fn sha256_of(content: &dyn FileContent) -> io::Result<[u8; 32]> {
    let mut sha256 = Sha256::new();
    let mut buf = vec![0; PIECE_BYTES];
    let mut at = 0;
    loop {
        let len = content.read_at(at, &mut buf)?;
        if len == 0 {
            return Ok(sha256.finalize().into());
        }
        sha256.update(&buf[..len]);
        at += len as u64;
    }
}

fn head_of(path: &[u8], entry: &Entry, metadata: &Metadata, area: Option<SparseArea>) -> [u8; 16] {
    let entry_type = match (&entry.kind, area) {
        (EntryKind::File(_), Some(area)) => EntryType::SparseFile(area),
        (EntryKind::File(_), None) => EntryType::File,
        (EntryKind::Directory, _) => EntryType::Directory,
        (EntryKind::Symlink(target), _) => EntryType::Symlink(target),
        (EntryKind::CharDevice(number), _) => EntryType::CharDevice(*number),
        (EntryKind::BlockDevice(number), _) => EntryType::BlockDevice(*number),
        (EntryKind::Fifo | EntryKind::Socket, _) => EntryType::Fifo,
    };
    shortened(&Sha256::digest(pax::head(path, entry_type, metadata, &entry.xattrs).bytes).into())
}
