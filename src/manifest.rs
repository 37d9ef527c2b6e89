//! The manifest: what was found and done. A backup is complete when it is there.

mod region;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::region::{BtrfsRecord, QuotaRecord, RegionRecord, SubvolumeRecord};
use crate::archive::carry::parent::ParentFacts;
use crate::archive::counts::{CarryCounts, Counts};
use crate::events::Problem;
use crate::layout::Layout;
use crate::shown::hex;

/// The version of the format that this program writes.
pub const FORMAT: u32 = 1;
/// A larger file is not taken for a manifest. Ours stay far below: what a volume can add to it is bounded.
pub const MAX_BYTES: u64 = 256 << 20;

const SELF_DIGITS: usize = 64;
const SELF_KEY: &str = "\"self_sha256\": \"";

/// All facts of a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of volbak that wrote it.
    pub volbak_version: String,
    /// The volume's name, and that of its directory.
    pub name: String,
    /// What the four files' names begin with.
    pub stem: String,
    /// The host that made the backup.
    pub host: String,
    /// When the backup was started.
    pub started_at: DateTime<Utc>,
    /// The moment that the backup shows: when the snapshot was taken, or reading began.
    pub frozen_at: DateTime<Utc>,
    /// When the archive was complete.
    pub finished_at: DateTime<Utc>,
    /// The local date in the stem, `YYYY-MM-DD`.
    pub local_date: String,
    /// What was backed up.
    pub source: SourceRecord,
    /// The snapshot that was read; none for a device or an image.
    pub snapshot: Option<SnapshotRecord>,
    /// What lies on the source.
    pub layout: Layout,
    /// What was done with each region, in the layout's order.
    pub regions: Vec<RegionRecord>,
    /// How it was to be done.
    pub options: OptionsRecord,
    /// What is in the archive.
    pub counts: Counts,
    /// What of it was carried forward from the previous backup; `None` when all was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedRecord>,
    /// How much of the last backup's content changed, where that was looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<ChangesRecord>,
    /// Lengths of the files in bytes.
    pub sizes: SizesRecord,
    /// The first problems; at most a thousand of each severity.
    pub problems: Vec<Problem>,
    /// How many problems there were in all.
    pub problem_counts: ProblemCounts,
    /// Whether all that was selected is in the backup. `None` in backups of older versions: see
    /// [`Manifest::is_whole`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completeness: Option<Completeness>,
    /// Digests of the other three files.
    pub digests: DigestsRecord,
    /// SHA-256 of this file with these 64 digits replaced by zeros.
    pub self_sha256: String,
}

/// How much of what was selected is in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// All of it.
    Whole,
    /// Files or regions are missing or damaged: there is a problem of severity error.
    Partial,
}

/// What was backed up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// `lv`, `device` or `image`.
    pub kind: String,
    /// As the user knows it: `VG/LV` or a path.
    pub path: String,
    /// The volume group, for an LV.
    pub vg: Option<String>,
    /// The logical volume.
    pub lv: Option<String>,
    /// Its LVM UUID.
    pub lv_uuid: Option<String>,
    /// Its length.
    pub size_bytes: u64,
}

/// The snapshot that was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its name, `VG/LV`.
    pub name: String,
    /// `thick` or `thin`.
    pub kind: String,
    /// A thick one's exception store at its end, in bytes.
    pub cow_size_bytes: Option<u64>,
    /// How full it was at its fullest, in percent; for a thick one.
    pub peak_fill_percent: Option<f64>,
    /// How much it was extended by while it was read, in bytes.
    pub extended_by_bytes: u64,
    /// Whether the user asked to keep it.
    pub kept: bool,
}

/// How the backup was to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionsRecord {
    /// The compression level; with `auto_level` the one that most members have.
    pub level: i32,
    /// How the level was chosen while the archive was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_level: Option<AutoLevelRecord>,
    /// The exclude patterns.
    pub exclude: Vec<String>,
}

/// What became of `auto` in place of a level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoLevelRecord {
    /// The lowest level that was allowed.
    pub lowest: i32,
    /// The highest.
    pub highest: i32,
    /// How many members were compressed at each level.
    pub members: BTreeMap<i32, u64>,
}

/// What was carried forward. The archive does not need that backup: all of it is in this one, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedRecord {
    /// The previous backup.
    pub parent: String,
    /// The SHA-1 of its archive, as its manifest says it.
    pub parent_archive_sha1: String,
    /// How much.
    #[serde(flatten)]
    pub counts: CarryCounts,
}

/// How files of the backup before fare in this one, by the two indexes. Of very many files a sample was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesRecord {
    /// How many files of the backup before were looked for.
    pub compared: u64,
    /// How many of them have other content under the same name.
    pub changed: u64,
    /// How many are not there.
    pub gone: u64,
}

impl ChangesRecord {
    /// The share that is changed or gone, in percent.
    pub fn percent(self) -> u64 {
        self.changed.saturating_add(self.gone).saturating_mul(100) / self.compared.max(1)
    }
}

/// Lengths in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizesRecord {
    /// The archive.
    pub archive_bytes: u64,
    /// The tar stream in it.
    pub tar_bytes: u64,
    /// The index.
    pub index_bytes: u64,
    /// How many members the archive has.
    pub members: u64,
    /// How many entries.
    pub entries: u64,
}

/// How many problems there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemCounts {
    /// Worth knowing, and as it should be.
    pub notices: u64,
    /// Somebody should look.
    pub warnings: u64,
    /// Something on the volume is not in the backup as it was.
    pub errors: u64,
}

impl ProblemCounts {
    /// What they mean for the backup: an error is something that is not in it as it was on the volume.
    pub fn completeness(self) -> Completeness {
        if self.errors == 0 { Completeness::Whole } else { Completeness::Partial }
    }

    /// Those that somebody has to look at.
    pub fn to_look_at(self) -> u64 {
        self.warnings.saturating_add(self.errors)
    }
}

/// Digests, lower-case hex.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsRecord {
    /// SHA-1 of the archive: what is in the checksum file. The index has a SHA-256 of each of its members.
    pub archive_sha1: String,
    /// SHA-256 of the index.
    pub index_sha256: String,
    /// SHA-256 of the checksum file.
    pub checksum_sha256: String,
}

/// Why these bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not JSON of this form.
    #[error("the manifest cannot be understood")]
    Json(#[from] serde_json::Error),
    /// Its content was changed after it was written.
    #[error("the manifest was changed: its content has the SHA-256 {found}, and it says {said}")]
    Changed {
        /// What it says.
        said: String,
        /// What it has.
        found: String,
    },
    /// It is too long to be read back.
    #[error("the manifest would have {0} bytes, and none has more than {MAX_BYTES}: the volume has too much to say")]
    TooLong(u64),
    /// It was written by a newer version.
    #[error("the manifest has format {0}, and this version of volbak knows formats up to {FORMAT}")]
    TooNew(u64),
}

impl Manifest {
    /// The file's bytes. What `self_sha256` holds is not looked at, and filled in.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        let unsealed = Self { self_sha256: "0".repeat(SELF_DIGITS), ..self.clone() };
        let mut text = serde_json::to_string_pretty(&unsealed)?;
        text.push('\n');
        let digest = hex(&Sha256::digest(text.as_bytes()));
        if let Some(digits) = self_digits(&text) {
            text.replace_range(digits, &digest);
        }
        let len = text.len() as u64;
        if len > MAX_BYTES { Err(ManifestError::TooLong(len)) } else { Ok(text.into_bytes()) }
    }

    /// Reads a file's bytes, and checks that nothing in it was changed. The digest comes first: a flipped bit in the
    /// format's number is a change, not a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Frame {
            format: u64,
            self_sha256: String,
        }
        let frame: Frame = serde_json::from_slice(bytes)?;
        let mut unsealed = bytes.to_vec();
        // Bytes that parsed as JSON are UTF-8.
        if let Some(digits) = std::str::from_utf8(bytes).ok().and_then(self_digits) {
            unsealed[digits].fill(b'0');
        }
        let found = hex(&Sha256::digest(&unsealed));
        if found != frame.self_sha256 {
            return Err(ManifestError::Changed { said: frame.self_sha256, found });
        }
        if frame.format > u64::from(FORMAT) {
            return Err(ManifestError::TooNew(frame.format));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// What a later backup that carries forward from this one has to know.
    #[doc(hidden)]
    pub fn as_parent(&self) -> ParentFacts {
        let paths = self.regions.iter().flat_map(|region| [region.archive_path.clone(), region.files_path.clone()]);
        ParentFacts {
            stem: self.stem.clone(),
            archive_bytes: self.sizes.archive_bytes,
            members: self.sizes.members,
            index_sha256: self.digests.index_sha256.clone(),
            archive_paths: paths.flatten().collect(),
        }
    }

    /// Whether all that was selected is in the backup.
    pub fn is_whole(&self) -> bool {
        self.completeness.unwrap_or_else(|| self.problem_counts.completeness()) == Completeness::Whole
    }
}

/// Where the digits of `self_sha256` are: the last field, so the last such key. Inside of a JSON string the key's
/// quotation marks would be escaped, so it cannot stand there.
fn self_digits(text: &str) -> Option<std::ops::Range<usize>> {
    let start = text.rfind(SELF_KEY)? + SELF_KEY.len();
    let end = start + SELF_DIGITS;
    text.get(start..end).map(|_| start..end)
}

/// A manifest that says nothing, for tests.
#[cfg(test)]
pub(crate) fn blank() -> Manifest {
    Manifest {
        format: FORMAT,
        volbak_version: "0".to_owned(),
        name: String::new(),
        stem: String::new(),
        host: String::new(),
        started_at: DateTime::UNIX_EPOCH,
        frozen_at: DateTime::UNIX_EPOCH,
        finished_at: DateTime::UNIX_EPOCH,
        local_date: String::new(),
        source: SourceRecord::default(),
        snapshot: None,
        layout: Layout {
            source: crate::layout::SourceFacts { path: String::new(), size_bytes: 0, sector_size: 512 },
            table: crate::layout::Table::default(),
            regions: Vec::new(),
            outside: Vec::new(),
            problems: Vec::new(),
        },
        regions: Vec::new(),
        options: OptionsRecord::default(),
        counts: Counts::default(),
        carried: None,
        changes: None,
        sizes: SizesRecord::default(),
        problems: Vec::new(),
        problem_counts: ProblemCounts::default(),
        completeness: None,
        digests: DigestsRecord::default(),
        self_sha256: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Manifest, ManifestError};

    fn manifest() -> Manifest {
        Manifest { name: "\"self_sha256\": \"".to_owned(), ..super::blank() }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = manifest().to_bytes().unwrap();
        let read = Manifest::from_bytes(&bytes).unwrap();
        assert_eq!(Manifest { self_sha256: String::new(), ..read }, manifest());
    }

    #[test]
    fn a_newer_format_is_believed_only_with_its_digest() {
        let newer = Manifest { format: 9, ..manifest() }.to_bytes().unwrap();
        assert!(matches!(Manifest::from_bytes(&newer), Err(ManifestError::TooNew(9))));
        let text = String::from_utf8(newer).unwrap().replacen("\"format\": 9", "\"format\": 99999999999", 1);
        assert!(matches!(Manifest::from_bytes(text.as_bytes()), Err(ManifestError::Changed { .. })));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = manifest().to_bytes().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let read = Manifest::from_bytes(&changed);
                let is_told = matches!(read, Err(ManifestError::Changed { .. } | ManifestError::Json(_)));
                assert!(is_told, "byte {at}, bit {bit}: {read:?}");
            }
        }
        assert!(matches!(Manifest::from_bytes(&[bytes.as_slice(), b" "].concat()), Err(ManifestError::Changed { .. })));
    }
}
