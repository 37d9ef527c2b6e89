//! What can go wrong with a source.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::outside::shown_command;
use crate::source::refusal::Refusal;
use crate::units::ByteLen;

/// Why a source cannot be used, frozen or released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Reading or opening failed.
    #[error("{}: {action} failed", path.display())]
    Io {
        /// What was being done (`opening it`).
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// The kernel's own account of mounts and devices is not there.
    #[error("{}: cannot be read, so that nothing can tell whether the source is in use; mount /proc and /sys", path.display())]
    KernelUnseen {
        /// What is missing.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// Nothing goes by this name.
    #[error("{spec}: {what}")]
    NotFound {
        /// What was asked for.
        spec: String,
        /// Where it was looked for, and what to do.
        what: String,
    },
    /// Several things go by this name.
    #[error("{spec} could be any of {}: write the one you mean", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        spec: String,
        /// How to write each one so that it is the only one.
        candidates: Vec<String>,
    },
    /// It exists, and backing it up is refused.
    #[error("{name} is refused: {reason}")]
    Refused {
        /// The source as the user knows it.
        name: String,
        /// Why.
        reason: Refusal,
    },
    /// A disk image in a format that is not raw.
    #[error(
        "{name} is a {format} image, and only raw images are read: convert it with \
         `qemu-img convert -O raw {name} {name}.raw`"
    )]
    NotRaw {
        /// The image.
        name: String,
        /// Its format's name.
        format: &'static str,
    },
    /// Its name cannot be the name of a directory of backups.
    #[error("{name:?} cannot be the name of a backup: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A volume group has too little room for a thick snapshot.
    #[error(
        "a snapshot of {volume} needs {}, and {group} has {} free: free some, or set a smaller snapshot size \
         (--snapshot-size, snapshot_max_size)", ByteLen(*needed_bytes), ByteLen(*free_bytes)
    )]
    NoRoom {
        /// The volume, `VG/LV`.
        volume: String,
        /// Its group.
        group: String,
        /// The room that the snapshot takes in the group.
        needed_bytes: u64,
        /// The group's room.
        free_bytes: u64,
    },
    /// A thin pool is too full to take a snapshot in it.
    #[error(
        "{pool} is too full for a snapshot of {volume}: {data_percent:.1}% of its data space and \
         {metadata_percent:.1}% of its metadata space are in use (limit {limit_percent:.0}%); extend the pool with \
         lvextend, or remove what is no longer needed"
    )]
    PoolFull {
        /// The volume, `VG/LV`.
        volume: String,
        /// The pool, `VG/LV`.
        pool: String,
        /// How much of the pool's data space is in use.
        data_percent: f64,
        /// How much of its metadata space is in use.
        metadata_percent: f64,
        /// From where on no snapshot is taken.
        limit_percent: f64,
    },
    /// What is read is no longer what was frozen: nothing may be published from it.
    #[error("{name}: {reason}")]
    Unhealthy {
        /// The snapshot, device or image.
        name: String,
        /// What happened to it.
        reason: String,
    },
    /// A snapshot could not be removed.
    #[error(
        "the snapshot {snapshot} could not be removed within {tried_seconds} s; the next run tries again, or remove it \
         with `lvremove {snapshot}`: {reason}"
    )]
    NotReleased {
        /// The snapshot, `VG/LV`.
        snapshot: String,
        /// How long it was tried.
        tried_seconds: u64,
        /// What LVM said the last time.
        reason: String,
    },
    /// Taking a snapshot failed, and what had been made of it could not be removed.
    #[error(
        "{failure}; and the snapshot {snapshot} could not be removed ({reason}): the next run tries again, or remove it \
         with `lvremove {snapshot}`"
    )]
    LeftBehind {
        /// Why there is no usable snapshot.
        failure: Box<SourceError>,
        /// The snapshot, `VG/LV`.
        snapshot: String,
        /// What LVM said.
        reason: String,
    },
    /// A program could not be started.
    #[error("{program} could not be run; on Debian it comes with the package {package}")]
    NotRun {
        /// The program.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
        /// The system's own error.
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command as a person would type it.
        command: String,
        /// How it ended.
        status: String,
        /// What it said on standard error, shortened.
        stderr: String,
    },
    /// A program's output is not what it should be.
    #[error("the output of `{command}` cannot be used: {what}")]
    Output {
        /// The command as a person would type it.
        command: String,
        /// What is missing or wrong.
        what: String,
        /// The parser's own error, when it was one.
        source: Option<serde_json::Error>,
    },
}

impl SourceError {
    /// A failed read or open of `path`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    /// Output of a command that lacks something.
    pub(crate) fn output(program: &str, args: &[OsString], what: impl Into<String>) -> Self {
        Self::Output { command: shown_command(program, args), what: what.into(), source: None }
    }
}
