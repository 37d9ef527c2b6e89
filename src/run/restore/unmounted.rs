//! Restores into a new ext4 filesystem that is not mounted: [`crate::writer::ext4`] creates the entries in place of
//! the kernel. Problems have the same words as in a mounted one.

mod levels;
pub(super) mod putter;

use std::sync::Arc;

use rustix::io::Errno;

use self::putter::Ext4Putter;
use super::attributes::{Restorer, Rules};
use super::begun::begin;
use super::error::RestoreError;
use super::onto::Onto;
use super::options::RestoreOptions;
use super::pass::Pass;
use super::report::RestoreReport;
use super::select::{Base, Part};
use crate::events::Observer;
use crate::store::Backup;
use crate::writer::ext4::{Ext4Writer, WriteError};

/// Restores the entries of `part` with `writer`. [`RestoreError::LeftToKernel`] says that the kernel must do it, in
/// a filesystem that is made again.
pub(crate) fn restore_unmounted(
    files: &Backup,
    options: &RestoreOptions,
    part: &Part,
    writer: Ext4Writer,
    observer: &dyn Observer,
) -> Result<RestoreReport, RestoreError> {
    let begun = begin(files, options, part, &Base::default(), observer)?;
    let rules = Rules { strip_set_id: false, ids: begun.ids.clone(), names: Arc::clone(&begun.names) };
    let restorer = Restorer::of_process();
    let putter = Ext4Putter::new(writer, restorer, rules, part.below.clone(), options.verify)
        .map_err(|error| RestoreError::of_writer(error, &options.to))?;
    begun.tell_findings(files, observer);
    let mut run = Pass::new(Onto::Ext4(Box::new(putter)), &begun, options, observer);
    run.read_all(&begun)?;
    let Pass { onto, mut report, uses, .. } = run;
    let Onto::Ext4(putter) = onto else {
        return Err(RestoreError::of_writer(WriteError::Refused(Errno::BADF), &options.to));
    };
    report.merge_ids(&uses, &begun.ids, &options.to, observer);
    let restorer = putter.finish().map_err(|error| RestoreError::of_writer(error, &options.to))?;
    report.take_shortfalls(&restorer, &options.to, observer);
    Ok(report)
}
