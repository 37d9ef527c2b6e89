//! A problem with something that is read nevertheless.

use crate::events::Severity;

/// A contradiction and its severity: an error if the archive may lack data of the filesystem, a warning if only the
/// filesystem's accounting is wrong.
pub(super) type Remark = (Severity, String);
