//! Facts of a snapshot for the manifest.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::source::health::Reading;

/// The kind of snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// An LVM snapshot with its own exception store, which can overflow.
    Thick,
    /// An LVM snapshot in a thin pool.
    Thin,
    /// No snapshot: an image or device that is read directly.
    None,
}

/// Facts of a snapshot for the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// Its kind.
    pub kind: SnapshotKind,
    /// `VG/LV` of the snapshot; `None` without one.
    pub name: Option<String>,
    /// When it was taken, or the image or device was opened.
    pub created_at: DateTime<Utc>,
    /// Thick: the initial size of its exception store.
    pub cow_size_bytes: Option<u64>,
    /// Thick: how much it was extended while it was read.
    pub extended_by_bytes: u64,
    /// Thick: its maximum fill, in percent of its size at that moment.
    pub peak_fill_percent: Option<f64>,
}

impl SnapshotFacts {
    /// Records a reading.
    pub(crate) fn note(&mut self, reading: &Reading) {
        let Some(fill) = reading.fill else { return };
        let peak = self.peak_fill_percent.unwrap_or(0.0).max(fill.percent);
        self.peak_fill_percent = Some(peak);
        let first_size_bytes = *self.cow_size_bytes.get_or_insert(fill.size_bytes);
        self.extended_by_bytes = fill.size_bytes.saturating_sub(first_size_bytes);
    }
}
