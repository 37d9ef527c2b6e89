//! What is said of something that is read all the same.

use crate::events::Severity;

/// Something that contradicts itself, and how bad that is: an error where the archive may not hold what the filesystem
/// should, a warning where only its own accounts are wrong.
pub(super) type Remark = (Severity, String);
