//! Detects a sudden change since earlier backups, and pins the last of these.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::archive::ArchivedSource;
use super::change::{self, Tonight};
use super::under_way::UnderWay;
use crate::config::ChangeLimits;
use crate::error::with_causes;
use crate::events::Severity;
use crate::manifest::{ChangesRecord, Manifest};
use crate::run::expected::Expected;
use crate::run::parent::ParentChoice;
use crate::store::index_cache::{IndexCache, Kept};
use crate::store::open::OpenError;
use crate::store::pending::PendingBackup;
use crate::store::pins::{Pin, as_problem};

/// See [`BackupOutcome::replaced_until`](super::outcome::BackupOutcome::replaced_until).
pub(super) fn replaced_until(backup: &UnderWay<'_>, archived: &ArchivedSource) -> Option<DateTime<Utc>> {
    if backup.options.expect.is_empty() {
        return None;
    }
    let tonight = tonight(backup, archived, None);
    let manifests = backup.backups.iter().map(|earlier| earlier.manifest);
    manifests.filter(|manifest| tonight.replaces(manifest)).map(|manifest| manifest.started_at).max()
}

/// What is recorded of the changes since earlier backups.
#[derive(Default)]
pub(super) struct Noted {
    /// The changes of files, if they were compared.
    pub(super) changes: Option<ChangesRecord>,
    /// The sudden changes whose pins could not be written, tonight's and earlier ones.
    pub(super) unpinned: Vec<Pin>,
}

/// Detects a sudden change since earlier backups, reports it, and pins the last of these. The pin is written before
/// the backup is published, so that a crash cannot lose it. If it cannot be written, the manifest of the backup has it.
pub(super) fn note_change(backup: &UnderWay<'_>, pending: &PendingBackup, archived: &ArchivedSource) -> Noted {
    let Some(limits) = backup.options.change_limits else { return Noted::default() };
    let name = backup.source.backup_name();
    let pins = backup.destination.pins();
    let mut of_volume = pins.as_ref().ok().and_then(|pins| pins.of(name)).cloned().unwrap_or_default();
    let mut unpinned = of_volume.add_unwritten(backup.backups.iter().map(|earlier| earlier.manifest));
    // That of a backup dated in the future would hide all others.
    let measured_since = of_volume.measured_since.filter(|since| *since <= backup.started_at);
    let (changes, pin) = compare(backup, pending, archived, limits, measured_since);
    if let Some(pin) = pin {
        let kept = format!("{} is kept until `volbak accept {name}` confirms the change", pin.kept);
        backup.tell(Severity::Warning, format!("{}; {kept}", as_problem(&pin.what)));
        of_volume.add(pin.clone());
        unpinned.push(pin);
    }
    if unpinned.is_empty() {
        return Noted { changes, unpinned };
    }
    let pinned = pins.and_then(|mut pins| {
        pins.set(name, of_volume);
        backup.destination.set_pins(&pins)
    });
    match pinned {
        Ok(()) => Noted { changes, unpinned: Vec::new() },
        Err(error) => {
            let what = format!(
                "the backup before the sudden change could not be pinned: {}; the manifest of this backup records the pin, and \
                 the next night tries again",
                with_causes(&error)
            );
            backup.tell(Severity::Warning, what);
            Noted { changes, unpinned }
        }
    }
}

/// The changes since the last backup, if they were compared, and a pin if they are sudden.
fn compare(
    backup: &UnderWay<'_>,
    pending: &PendingBackup,
    archived: &ArchivedSource,
    limits: ChangeLimits,
    measured_since: Option<DateTime<Utc>>,
) -> (Option<ChangesRecord>, Option<Pin>) {
    let mut past = measure(backup, measured_since);
    let Some(last) = past.last().copied() else { return (None, None) };
    // The layout of an encrypted backup is encrypted, and this host keeps a copy.
    let kept = kept(backup, last);
    if let (Some(kept), Some(newest)) = (&kept, past.last_mut()) {
        *newest = &kept.manifest;
    }
    let written = &archived.written;
    let carried = written.carried.map_or(0, |counts| counts.entries);
    let compared = change::is_doubtful(carried, written.members.totals.entries, limits)
        && backup.options.parent != ParentChoice::Full
        // An image has no entries to compare.
        && archived.image.is_none();
    let changes = if compared { compared_with(backup, last, kept.as_ref(), pending) } else { None };
    let what = change::judge(&past, &tonight(backup, archived, changes), limits);
    let pin = what.map(|what| Pin {
        kept: last.stem.clone(),
        changed: pending.stem().to_owned(),
        changed_at: backup.started_at,
        what,
    });
    (changes, pin)
}

/// The baseline: the last backups, oldest first. Whether one is bad is recorded in a file of its own, which is read
/// only for those.
fn measure<'b>(backup: &UnderWay<'b>, since: Option<DateTime<Utc>>) -> Vec<&'b Manifest> {
    let last = |must_be_whole: bool| {
        let newest_first = backup.backups.iter().rev();
        let mut last: Vec<&Manifest> = newest_first
            .filter(|earlier| since.is_none_or(|since| earlier.manifest.started_at >= since))
            .filter(|earlier| earlier.manifest.started_at <= backup.started_at)
            // The figures of another kind are no measure.
            .filter(|earlier| earlier.manifest.kind().mode() == backup.options.mode)
            .filter(|earlier| !must_be_whole || earlier.manifest.is_whole())
            .filter(|earlier| !earlier.may_be_bad())
            .map(|earlier| earlier.manifest)
            .take(change::MEASURED)
            .collect();
        last.reverse();
        last
    };
    // A partial backup has fewer files, so it is used only if there is no whole one.
    let whole = last(true);
    if whole.is_empty() { last(false) } else { whole }
}

/// What this host keeps of an encrypted backup, which it cannot decrypt.
fn kept(backup: &UnderWay<'_>, last: &Manifest) -> Option<Kept> {
    let encryption = backup.encryption().filter(|_| last.is_sealed())?;
    IndexCache::new(&encryption.index_cache).of(backup.source.backup_name(), last)
}

fn compared_with(
    backup: &UnderWay<'_>,
    last: &Manifest,
    kept: Option<&Kept>,
    pending: &PendingBackup,
) -> Option<ChangesRecord> {
    let missing = || OpenError::Missing(backup.destination.root().join(backup.source.backup_name()));
    let entry = backup.backups.iter().find(|earlier| earlier.manifest.stem == last.stem);
    let before = match kept {
        Some(kept) => Ok(Arc::clone(&kept.index)),
        None => entry.ok_or_else(missing).and_then(|earlier| earlier.entry.files().seen().open_index()),
    };
    match change::compare(before, pending.read_index(), last.counts.files) {
        Ok(changes) => Some(changes),
        Err(error) => {
            let what = format!("cannot be compared with {}: {}", last.stem, with_causes(&error));
            backup.tell(Severity::Notice, what);
            None
        }
    }
}

/// Tonight's figures.
fn tonight<'a>(backup: &UnderWay<'a>, archived: &'a ArchivedSource, changes: Option<ChangesRecord>) -> Tonight<'a> {
    Tonight {
        entries: archived.written.members.totals.entries,
        counts: &archived.written.counts,
        layout: &archived.layout,
        regions: &archived.regions,
        changes,
        expected: Expected(&backup.options.expect),
    }
}
