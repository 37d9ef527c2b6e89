//! What every restore begins with: the selection, the archive and its side files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::acl_names::AclNames;
use super::error::RestoreError;
use super::ids::IdMaps;
use super::options::{Existing, RestoreOptions};
use super::select::{Base, Part, Selection};
use super::wanted::resolve_ids;
use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::BlockRead;
use crate::run::check::side_files::SideFiles;
use crate::run::check::{CheckLevel, Findings, side_files};
use crate::store::Backup;
use crate::store::names::MANIFEST;

pub(super) struct Begun {
    pub(super) selection: Arc<Selection>,
    pub(super) archive: Arc<dyn BlockRead>,
    pub(super) sides: SideFiles,
    pub(super) side_findings: Findings,
    pub(super) ids: IdMaps,
    pub(super) names: Arc<AclNames>,
}

/// Refuses to overwrite in the directory of the backup, or in the destination with the directories of all volumes: there a file
/// of a guest may have the name of a backup's.
pub(super) fn check_place(files: &Backup, options: &RestoreOptions) -> Result<(), RestoreError> {
    let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let (wanted, directory) = (id(options.target()), files.directory());
    let is_own = directory.join(format!("{}{MANIFEST}", files.stem())).is_file();
    let is_among =
        is_own && wanted.is_some() && [directory, &directory.join("..")].iter().any(|place| id(place) == wanted);
    if options.existing == Existing::Overwrite && is_among {
        return Err(RestoreError::AmongBackups(options.to.clone()));
    }
    Ok(())
}

/// Opens everything, and writes nothing.
pub(super) fn begin(
    files: &Backup,
    options: &RestoreOptions,
    part: &Part,
    base: &Base,
    observer: &dyn Observer,
) -> Result<Begun, RestoreError> {
    files.require_files()?;
    let selection = Arc::new(Selection::from(base, &options.paths)?.within(part));
    let archive = files.open_archive()?;
    let mut side_findings = Findings::default();
    let sides = if options.paths.is_empty() {
        side_files::check(files, CheckLevel::Full, &options.cancel, &mut side_findings)
    } else {
        side_files::check_for_paths(files, &options.cancel, &mut side_findings)
    };
    let sides = sides.map_err(RestoreError::of_check)?;
    let (ids, names) = resolve_ids(&archive, &sides, options, part, observer)?;
    Ok(Begun { selection, archive, sides, side_findings, ids, names: Arc::new(names) })
}

impl Begun {
    /// What the backup lacks, if all of it is wanted.
    pub(super) fn backup_errors(&self) -> u64 {
        let manifest = self.sides.manifest.as_ref().filter(|_| self.selection.is_everything());
        manifest.map_or(0, |manifest| manifest.problem_counts.errors)
    }

    /// Tells what is wrong with the side files.
    pub(super) fn tell_findings(&self, files: &Backup, observer: &dyn Observer) {
        for finding in &self.side_findings.first {
            let what = format!("{}; restored nevertheless, as far as the rest is consistent", finding.what);
            let problem = Problem::new(Severity::Warning, finding.place(files.stem(), files.kind()), what);
            observer.on_event(&Event::Problem(problem));
        }
    }
}
