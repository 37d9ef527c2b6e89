//! Re-verifies older backups, a share per night, beginning with the one verified longest ago.

use std::time::Instant;

use chrono::{DateTime, Utc};

use super::destination::is_present;
use super::night::Night;
use crate::error::with_causes;
use crate::events::{Event, Problem, Severity, SourceName};
use crate::run::check::{CheckError, CheckLevel, Verdict};
use crate::run::prune::Shelf;
use crate::run::verify::choose::{DueBackup, MOST_WITHOUT_VERDICT, in_turn};
use crate::run::verify::{Surroundings, VerifyOptions, VerifyReport, verify};
use crate::store::Backup;

impl Night<'_> {
    /// Verifies until the share is done, the time is up, or the run is cancelled.
    pub(super) fn recheck(&self) {
        let options = &self.config.verify;
        if !options.enabled {
            return;
        }
        if let Some(why) = self.reached_limit() {
            return self.tell(Severity::Warning, "verify", format!("nothing was verified: {why}"));
        }
        let shelves = match Shelf::all(self.destination) {
            Ok(shelves) => shelves,
            Err(error) => {
                self.tell(Severity::Warning, "verify", with_causes(&error));
                return;
            }
        };
        let how = VerifyOptions {
            second_opinion: options.second_opinion,
            cancel: self.world.cancel.clone(),
            ..VerifyOptions::at(options.level)
        };
        let began = Instant::now();
        let due = due(&shelves, options.level, self.world.clock.now());
        let share = usize::try_from(options.share_percent).unwrap_or(100);
        let mut left = (due.len() * share).div_ceil(100);
        let mut tries_left = left + MOST_WITHOUT_VERDICT;
        for files in due {
            let is_over = began.elapsed() >= options.time_budget || self.reached_limit().is_some();
            if is_over || left == 0 || tries_left == 0 || !is_present(self.config, self.destination) {
                return;
            }
            if self.world.cancel.is_cancelled() {
                break;
            }
            tries_left -= 1;
            // One that cannot be read, or whose result cannot be stored, is the first again in the next night: it takes no turn.
            if let Some(report) = self.verified(&files, &how)
                && self.save_record(&report, &files)
            {
                left -= 1;
            }
        }
        if self.world.cancel.is_cancelled() {
            self.tell(Severity::Warning, "verify", "interrupted; the next run continues");
        }
    }

    /// Verifies one backup, and reports it if it is bad. `None` without a result.
    pub(super) fn verified(&self, files: &Backup, how: &VerifyOptions) -> Option<VerifyReport> {
        self.world.observer.on_event(&Event::Step { step: format!("verifying {}", files.stem()) });
        let around = Surroundings {
            observer: &*self.world.observer,
            clock: &*self.world.clock,
            commands: &*self.world.commands,
        };
        let report = match verify(files, how, around) {
            Ok(report) => report,
            Err(CheckError::Stopped) => return None,
            Err(error) => {
                let severity = if error.is_of_one_backup() { Severity::Error } else { Severity::Warning };
                self.tell_of_backup(files, severity, with_causes(&error));
                return None;
            }
        };
        if report.verdict == Verdict::Bad {
            let first = report.findings.first().map_or_else(String::new, |finding| format!(": {}", finding.what));
            let what = format!("verified, and BAD: {}{first}", report.how_much_is_wrong());
            self.tell_of_backup(files, Severity::Error, what);
        }
        Some(report)
    }

    /// Returns whether it is stored; otherwise that is told.
    pub(super) fn save_record(&self, report: &VerifyReport, files: &Backup) -> bool {
        let saved = report.save_record(files);
        if let Err(error) = &saved {
            let what = format!("the result of its verification could not be stored: {error}");
            self.tell_of_backup(files, Severity::Warning, what);
        }
        saved.is_ok()
    }

    pub(super) fn tell_of_backup(&self, files: &Backup, severity: Severity, what: String) {
        let source = SourceName::of_backups(&files.volume());
        self.tell_of(source, Problem::new(severity, files.stem().to_owned(), what));
    }
}

/// All complete backups, in the order in which they are due.
fn due(shelves: &[Shelf], level: CheckLevel, now: DateTime<Utc>) -> Vec<Backup> {
    let all: Vec<DueBackup> = shelves
        .iter()
        .flat_map(|shelf| shelf.complete().map(move |(entry, manifest)| (shelf, entry, manifest)))
        .map(|(shelf, entry, manifest)| DueBackup {
            files: entry.files(),
            taken_at: Some(manifest.started_at),
            last_look: shelf.records.get(&entry.stem).and_then(|record| record.last_look(level)),
        })
        .collect();
    in_turn(all, None, now)
}
