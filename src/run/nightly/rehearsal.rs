//! Restores some backups for a test, and boots those that have a system: on some nights, or when it is asked for.

use std::cmp::Reverse;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use rustix::fs::statvfs;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use super::destination::is_present;
use super::night::Night;
use crate::config::RehearsalOptions;
use crate::error::with_causes;
use crate::events::Severity;
use crate::manifest::Manifest;
use crate::report::{CheckLevel, RunReport, Verification};
use crate::run::boot::{BootOptions, BootOutcome, boot};
use crate::run::check::Verdict;
use crate::run::prune::Shelf;
use crate::run::rehearse::image_bytes;
use crate::run::verify::{VerifyOptions, VerifyReport};
use crate::shown::counted;
use crate::store::retention::Health;
use crate::store::{Backup, Destination, OWN_DIRECTORY, StoreError};
use crate::units::ByteLen;

/// When the last rehearsal of a destination began.
const LAST: &str = "rehearsed.json";
const LAST_MAX_BYTES: u64 = 4096;
/// A run begins some minutes earlier or later than that of a week ago.
const EARLY: TimeDelta = TimeDelta::hours(6);
/// Room that is left in the scratch directory.
const ROOM_LEFT_BYTES: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Last {
    at: DateTime<Utc>,
}

/// A backup that may be restored.
#[derive(Clone, Debug)]
struct Candidate {
    files: Backup,
    started_at: DateTime<Utc>,
    archive_bytes: u64,
    /// Bytes that a restore takes.
    restored_bytes: u64,
    is_newest: bool,
    /// The last restore test of it, and of any backup of its volume.
    tested: Option<DateTime<Utc>>,
    volume_tested: Option<DateTime<Utc>>,
}

impl Night<'_> {
    /// Restores what is to be restored tonight, if anything is.
    pub(super) fn rehearse(&self, night: &mut RunReport) {
        let options = &self.config.rehearse;
        let now = self.world.clock.now();
        if !(self.options.rehearse || options.enabled && self.is_whole() && self.is_due(now)) {
            return;
        }
        let shelves = match Shelf::all(self.destination) {
            Ok(shelves) => shelves,
            Err(error) => return self.tell(Severity::Warning, "rehearsal", with_causes(&error)),
        };
        let is_wanted = |shelf: &&Shelf| {
            let named = |name: &String| name.rsplit('/').next() == Some(&shelf.name);
            self.options.only.is_empty() || self.options.only.iter().any(named)
        };
        if let Some(why) = self.reached_limit() {
            return self.tell(Severity::Warning, "rehearsal", format!("nothing was restored for a test: {why}"));
        }
        let candidates = shelves.iter().filter(is_wanted).flat_map(|shelf| candidates(shelf, now)).collect();
        let chosen = choose(self.those_with_room(candidates), by_chance());
        if chosen.is_empty() {
            return self.tell(Severity::Notice, "rehearsal", "there is no backup to restore for a test");
        }
        let began = Instant::now();
        let mut is_any_done = false;
        for one in &chosen {
            let is_over = began.elapsed() >= options.time_budget || self.reached_limit().is_some();
            if is_over || self.world.cancel.is_cancelled() || !is_present(self.config, self.destination) {
                break;
            }
            let Some(report) = self.restore_for_a_test(one, options) else { continue };
            is_any_done = true;
            let volume = night.volumes.iter_mut().find(|volume| volume.name == one.files.volume());
            if let (Some(volume), Verdict::Good) = (volume, report.verdict) {
                volume.last_proof = Some(Verification { at: report.verified_at, level: report.level });
            }
        }
        // One that was cancelled, or could restore nothing, is due again.
        if is_any_done
            && !self.world.cancel.is_cancelled()
            && let Err(error) = self.note_rehearsal(now)
        {
            self.tell(Severity::Warning, "rehearsal", with_causes(&error));
        }
    }

    /// Leaves out what the scratch directory cannot take: chosen again and again, it would keep others from their turn.
    fn those_with_room(&self, candidates: Vec<Candidate>) -> Vec<Candidate> {
        let lack = |one: &Candidate| lack_of_room(one, &self.config.rehearse);
        let (fitting, too_large): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|one| lack(one).is_none());
        if let Some(what) = too_large.iter().min_by_key(|one| one.restored_bytes).and_then(lack) {
            let count = counted(too_large.len() as u64, "backup is", "backups are");
            self.tell(Severity::Warning, "rehearsal", format!("{count} not restored for a test: {what}"));
        }
        fitting
    }

    /// `None` without a result.
    fn restore_for_a_test(&self, one: &Candidate, options: &RehearsalOptions) -> Option<VerifyReport> {
        let files = &one.files;
        let tell = |severity, what: String| self.tell_of_backup(files, severity, what);
        if let Some(what) = lack_of_room(one, options) {
            tell(Severity::Warning, format!("not restored for a test: {what}"));
            return None;
        }
        let how = VerifyOptions {
            scratch: options.scratch.clone(),
            cancel: self.world.cancel.clone(),
            ..VerifyOptions::at(CheckLevel::RestoreTest)
        };
        let mut report = self.verified(files, &how)?;
        if report.verdict == Verdict::GoodAsFarAsChecked {
            tell(Severity::Warning, format!("restored for a test: {}", report.not_checked.join("; ")));
        }
        if report.verdict != Verdict::Bad && options.boot {
            let how = BootOptions { cancel: self.world.cancel.clone(), ..BootOptions::of(options) };
            match boot(files, &how, &self.world.commands, &*self.world.observer) {
                Ok(outcome) => report.add_boot(outcome),
                // What was found before counts.
                Err(interrupted) => tell(Severity::Warning, interrupted.to_string()),
            }
        }
        self.save_record(&report, files);
        let is_proven = report.verdict == Verdict::Good;
        match &report.boot {
            Some(outcome @ BootOutcome::NotUp { .. }) => tell(Severity::Warning, outcome.to_string()),
            Some(outcome) if is_proven => {
                tell(Severity::Notice, format!("restored for a test, and good; {outcome}"));
            }
            None if is_proven => tell(Severity::Notice, "restored for a test, and good".to_owned()),
            Some(_) | None => {}
        }
        Some(report)
    }

    fn is_due(&self, now: DateTime<Utc>) -> bool {
        match last(self.destination) {
            Ok(last) => is_due(last, self.config.rehearse.every_days, now),
            Err(error) => {
                self.tell(Severity::Warning, "rehearsal", with_causes(&error));
                true
            }
        }
    }

    fn note_rehearsal(&self, at: DateTime<Utc>) -> Result<(), StoreError> {
        let text = format!("{}\n", serde_json::json!(Last { at }));
        self.destination.volume_directory(OWN_DIRECTORY)?.replace_file(LAST, text.as_bytes())
    }
}

/// When the last rehearsal began. A file that cannot be understood counts as none.
fn last(destination: &Destination) -> Result<Option<DateTime<Utc>>, StoreError> {
    let Some(own) = destination.existing_volume_directory(OWN_DIRECTORY)? else { return Ok(None) };
    let bytes = own.read_file(LAST, LAST_MAX_BYTES)?.unwrap_or_default();
    Ok(serde_json::from_slice(&bytes).ok().map(|last: Last| last.at))
}

/// A time in the future was written while the clock was wrong.
fn is_due(last: Option<DateTime<Utc>>, every_days: u32, now: DateTime<Utc>) -> bool {
    last.is_none_or(|last| last > now || now - last >= TimeDelta::days(every_days.into()) - EARLY)
}

fn candidates(shelf: &Shelf, now: DateTime<Utc>) -> Vec<Candidate> {
    let tested = |stem: &str| shelf.records.get(stem).and_then(|record| record.last_look(CheckLevel::RestoreTest));
    let volume_tested = shelf.backups.iter().filter_map(|backup| tested(&backup.id)).max();
    let newest = shelf.newest_usable(now).map(|manifest| manifest.stem.clone());
    let is_bad = |stem: &str| shelf.backups.iter().any(|backup| backup.id == stem && backup.health == Health::Bad);
    let usable = shelf.complete().filter(|(_, manifest)| manifest.started_at <= now && !is_bad(&manifest.stem));
    usable
        .map(|(entry, manifest)| Candidate {
            files: entry.files(),
            started_at: manifest.started_at,
            archive_bytes: manifest.sizes.archive_bytes,
            restored_bytes: restored_bytes(manifest),
            is_newest: newest.as_ref() == Some(&manifest.stem),
            tested: tested(&manifest.stem),
            volume_tested,
        })
        .collect()
}

fn restored_bytes(manifest: &Manifest) -> u64 {
    let sizes = &manifest.sizes;
    manifest
        .image
        .as_ref()
        .map_or_else(|| image_bytes(sizes.tar_bytes, sizes.entries), |image| image_bytes(image.used_bytes, 0))
}

/// First the one whose volume was restored for a test longest ago, or never, then one by chance, then the smallest of the
/// newest ones: what is most wanted comes first where the time is short.
fn choose(mut candidates: Vec<Candidate>, chance: u64) -> Vec<Candidate> {
    let mut chosen = Vec::new();
    // Of a volume that was never tested, the newest backup.
    candidates.sort_by_key(|one| {
        (one.volume_tested, one.tested, Reverse(one.started_at), one.files.volume(), one.files.stem().to_owned())
    });
    if !candidates.is_empty() {
        chosen.push(candidates.remove(0));
    }
    if !candidates.is_empty() {
        // The remainder is below the number of candidates.
        chosen.push(candidates.remove(usize::try_from(chance % candidates.len() as u64).unwrap_or(0)));
    }
    let newest = candidates.into_iter().filter(|one| one.is_newest);
    chosen.extend(newest.min_by_key(|one| (one.archive_bytes, one.files.stem().to_owned())));
    chosen
}

fn by_chance() -> u64 {
    let mut bytes = [0; 8];
    // Without random bytes it is the first one.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    u64::from_le_bytes(bytes)
}

/// The scratch directory is also used by others.
fn lack_of_room(one: &Candidate, options: &RehearsalOptions) -> Option<String> {
    let space = statvfs(&options.scratch).ok()?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let needed = one.restored_bytes.saturating_add(ROOM_LEFT_BYTES);
    (free < needed).then(|| {
        let scratch = options.scratch.display();
        let (free, needed) = (ByteLen(free), ByteLen(needed));
        format!("{scratch} has {free} free, and {needed} are needed; rehearse.scratch names another directory")
    })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::{Candidate, choose, is_due};
    use crate::store::Backup;

    fn at(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day)
    }

    fn candidate(volume: &str, day: i64, bytes: u64) -> Candidate {
        let path = format!("/b/{volume}/{volume}_{day:02}_11_2026.tar.gz");
        Candidate {
            files: Backup::of_archive(path.as_ref()).unwrap(),
            started_at: at(day),
            archive_bytes: bytes,
            restored_bytes: bytes,
            is_newest: false,
            tested: None,
            volume_tested: None,
        }
    }

    fn names(chosen: &[Candidate]) -> Vec<&str> {
        chosen.iter().map(|one| one.files.stem()).collect()
    }

    #[test]
    fn three_different_ones_are_chosen() {
        let newest = |mut one: Candidate| {
            one.is_newest = true;
            one
        };
        let mut tested = newest(candidate("a", 5, 1));
        tested.tested = Some(at(4));
        tested.volume_tested = Some(at(4));
        let all =
            || vec![tested.clone(), candidate("b", 3, 9), newest(candidate("b", 4, 8)), newest(candidate("c", 2, 7))];
        for chance in 0..30 {
            let chosen = choose(all(), chance);
            assert_eq!(chosen[0].files.stem(), "b_04_11_2026", "never tested, and newer than the other one");
            let mut different = names(&chosen);
            different.sort_unstable();
            different.dedup();
            assert_eq!(different.len(), 3, "{different:?}");
        }
        let by_chance: std::collections::BTreeSet<_> =
            (0..30).map(|chance| choose(all(), chance)[1].files.stem().to_owned()).collect();
        assert_eq!(by_chance.len(), 3, "each of the others comes up: {by_chance:?}");
        assert_eq!(names(&choose(all(), 0))[1..], ["b_03_11_2026", "a_05_11_2026"], "the smallest of the newest ones");
        assert_eq!(choose(vec![candidate("a", 1, 1)], 7).len(), 1);
        assert!(choose(Vec::new(), 7).is_empty());
    }

    #[test]
    fn a_volume_that_was_tested_waits_for_the_others() {
        let with = |mut one: Candidate, tested: Option<i64>, volume: i64| {
            (one.tested, one.volume_tested) = (tested.map(at), Some(at(volume)));
            one
        };
        let all = vec![
            with(candidate("a", 1, 1), None, 9),
            with(candidate("b", 1, 1), Some(8), 8),
            with(candidate("b", 2, 1), None, 8),
        ];
        assert_eq!(names(&choose(all, 0))[0], "b_02_11_2026");
    }

    #[test]
    fn it_is_due_each_week_whatever_the_minute_and_the_clock() {
        assert!(is_due(None, 7, at(9)));
        assert!(is_due(Some(at(2)), 7, at(9)));
        assert!(is_due(Some(at(2)), 7, at(9) - TimeDelta::minutes(50)), "the run began earlier than a week ago");
        assert!(!is_due(Some(at(2)), 7, at(8)));
        assert!(is_due(Some(at(20)), 7, at(9)), "written while the clock was wrong");
        assert!(is_due(Some(at(8)), 1, at(9)));
    }
}
