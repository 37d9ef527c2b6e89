//! Which backups are copied, from what both destinations have. Pure, except for the record of a copy that is there.

use std::collections::BTreeMap;
use std::path::Path;

use super::candidate::{Candidate, State};
use crate::manifest::Manifest;
use crate::run::backup::same_source::has_uuid;
use crate::run::locate::is_bad;
use crate::store::catalog::{BackupState, CatalogEntry};

/// What is done with a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is copied.
    Copy {
        /// The length of its files.
        bytes: u64,
    },
    /// The target has the same one.
    Present,
    /// It is not copied, and the reason is with the source.
    PassOver(String),
    /// It should be copied, and cannot be.
    Refuse(String),
}

/// Decides about the backups of one volume; `there` are those in the target.
pub(super) fn decide(
    candidates: Vec<Candidate>,
    there: &[CatalogEntry],
    include_bad: bool,
    target: &Path,
) -> Vec<(Candidate, Decision)> {
    let by_stem: BTreeMap<&str, &CatalogEntry> = there.iter().map(|entry| (entry.stem.as_str(), entry)).collect();
    // Where the names of a copy are its own, its manifest says what it is a copy of.
    let origin = |entry: &&CatalogEntry| manifest_of(entry).map(|manifest| manifest.origin().to_owned());
    let by_origin: BTreeMap<String, &CatalogEntry> =
        there.iter().filter_map(|entry| Some((origin(&entry)?, entry))).collect();
    let newest_there = there.iter().rev().find_map(manifest_of);
    let stranger = newest_there.filter(|newest| {
        !candidates.iter().filter_map(Candidate::manifest).any(|manifest| are_of_one_source(manifest, newest))
    });
    let refusal = stranger.map(|newest| {
        format!(
            "{} has backups of another source, {} of {}: copy to another destination",
            target.join(&newest.name).display(),
            crate::shown::text(&newest.source.path),
            crate::shown::text(&newest.host)
        )
    });
    let one = |candidate: Candidate| {
        let decision = match candidate.state() {
            State::WithoutManifest if candidate.is_named() => {
                Decision::Refuse("it has no manifest, so its bytes cannot be checked".to_owned())
            }
            State::WithoutManifest => Decision::PassOver("it has no manifest, and is not copied".to_owned()),
            State::Damaged(what) => pass(&candidate, format!("it is damaged, and is not copied: {what}")),
            State::Complete { is_bad: true, .. } if !include_bad => {
                pass(&candidate, "a verification found it bad; --include-bad copies it nevertheless".to_owned())
            }
            State::Complete { manifest, .. } => {
                match (by_origin.get(manifest.origin()).or_else(|| by_stem.get(candidate.stem())), &refusal) {
                    (Some(entry), _) => beside(manifest, entry, target),
                    (None, Some(refusal)) => Decision::Refuse(refusal.clone()),
                    (None, None) => Decision::Copy { bytes: bytes_of(manifest) },
                }
            }
        };
        (candidate, decision)
    };
    candidates.into_iter().map(one).collect()
}

/// A backup that was asked for by name is a failure, one of many is passed over.
fn pass(candidate: &Candidate, why: String) -> Decision {
    if candidate.is_named() { Decision::Refuse(why) } else { Decision::PassOver(why) }
}

/// The target has a backup of this name.
fn beside(manifest: &Manifest, there: &CatalogEntry, target: &Path) -> Decision {
    let place = target.join(&there.name).join(&there.stem);
    match &there.state {
        BackupState::Complete { manifest: other } if other.origin() != manifest.origin() => Decision::Refuse(format!(
            "{} has another backup of this name, made on {} at {}: rename or move away its files there, or copy to \
                 another destination; nothing was replaced",
            target.display(),
            crate::shown::text(&other.host),
            other.started_at.format("%Y-%m-%d %H:%M:%S UTC")
        )),
        BackupState::Complete { manifest: other } if is_bad(there, other) => Decision::Refuse(format!(
            "a verification found the copy in {} bad: move {}.* away there, and copy again",
            target.display(),
            place.display()
        )),
        BackupState::Complete { .. } => Decision::Present,
        BackupState::Damaged { what } => Decision::Refuse(format!(
            "what {} has of it is damaged ({what}): move {}.* away there, and copy again",
            target.display(),
            place.display()
        )),
        BackupState::WithoutManifest => Decision::Refuse(format!(
            "{} has an archive of this name without a manifest: move {}.* away there, and copy again",
            target.display(),
            place.display()
        )),
    }
}

fn manifest_of(entry: &CatalogEntry) -> Option<&Manifest> {
    match &entry.state {
        BackupState::Complete { manifest } => Some(manifest),
        _ => None,
    }
}

/// Whether both may lie in one directory: one volume by its UUID, or a source of the same path on the same host, or a volume
/// of Cinder, whose name is unique.
fn are_of_one_source(one: &Manifest, other: &Manifest) -> bool {
    let (a, b) = (&one.source, &other.source);
    let is_one_volume = a.lv_uuid.is_some() && a.lv_uuid == b.lv_uuid;
    let is_one_path =
        one.host == other.host && a.kind == b.kind && (a.path == b.path || (a.lv.is_some() && a.lv == b.lv));
    let is_unique = a.lv.is_some() && a.lv == b.lv && a.lv.as_deref().is_some_and(has_uuid);
    is_one_volume || is_one_path || is_unique
}

/// The length of the files that the manifest counts.
fn bytes_of(manifest: &Manifest) -> u64 {
    manifest.sizes.archive_bytes.saturating_add(manifest.sizes.index_bytes)
}
