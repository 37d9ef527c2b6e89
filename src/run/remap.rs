//! The verb `remap`: changes owners and groups below a directory to other numbers, in one pass, so that all of it can be
//! undone.
//!
//! Each inode is opened without following a symbolic link and without leaving the filesystem, and changed through that
//! descriptor: a concurrent rename cannot redirect it. What is to be changed is in the journal, on the disk,
//! before the first change of its batch. After `kill -9` the same command completes the batch from the journal, by the
//! numbers in it and never by mapping twice, and goes on with the rest.

mod change;
mod error;
mod journal;
mod report;
mod undo;
mod walk;

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::FileType;

use self::change::{Inode, Record, Towards};
use self::journal::{Header, Journal};
use self::walk::{Found, Root, Walk};
use super::restore::ids::IdMaps;
use crate::outside::Cancel;

pub use self::change::Kept;
pub use self::error::RemapError;
pub use self::journal::default_path;
pub use self::report::RemapReport;
pub use self::undo::undo;

/// Changes that are written to the journal together, and then carried out.
const BATCH: usize = 256;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct RemapOptions {
    /// The directory.
    pub directory: PathBuf,
    /// The new numbers.
    pub maps: IdMaps,
    /// The journal; [`default_path`] if `None`.
    pub journal: Option<PathBuf>,
    /// Whether nothing is changed.
    pub dry_run: bool,
    /// The wish to stop.
    pub cancel: Cancel,
}

/// Changes owners and groups below a directory.
pub fn remap(options: &RemapOptions) -> Result<RemapReport, RemapError> {
    if options.maps.is_empty() {
        return Err(RemapError::NothingMapped);
    }
    let root = Root::open(&options.directory)?;
    let header = Header::new(&root, &options.maps);
    let path = match &options.journal {
        Some(path) => path.clone(),
        None => default_path(&options.directory)?,
    };
    let mut report = RemapReport::default();
    if options.dry_run {
        // What an interrupted call did is not mapped again, here neither.
        let done = journal::read(&path, &header)?;
        report.was_complete = done.as_ref().is_some_and(|done| done.is_complete);
        if !report.was_complete {
            done.iter().try_for_each(|done| done.check_whole(&path, &header))?;
            let skip = done.map(|done| done.inodes()).unwrap_or_default();
            pass(&root, options, &skip, &HashSet::new(), None, &mut report)?;
        }
        return Ok(report);
    }
    let (mut journal, earlier) = Journal::open(&path, &header)?;
    if earlier.is_complete {
        report.was_complete = true;
        return Ok(report);
    }
    earlier.check_whole(&path, &header)?;
    report.resumed = earlier.records.len() as u64;
    if earlier.is_settled {
        journal.set_settled(false)?;
    }
    let mut astray = HashSet::new();
    for record in &earlier.records {
        if !undo::settle(&root, record, Towards::New, earlier.is_settled, &mut report) {
            astray.insert(record.inode);
        }
    }
    let skip = earlier.inodes();
    pass(&root, options, &skip, &astray, Some(&mut journal), &mut report)?;
    if report.problem_count == 0 {
        journal.set_complete(true)?;
    }
    Ok(report)
}

/// One walk. Without a journal nothing is changed. `skip` are the inodes of the journal, `astray` those of them that are not what
/// the journal says.
fn pass(
    root: &Root,
    options: &RemapOptions,
    skip: &HashSet<u64>,
    astray: &HashSet<u64>,
    mut journal: Option<&mut Journal>,
    report: &mut RemapReport,
) -> Result<(), RemapError> {
    let own = journal.as_ref().and_then(|journal| journal.inode(root));
    let mut seen = HashSet::new();
    let mut batch: Vec<(OwnedFd, Record)> = Vec::new();
    let mut counts = Counts::default();
    let mut walk = Walk::new(root)?;
    while let Some(found) = walk.next() {
        if options.cancel.is_cancelled() {
            return Err(RemapError::Cancelled);
        }
        let (path, fd) = match found {
            Found::Inode { path, fd } => (path, fd),
            Found::OtherFilesystem => {
                report.other_filesystems += 1;
                continue;
            }
            Found::Problem { path, what } => {
                report.problem(&path, &what);
                continue;
            }
        };
        let inode = match Inode::read(&fd) {
            Ok(inode) => inode,
            Err(error) => {
                report.problem(&path, &error);
                continue;
            }
        };
        if inode.kind != FileType::Directory && inode.links > 1 && !seen.insert(inode.number) {
            report.further_names += 1;
            continue;
        }
        report.inodes += 1;
        if astray.contains(&inode.number) {
            // Moved after its change, or new and in need of one: which of the two, its number does not say.
            let what = "it has the inode number of a file of the journal that is not found: look at its owner, which is not changed";
            report.problem(&path, &what);
            continue;
        }
        if skip.contains(&inode.number) || own == Some(inode.number) {
            continue;
        }
        let Some(record) = inode.mapped(&path, &options.maps) else {
            counts.note(&inode, None);
            continue;
        };
        counts.note(&inode, Some(&record));
        report.changed += 1;
        report.kept.note(&inode, &record);
        if journal.is_some() {
            batch.push((fd, record));
        }
        if batch.len() == BATCH
            && let Some(journal) = journal.as_deref_mut()
        {
            carry_out(journal, &mut batch, report)?;
        }
    }
    if let Some(journal) = journal {
        carry_out(journal, &mut batch, report)?;
    }
    counts.into_report(&options.maps, report);
    Ok(())
}

fn carry_out(
    journal: &mut Journal,
    batch: &mut Vec<(OwnedFd, Record)>,
    report: &mut RemapReport,
) -> Result<(), RemapError> {
    journal.add(batch.iter().map(|(_, record)| record))?;
    for (fd, record) in batch.drain(..) {
        if let Err(error) = record.apply(&fd, Towards::New, false) {
            report.problem(&record.path, &error);
        }
    }
    Ok(())
}

/// Inodes by their numbers.
#[derive(Default)]
struct Counts {
    changed_uids: BTreeMap<(u32, u32), u64>,
    changed_gids: BTreeMap<(u32, u32), u64>,
    /// Numbers that stay.
    uids: HashSet<u32>,
    gids: HashSet<u32>,
}

impl Counts {
    fn note(&mut self, inode: &Inode, record: Option<&Record>) {
        let (uid, gid) = record.map_or((inode.uid, inode.gid), |record| (record.uid.1, record.gid.1));
        for (old, new, changed, same) in [
            (inode.uid, uid, &mut self.changed_uids, &mut self.uids),
            (inode.gid, gid, &mut self.changed_gids, &mut self.gids),
        ] {
            if old == new {
                same.insert(old);
            } else {
                *changed.entry((old, new)).or_default() += 1;
            }
        }
    }

    fn into_report(self, _maps: &IdMaps, report: &mut RemapReport) {
        for (what, changed, same, into) in [
            ("uid", self.changed_uids, self.uids, &mut report.uids),
            ("gid", self.changed_gids, self.gids, &mut report.gids),
        ] {
            for ((old, new), count) in changed {
                if same.contains(&new) {
                    report.merged.push(format!(
                        "{what} {new} had files of its own before those of {old}: only the journal tells them apart now"
                    ));
                }
                into.push((old, new, count));
            }
        }
    }
}
