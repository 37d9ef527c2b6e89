//! Errors that end the restore of a disk.

use super::carry_out::CarryOutError;
use super::one_region::OneRegionError;
use super::target::TargetError;
use crate::run::restore::names::IdError;
use crate::store::IsImage;

/// Why a disk was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The manifest is missing, damaged or of another backup.
    #[error("a disk is restored from its manifest, which cannot be used: {0}")]
    Manifest(String),
    /// It is an image.
    #[error(transparent)]
    Image(#[from] IsImage),
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The backup does not have the region, or not by itself. Nothing was written.
    #[error(transparent)]
    Region(#[from] OneRegionError),
    /// Owners and groups cannot be mapped. Nothing was written.
    #[error(transparent)]
    Ids(#[from] IdError),
    /// It is impossible. Nothing was written.
    #[error("it cannot be restored there, and nothing was written:{}", lines(.0))]
    Refused(Vec<String>),
    /// The backup is known to be bad, and data would be erased for it.
    #[error(
        "nothing was erased, since the backup is bad or may be; choose another, \
         or use --even-if-bad to restore its good parts: {0}"
    )]
    KnownBad(String),
    /// Cancelled before anything was written.
    #[error("interrupted; nothing was written")]
    Stopped,
    /// It was started and not finished.
    #[error("the restore was not finished, and the target is unusable (an image file was not created): repeat it")]
    Unfinished(#[source] CarryOutError),
}

fn lines(reasons: &[String]) -> String {
    reasons.iter().flat_map(|why| ["\n  ", why.as_str()]).collect()
}
