//! A frozen source, for as long as it is read.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::events::{Event, Problem, Severity};
use crate::outside::FileBlocks;
use crate::source::context::Context;
use crate::source::error::SourceError;
use crate::source::health::{HealthFlag, Reading, Subject};
use crate::source::options::FreezeOptions;
use crate::source::snapshot::{self, Snapshot};
use crate::source::snapshot_facts::{SnapshotFacts, SnapshotKind};
use crate::source::watch::{Watch, Watcher};

/// What was opened for reading.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) size_bytes: u64,
    pub(crate) sector_size_bytes: u32,
}

/// A source that stands still while it is read, or says that it did not. It watches itself in a thread of its own.
///
/// End it with [`finish`](Self::finish), which says what went wrong; dropping it releases it too, and tells the
/// observer. Close everything that was opened from [`path`](Self::path) before: mounts, loop devices, device-mapper
/// tables.
#[derive(Debug)]
pub struct SnapshotGuard {
    name: String,
    opened: Option<Opened>,
    path: PathBuf,
    size_bytes: u64,
    sector_size_bytes: u32,
    subject: Arc<Subject>,
    snapshot: Option<Snapshot>,
    facts: Arc<Mutex<SnapshotFacts>>,
    health: HealthFlag,
    watcher: Option<Watcher>,
    removal_patience: Duration,
    context: Context,
}

impl SnapshotGuard {
    #[expect(clippy::too_many_arguments, reason = "one private constructor with three callers")]
    pub(crate) fn new(
        name: String,
        kind: SnapshotKind,
        opened: Opened,
        subject: Subject,
        snapshot: Option<Snapshot>,
        created_at: DateTime<Utc>,
        options: &FreezeOptions,
        context: &Context,
    ) -> Self {
        let is_thick = kind == SnapshotKind::Thick;
        let facts = Arc::new(Mutex::new(SnapshotFacts {
            kind,
            name: snapshot.as_ref().map(|snapshot| snapshot.facts.full_name()),
            created_at,
            cow_size_bytes: snapshot.as_ref().filter(|_| is_thick).map(|snapshot| snapshot.facts.size_bytes),
            extended_by_bytes: 0,
            peak_fill_percent: is_thick.then_some(0.0),
        }));
        let subject = Arc::new(subject);
        let health = HealthFlag::default();
        let watcher = Watcher::start(Watch {
            name: name.clone(),
            subject: Arc::clone(&subject),
            facts: Arc::clone(&facts),
            health: health.clone(),
            extend: options.extend && is_thick,
            context: context.clone(),
        });
        Self {
            name,
            path: opened.path.clone(),
            size_bytes: opened.size_bytes,
            sector_size_bytes: opened.sector_size_bytes,
            opened: Some(opened),
            subject,
            snapshot,
            facts,
            health,
            watcher: Some(watcher),
            removal_patience: options.removal_patience,
            context: context.clone(),
        }
    }

    /// What is read, for messages: the snapshot's `VG/LV`, or the source's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is to be read: the snapshot's device, the device, or the image.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it may be written to, as replaying a journal does. Only a snapshot may; its origin never sees that.
    pub fn is_writable(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Its logical sector size; 512 for an image.
    pub fn sector_size_bytes(&self) -> u32 {
        self.sector_size_bytes
    }

    /// Opens it for reading at byte offsets, exactly what was frozen, whatever its path leads to by now. Drop it before
    /// the guard is finished.
    pub fn open_blocks(&self) -> io::Result<FileBlocks> {
        let opened = self.opened.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(FileBlocks::new(opened.file.try_clone()?, self.size_bytes))
    }

    /// Opens it for a loop device: for reading and writing when it [is writable](Self::is_writable), else exactly what
    /// was frozen, for reading. Drop it, and what was made of it, before the guard is finished.
    pub fn open_backing(&self) -> io::Result<File> {
        if self.is_writable() {
            return File::options().read(true).write(true).open(&self.path);
        }
        let opened = self.opened.as_ref().ok_or(io::ErrorKind::NotFound)?;
        opened.file.try_clone()
    }

    /// The facts as of now.
    pub fn facts(&self) -> SnapshotFacts {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A flag for readers: set a second or two after the snapshot became worthless, so that no hours are spent on
    /// the rest. It does not take the place of [`check_health`](Self::check_health).
    pub fn health_flag(&self) -> HealthFlag {
        self.health.clone()
    }

    /// Asks afresh whether what was read so far is what was frozen. To be called once more when everything was read and
    /// before anything is published.
    ///
    /// Fails with `Unhealthy` when the snapshot overflowed, vanished or its pool is full, or the image or device was
    /// written to; and when LVM cannot be asked.
    pub fn check_health(&self) -> Result<(), SourceError> {
        let looked = self.subject.look(&*self.context.commands).map(|reading| {
            self.note(&reading);
            if let Some(failure) = reading.failure {
                self.health.fail(failure);
            }
        });
        // What the watcher saw holds, also when LVM cannot be asked any more.
        match self.health.reason() {
            Some(reason) => Err(SourceError::Unhealthy { name: self.name.clone(), reason }),
            None => looked,
        }
    }

    /// Stops watching, closes what is open and removes the snapshot, trying for a while when it is still in use. Its
    /// health is not judged here.
    pub fn finish(mut self) -> Result<SnapshotFacts, SourceError> {
        self.release()?;
        Ok(self.facts())
    }

    /// Ends like [`finish`](Self::finish), but leaves the snapshot in place and takes volbak's tags off it: no later
    /// run removes it. The observer gets its name. Without a snapshot it is the same as `finish`.
    pub fn keep(mut self) -> Result<SnapshotFacts, SourceError> {
        self.close();
        if let Some(snapshot) = self.snapshot.take() {
            snapshot::keep(&*self.context.commands, &snapshot)?;
            let what = format!(
                "the snapshot is kept, and volbak will not remove it: remove it with `lvremove {}`",
                snapshot.facts.full_name()
            );
            self.tell(Severity::Notice, what);
        }
        Ok(self.facts())
    }

    /// Stops the watcher and closes the device, after a last look at how full it became.
    fn close(&mut self) {
        drop(self.watcher.take());
        if self.opened.take().is_some()
            && self.snapshot.is_some()
            && let Ok(reading) = self.subject.look(&*self.context.commands)
        {
            self.note(&reading);
        }
    }

    /// Takes note of a look at it that the watcher did not have, and tells the observer how full it is: when the backup fails
    /// nothing else says so.
    fn note(&self, reading: &Reading) {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).note(reading);
        if let Some(fill) = reading.fill {
            let event = Event::SnapshotFill { snapshot: self.name.clone(), percent: fill.percent };
            self.context.observer.on_event(&event);
        }
    }

    fn release(&mut self) -> Result<(), SourceError> {
        self.close();
        match self.snapshot.take() {
            Some(snapshot) => snapshot::remove(&*self.context.commands, &snapshot.facts, self.removal_patience),
            None => Ok(()),
        }
    }

    fn tell(&self, severity: Severity, what: String) {
        self.context.observer.on_event(&Event::Problem(Problem::new(severity, self.name.clone(), what)));
    }
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            self.tell(Severity::Error, error.to_string());
        }
    }
}
