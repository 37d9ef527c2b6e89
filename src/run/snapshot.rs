//! The verb `snapshot`: backs up sources one after the other, under the lock of the destination.

use std::ffi::OsStr;
use std::time::Instant;

use super::backup::{BackupError, BackupOptions, BackupOutcome, BackupWorld, back_up_source};
use super::catalogue;
use super::cloud::names::volumes_called;
use super::remains::remove_before;
use crate::error::ExitClass;
use crate::events::{Event, RunFigures, Severity, SourceName};
use crate::image::format::Format;
use crate::shown;
use crate::shown::counted;
use crate::source::{self, Source, SourceError};
use crate::store::{Destination, StoreError};

/// What is backed up, and how.
pub struct Sources<'a, S> {
    /// Volumes, devices and images, as a user names them.
    pub sources: &'a [S],
    /// The name of the backups instead of the source's own; for one source alone, since each needs its own directory.
    pub name: Option<&'a str>,
    /// The format of image files; their first bytes decide without one.
    pub format: Option<Format>,
    /// The options for one of the sources.
    pub options: &'a dyn Fn(&Source) -> BackupOptions,
}

/// What is reported while the run goes on.
pub enum Happened<'a> {
    /// Snapshots and device maps of earlier runs cannot be looked for. If a source needs LVM, its backup fails with LVM's own error.
    RemainsStay(BackupError),
    /// A source was backed up, or was not; the run goes on with the next one.
    Source {
        /// The source as the user named it.
        spec: &'a OsStr,
        /// The source as log lines name it.
        name: SourceName,
        /// The published backup.
        result: Result<Box<BackupOutcome>, BackupError>,
    },
}

/// The outcome of the whole run.
#[derive(Clone, Copy, Debug)]
pub struct RunOutcome {
    figures: RunFigures,
}

/// Locks the destination, removes what earlier runs left, and backs up each source. After the wish to stop, those that remain
/// are reported as cancelled. Fails if the lock cannot be taken.
pub fn snapshot<S: AsRef<OsStr>>(
    wanted: &Sources<'_, S>,
    destination: &Destination,
    world: &BackupWorld,
    report: &mut dyn FnMut(Happened<'_>),
) -> Result<RunOutcome, StoreError> {
    let _lock = destination.lock(world.clock.now())?;
    if let Err(error) = remove_before(wanted.sources, destination, world) {
        report(Happened::RemainsStay(error));
    }
    let began = Instant::now();
    world.observer.on_event(&Event::RunStarted { sources: wanted.sources.len() as u64, bytes: 0 });
    let mut figures = RunFigures::default();
    for spec in wanted.sources {
        let spec = spec.as_ref();
        let (name, result) = if world.cancel.is_cancelled() {
            (unresolved(spec), Err(BackupError::Cancelled))
        } else {
            one(spec, wanted, destination, world)
        };
        match &result {
            Ok(outcome) => {
                *(if outcome.has_problems() { &mut figures.volumes_warning } else { &mut figures.volumes_ok }) += 1;
                figures.archive_bytes += outcome.manifest.sizes.archive_bytes;
            }
            Err(_) => figures.volumes_failed += 1,
        }
        report(Happened::Source { spec, name, result: result.map(Box::new) });
    }
    catalogue::note(destination, "snapshot", &*world.observer);
    figures.seconds = began.elapsed().as_secs();
    Ok(RunOutcome { figures })
}

fn one<S>(
    spec: &OsStr,
    wanted: &Sources<'_, S>,
    destination: &Destination,
    world: &BackupWorld,
) -> (SourceName, Result<BackupOutcome, BackupError>) {
    let resolved = resolved(spec, wanted.format, destination, world).and_then(|source| match wanted.name {
        Some(name) => source.named(name),
        None => Ok(source),
    });
    match resolved {
        Err(error) => (unresolved(spec), Err(error.into())),
        Ok(source) => {
            let options = (wanted.options)(&source);
            (source.name(), back_up_source(&source, destination, &options, world))
        }
    }
}

/// The source that `spec` means. A name that no volume and no file has may be one of the cloud: the newest saved map knows
/// display names and UUIDs.
fn resolved(
    spec: &OsStr,
    format: Option<Format>,
    destination: &Destination,
    world: &BackupWorld,
) -> Result<Source, SourceError> {
    let error = match source::resolve_as(spec, format, &*world.commands) {
        Err(error @ SourceError::NotFound { .. }) => error,
        done => return done,
    };
    let named = spec.to_str().map(|name| volumes_called(destination, name)).unwrap_or_default();
    let mut volumes = named.keys();
    match (volumes.next(), volumes.next()) {
        (None, _) => Err(error),
        (Some(only), None) => source::resolve_as(OsStr::new(only), format, &*world.commands),
        _ => Err(SourceError::Ambiguous {
            spec: shown::bytes(spec.as_encoded_bytes()),
            candidates: named.into_iter().map(|(volume, cloud)| format!("{volume} [{cloud}]")).collect(),
        }),
    }
}

/// The name of an unresolved source in log lines: the last component of the argument.
fn unresolved(spec: &OsStr) -> SourceName {
    let typed = shown::bytes(spec.as_encoded_bytes());
    let volume = typed.rsplit('/').next().unwrap_or(&typed).to_owned();
    SourceName { shown: typed, volume, group: None }
}

impl RunOutcome {
    /// The exit status: the worst that a source had.
    pub fn class(&self) -> ExitClass {
        let RunFigures { volumes_failed, volumes_warning, .. } = self.figures;
        match (volumes_failed, volumes_warning) {
            (0, 0) => ExitClass::Well,
            (0, _) => ExitClass::WithProblems,
            _ => ExitClass::Failed,
        }
    }

    /// The summary of the run as an event.
    pub fn finished(&self) -> Event {
        let figures = self.figures;
        let severity = match self.class() {
            ExitClass::Well => Severity::Notice,
            ExitClass::WithProblems => Severity::Warning,
            _ => Severity::Error,
        };
        let done = figures.volumes_ok + figures.volumes_warning;
        let sources = done + figures.volumes_failed;
        Event::RunFinished {
            severity,
            outcome: format!("{done} of {} backed up", counted(sources, "source", "sources")),
            figures,
        }
    }
}
