//! Restores an archive, or part of it, into a directory.
//!
//! [`select`] selects the entries, [`put`] creates each through [`tree`], which never leaves the directory, and
//! [`attributes`] sets its attributes. A file gets its final name only when its data, digest and attributes are
//! right: every file with its final name is complete, so an interrupted restore can be resumed.

mod acl_names;
pub mod attributes;
mod begun;
pub mod data;
pub mod dry_run;
mod error;
pub mod ids;
mod locks;
pub mod names;
mod onto;
mod options;
pub(crate) mod part_of_region;
mod pass;
pub mod path;
pub mod put;
mod reach;
mod report;
pub mod select;
pub mod tree;
mod unmounted;
mod wanted;

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use self::attributes::{Restorer, Rules};
use self::begun::{begin, check_place};
use self::locks::Locks;
use self::onto::Onto;
use self::part_of_region::wanted_part;
use self::pass::Pass;
use self::put::{PutOptions, Putter};
use self::reach::is_reachable;
use self::select::{Base, Part};
use self::tree::Tree;
use crate::archive::index::escape_path;
use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::file_lock::FileLock;
use crate::run::image_files::{ImageFiles, WantedFiles};
use crate::shown::counted;
use crate::store::Backup;

pub use self::error::RestoreError;
pub use self::options::{Existing, RestoreOptions};
pub use self::report::RestoreReport;
pub(crate) use self::unmounted::restore_unmounted;

/// Restores. Problems with single entries are reported to `observer` and do not stop it.
pub fn restore(
    files: &Backup,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreReport, RestoreError> {
    let files = &files.seen();
    check_place(files, options)?;
    if files.kind().is_image() {
        let taken = take(files, options, observer)?;
        let mut report = restore(taken.backup(), options, observer)?;
        // What could not be read of the image is not in the files as it was.
        report.failed += taken.errors();
        // What could not be read of the volume reads as zeros, and no file says so.
        report.backup_errors = taken.backup_errors();
        return Ok(report);
    }
    let (part, base) = wanted_part(files, options)?;
    restore_from(files, options, &part, &base, observer)
}

/// The wanted files of an image, in a directory beside or in the target, which must have room for them in any case.
fn take(files: &Backup, options: &RestoreOptions, observer: &dyn Observer) -> Result<ImageFiles, RestoreError> {
    let target = options.target();
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = if target.is_dir() { target } else { parent };
    let wanted = WantedFiles { paths: &options.paths, region: options.region.as_deref() };
    let taken = ImageFiles::take(files, wanted, scratch, (options.threads, &options.cancel), observer);
    taken.map_err(|error| RestoreError::ImageFiles(error.into()))
}

/// Like [`restore`], for the entries of `part`.
pub fn restore_part(
    files: &Backup,
    options: &RestoreOptions,
    part: &Part,
    observer: &dyn Observer,
) -> Result<RestoreReport, RestoreError> {
    restore_from(files, options, part, &Base::default(), observer)
}

fn restore_from(
    files: &Backup,
    options: &RestoreOptions,
    part: &Part,
    base: &Base,
    observer: &dyn Observer,
) -> Result<RestoreReport, RestoreError> {
    let begun = begin(files, options, part, base, observer)?;
    let target_error = |source: Errno| RestoreError::Target { to: options.to.clone(), source: source.into() };
    let tree = Tree::open(options.target()).map_err(target_error)?;
    // The lock belongs to its own descriptor, which must outlive the tree.
    let lock = rustix::io::fcntl_dupfd_cloexec(tree.root().ok_or(Errno::BADF).map_err(target_error)?, 0);
    let lock = lock.map_err(target_error)?;
    let _lock = match FileLock::try_take(lock) {
        Ok(None) => return Err(RestoreError::Busy(options.to.clone())),
        // On a filesystem without locks for directories, no other restore has one either.
        taken => taken,
    };

    if options.existing == Existing::Resume {
        tree.remove_remains().map_err(target_error)?;
    }
    begun.tell_findings(files, observer);
    let put_options =
        PutOptions { existing: options.existing, verify: options.verify, devices: options.devices, top: options.top };
    let reachable = tree.root().is_none_or(|root| is_reachable(root, options.top));
    let rules = Rules {
        strip_set_id: reachable && !options.keep_set_id,
        ids: begun.ids.clone(),
        names: Arc::clone(&begun.names),
    };
    let ours = (!tree.was_empty && !options.is_new_filesystem()).then(HashSet::new);
    let putter = Putter {
        tree,
        restorer: Restorer::of_process(),
        options: put_options,
        rules,
        below: part.below.clone(),
        locks: Locks::default(),
        ours,
    };
    let mut run = Pass::new(Onto::Directory(Box::new(putter)), &begun, options, observer);
    run.read_all(&begun)?;
    let Pass { onto, mut report, uses, .. } = run;
    let Onto::Directory(mut putter) = onto else { return Err(target_error(Errno::BADF)) };
    report.merge_ids(&uses, &putter.rules.ids, &options.to, observer);
    let root = putter.tree.root().map(|root| rustix::io::fcntl_dupfd_cloexec(root, 0));
    let failures = putter.tree.finish(&mut putter.restorer).map_err(target_error)?;
    for (path, what) in failures {
        report.failed += 1;
        observer.on_event(&Event::Problem(Problem::new(Severity::Error, escape_path(&path), what.to_string())));
    }
    if let Some(Ok(root)) = &root {
        putter.locks.set(root.as_fd(), &mut putter.restorer);
    }
    report.take_shortfalls(&putter.restorer, &options.to, observer);
    report.stripped = putter.restorer.stripped();
    if report.stripped > 0 {
        let what = format!(
            "{} restored without their set-user-id or set-group-id bits or capabilities, since other users of \
             this host can reach them here; --keep-setid keeps them, and so does a directory that only root can enter",
            counted(report.stripped, "file was", "files were")
        );
        observer.on_event(&Event::Problem(Problem::new(Severity::Notice, options.to.display().to_string(), what)));
    }
    if let Some(Ok(root)) = root {
        rustix::fs::syncfs(&root).map_err(target_error)?;
    }
    Ok(report)
}
