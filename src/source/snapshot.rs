//! Taking, removing and keeping LVM snapshots.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::outside::RunCommand;
use crate::owner::Owner;
use crate::source::device::{DeviceNumber, dm_uuid};
use crate::source::error::SourceError;
use crate::source::lvm::{LvFacts, Presence, Which, lvs, presence, run_tool, vg, words};
use crate::source::naming::{KEPT_TAG, SNAPSHOT_TAG};
use crate::source::naming::{snapshot_name, tags_of};
use crate::source::options::SnapshotSize;
use crate::source::plan::{check_pool, thick_extents};
use crate::source::refusal::refusal_of;

/// How long a new snapshot's device node, made by udev, may take to appear.
const NODE_PATIENCE: Duration = Duration::from_secs(10);

/// A snapshot that this process took.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) facts: LvFacts,
    pub(crate) owner_tags: [String; 2],
    /// The volume's number in its thin pool, after the snapshot was taken.
    pub(crate) origin_thin_id: Option<u64>,
    /// The volume's UUID.
    pub(crate) origin_uuid: String,
}

/// Takes a snapshot of a volume. After a failure no snapshot remains, as far as LVM can remove it.
pub(crate) fn take(
    commands: &dyn RunCommand,
    volume: &LvFacts,
    size: SnapshotSize,
    time: chrono::NaiveTime,
) -> Result<Snapshot, SourceError> {
    let owner = Owner::this_process().map_err(|error| SourceError::io("reading it", "/proc/self", error))?;
    let group_volumes = lvs(commands, Which::Group(&volume.vg))?;
    let volume = still_there(volume, &group_volumes)?;
    let name = snapshot_name(&volume.vg, &volume.lv, time, |name| group_volumes.iter().any(|each| each.lv == name));
    let tags = tags_of(&owner);
    let mut args = words(&["-s", "-y", "-p", "rw", "-n", &name, "--addtag", &tags[0], "--addtag", &tags[1]]);
    if volume.is_thin() {
        if let Some(pool) = group_volumes.iter().find(|each| Some(&each.lv) == volume.pool.as_ref()) {
            check_pool(volume, pool)?;
        }
        // LVM creates thin snapshots with the activation skip flag.
        args.extend(words(&["-k", "n", "-a", "y"]));
    } else {
        let extents = thick_extents(volume, &vg(commands, &volume.vg)?, size)?;
        let extents = if size == SnapshotSize::FullOrigin { "100%ORIGIN".to_owned() } else { extents.to_string() };
        args.extend(words(&["-l", &extents]));
    }
    args.push(volume.full_name().into());
    let taken = run_tool(commands, "lvcreate", &args);
    let found = lvs(commands, Which::Group(&volume.vg)).map(|volumes| {
        let origin_thin_id = volumes.iter().find(|each| each.uuid == volume.uuid).and_then(|origin| origin.thin_id);
        let is_it = |each: &LvFacts| each.lv == name && tags.iter().all(|tag| each.tags.contains(tag));
        volumes.into_iter().find(is_it).map(|facts| (facts, origin_thin_id))
    });
    let failure = match (taken, found) {
        (Ok(_), Ok(Some((facts, origin_thin_id)))) => {
            return Ok(Snapshot { facts, owner_tags: tags, origin_thin_id, origin_uuid: volume.uuid.clone() });
        }
        (Ok(_), Ok(None)) => SourceError::output(
            "lvcreate",
            &args,
            format!("it succeeded, but lvs does not show {name} (is `test = 1` set in lvm.conf?)"),
        ),
        // The tool did not run.
        (Err(error @ SourceError::NotRun { .. }), _) => return Err(error),
        (Ok(_), Err(error)) | (Err(error), _) => error,
    };
    // lvcreate may have stopped half-way, and the output of lvs may be invalid. LVM itself selects the snapshot
    // by its name and by the owner's tag, which only this process uses.
    match remove_by_tag(commands, &volume.vg, &name, &tags[1]) {
        Ok(()) => Err(failure),
        Err(error) => Err(SourceError::LeftBehind {
            failure: Box::new(failure),
            snapshot: format!("{}/{name}", volume.vg),
            reason: said(error),
        }),
    }
}

/// How long the removal of a half-made snapshot is retried.
const HALF_MADE_PATIENCE: Duration = Duration::from_secs(2);

/// Removes the volume with this name and tag, if there is one. Does not depend on any tool's output.
fn remove_by_tag(commands: &dyn RunCommand, vg: &str, name: &str, tag: &str) -> Result<(), SourceError> {
    let deadline = Instant::now() + HALF_MADE_PATIENCE;
    let args = words(&["-y", "-S", &format!("lv_name={name} && lv_tags={tag}"), vg]);
    loop {
        match run_tool(commands, "lvremove", &args) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// The current facts of the volume, even after a rename.
fn still_there<'a>(volume: &LvFacts, group_volumes: &'a [LvFacts]) -> Result<&'a LvFacts, SourceError> {
    let Some(now) = group_volumes.iter().find(|each| each.uuid == volume.uuid) else {
        return Err(SourceError::NotFound {
            spec: volume.full_name(),
            what: "it was there a moment ago, and is gone".to_owned(),
        });
    };
    match refusal_of(now) {
        Some(reason) => Err(SourceError::Refused { name: now.full_name(), reason }),
        None => Ok(now),
    }
}

/// Waits for the node of a new snapshot. A link that udev left of an earlier one of that name may show another volume.
pub(crate) fn wait_for_node(snapshot: &LvFacts) -> Result<PathBuf, SourceError> {
    let deadline = Instant::now() + NODE_PATIENCE;
    loop {
        let node = snapshot.node();
        let found = fs::metadata(node).map(|metadata| dm_uuid(DeviceNumber::of_rdev(metadata.rdev())));
        let missing = match found {
            Ok(Some(uuid)) if uuid != snapshot.dm_uuid() => io::Error::other("it is the node of another volume"),
            Ok(_) => return Ok(node.to_owned()),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(SourceError::io("waiting for udev to make it", node, missing));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Removes a snapshot, with retries for `patience`: mounts and devices over it may need a moment to go. Selects it
/// by UUID, and removes it only while it has volbak's tag. A missing snapshot is no error.
pub(crate) fn remove(commands: &dyn RunCommand, snapshot: &LvFacts, patience: Duration) -> Result<(), SourceError> {
    let deadline = Instant::now() + patience;
    let selection = format!("lv_uuid={} && lv_tags={SNAPSHOT_TAG}", snapshot.uuid);
    let args = words(&["-y", "-S", &selection, &snapshot.vg]);
    let mut pause = Duration::from_millis(50);
    loop {
        let removed = run_tool(commands, "lvremove", &args);
        let now = presence(commands, &snapshot.vg, &snapshot.uuid);
        let reason = match (removed, now) {
            (_, Ok(Presence::Gone)) => return Ok(()),
            (Ok(_), Ok(Presence::There { tags: Some(tags) })) if !tags.iter().any(|tag| tag == SNAPSHOT_TAG) => {
                return Err(not_released(snapshot, patience, "it no longer has the tag that says it is volbak's"));
            }
            (Ok(_), Ok(Presence::There { .. })) => "lvremove succeeded, but it still exists".to_owned(),
            (Err(error), _) | (Ok(_), Err(error)) => said(error),
        };
        if Instant::now() >= deadline {
            return Err(not_released(snapshot, patience, &reason));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Removes volbak's tags from a snapshot, so that no later run removes it.
pub(crate) fn keep(commands: &dyn RunCommand, snapshot: &Snapshot) -> Result<(), SourceError> {
    let mut args: Vec<OsString> = words(&["-y", "--addtag", KEPT_TAG]);
    for tag in &snapshot.owner_tags {
        args.extend(words(&["--deltag", tag]));
    }
    args.push(snapshot.facts.full_name().into());
    run_tool(commands, "lvchange", &args).map(drop)
}

fn not_released(snapshot: &LvFacts, patience: Duration, reason: &str) -> SourceError {
    SourceError::NotReleased {
        snapshot: snapshot.full_name(),
        tried_seconds: patience.as_secs(),
        reason: reason.to_owned(),
    }
}

/// A failed tool's message without the command, which the outer error shows.
fn said(error: SourceError) -> String {
    match error {
        SourceError::Command { stderr, .. } => stderr,
        other => other.to_string(),
    }
}
