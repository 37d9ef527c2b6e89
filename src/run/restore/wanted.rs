//! Plans how the selected entries are read: through the index, or by a scan without one.

use std::sync::Arc;

use super::acl_names::AclNames;
use super::error::RestoreError;
use super::ids::IdMaps;
use super::names;
use super::options::RestoreOptions;
use super::select::{Part, Selection, plain};
use crate::archive::index::{EntryLine, IndexedKind};
use crate::archive::read::entries::EntryReader;
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::archive::read::index_file::IndexReader;
use crate::archive::read::index_plan::{IndexPlan, Select};
use crate::archive::read::stream::{MemberStream, ReadOptions, ReadPlan};
use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::BlockRead;
use crate::run::check::side_files::SideFiles;

/// The plan for reading the selected entries.
pub(super) fn plan_of(sides: &SideFiles, selection: &Arc<Selection>) -> ReadPlan {
    let Some(index) = index_of(sides) else { return ReadPlan::Scan };
    let select = (!selection.is_everything()).then(|| {
        let selection = Arc::clone(selection);
        Box::new(move |line: &EntryLine| {
            let is_directory = line.kind == IndexedKind::Directory;
            selection.wants(&line.path, is_directory) || (is_directory && selection.leads_to(&line.path))
        }) as Select
    });
    ReadPlan::Index(Box::new(IndexPlan::new(index, select)))
}

/// Whether an entry is selected, for archives read without an index.
pub(super) fn selects_without_index(selection: &Selection, head: &EntryHead) -> bool {
    let is_directory = head.kind == HeadKind::Directory;
    selection.wants(&head.path, is_directory) || (is_directory && selection.leads_to(&head.path))
}

/// The maps of numbers that are asked for, with names from the archive where they are needed; and where the names in ACLs are looked
/// up.
pub(super) fn resolve_ids(
    archive: &Arc<dyn BlockRead>,
    sides: &SideFiles,
    options: &RestoreOptions,
    part: &Part,
    observer: &dyn Observer,
) -> Result<(IdMaps, AclNames), RestoreError> {
    let wish = &options.ids;
    let inside = if wish.needs_inside() {
        let plan = match index_of(sides) {
            Some(index) => {
                let part = part.clone();
                let is_wanted =
                    move |line: &EntryLine| names::is_name_file(&line.path) && part.has(plain(&line.path), false);
                let select = Box::new(is_wanted);
                ReadPlan::Index(Box::new(IndexPlan::new(index, Some(select))))
            }
            None => ReadPlan::Scan,
        };
        let read = ReadOptions { threads: options.threads, hash_archive: false, stop: vec![options.cancel.flag()] };
        let stream = MemberStream::new(Arc::clone(archive), plan, &read);
        let stream = stream.map_err(|source| RestoreError::Target { to: options.to.clone(), source })?;
        names::read_inside(EntryReader::new(stream, true, false), part)?
    } else {
        None
    };
    let resolved = wish.resolve(inside)?;
    if let Some(said) = resolved.said {
        let problem = Problem::new(Severity::Notice, "owners and groups", said);
        observer.on_event(&Event::Problem(problem));
    }
    Ok((resolved.maps, AclNames::new(resolved.new)))
}

/// The index, unless it is missing, damaged or of another backup.
pub(super) fn index_of(sides: &SideFiles) -> Option<IndexReader> {
    if sides.index_changed {
        return None;
    }
    IndexReader::new(Arc::clone(sides.index.as_ref()?)).ok()
}
