//! Verifies several backups, and records the results. Quick checks read little of each backup, so many run in
//! parallel; results still come in order.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::{Surroundings, VerifyOptions, VerifyReport, verify};
use crate::error::with_causes;
use crate::events::{Event, Problem, Severity, Silent, SourceName};
use crate::run::check::record::Record;
use crate::run::check::{CheckError, CheckLevel, Verdict};
use crate::store::Backup;
use crate::store::at_once::AtOnce;
use crate::store::catalog::turn_of;

/// The number of quick checks per thread before results are reported.
const TURNS: usize = 16;

/// A verified backup.
#[derive(Debug)]
pub struct Verified {
    /// The report.
    pub report: VerifyReport,
    /// The new record beside the backup, or why it could not be written; `None` if it was not to be written.
    pub recorded: Option<io::Result<Record>>,
}

/// A backup that could not be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WithoutVerdict {
    /// The archive's path.
    pub archive: PathBuf,
    /// Why it has no verdict.
    pub why: String,
}

/// Verifies these backups until there are `wanted` verdicts, with `recorded` writes the record beside each, and passes each to
/// `each` in order. One that could not be read is a problem, and has no verdict; returns those. Ends if the destination is gone.
pub fn verify_each(
    backups: &[Backup],
    wanted: usize,
    options: &VerifyOptions,
    around: Surroundings<'_>,
    recorded: bool,
    each: &mut dyn FnMut(&Backup, Verified),
) -> Result<Vec<WithoutVerdict>, CheckError> {
    let mut without_verdict = Vec::new();
    let at_once = AtOnce::default();
    let is_at_once = options.level == CheckLevel::Quick && at_once.threads() > 1;
    let turn = if is_at_once { at_once.threads() * TURNS } else { 1 };
    let (mut rest, mut wanted) = (backups, wanted);
    while let Some((backups, after)) =
        rest.split_at_checked(turn.min(wanted).min(rest.len())).filter(|(now, _)| !now.is_empty())
    {
        rest = after;
        let early = if is_at_once {
            let around = Surroundings { observer: &Silent, ..around };
            at_once.map(backups.iter().collect(), |files| {
                // Large manifests are parsed one at a time.
                let _turn = turn_of(files.manifest_bytes());
                one(files, options, around, recorded)
            })
        } else {
            Vec::new()
        };
        let mut early = early.into_iter();
        for files in backups {
            let source = source_name(files);
            around.observer.on_event(&Event::SourceStarted { source: source.clone() });
            let (verified, is_early) = match early.next() {
                Some(verified) => (verified, true),
                None => (one(files, options, around, recorded), false),
            };
            let verified = match verified {
                Err(error) if error.is_of_one_backup() && files.folder().list().is_ok() => {
                    let outcome = with_causes(&error);
                    without_verdict.push(WithoutVerdict { archive: files.archive_path(), why: outcome.clone() });
                    let problem = Problem::new(Severity::Error, files.stem(), &outcome);
                    around.observer.on_event(&Event::Problem(problem));
                    let worst = Some(Severity::Error);
                    around.observer.on_event(&Event::SourceFinished { source, outcome, worst });
                    continue;
                }
                verified => verified?,
            };
            if is_early {
                for finding in &verified.report.findings {
                    let problem =
                        Problem::new(Severity::Error, finding.place(files.stem(), files.kind()), &finding.what);
                    around.observer.on_event(&Event::Problem(problem));
                }
            }
            let worst = match verified.report.verdict {
                Verdict::Bad => Some(Severity::Error),
                _ => verified.report.manifest_lost.then_some(Severity::Warning),
            };
            let outcome = verified.report.summary();
            around.observer.on_event(&Event::SourceFinished { source, outcome, worst });
            wanted -= 1;
            each(files, verified);
        }
    }
    Ok(without_verdict)
}

/// The name of a backup in events: its own, as a backup of its volume.
pub fn source_name(files: &Backup) -> SourceName {
    SourceName { shown: files.stem().to_owned(), ..SourceName::of_backups(&files.volume()) }
}

fn one(
    files: &Backup,
    options: &VerifyOptions,
    around: Surroundings<'_>,
    recorded: bool,
) -> Result<Verified, CheckError> {
    if options.cancel.is_cancelled() {
        return Err(CheckError::Stopped);
    }
    let report = verify(files, options, around)?;
    let recorded = recorded.then(|| report.save_record(files));
    Ok(Verified { report, recorded })
}
