//! The complete backups that a volume has already, and which of them may be bad.

use std::sync::OnceLock;

use crate::manifest::Manifest;
use crate::run::locate;
use crate::store::catalog::{BackupState, CatalogEntry};

/// The complete backups of a volume, in the order of their dates.
pub(in crate::run) struct EarlierBackups<'a> {
    complete: Vec<EarlierBackup<'a>>,
    /// The newest one that is damaged.
    damaged: Option<&'a str>,
}

pub(in crate::run) struct EarlierBackup<'a> {
    pub(in crate::run) entry: &'a CatalogEntry,
    pub(in crate::run) manifest: &'a Manifest,
    may_be_bad: OnceLock<bool>,
}

impl<'a> EarlierBackups<'a> {
    pub(super) fn of(entries: &'a [CatalogEntry]) -> Self {
        let complete = entries.iter().filter_map(|entry| match &entry.state {
            BackupState::Complete { manifest } => Some(EarlierBackup { entry, manifest, may_be_bad: OnceLock::new() }),
            _ => None,
        });
        let damaged = entries.iter().rev().find(|entry| matches!(entry.state, BackupState::Damaged { .. }));
        Self { complete: complete.collect(), damaged: damaged.map(|entry| entry.stem.as_str()) }
    }

    /// The newest one that is damaged.
    pub(in crate::run) fn damaged(&self) -> Option<&'a str> {
        self.damaged
    }

    pub(in crate::run) fn iter(&self) -> std::slice::Iter<'_, EarlierBackup<'a>> {
        self.complete.iter()
    }
}

impl EarlierBackup<'_> {
    /// Whether a verification found it bad, or its record cannot be read, which may say so. That is a file of its own, which
    /// is read once, and only if it is asked for.
    pub(in crate::run) fn may_be_bad(&self) -> bool {
        *self.may_be_bad.get_or_init(|| locate::may_be_bad(self.entry, self.manifest))
    }
}
