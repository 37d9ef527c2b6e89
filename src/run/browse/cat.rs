//! Prints the content of one file of a backup.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::error::BrowseError;
use super::index::open_index;
use crate::archive::index::{EntryLine, IndexedKind, Line};
use crate::archive::read::entries::{EntryReader, Item};
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::archive::read::index_plan::IndexPlan;
use crate::archive::read::sparse::RunMap;
use crate::archive::read::stream::{MemberStream, ReadOptions, ReadPlan};
use crate::events::Silent;
use crate::outside::host::processors;
use crate::outside::{BlockRead, Cancel};
use crate::run::check::content::contradiction;
use crate::run::image_files::{ImageFiles, WantedFiles};
use crate::run::restore::part_of_region::base_of;
use crate::run::restore::select::Selection;
use crate::shown::counted;
use crate::store::Backup;

const NOT_WHOLE: &str = "was not read whole when it was backed up; this is what the archive has";

/// A file that was written to an output, as it is in the backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// Its length.
    pub bytes: u64,
    /// Why it may not be what the source had.
    pub doubt: Option<String>,
}

/// Writes the content of a file to `out`, holes as zeros, and verifies it against the index. After an error, the
/// output must not be used.
pub fn cat(files: &Backup, path: &str, cancel: &Cancel, out: &mut impl Write) -> Result<Printed, BrowseError> {
    let files = &files.seen();
    if files.kind().is_image() {
        let wanted = WantedFiles { paths: &[path.to_owned()], region: None };
        let how = (processors(), cancel);
        let taken = ImageFiles::take(files, wanted, &std::env::temp_dir(), how, &Silent);
        let taken = taken.map_err(|error| BrowseError::ImageFiles(error.into()))?;
        if let Some(what) = taken.first_error() {
            return Err(BrowseError::Damaged { path: path.to_owned(), what: what.to_owned() });
        }
        let printed = cat(taken.backup(), path, cancel, out)?;
        // What could not be read of the volume reads as zeros, and no file says so.
        let lacking = taken.backup_errors();
        let doubt = (lacking > 0).then(|| {
            let parts = counted(lacking, "part", "parts");
            format!("the image lacks {parts} of the volume, which read as zeros: the file may have some of them")
        });
        return Ok(Printed { doubt: printed.doubt.or(doubt), ..printed });
    }
    let selection = Selection::from(&base_of(files), &[path.to_owned()])?;
    let archive = files.open_archive()?;
    let mut target = None;
    // A hard link's content is at its target, which cannot be a hard link itself.
    for _ in 0..2 {
        let literal = target.take();
        let found = cat_once(files, &archive, path, &selection, literal.as_deref(), cancel, out)?;
        match found {
            Content::Written(printed) => return Ok(printed),
            Content::LinkTo(other) => target = Some(other),
        }
    }
    Err(BrowseError::NotFound(path.to_owned()))
}

enum Content {
    Written(Printed),
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
            if let Some(what) = line.as_ref().and_then(|line| contradiction(&head, line, content)) {
                return Err(damaged(what));
            }
            let doubt = line.is_some_and(|line| line.damaged).then(|| NOT_WHOLE.to_owned());
            Ok(Content::Written(Printed { bytes: head.size, doubt }))
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
