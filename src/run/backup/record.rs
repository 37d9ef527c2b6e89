//! The manifest of a backup, and its checksum file.

use chrono::{DateTime, Local, Utc};

use super::archive::ArchivedSource;
use super::previous::KnownPrevious;
use super::under_way::UnderWay;
use crate::archive::kind::ArchiveKind;
use crate::archive::kind::BackupMode;
use crate::archive::members::WrittenMembers;
use crate::manifest::{
    CarriedRecord, ChangesRecord, DigestsRecord, EncryptionRecord, MAPPED_FORMAT, Manifest, ON_SERVER_FORMAT,
    OnServerRecord, SnapshotRecord, format_of,
};
use crate::outside::host;
use crate::run::collect::Collected;
use crate::run::record::{options_record, sha256, source_record};
use crate::shown::hex;
use crate::store::names::checksum_line;

/// The relation of a backup to those before it.
#[derive(Clone, Copy)]
pub(super) struct FromBefore<'a> {
    /// The backup that it was carried forward from.
    pub(super) previous: Option<&'a KnownPrevious>,
    /// The changes since the last backup, if they were compared.
    pub(super) changes: Option<ChangesRecord>,
}

/// The manifest of an archived source.
pub(super) fn manifest(
    backup: &UnderWay<'_>,
    stem: &str,
    frozen_at: DateTime<Utc>,
    snapshot: Option<SnapshotRecord>,
    archived: ArchivedSource,
    before: FromBefore<'_>,
) -> Manifest {
    let ArchivedSource { layout, regions, image, written } = archived;
    let kind = backup.options.kind();
    let members = &written.members;
    let archive_sha1 = members.archive_sha1.map_or_else(String::new, |sha1| hex(&sha1));
    let checksum = checksum_text(stem, kind, &archive_sha1).filter(|_| backup.options.checksum);
    let has_unread = members.copied_on_server_bytes > 0;
    let reread_to = written.reread_to.or(has_unread.then_some(0));
    let on_server =
        reread_to.map(|reread_to| OnServerRecord { copied_bytes: members.copied_on_server_bytes, reread_to });
    let carried = before.previous.zip(written.carried).map(|(previous, counts)| CarriedRecord {
        parent: previous.stem.clone(),
        parent_archive_sha1: previous.digests.archive_sha1.clone(),
        parent_index_sha256: previous.digests.archive_sha1().is_none().then(|| previous.digests.index_sha256.clone()),
        on_server,
        counts,
    });
    let format = match &image {
        _ if archive_sha1.is_empty() => ON_SERVER_FORMAT,
        Some(image) if image.pool.is_some() => MAPPED_FORMAT,
        _ => format_of(kind),
    };
    let Collected { problems, counts: problem_counts, .. } = backup.collector.collected();
    Manifest {
        format,
        volbak_version: env!("CARGO_PKG_VERSION").to_owned(),
        name: backup.source.backup_name().to_owned(),
        stem: stem.to_owned(),
        host: host::name(),
        started_at: backup.started_at,
        frozen_at,
        finished_at: backup.world.clock.now(),
        local_date: backup.started_at.with_timezone(&Local).format("%Y-%m-%d").to_string(),
        source: source_record(backup.source),
        snapshot,
        cloud: backup.options.cloud.clone(),
        set: backup.options.set.as_ref().map(|taken| Box::new(taken.set.record.clone())),
        layout,
        regions,
        image,
        compression: kind.compression(),
        encryption: encryption_record(backup, members),
        options: options_record(backup.options.archive.level, &backup.options.archive.exclude, &members.levels),
        counts: written.counts,
        carried,
        copied_from: None,
        locked: None,
        objects: None,
        changes: before.changes,
        unpinned: Vec::new(),
        sizes: members.into(),
        problems,
        problem_counts,
        completeness: Some(problem_counts.completeness()),
        digests: DigestsRecord {
            archive_sha1,
            index_sha256: hex(&members.index_sha256),
            checksum_sha256: checksum.map_or_else(String::new, |checksum| hex(&sha256(checksum.as_bytes()))),
        },
        self_sha256: String::new(),
        published_index_sha256: None,
    }
}

/// How the backup is encrypted, before its facts are.
fn encryption_record(backup: &UnderWay<'_>, members: &WrittenMembers) -> Option<EncryptionRecord> {
    let (encryption, signer, table) = (backup.encryption()?, backup.signer.as_ref()?, members.segments?);
    Some(EncryptionRecord {
        recipients: encryption.recipients.names().to_vec(),
        signer: signer.public().to_string(),
        segments_bytes: table.bytes,
        segments_sha256: hex(&table.sha256),
        is_image: backup.options.mode == BackupMode::Image,
        private: String::new(),
    })
}

/// The checksum file. `None` without a SHA-1.
pub(in crate::run) fn checksum_text(stem: &str, kind: ArchiveKind, archive_sha1: &str) -> Option<String> {
    (!archive_sha1.is_empty()).then(|| checksum_line(stem, kind, archive_sha1))
}
