//! Converts facts of sources and snapshots to the manifest's records.

use chrono::{DateTime, Utc};

use crate::archive::level::CompressionLevel;
use crate::entry::Timestamp;
use crate::manifest::{AutoLevelRecord, OptionsRecord, SnapshotRecord, SourceRecord};
use crate::source::{SnapshotFacts, SnapshotKind, Source, SourceKind};

/// SHA-256 of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// Converts a time to an archive's timestamp.
pub(super) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { sec: time.timestamp(), nsec: time.timestamp_subsec_nanos().min(999_999_999) }
}

/// The options of a backup, for the manifest. `levels` is the number of members compressed at each level.
pub(super) fn options_record(level: CompressionLevel, exclude: &[String], levels: &[u64]) -> OptionsRecord {
    let used = || (0..).zip(levels).filter(|(_, members)| **members > 0);
    let (level, auto_level) = match level {
        CompressionLevel::Fixed(level) => (level, None),
        CompressionLevel::Auto { lowest, highest } => {
            let most = used().max_by_key(|(_, members)| **members).map_or(lowest, |(level, _)| level);
            let members = used().map(|(level, members)| (level, *members)).collect();
            (most, Some(AutoLevelRecord { lowest, highest, members }))
        }
    };
    OptionsRecord { level, auto_level, exclude: exclude.to_vec() }
}

/// A source, for the manifest.
pub(super) fn source_record(source: &Source) -> SourceRecord {
    let named = source.display_name().to_owned();
    // The next run may have another working directory.
    let absolute =
        |named: String| std::path::absolute(&named).map_or(named, |path| path.to_string_lossy().into_owned());
    let record = SourceRecord { size_bytes: source.size_bytes(), ..SourceRecord::default() };
    match source.kind() {
        SourceKind::Volume(facts) => SourceRecord {
            kind: "lv".to_owned(),
            path: named,
            vg: Some(facts.vg.clone()),
            lv: Some(facts.lv.clone()),
            lv_uuid: Some(facts.uuid.clone()),
            ..record
        },
        SourceKind::Device { .. } => SourceRecord { kind: "device".to_owned(), path: absolute(named), ..record },
        SourceKind::Image => SourceRecord { kind: "image".to_owned(), path: absolute(named), ..record },
    }
}

/// A snapshot, for the manifest; `None` without one.
pub(super) fn snapshot_record(facts: SnapshotFacts, kept: bool) -> Option<SnapshotRecord> {
    let kind = match facts.kind {
        SnapshotKind::Thick => "thick",
        SnapshotKind::Thin => "thin",
        SnapshotKind::None => return None,
    };
    Some(SnapshotRecord {
        name: facts.name.unwrap_or_default(),
        kind: kind.to_owned(),
        cow_size_bytes: facts.cow_size_bytes.map(|bytes| bytes.saturating_add(facts.extended_by_bytes)),
        peak_fill_percent: facts.peak_fill_percent,
        extended_by_bytes: facts.extended_by_bytes,
        kept,
    })
}
