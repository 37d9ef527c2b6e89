//! The guard of a frozen source.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::events::{Event, Problem, Severity};
use crate::image::qcow2::Qcow2;
use crate::outside::{BlockRead, FileBlocks};
use crate::source::context::Context;
use crate::source::device::DeviceNumber;
use crate::source::error::SourceError;
use crate::source::health::{HealthFlag, Reading, Subject};
use crate::source::options::FreezeOptions;
use crate::source::snapshot::{self, Snapshot};
use crate::source::snapshot_facts::{SnapshotFacts, SnapshotKind};
use crate::source::thin::ThinSnapshot;
use crate::source::watch::{Watch, Watcher};

/// The open handle of the source.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) size_bytes: u64,
    pub(crate) sector_size_bytes: u32,
    /// The disk in a qcow2 image.
    pub(crate) disk: Option<Disk>,
}

/// The disk in an image of another form than the disk's own bytes.
pub(crate) struct Disk(pub(crate) Arc<Qcow2>);

impl fmt::Debug for Disk {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Disk")
    }
}

/// A frozen source. A thread of its own monitors it for changes.
///
/// End it with [`finish`](Self::finish), which returns errors; dropping it also releases the source, and reports
/// errors to the observer. First close everything that was opened from [`path`](Self::path): mounts, loop devices,
/// device-mapper tables.
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

    /// A name for messages: the snapshot's `VG/LV`, or the source's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path to read: the snapshot's device, the device, or the image.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it may be written to, as a journal replay does. True only for a snapshot; its origin is not
    /// affected.
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

    /// Opens exactly the frozen node for reading, whatever its path leads to now. Drop it before the guard is
    /// finished.
    pub fn open_blocks(&self) -> io::Result<Arc<dyn BlockRead>> {
        let opened = self.opened.as_ref().ok_or(io::ErrorKind::NotFound)?;
        match &opened.disk {
            Some(Disk(disk)) => Ok(Arc::clone(disk) as Arc<dyn BlockRead>),
            None => Ok(Arc::new(FileBlocks::new(opened.file.try_clone()?, self.size_bytes))),
        }
    }

    /// Whether the bytes of [`path`](Self::path) are not those of the disk, which is then only read through
    /// [`open_blocks`](Self::open_blocks).
    pub(crate) fn is_packed(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| opened.disk.is_some())
    }

    /// Opens the source for a loop device: for reading and writing if it [is writable](Self::is_writable),
    /// otherwise exactly the frozen node, for reading. Drop it, and all devices made from it, before the guard is
    /// finished.
    pub fn open_backing(&self) -> io::Result<File> {
        if self.is_writable() {
            return File::options().read(true).write(true).open(&self.path);
        }
        let opened = self.opened.as_ref().ok_or(io::ErrorKind::NotFound)?;
        opened.file.try_clone()
    }

    /// The facts at this moment.
    pub fn facts(&self) -> SnapshotFacts {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The snapshot as its thin pool knows it; `None` if it is not a thin one.
    pub(crate) fn thin_snapshot(&self) -> Option<ThinSnapshot> {
        let snapshot = self.snapshot.as_ref().filter(|snapshot| snapshot.facts.is_thin())?;
        let rdev = self.opened.as_ref()?.file.metadata().ok()?.rdev();
        Some(ThinSnapshot {
            commands: Arc::clone(&self.context.commands),
            device: DeviceNumber::of_rdev(rdev),
            dm_uuid: snapshot.facts.dm_uuid(),
            volume_uuid: snapshot.origin_uuid.clone(),
            volume_thin_id: snapshot.origin_thin_id,
        })
    }

    /// A flag for readers, set within a second or two after the snapshot became invalid, so that no hours are spent
    /// on the rest. It does not replace [`check_health`](Self::check_health).
    pub fn health_flag(&self) -> HealthFlag {
        self.health.clone()
    }

    /// Checks again that the data read so far is the frozen state. Call it once after everything was read and
    /// before anything is published.
    ///
    /// Fails with `Unhealthy` if the snapshot overflowed or vanished, its pool is full, or the image or device was
    /// written to. Also fails if LVM cannot be queried.
    pub fn check_health(&self) -> Result<(), SourceError> {
        let looked = self.subject.look(&*self.context.commands).map(|reading| {
            self.note(&reading);
            if let Some(failure) = reading.failure {
                self.health.fail(failure);
            }
        });
        // A finding of the monitor stands even if LVM can no longer be queried.
        match self.health.reason() {
            Some(reason) => Err(SourceError::Unhealthy { name: self.name.clone(), reason }),
            None => looked,
        }
    }

    /// Stops the monitor, closes the source and removes the snapshot, with retries while it is in use. Does not
    /// check its health.
    pub fn finish(mut self) -> Result<SnapshotFacts, SourceError> {
        self.release()?;
        Ok(self.facts())
    }

    /// Ends like [`finish`](Self::finish), but keeps the snapshot and removes volbak's tags from it, so that no
    /// later run removes it. Reports its name to the observer. Without a snapshot it is the same as `finish`.
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

    /// Stops the monitor and closes the device, after a last query of the fill.
    fn close(&mut self) {
        drop(self.watcher.take());
        if self.opened.take().is_some()
            && self.snapshot.is_some()
            && let Ok(reading) = self.subject.look(&*self.context.commands)
        {
            self.note(&reading);
        }
    }

    /// Records a reading that the monitor did not take, and reports the fill to the observer: if the backup fails,
    /// nothing else reports it.
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
