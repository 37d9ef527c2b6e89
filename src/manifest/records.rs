//! The records of a manifest: the source, the snapshot, the options, and sums.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::archive::counts::CarryCounts;
use crate::archive::members::WrittenMembers;

/// Whether a backup contains everything that was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// Everything.
    Whole,
    /// Files or regions are missing or damaged: there is a problem of severity error.
    Partial,
}

/// The source of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// `lv`, `device` or `image`.
    pub kind: String,
    /// For display: `VG/LV` or a path.
    pub path: String,
    /// The volume group of a logical volume.
    pub vg: Option<String>,
    /// The logical volume.
    pub lv: Option<String>,
    /// Its LVM UUID.
    pub lv_uuid: Option<String>,
    /// Its length.
    pub size_bytes: u64,
}

/// The set of a backup: volumes whose snapshots were taken right after each other, before any of them was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRecord {
    /// The group in the config.
    pub group: String,
    /// The same in all backups of this set, and in no other.
    pub id: String,
    /// The names of all volumes that belong to it, whether or not they have a backup in it.
    pub members: Vec<String>,
    /// The time from before the first snapshot to after the last, in milliseconds.
    pub spread_ms: u64,
    /// Whether what comes before and after the snapshots ran around all of them without a failure.
    pub quiesced: bool,
    /// Members without a snapshot, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<String, String>,
}

/// The snapshot that was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its name, `VG/LV`.
    pub name: String,
    /// `thick` or `thin`.
    pub kind: String,
    /// Thick: the final size of its exception store, in bytes.
    pub cow_size_bytes: Option<u64>,
    /// Thick: its maximum fill, in percent.
    pub peak_fill_percent: Option<f64>,
    /// Thick: how much it was extended while it was read, in bytes.
    pub extended_by_bytes: u64,
    /// Whether it was kept (`--keep-snapshot`).
    pub kept: bool,
}

/// The options of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionsRecord {
    /// The compression level; with `auto_level` the most frequent one.
    pub level: i32,
    /// The levels chosen by `--level auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[doc(hidden)]
    pub auto_level: Option<AutoLevelRecord>,
    /// The exclude patterns.
    pub exclude: Vec<String>,
}

/// The levels chosen by `--level auto`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoLevelRecord {
    /// The lowest level allowed.
    pub lowest: i32,
    /// The highest level allowed.
    pub highest: i32,
    /// The number of members compressed at each level.
    pub members: BTreeMap<i32, u64>,
}

/// Where a copy comes from, if its names are its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFrom {
    /// The common start of the file names of the backup that was copied first.
    pub stem: String,
    /// The `self_sha256` of its manifest.
    pub self_sha256: String,
}

/// Until when the store keeps the files of a backup from being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedRecord {
    /// Who may end the lock earlier.
    pub mode: LockMode,
    /// Its end.
    pub until: DateTime<Utc>,
}

/// The mode of a store's object lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Credentials with a right of their own may end it earlier.
    Governance,
    /// Nobody may.
    Compliance,
}

/// The objects of a backup as an object store published them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsRecord {
    /// Their folder, `s3://BUCKET/PREFIX/VOLUME`. In another folder this record says nothing.
    pub folder: String,
    /// By the end of their names, as `.tar.gz`. The manifest itself and its signature are not among them.
    pub files: BTreeMap<String, ObjectRecord>,
    /// In the shared layout: the segments that the archive and the index refer to, by their names. Those that are not among
    /// them are not known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub segments: BTreeMap<String, ObjectRecord>,
}

/// What tells an object from a later one under its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// Its ETag without quotes; empty if the store gave none.
    pub etag: String,
    /// Its version, in a bucket that keeps versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl ObjectsRecord {
    /// The object of the file with this end of its name, if the backup lies in the folder that the record is of.
    pub(crate) fn of(&self, folder: &Path, suffix: &str) -> Option<&ObjectRecord> {
        self.files.get(suffix).filter(|_| self.is_of(folder))
    }

    /// The objects of the segments, if the backup lies in the folder that the record is of.
    pub(crate) fn segments_in(&self, folder: &Path) -> Option<&BTreeMap<String, ObjectRecord>> {
        Some(&self.segments).filter(|_| self.is_of(folder))
    }

    fn is_of(&self, folder: &Path) -> bool {
        folder == Path::new(&self.folder)
    }
}

impl ObjectRecord {
    /// Whether an object with this ETag has another content. Without an ETag nobody knows.
    pub(crate) fn has_other_etag(&self, etag: &str) -> bool {
        !self.etag.is_empty() && !etag.is_empty() && self.etag != etag
    }
}

/// Content carried forward. The archive does not depend on the previous backup: the content was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedRecord {
    /// The previous backup.
    pub parent: String,
    /// The SHA-1 of its archive, from its manifest; empty if that has none.
    pub parent_archive_sha1: String,
    /// The SHA-256 of its index as it is published, if its manifest has no SHA-1 of its archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_index_sha256: Option<String>,
    /// How the store copied it; `None` if all content passed the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_server: Option<OnServerRecord>,
    /// The amount.
    #[serde(flatten)]
    pub counts: CarryCounts,
}

impl CarriedRecord {
    /// The digest that tells the previous archive from others, as [`DigestsRecord::identity`] of its manifest.
    #[doc(hidden)]
    pub fn parent_identity(&self) -> &str {
        self.parent_index_sha256.as_deref().unwrap_or(&self.parent_archive_sha1)
    }
}

/// Content that the object store copied from the previous archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnServerRecord {
    /// Its length in the archive, in bytes.
    pub copied_bytes: u64,
    /// Where the next backup goes on re-reading unchanged content, in the tar stream of this archive.
    pub reread_to: u64,
}

/// Changes of files since the previous backup, from both indexes. If there are very many files, a sample is
/// compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesRecord {
    /// The number of files of the previous backup that were compared.
    pub compared: u64,
    /// The number of them with other content under the same name.
    pub changed: u64,
    /// The number of them that are missing.
    pub gone: u64,
}

impl ChangesRecord {
    /// The percentage of changed or missing files.
    pub fn percent(self) -> u64 {
        self.changed.saturating_add(self.gone).saturating_mul(100) / self.compared.max(1)
    }
}

/// A sudden change, and the backup that is kept because of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The stem of the pinned backup: the last before the change.
    pub kept: String,
    /// The stem of the first backup with the change.
    pub changed: String,
    /// The start of that backup.
    pub changed_at: DateTime<Utc>,
    /// The change with its figures, one line.
    pub what: String,
}

/// Lengths in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizesRecord {
    /// The length of the archive.
    pub archive_bytes: u64,
    /// The length of its tar stream.
    pub tar_bytes: u64,
    /// The length of the index.
    pub index_bytes: u64,
    /// The number of members in the archive.
    pub members: u64,
    /// The number of entries.
    pub entries: u64,
}

impl From<&WrittenMembers> for SizesRecord {
    fn from(WrittenMembers { totals, index_bytes, .. }: &WrittenMembers) -> Self {
        Self {
            archive_bytes: totals.archive_bytes,
            tar_bytes: totals.tar_bytes,
            index_bytes: *index_bytes,
            members: totals.members,
            entries: totals.entries,
        }
    }
}

/// The number of problems by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemCounts {
    /// Normal, but worth knowing.
    pub notices: u64,
    /// Need attention.
    pub warnings: u64,
    /// Content of the volume is missing or altered in the backup.
    pub errors: u64,
}

impl ProblemCounts {
    /// The completeness that follows: any error means partial.
    pub(crate) fn completeness(self) -> Completeness {
        if self.errors == 0 { Completeness::Whole } else { Completeness::Partial }
    }

    /// The number of problems that need attention.
    #[doc(hidden)]
    pub fn to_look_at(self) -> u64 {
        self.warnings.saturating_add(self.errors)
    }
}

/// Digests, lower-case hex.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsRecord {
    /// SHA-1 of the archive, as in the checksum file. The index has a digest of each member. Empty if the store copied
    /// content that the host did not see: the first full verification writes the checksum file.
    pub archive_sha1: String,
    /// SHA-256 of the index.
    pub index_sha256: String,
    /// SHA-256 of the checksum file; empty if the backup was made without one.
    pub checksum_sha256: String,
}

impl DigestsRecord {
    /// The SHA-1 of the archive; `None` if it was not known when the backup was made.
    #[doc(hidden)]
    pub fn archive_sha1(&self) -> Option<&str> {
        Some(self.archive_sha1.as_str()).filter(|sha1| !sha1.is_empty())
    }

    /// The digest that tells this archive from others: its SHA-1, or the SHA-256 of its index, which has the digests of all
    /// members.
    #[doc(hidden)]
    pub fn identity(&self) -> &str {
        self.archive_sha1().unwrap_or(&self.index_sha256)
    }
}
