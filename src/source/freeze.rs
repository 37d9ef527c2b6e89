//! Freezes a source.

use chrono::Local;
use rustix::fs::OFlags;

use crate::events::{Event, Problem, Severity};
use crate::outside::BlockRead;
use crate::source::context::Context;
use crate::source::device::{Node, NodeKind, WriteWatch, length_bytes, open_unused, sector_size_bytes};
use crate::source::error::SourceError;
use crate::source::guard::{Disk, Opened, SnapshotGuard};
use crate::source::health::Subject;
use crate::source::image::{self, Fingerprint};
use crate::source::lvm::LvFacts;
use crate::source::options::FreezeOptions;
use crate::source::origin::{Source, SourceKind};
use crate::source::plan::full_size_bytes;
use crate::source::refusal::Refusal;
use crate::source::snapshot::{remove, take, wait_for_node};
use crate::source::snapshot_facts::SnapshotKind;

/// Freezes a source: takes a snapshot of a volume, opens a device exclusively, or opens an image. The returned
/// guard monitors the source and releases it.
///
/// Fails like [`resolve`](super::resolve()), since the source may have changed since then, and with `NoRoom` or
/// `PoolFull` if there is no space for a snapshot. After a failure nothing remains.
pub fn freeze(source: &Source, options: &FreezeOptions, context: &Context) -> Result<SnapshotGuard, SourceError> {
    match source.kind() {
        SourceKind::Volume(volume) => freeze_volume(volume, options, context),
        SourceKind::Device { .. } => freeze_device(source, options, context),
        SourceKind::Image => freeze_image(source, options, context),
    }
}

fn freeze_volume(volume: &LvFacts, options: &FreezeOptions, context: &Context) -> Result<SnapshotGuard, SourceError> {
    let commands = &*context.commands;
    let now = context.clock.now();
    let snapshot = take(commands, volume, options.snapshot_size, now.with_timezone(&Local).time())?;
    let opened = wait_for_node(&snapshot.facts).and_then(|path| {
        let io_error = |error| SourceError::io("opening the new snapshot", &path, error);
        let file = Node::look(&path).and_then(|node| node.open(OFlags::empty())).map_err(io_error)?;
        Ok(Opened {
            size_bytes: length_bytes(&file).map_err(io_error)?,
            sector_size_bytes: sector_size_bytes(&file).map_err(io_error)?,
            path,
            file,
            disk: None,
        })
    });
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // If this fails too, the next run removes the snapshot; the error of the open is the one to report.
            let _ = remove(commands, &snapshot.facts, options.removal_patience);
            return Err(error);
        }
    };
    let subject = Subject::Snapshot {
        vg: snapshot.facts.vg.clone(),
        lv: snapshot.facts.lv.clone(),
        largest_bytes: full_size_bytes(volume.size_bytes),
        uuid: snapshot.facts.uuid.clone(),
        pool: snapshot.facts.pool.clone(),
    };
    let kind = if snapshot.facts.is_thin() { SnapshotKind::Thin } else { SnapshotKind::Thick };
    let name = snapshot.facts.full_name();
    Ok(SnapshotGuard::new(name, kind, opened, subject, Some(snapshot), now, options, context))
}

fn freeze_device(source: &Source, options: &FreezeOptions, context: &Context) -> Result<SnapshotGuard, SourceError> {
    let path = source.path();
    let name = source.display_name();
    let io_error = |error| SourceError::io("opening it", path, error);
    let node = Node::look(path).map_err(io_error)?;
    let NodeKind::BlockDevice(number) = node.kind() else {
        return Err(SourceError::NotFound { spec: name.to_owned(), what: "it is no longer a block device".to_owned() });
    };
    let file = open_unused(&node, number, name)?;
    let watch = WriteWatch::begin(number, &file).map_err(|error| SourceError::io("flushing it", path, error))?;
    let opened = Opened {
        size_bytes: length_bytes(&file).map_err(io_error)?,
        sector_size_bytes: sector_size_bytes(&file).map_err(io_error)?,
        path: path.to_owned(),
        file,
        disk: None,
    };
    let now = context.clock.now();
    Ok(SnapshotGuard::new(
        name.to_owned(),
        SnapshotKind::None,
        opened,
        Subject::Device(watch),
        None,
        now,
        options,
        context,
    ))
}

fn freeze_image(source: &Source, options: &FreezeOptions, context: &Context) -> Result<SnapshotGuard, SourceError> {
    let path = source.path();
    let name = source.display_name();
    let node = Node::look(path).map_err(|error| SourceError::io("opening it", path, error))?;
    if node.kind() != NodeKind::File {
        let reason = Refusal::WrongKind("no longer a file");
        return Err(SourceError::Refused { name: name.to_owned(), reason });
    }
    let file = node.open(OFlags::empty()).map_err(|error| SourceError::io("opening it", path, error))?;
    let fingerprint =
        Fingerprint::settled(&file).map_err(|error| SourceError::io("asking for its times", path, error))?;
    let Some(fingerprint) = fingerprint else {
        let reason = Refusal::InUse("it is being written to right now".to_owned());
        return Err(SourceError::Refused { name: name.to_owned(), reason });
    };
    // Its tables are read after the fingerprint was taken, so that no change goes unnoticed.
    let disk = image::check(&node, name, Some(source.format()))?;
    for what in disk.iter().flat_map(|disk| disk.remarks()) {
        context.observer.on_event(&Event::Problem(Problem::new(Severity::Warning, name.to_owned(), what)));
    }
    let opened = Opened {
        size_bytes: disk.as_ref().map_or(fingerprint.size_bytes(), |disk| disk.len_bytes()),
        disk: disk.map(Disk),
        sector_size_bytes: source.sector_size_bytes(),
        path: path.to_owned(),
        file,
    };
    let subject = Subject::Image { path: path.to_owned(), fingerprint };
    let now = context.clock.now();
    Ok(SnapshotGuard::new(name.to_owned(), SnapshotKind::None, opened, subject, None, now, options, context))
}
