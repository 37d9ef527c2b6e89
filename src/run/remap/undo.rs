//! Back to the numbers before, by the journal; and forward to those after, where an earlier call was interrupted.

use std::path::Path;

use rustix::io::Errno;

use super::change::{Record, Towards};
use super::error::RemapError;
use super::journal::{Earlier, Header, Journal, default_path, read};
use super::report::RemapReport;
use super::walk::Root;
use crate::outside::Cancel;
use crate::run::restore::ids::IdMaps;

/// Undoes the remap of a directory. The journal goes when all of it is undone.
pub fn undo(directory: &Path, path: Option<&Path>, dry_run: bool, cancel: &Cancel) -> Result<RemapReport, RemapError> {
    let root = Root::open(directory)?;
    let path = match path {
        Some(path) => path.to_owned(),
        None => default_path(directory)?,
    };
    // Without a mapping any journal of the directory fits.
    let header = Header::new(&root, &IdMaps::default());
    let mut report = RemapReport::default();
    if dry_run {
        let earlier = read(&path, &header)?.ok_or(RemapError::NothingToUndo(path.clone()))?;
        report.changed = earlier.records.len() as u64;
        tell_damaged(&earlier, &path, &mut report);
        return Ok(report);
    }
    let (mut journal, earlier) = Journal::existing(&path, &header)?;
    if earlier.is_complete {
        // From the first change on it is not: the same remap would otherwise do nothing where this is interrupted.
        journal.set_complete(false)?;
    }
    journal.set_settled(false)?;
    // The last change first: an inode that a crafted journal names twice ends as it was first.
    for record in earlier.records.iter().rev() {
        if cancel.is_cancelled() {
            return Err(RemapError::Cancelled);
        }
        settle(&root, record, Towards::Old, earlier.is_settled, &mut report);
        report.changed += 1;
    }
    report.changed -= report.problem_count;
    tell_damaged(&earlier, &path, &mut report);
    if report.problem_count == 0 {
        journal.remove()?;
    } else {
        journal.set_settled(true)?;
    }
    Ok(report)
}

/// What is left to do where lines of the journal are damaged.
fn tell_damaged(earlier: &Earlier, path: &Path, report: &mut RemapReport) {
    let path = path.as_os_str().as_encoded_bytes();
    for line in &earlier.damaged {
        report.problem(path, &format!("{line}; the inode of that line is not changed back"));
    }
    if !earlier.damaged.is_empty() {
        let maps = if earlier.maps.is_empty() { String::new() } else { format!(" ({})", earlier.maps) };
        let what = format!(
            "it stays, since lines in it are damaged: find the inodes that still have new numbers{maps}, change their owners and groups \
             back by hand, and remove it"
        );
        report.problem(path, &what);
    }
}

/// Brings the inode of a record to one of its states; what is not as the record says is reported, and left alone. Returns whether
/// it was done.
pub(super) fn settle(
    root: &Root,
    record: &Record,
    towards: Towards,
    is_settled: bool,
    report: &mut RemapReport,
) -> bool {
    let opened = root.look(&record.path).map_err(|error| match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => "it is not there any more".to_owned(),
        error => error.to_string(),
    });
    let done = opened.and_then(|fd| record.is_of(&fd).and_then(|()| record.apply(&fd, towards, is_settled)));
    if let Err(what) = &done {
        report.problem(&record.path, what);
    }
    done.is_ok()
}
