//! Older backups verified again, a share of them each night: the one that was not verified for longest first.

use std::time::Instant;

use super::{Night, is_present};
use crate::config::VerifyLevel;
use crate::error::with_causes;
use crate::events::{Event, Observer, Problem, Severity};
use crate::run::locate::BackupFiles;
use crate::run::prune::Shelf;
use crate::run::verify::{Level, Surroundings, Verdict, VerifyError, VerifyOptions, record, verify};

impl Night<'_> {
    /// Verifies until the share is done, the time is up, or the run is told to stop.
    pub(super) fn recheck(&self) {
        let options = &self.config.verify;
        if !options.enabled {
            return;
        }
        let shelves = match Shelf::all(self.destination) {
            Ok(shelves) => shelves,
            Err(error) => {
                self.tell(Severity::Warning, "verify", with_causes(&error));
                return;
            }
        };
        let level = match options.level {
            VerifyLevel::Quick => Level::Quick,
            VerifyLevel::Full => Level::Full,
        };
        let how = VerifyOptions {
            level,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            scratch: std::env::temp_dir(),
            cancel: self.world.cancel.clone(),
        };
        let began = Instant::now();
        for files in due(&shelves, options.share_percent) {
            let is_over = began.elapsed() >= options.time_budget || self.world.cancel.is_cancelled();
            if is_over || !is_present(self.config, self.destination) {
                return;
            }
            self.one(&files, &how);
        }
    }

    fn one(&self, files: &BackupFiles, how: &VerifyOptions) {
        self.world.observer.on_event(&Event::Step { step: format!("verifying {}", files.stem) });
        let around = Surroundings {
            observer: &*self.world.observer,
            clock: &*self.world.clock,
            commands: &*self.world.commands,
        };
        let report = match verify(files, how, around) {
            Ok(report) => report,
            Err(VerifyError::Stopped) => return,
        };
        if let Err(error) = record::save(files, &report) {
            self.tell(Severity::Warning, &files.stem, format!("what its verification found is not kept: {error}"));
        }
        if report.verdict == Verdict::Bad {
            let first = report.findings.first().map_or_else(String::new, |finding| format!(": {}", finding.what));
            let what = format!("verified, and BAD: {} things are wrong{first}", report.findings_total);
            self.collector.on_event(&Event::Problem(Problem::new(Severity::Error, files.stem.clone(), what)));
        }
    }
}

/// The share of all complete backups whose turn it is.
fn due(shelves: &[Shelf], share_percent: u32) -> Vec<BackupFiles> {
    let mut all: Vec<_> = shelves
        .iter()
        .flat_map(|shelf| shelf.backups.iter().map(move |backup| (shelf, backup)))
        .map(|(shelf, backup)| {
            let files = BackupFiles { directory: shelf.directory.clone(), stem: backup.id.clone() };
            (shelf.looked_at.get(&backup.id).copied(), backup.taken_at, files)
        })
        .collect();
    // Those that were never looked at have no moment, and come first.
    all.sort_by(|a, b| (a.0, a.1, &a.2.stem).cmp(&(b.0, b.1, &b.2.stem)));
    let share = usize::try_from(share_percent).unwrap_or(100);
    let count = (all.len() * share).div_ceil(100);
    all.into_iter().take(count).map(|(_, _, files)| files).collect()
}
