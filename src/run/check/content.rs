//! Reads an archive once and compares every byte with the side files.

use std::sync::Arc;

use super::error::CheckError;
use super::finding::{BackupFile, Finding, Findings};
use super::side_files::SideFiles;
use crate::archive::counts::Counts;
use crate::archive::index::{EntryLine, IndexedKind, escape_path};
use crate::archive::read::entries::{EntryReader, Item, StreamEnd};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::archive::read::index_file::IndexReader;
use crate::archive::read::index_plan::IndexPlan;
use crate::archive::read::stream::{Form, MemberStream, ReadOptions, ReadPlan, StreamOutcome};
use crate::error::with_causes;
use crate::events::{Event, Observer};
use crate::outside::{BlockRead, Cancel};
use crate::shown::hex;

/// The result of reading.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The archive's SHA-1, hex.
    pub archive_sha1: Option<String>,
    /// The number of members.
    pub members: u64,
    /// The number of entries.
    pub entries: u64,
    /// The number of entries that the index marks as not completely read.
    pub marked_entries: u64,
}

/// An archive that is read once and compared with its side files.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// The archive.
    pub archive: &'a Arc<dyn BlockRead>,
    /// The files beside it.
    pub sides: &'a SideFiles,
    /// The number of decompression threads.
    pub threads: usize,
    /// The wish to stop.
    pub cancel: &'a Cancel,
    /// Receives progress.
    pub observer: &'a dyn Observer,
}

/// Reads all of the archive.
pub fn check(reading: &Reading<'_>, findings: &mut Findings) -> Result<Seen, CheckError> {
    let Reading { archive, sides, threads, cancel, observer } = *reading;
    let plan = match sides.index.as_ref().map(|index| IndexReader::new(Arc::clone(index))).transpose() {
        Ok(reader) => reader.map(|reader| ReadPlan::Index(Box::new(IndexPlan::new(reader, None)))),
        // It matches the digest in its manifest, which then is as wrong; or it could not be read again.
        Err(error) => {
            findings.about(BackupFile::Index, with_causes(&error));
            None
        }
    };
    let indexed = plan.is_some();
    let read_options = ReadOptions { threads, hash_archive: true, stop: vec![cancel.flag()] };
    // A lack of threads or memory, not damage of the archive.
    let archive = Arc::clone(archive);
    let stream = MemberStream::new(archive, plan.unwrap_or(ReadPlan::Scan), &read_options).map_err(CheckError::Here)?;
    // Progress counts the tar stream, whose length is known only from the manifest.
    if let Some(manifest) = &sides.manifest {
        observer.on_event(&Event::ExpectedBytes { bytes: manifest.sizes.tar_bytes });
    }

    let mut own = Findings::default();
    let mut walk = Walk { counts: Counts::default(), marked_entries: 0, indexed, findings: &mut own };
    let mut reader = EntryReader::new(stream, false, true).without_maps();
    let mut told = 0;
    while let Some(item) = reader.next_item() {
        walk.take(item, &mut reader);
        let place = reader.place();
        if place.tar_offset.saturating_sub(told) >= 64 << 20 {
            observer.on_event(&Event::Read { bytes: place.tar_offset - told });
            told = place.tar_offset;
        }
    }
    let (counts, marked_entries) = (walk.counts, walk.marked_entries);
    let (stream, end) = reader.into_source();
    let outcome = stream.finish();
    if outcome.stopped {
        return Err(CheckError::Stopped);
    }
    let archive_sha1 = outcome.archive_sha1.as_ref().map(|sha1| hex(sha1));
    let sha1_good = check_sha1(archive_sha1.as_deref(), sides, findings);
    gather(own, &outcome, sides.index_changed && sha1_good, findings);
    check_ends(&outcome, end, indexed, sides, findings);
    check_counts(&outcome, end, &counts, sides, findings);
    Ok(Seen { archive_sha1, members: outcome.members, entries: end.entries, marked_entries })
}

/// True if the SHA-1 matches.
pub(super) fn check_sha1(found: Option<&str>, sides: &SideFiles, findings: &mut Findings) -> bool {
    match (found, &sides.expected_sha1) {
        (Some(found), Some(expected)) if found == expected => true,
        (Some(found), Some(_)) if sides.other_sha1.as_deref() == Some(found) => false,
        (Some(found), Some(expected)) => {
            let what = format!("its SHA-1 is {found}, and should be {expected}");
            findings.about(BackupFile::Archive, what);
            false
        }
        (None, _) => {
            findings.about(BackupFile::Archive, "its SHA-1 is unknown, since not all of it can be read");
            false
        }
        (_, None) => false,
    }
}

/// Merges the findings of walk and stream. If the archive is known to be right and the index is not, contradictions
/// are attributed to the index.
fn gather(own: Findings, outcome: &StreamOutcome, blame_index: bool, findings: &mut Findings) {
    let mut all: Vec<Finding> = outcome
        .findings
        .iter()
        .map(|finding| Finding {
            file: if finding.in_index { BackupFile::Index } else { BackupFile::Archive },
            member: finding.member,
            offset: Some(finding.offset).filter(|_| !finding.in_index),
            path: None,
            what: finding.what.clone(),
        })
        .collect();
    let hidden = outcome.findings_total - all.len() as u64 + own.total - own.first.len() as u64;
    all.extend(own.first);
    all.sort_by_key(|finding| finding.member.unwrap_or(u64::MAX));
    for mut finding in all {
        if blame_index && finding.file == BackupFile::Archive {
            finding.file = BackupFile::Index;
            finding.offset = None;
        }
        findings.add(finding);
    }
    findings.total += hidden;
    own.not_checked.into_iter().for_each(|what| findings.not_checked(what));
}

fn check_ends(outcome: &StreamOutcome, end: StreamEnd, indexed: bool, sides: &SideFiles, findings: &mut Findings) {
    if !end.complete {
        findings.about(BackupFile::Archive, "the two blocks of zeros at the end of the tar stream are missing");
    }
    // A volume of swap or zeros has no files, as its manifest says.
    let is_meant = sides.manifest.as_ref().is_some_and(|manifest| manifest.sizes.entries == 0);
    if end.entries == 0 && findings.total == 0 && !is_meant {
        findings.about(BackupFile::Archive, "nothing is in it");
    }
    if outcome.form == Form::Plain {
        findings.not_checked("it is not compressed, so that nothing says whether the files' data is right");
    }
    if outcome.form == Form::Gzip && !indexed {
        findings.not_checked("it is not made of volbak's members: one gzip stream, checked by its CRC as a whole");
    }
}

fn check_counts(outcome: &StreamOutcome, end: StreamEnd, counts: &Counts, sides: &SideFiles, findings: &mut Findings) {
    let Some(manifest) = &sides.manifest else { return };
    if findings.total > 0 {
        // Missing parts were already reported.
        return;
    }
    let mut compare = |what: &str, said: u64, found: u64| {
        if said != found {
            findings.about(BackupFile::Manifest, format!("it says {said} {what}, and there are {found}"));
        }
    };
    compare("bytes of tar stream", manifest.sizes.tar_bytes, outcome.tar_bytes);
    compare("members", manifest.sizes.members, outcome.members);
    compare("entries", manifest.sizes.entries, end.entries);
    let said = &manifest.counts;
    compare("files and raw images", said.files + said.raw_images, counts.files);
    compare("directories", said.directories, counts.directories);
    compare("symbolic links", said.symlinks, counts.symlinks);
    compare("hard links", said.hard_links, counts.hard_links);
    compare("devices", said.devices, counts.devices);
    compare("fifos", said.fifos, counts.fifos);
    compare("bytes of data", said.data_bytes, counts.data_bytes);
}

/// Checks entry after entry.
struct Walk<'a> {
    counts: Counts,
    marked_entries: u64,
    indexed: bool,
    findings: &'a mut Findings,
}

impl Walk<'_> {
    fn take(&mut self, item: Item, reader: &mut EntryReader<MemberStream>) {
        match item {
            Item::Lost { line: None, member_lost: true, .. } => {}
            Item::Lost { line, place, what, .. } => {
                let path = line.map(|line| escape_path(&line.path));
                self.find(place.member, path, what);
            }
            Item::Entry(head, line) => {
                let place = reader.place();
                let mut damage = None;
                loop {
                    match reader.next_data() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(lost) => damage = damage.or(Some(lost)),
                    }
                }
                let content = reader.content_sha256();
                self.count(&head);
                let path = || Some(escape_path(&head.path));
                if let Some(lost) = damage {
                    self.find(lost.place.member, path(), format!("its data is lost: {}", lost.what));
                } else if let Some(line) = line {
                    self.marked_entries += u64::from(line.damaged);
                    if let Some(what) = contradiction(&head, &line, content) {
                        self.find(place.member, path(), what);
                    }
                }
                for problem in &head.problems {
                    self.find(place.member, path(), problem.clone());
                }
                if let HeadKind::Other(flag) = head.kind
                    && !self.indexed
                {
                    let what = format!("its type {} is no type of file", flag.escape_ascii());
                    self.findings.not_checked(format!("{}: {what}", escape_path(&head.path)));
                }
            }
        }
    }

    fn find(&mut self, member: u64, path: Option<String>, what: String) {
        self.findings.add(Finding { file: BackupFile::Archive, member: Some(member), offset: None, path, what });
    }

    fn count(&mut self, head: &EntryHead) {
        match head.kind {
            HeadKind::File => self.counts.files += 1,
            HeadKind::Directory => self.counts.directories += 1,
            HeadKind::Symlink(_) => self.counts.symlinks += 1,
            HeadKind::HardLink(_) => self.counts.hard_links += 1,
            HeadKind::CharDevice(_) | HeadKind::BlockDevice(_) => self.counts.devices += 1,
            HeadKind::Fifo => self.counts.fifos += 1,
            HeadKind::Other(_) => {}
        }
        self.counts.data_bytes += head.stored_bytes;
    }
}

/// The difference between an entry and its index line, if there is one.
pub fn contradiction(head: &EntryHead, line: &EntryLine, content: Option<[u8; 32]>) -> Option<String> {
    let without_slash = head.path.strip_suffix(b"/").unwrap_or(&head.path);
    if without_slash != line.path {
        return Some(format!("the index calls it {}", escape_path(&line.path)));
    }
    let same_kind = match (&head.kind, line.kind) {
        (HeadKind::File, IndexedKind::File) => head.runs.is_none(),
        (HeadKind::File, IndexedKind::SparseFile | IndexedKind::RawImage) => head.runs.is_some(),
        (HeadKind::Directory, IndexedKind::Directory)
        | (HeadKind::Symlink(_), IndexedKind::Symlink)
        | (HeadKind::HardLink(_), IndexedKind::HardLink)
        | (HeadKind::CharDevice(_), IndexedKind::CharDevice)
        | (HeadKind::BlockDevice(_), IndexedKind::BlockDevice)
        | (HeadKind::Fifo, IndexedKind::Fifo) => true,
        _ => false,
    };
    let has_data = head.kind == HeadKind::File;
    if !same_kind {
        Some(format!("it is not of the kind `{}` that the index says", line.kind.letter()))
    } else if has_data && head.size != line.size {
        Some(format!("it has {} bytes, and the index says {}", head.size, line.size))
    } else if head.digest != line.head {
        Some("the digest of its headers is not the one in the index".to_owned())
    } else if has_data && line.content != content {
        Some("its SHA-256 is not the one in the index".to_owned())
    } else if !has_data && line.content.is_some() {
        Some("the index has a digest of data that it cannot have".to_owned())
    } else {
        None
    }
}
