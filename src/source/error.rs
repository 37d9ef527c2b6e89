//! The errors of a source.

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
        /// The operation (`opening it`).
        action: &'static str,
        /// Its path.
        path: PathBuf,
        /// The error from the system.
        source: io::Error,
    },
    /// /proc or /sys, which list mounts and devices, cannot be read.
    #[error("{}: cannot be read, so that nothing can tell whether the source is in use; mount /proc and /sys", path.display())]
    KernelUnseen {
        /// The missing path.
        path: PathBuf,
        /// The error from the system.
        source: io::Error,
    },
    /// The name was not found.
    #[error("{spec}: {what}")]
    NotFound {
        /// The name as given.
        spec: String,
        /// The places searched, and what to do.
        what: String,
    },
    /// The name is ambiguous.
    #[error("{spec} could be any of {}: write the one you mean", candidates.join(", "))]
    Ambiguous {
        /// The name as given.
        spec: String,
        /// An unambiguous name for each candidate.
        candidates: Vec<String>,
    },
    /// The source exists, and backing it up is refused.
    #[error("{name} is refused: {reason}")]
    Refused {
        /// The source's display name.
        name: String,
        /// The reason.
        reason: Refusal,
    },
    /// A disk image that is neither raw nor qcow2.
    #[error(
        "{name} is a {format} image, and raw and qcow2 images are read: convert it with \
         `qemu-img convert -O qcow2 {name} {name}.qcow2`, or use --source-format raw if it is a raw disk with such a content"
    )]
    NotRaw {
        /// The image.
        name: String,
        /// The format's name.
        format: &'static str,
    },
    /// A qcow2 image that is not read.
    #[error("{name}")]
    Qcow2 {
        /// The image.
        name: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The name cannot be used for a directory of backups.
    #[error("{name:?} cannot be the name of a backup: {why}")]
    BadName {
        /// The name.
        name: String,
        /// The reason.
        why: &'static str,
    },
    /// A volume group has too little free space for a thick snapshot.
    #[error(
        "a snapshot of {volume} needs {}, and {group} has {} free: free some, or set a smaller snapshot size \
         (--snapshot-size, snapshot_max_size)", ByteLen(*needed_bytes), ByteLen(*free_bytes)
    )]
    NoRoom {
        /// The volume, `VG/LV`.
        volume: String,
        /// Its group.
        group: String,
        /// The space that the snapshot needs.
        needed_bytes: u64,
        /// The free space of the group.
        free_bytes: u64,
    },
    /// A thin pool is too full for a snapshot.
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
        /// Used data space of the pool.
        data_percent: f64,
        /// Used metadata space of the pool.
        metadata_percent: f64,
        /// The limit above which no snapshot is taken.
        limit_percent: f64,
    },
    /// The source changed after it was frozen, so nothing may be published from it.
    #[error("{name}: {reason}")]
    Unhealthy {
        /// The snapshot, device or image.
        name: String,
        /// The change.
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
        /// How long the removal was retried.
        tried_seconds: u64,
        /// The last error of LVM.
        reason: String,
    },
    /// Taking a snapshot failed, and its remains could not be removed.
    #[error(
        "{failure}; and the snapshot {snapshot} could not be removed ({reason}): the next run tries again, or remove it \
         with `lvremove {snapshot}`"
    )]
    LeftBehind {
        /// Why the snapshot failed.
        failure: Box<SourceError>,
        /// The snapshot, `VG/LV`.
        snapshot: String,
        /// The error of LVM.
        reason: String,
    },
    /// A program could not be started.
    #[error("{program} could not be run; on Debian it comes with the package {package}")]
    NotRun {
        /// The program.
        program: String,
        /// Its Debian package.
        package: &'static str,
        /// The error from the system.
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command as typed in a shell.
        command: String,
        /// Its exit status.
        status: String,
        /// Its standard error, shortened.
        stderr: String,
    },
    /// A program's output is invalid.
    #[error("the output of `{command}` cannot be used: {what}")]
    Output {
        /// The command as typed in a shell.
        command: String,
        /// What is missing or wrong.
        what: String,
        /// The parser's error, if there was one.
        source: Option<serde_json::Error>,
    },
}

impl SourceError {
    /// A failed operation on `path`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    /// Output of a command that lacks a value.
    pub(crate) fn output(program: &str, args: &[OsString], what: impl Into<String>) -> Self {
        Self::Output { command: shown_command(program, args), what: what.into(), source: None }
    }
}
