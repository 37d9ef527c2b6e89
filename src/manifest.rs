//! The manifest: facts of a backup. A backup with a manifest is complete.

mod image;
mod records;
mod region;
mod sealed;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::image::ImageRecord;
pub(crate) use self::image::PoolRecord;
pub use self::records::{
    AutoLevelRecord, CarriedRecord, ChangesRecord, Completeness, CopiedFrom, DigestsRecord, LockMode, LockedRecord,
    ObjectRecord, ObjectsRecord, OnServerRecord, OptionsRecord, Pin, ProblemCounts, SetRecord, SizesRecord,
    SnapshotRecord, SourceRecord,
};
pub use self::region::{BtrfsRecord, QuotaRecord, RegionRecord, SubvolumeRecord};
use self::sealed::Private;
pub use self::sealed::{EncryptionRecord, UnsealError};
use crate::archive::carry::parent::ParentFacts;
use crate::archive::counts::Counts;
use crate::archive::kind::{ArchiveKind, BackupMode, Compression};
use crate::cloud::VolumeInCloud;
use crate::encryption::{Recipients, WrittenTable, open};
use crate::events::Problem;
use crate::layout::{Layout, SourceFacts};
use crate::shown::hex;

/// The version of the format that this program writes for backups of files.
pub const FORMAT: u32 = 1;
/// The version of the format that this program writes for image backups, which earlier versions must not read.
pub const IMAGE_FORMAT: u32 = 2;
/// The version of the format that this program writes for backups in Zstandard frames, which earlier versions must not
/// read.
pub const ZSTD_FORMAT: u32 = 3;
/// The version of the format that this program writes for encrypted backups, which earlier versions must not read.
pub const SEALED_FORMAT: u32 = 4;
/// The version of the format that this program writes for archives without a SHA-1, since a store copied a part of them.
/// Earlier versions must not read it: they would find the backup bad.
pub const ON_SERVER_FORMAT: u32 = 5;
/// The version of the format that this program writes for image backups whose index has digests of a thin pool's mapping,
/// encrypted or not. Earlier versions must not read it: they would find the index wrong.
pub const MAPPED_FORMAT: u32 = 6;
/// The newest version of the format that this program reads.
pub const NEWEST_FORMAT: u32 = MAPPED_FORMAT;
/// A larger file is not accepted as a manifest. Manifests stay far below: the facts from a volume are bounded.
pub const MAX_BYTES: u64 = 256 << 20;

const SELF_DIGITS: usize = 64;
const SELF_KEY: &str = "\"self_sha256\": \"";

/// All facts of a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`], [`IMAGE_FORMAT`], [`ZSTD_FORMAT`], [`SEALED_FORMAT`], [`ON_SERVER_FORMAT`] or [`MAPPED_FORMAT`].
    pub format: u32,
    /// The version of volbak that wrote it.
    pub volbak_version: String,
    /// The volume's name, also the name of its directory.
    pub name: String,
    /// The common start of the four file names.
    pub stem: String,
    /// The host that made the backup.
    pub host: String,
    /// When the backup started.
    pub started_at: DateTime<Utc>,
    /// The moment shown by the backup: when the snapshot was taken, or reading began.
    pub frozen_at: DateTime<Utc>,
    /// When the archive was complete.
    pub finished_at: DateTime<Utc>,
    /// The local date in the stem, `YYYY-MM-DD`.
    pub local_date: String,
    /// The source.
    pub source: SourceRecord,
    /// The snapshot that was read; `None` for a device or an image.
    pub snapshot: Option<SnapshotRecord>,
    /// The volume in the cloud: its names, and the instance that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Box<VolumeInCloud>>,
    /// The set that it is a member of: volumes whose snapshots were taken together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Box<SetRecord>>,
    /// The layout of the source.
    pub layout: Layout,
    /// The record of each region, in the layout's order.
    pub regions: Vec<RegionRecord>,
    /// Facts of an image backup, which has no regions; `None` for a backup of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRecord>,
    /// How the archive's members are compressed.
    #[serde(default, skip_serializing_if = "Compression::is_gzip")]
    pub compression: Compression,
    /// How the backup is encrypted; `None` if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionRecord>,
    /// The options of the backup.
    pub options: OptionsRecord,
    /// Counts of the archive's content.
    pub counts: Counts,
    /// Content carried forward from the previous backup; `None` if everything was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedRecord>,
    /// The backup that this is a copy of; `None` if it was copied with its names, or if it is no copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<CopiedFrom>,
    /// Until when the object store keeps the files from being deleted; `None` if they are not locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<LockedRecord>,
    /// The objects of its files, if an object store published them: by them a verification finds what was overwritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsRecord>,
    /// The changes since the previous backup, if they were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<ChangesRecord>,
    /// The sudden changes that could not be recorded in the destination's list of pins: this is the record of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpinned: Vec<Pin>,
    /// Lengths of the files in bytes.
    pub sizes: SizesRecord,
    /// The first problems; at most a thousand of each severity.
    pub problems: Vec<Problem>,
    /// The total number of problems.
    pub problem_counts: ProblemCounts,
    /// Whether the backup contains everything that was selected. `None` in backups of older versions: see
    /// [`Manifest::is_whole`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completeness: Option<Completeness>,
    /// Digests of the other three files.
    pub digests: DigestsRecord,
    /// SHA-256 of this file with these 64 digits replaced by zeros.
    pub self_sha256: String,
    /// Of an encrypted backup whose facts were decrypted here: the SHA-256 of the index as it is published.
    #[serde(skip)]
    #[doc(hidden)]
    pub published_index_sha256: Option<String>,
}

/// Why these bytes are no valid manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is not JSON of this form.
    #[error("the manifest is not valid JSON of a backup")]
    Json(#[from] serde_json::Error),
    /// Its content was changed after it was written.
    #[error("the manifest was changed: its content has the SHA-256 {found}, and it records {said}")]
    Changed {
        /// The digest in the manifest.
        said: String,
        /// The digest of its content.
        found: String,
    },
    /// It would be too long to be read back.
    #[error(
        "the manifest would have {0} bytes, and none has more than {MAX_BYTES}: \
         the volume has too many facts to record"
    )]
    TooLong(u64),
    /// It cannot be encrypted.
    #[error("the manifest cannot be encrypted")]
    Seal(#[source] std::io::Error),
    /// It was written by a newer version.
    #[error(
        "the manifest has format {0}, and this version of volbak knows formats up to {NEWEST_FORMAT}: use a newer version"
    )]
    TooNew(u64),
}

/// The version of the format for an archive of this kind.
pub(crate) fn format_of(kind: ArchiveKind) -> u32 {
    match kind {
        ArchiveKind::Files(Compression::Gzip) => FORMAT,
        ArchiveKind::Files(Compression::Zstd) => ZSTD_FORMAT,
        ArchiveKind::Image => IMAGE_FORMAT,
        ArchiveKind::SealedFiles(_) | ArchiveKind::SealedImage => SEALED_FORMAT,
    }
}

impl Manifest {
    /// The bytes of the file. The present `self_sha256` is ignored, and computed.
    #[doc(hidden)]
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

    /// Parses a file's bytes, and checks that they were not changed. The digest is checked first: a flipped bit in
    /// the format number is a change, not a newer version.
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
        if frame.format > u64::from(NEWEST_FORMAT) {
            return Err(ManifestError::TooNew(frame.format));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The facts for a later backup that carries forward from this one.
    #[doc(hidden)]
    pub fn as_parent(&self) -> ParentFacts {
        let paths = self.regions.iter().flat_map(|region| [region.archive_path.clone(), region.files_path.clone()]);
        ParentFacts {
            stem: self.stem.clone(),
            suffix: self.kind().suffix(),
            archive_bytes: self.sizes.archive_bytes,
            members: self.sizes.members,
            index_sha256: self.digests.index_sha256.clone(),
            archive_paths: paths.flatten().collect(),
        }
    }

    /// The `self_sha256` of the backup that this is a copy of, or its own: copies of one backup have it in common.
    pub(crate) fn origin(&self) -> &str {
        self.copied_from.as_ref().map_or(&self.self_sha256, |from| &from.self_sha256)
    }

    /// What its archive is.
    pub fn kind(&self) -> ArchiveKind {
        match (&self.image, &self.encryption) {
            (_, Some(encryption)) if encryption.is_image => ArchiveKind::SealedImage,
            (_, Some(_)) => ArchiveKind::SealedFiles(self.compression),
            (Some(_), None) => ArchiveKind::Image,
            (None, None) => ArchiveKind::Files(self.compression),
        }
    }

    /// Whether its format is the one that this version writes for such a backup.
    pub(crate) fn has_current_format(&self) -> bool {
        match self.digests.archive_sha1() {
            Some(_) if self.format == MAPPED_FORMAT => self.kind().mode() == BackupMode::Image,
            Some(_) => self.format == format_of(self.kind()),
            None => self.format == ON_SERVER_FORMAT,
        }
    }

    /// Whether the backup contains everything that was selected.
    pub fn is_whole(&self) -> bool {
        self.completeness.unwrap_or_else(|| self.problem_counts.completeness()) == Completeness::Whole
    }
}

impl Manifest {
    /// The manifest that is published: names and the layout are encrypted, and the index is the encrypted one.
    pub(crate) fn sealed(mut self, recipients: &Recipients, index: WrittenTable) -> Result<Self, ManifestError> {
        let Some(mut record) = self.encryption.take() else { return Ok(self) };
        let source = SourceFacts { path: String::new(), ..self.layout.source.clone() };
        let private = Private {
            layout: std::mem::replace(&mut self.layout, Layout { source, ..Layout::empty() }),
            regions: std::mem::take(&mut self.regions),
            image: self.image.take(),
            cloud: self.cloud.take(),
            exclude: std::mem::take(&mut self.options.exclude),
            problems: std::mem::take(&mut self.problems),
            index_bytes: std::mem::replace(&mut self.sizes.index_bytes, index.bytes),
            index_sha256: std::mem::replace(&mut self.digests.index_sha256, hex(&index.sha256)),
        };
        let text = serde_json::to_vec(&private)?;
        record.private = STANDARD.encode(recipients.seal(&text).map_err(ManifestError::Seal)?);
        self.encryption = Some(record);
        Ok(self)
    }

    /// The manifest with all facts, and those of the decrypted index. One that is not encrypted stays as it is.
    pub(crate) fn unsealed(mut self) -> Result<Self, UnsealError> {
        let Some(record) = self.encryption.as_mut().filter(|record| !record.private.is_empty()) else {
            return Ok(self);
        };
        let sealed = STANDARD.decode(&record.private).map_err(|_| UnsealError::Damaged)?;
        let mut text = Vec::new();
        open(&sealed, MAX_BYTES, &mut text)
            .map_err(|why| UnsealError::Locked { why, recipients: record.recipients.clone() })?;
        let private: Private = serde_json::from_slice(&text).map_err(|_| UnsealError::Damaged)?;
        record.private.clear();
        self.layout = private.layout;
        self.regions = private.regions;
        self.image = private.image;
        self.cloud = private.cloud;
        self.options.exclude = private.exclude;
        self.problems = private.problems;
        self.sizes.index_bytes = private.index_bytes;
        let published = std::mem::replace(&mut self.digests.index_sha256, private.index_sha256);
        self.published_index_sha256 = Some(published);
        Ok(self)
    }

    /// The digests of the files as they are published, with or without a key.
    pub(crate) fn published_digests(&self) -> DigestsRecord {
        let index_sha256 = self.published_index_sha256.as_ref().unwrap_or(&self.digests.index_sha256).clone();
        DigestsRecord { index_sha256, ..self.digests.clone() }
    }

    /// The digest that tells its archive from others, the same with and without a key: its SHA-1, or the SHA-256 of the index as
    /// it is published.
    pub(crate) fn identity(&self) -> &str {
        let index_sha256 = self.published_index_sha256.as_ref().unwrap_or(&self.digests.index_sha256);
        self.digests.archive_sha1().unwrap_or(index_sha256)
    }

    /// Whether facts are missing here, since they are encrypted.
    pub(crate) fn is_sealed(&self) -> bool {
        self.encryption.as_ref().is_some_and(|record| !record.private.is_empty())
    }
}

/// The position of the digits of `self_sha256`: the last such key, since it is the last field. Inside a JSON string
/// the key's quotation marks would be escaped, so it cannot match there.
fn self_digits(text: &str) -> Option<std::ops::Range<usize>> {
    let start = text.rfind(SELF_KEY)? + SELF_KEY.len();
    let end = start + SELF_DIGITS;
    text.get(start..end).map(|_| start..end)
}

/// An empty manifest for tests.
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
        cloud: None,
        set: None,
        layout: Layout::empty(),
        regions: Vec::new(),
        image: None,
        compression: Compression::default(),
        encryption: None,
        options: OptionsRecord::default(),
        counts: Counts::default(),
        carried: None,
        copied_from: None,
        locked: None,
        objects: None,
        changes: None,
        unpinned: Vec::new(),
        sizes: SizesRecord::default(),
        problems: Vec::new(),
        problem_counts: ProblemCounts::default(),
        completeness: None,
        digests: DigestsRecord::default(),
        self_sha256: String::new(),
        published_index_sha256: None,
    }
}

#[cfg(test)]
mod tests;
