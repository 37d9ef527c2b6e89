//! What the manifest keeps of a snapshot.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::source::health::Reading;

/// What kind of snapshot a source is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// An LVM snapshot with an exception store of its own, which can overflow.
    Thick,
    /// An LVM snapshot in a thin pool.
    Thin,
    /// None: an image or device that is read as it is.
    None,
}

/// What the manifest keeps of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// What kind it was.
    pub kind: SnapshotKind,
    /// `VG/LV` of the snapshot; `None` without one.
    pub name: Option<String>,
    /// When it was taken, or the image or device was opened.
    pub created_at: DateTime<Utc>,
    /// Thick: the size of its exception store when it was made.
    pub cow_size_bytes: Option<u64>,
    /// Thick: by how much that was extended while it was read.
    pub extended_by_bytes: u64,
    /// Thick: how full it was at most, in percent of its size at that moment.
    pub peak_fill_percent: Option<f64>,
}

impl SnapshotFacts {
    /// Takes note of what a look at the snapshot found.
    pub(crate) fn note(&mut self, reading: &Reading) {
        let Some(fill) = reading.fill else { return };
        let peak = self.peak_fill_percent.unwrap_or(0.0).max(fill.percent);
        self.peak_fill_percent = Some(peak);
        let first_size_bytes = *self.cow_size_bytes.get_or_insert(fill.size_bytes);
        self.extended_by_bytes = fill.size_bytes.saturating_sub(first_size_bytes);
    }
}
