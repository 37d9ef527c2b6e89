//! A filesystem that was made anew is the filesystem that was: its maker's choices come back, or the plan and the result
//! name each that does not.

mod btrfs;
mod md;
mod xfs;

use std::path::{Path, PathBuf};

use crate::testkit::guest::backups::{run_expecting, snapshot_expecting};
use crate::testkit::guest::sh;

/// An image that `script` made as `$1`, its backup, and what a restore made of it.
pub(crate) struct Round {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) source: PathBuf,
    pub(crate) restored: PathBuf,
    /// What the restore printed.
    pub(crate) said: String,
}

pub(crate) fn there_and_back(status: i32, script: &str, more: &[&str]) -> Round {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let source = dir.path().join("fs.img");
    sh(&format!("set -- {}; {script}", source.display()));
    let destination = dir.path().join("b");
    std::fs::create_dir(&destination).unwrap();
    let all = if script.contains("mkfs.btrfs") { &["--read-only-snapshots"][..] } else { &[] };
    let archive = snapshot_expecting(0, &source, &destination, all);
    let restored = dir.path().join("restored.img");
    let mut arguments = vec!["restore", archive.to_str().unwrap(), "--to-image", restored.to_str().unwrap()];
    arguments.extend(more);
    let said = run_expecting(status, &arguments);
    Round { dir, source, restored, said }
}

/// Compares what a shell command prints of both images.
pub(crate) fn assert_same(round: &Round, command: &str) {
    let seen = |image: &Path| sh(&format!("set -- {}; {command}", image.display()));
    let (was, is) = (seen(&round.source), seen(&round.restored));
    assert_eq!(was, is, "{}", round.said);
}
