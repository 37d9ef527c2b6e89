//! Restores an archive into a filesystem of its own.

use super::{Findings, Surroundings, VerifyError, VerifyOptions};
use crate::run::locate::BackupFiles;

/// See the module.
pub fn check(
    _files: &BackupFiles,
    _options: &VerifyOptions,
    _around: Surroundings<'_>,
    _findings: &mut Findings,
) -> Result<(), VerifyError> {
    Ok(())
}
