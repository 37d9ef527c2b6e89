//! Archives one region.

pub(super) mod files;
pub(super) mod image;
pub(super) mod room;
mod subvolumes;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::error::BackupError;
use crate::entry::Timestamp;
use crate::error::with_causes;
use crate::events::{Event, Observer, Problem, Severity};
use crate::layout::{Layout, Region, RegionBlocks, recorded_damage};
use crate::outside::{BlockRead, Cancel, RunCommand};
use crate::reader::exclude::Excludes;
use crate::reader::filesystem::{Backing, Filesystem, FsRegion, Means, NotOpened, Passed, Reader};
use crate::reader::open;
use crate::run::expected::Expected;
use crate::source::SnapshotGuard;

/// Values common to all regions of a source.
pub(super) struct RegionContext<'a> {
    /// What the kernel reads.
    pub(super) backing: &'a dyn Backing,
    pub(super) commands: &'a Arc<dyn RunCommand>,
    pub(super) blocks: &'a Arc<dyn BlockRead>,
    pub(super) layout: &'a Layout,
    pub(super) excludes: &'a Excludes,
    pub(super) scratch: &'a Path,
    /// The readers to try, in order.
    pub(super) readers: &'a [&'a dyn Reader],
    /// Whether read-only snapshots in a btrfs are included.
    pub(super) with_snapshots: bool,
    pub(super) cancel: &'a Cancel,
    pub(super) observer: &'a dyn Observer,
    /// The modification time of raw images.
    pub(super) frozen_at: Timestamp,
    /// Content that is expected and reported as no problem.
    pub(super) expected: Expected<'a>,
}

impl Backing for SnapshotGuard {
    fn open(&self) -> io::Result<File> {
        self.open_backing()
    }

    fn path(&self) -> &Path {
        Self::path(self)
    }

    fn is_writable(&self) -> bool {
        Self::is_writable(self)
    }
}

impl RegionContext<'_> {
    fn tell(&self, severity: Severity, region: &Region, what: String) {
        self.observer.on_event(&Event::Problem(Problem::new(severity, region.name.clone(), what)));
    }

    /// Warns of damage in a filesystem's own headers.
    pub(super) fn tell_damage(&self, region: &Region) {
        let Some(fs) = region.holds.fs.as_deref() else { return };
        for what in recorded_damage(fs, &RegionBlocks::shared(Arc::clone(self.blocks), &region.extents)) {
            self.tell(Severity::Warning, region, what);
        }
    }

    /// Opens a region with a filesystem. `None` if it cannot be read, which is reported; it is then kept as a raw
    /// image.
    pub(super) fn open(&self, region: &Region) -> Result<Option<Box<dyn Filesystem>>, BackupError> {
        let Some(fs) = region.holds.fs.as_deref() else { return Ok(None) };
        let of = FsRegion {
            name: &region.name,
            fs,
            blocks: Arc::new(RegionBlocks::shared(Arc::clone(self.blocks), &region.extents)),
            pieces: &region.extents,
        };
        let means = Means {
            backing: self.backing,
            scratch: self.scratch,
            with_snapshots: self.with_snapshots,
            commands: self.commands,
            cancel: self.cancel,
        };
        let opened = open::open(self.readers, &of, &means, &mut |passed| match passed {
            Passed::Foreign(_) => {}
            Passed::Damaged(error) => self.tell(Severity::Notice, region, format!("{error}: left to the kernel")),
            passed => {
                let step = format!("reading {} through the kernel: {}", region.name, with_causes(passed));
                self.observer.on_event(&Event::Step { step });
            }
        });
        match opened {
            Ok(filesystem) => {
                for what in filesystem.complaints() {
                    self.tell(Severity::Warning, region, what.clone());
                }
                Ok(Some(filesystem))
            }
            Err(NotOpened::Cancelled) => Err(BackupError::Cancelled),
            Err(NotOpened::Backing(error)) => Err(BackupError::Open(error)),
            Err(why) => {
                let what = format!("{}; kept as a raw image", with_causes(&why));
                self.tell(self.expected.severity_of_raw(region), region, what);
                Ok(None)
            }
        }
    }
}
