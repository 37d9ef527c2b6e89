//! What came out of an export.

use std::time::Duration;

use serde::Serialize;

use crate::events::{Problem, Severity};
use crate::image::copy::Copied;
use crate::image::make::ImageKind;
use crate::run::collect::Collected;
use crate::shown::hex;

/// An image that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Exported {
    /// What it is made of.
    pub source: String,
    /// The file; `-` for standard output.
    pub target: String,
    /// `raw` or `qcow2`.
    #[serde(rename = "image_format")]
    pub format: &'static str,
    /// The length of the disk.
    pub disk_bytes: u64,
    /// Bytes that were read: what is used.
    pub read_bytes: u64,
    /// The length of the image.
    pub image_bytes: u64,
    /// Bytes of it that an interrupted export had written, and that were compared with what is to be there.
    pub kept_bytes: u64,
    /// The room that it takes, without its holes; `None` for a stream.
    pub stored_bytes: Option<u64>,
    /// The snapshot that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Whether it was read back and compared.
    pub verified: bool,
    /// The digest of the disk's content, hex, if it was compared: an import of the image gives the same.
    pub content_digest: Option<String>,
    /// How long it took.
    pub seconds: u64,
    /// The worst that was reported on the way.
    pub worst_problem: Option<Severity>,
    /// What was reported on the way: of each severity the first 1000.
    pub problems: Vec<Problem>,
}

impl Exported {
    #[expect(clippy::too_many_arguments, reason = "one private constructor with one caller")]
    pub(super) fn new(
        source: &str,
        target: String,
        kind: ImageKind,
        disk_bytes: u64,
        copied: &Copied,
        kept_bytes: u64,
        stored_bytes: Option<u64>,
        snapshot: Option<String>,
        took: Duration,
        collected: Collected,
    ) -> Self {
        Self {
            source: source.to_owned(),
            target,
            format: match kind {
                ImageKind::Raw => "raw",
                ImageKind::Qcow2(_) => "qcow2",
            },
            disk_bytes,
            read_bytes: copied.read_bytes,
            image_bytes: copied.image_bytes,
            kept_bytes,
            stored_bytes,
            snapshot,
            verified: copied.digest.is_some(),
            content_digest: copied.digest.map(|digest| hex(&digest)),
            seconds: took.as_secs(),
            worst_problem: collected.worst,
            problems: collected.problems,
        }
    }

    /// Whether something has to be looked at.
    pub fn has_problems(&self) -> bool {
        self.worst_problem > Some(Severity::Notice)
    }
}
