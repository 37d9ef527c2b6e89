//! A backup that may be copied.

use std::path::Path;

use chrono::{DateTime, Utc};

use crate::error::with_causes;
use crate::manifest::Manifest;
use crate::run::check::record;
use crate::run::locate::files_are_bad;
use crate::store::Backup;
use crate::store::catalog::{BackupState, CatalogEntry};

/// A backup of the source.
#[derive(Clone, Debug)]
pub struct Candidate {
    files: Backup,
    volume: String,
    state: State,
    /// Whether it was named, and not only one of all.
    is_named: bool,
}

/// The state of a backup in the source.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Its files are consistent.
    Complete {
        /// Its manifest, without the bytes outside of regions.
        manifest: Box<Manifest>,
        /// Whether a verification found it bad.
        is_bad: bool,
    },
    /// An archive without a manifest: another program made it, or the manifest is lost.
    WithoutManifest,
    /// Its files contradict each other.
    Damaged(String),
}

impl Candidate {
    /// A backup of a catalog.
    pub fn of_entry(entry: CatalogEntry) -> Self {
        let is_bad = record::of_entry(&entry).is_some_and(|it| matches!(it.health(), record::Health::Bad { .. }));
        let (files, volume) = (entry.files(), entry.name.clone());
        let state = match entry.state {
            BackupState::Complete { manifest } => State::complete(manifest, is_bad),
            BackupState::WithoutManifest => State::WithoutManifest,
            BackupState::Damaged { what } => State::Damaged(what),
        };
        Self { files, volume, state, is_named: false }
    }

    /// A backup that was named.
    pub fn named(files: Backup) -> Self {
        let volume = files.volume();
        let state = match (files.read_public_manifest(), files.open_stored_archive()) {
            (Ok(manifest), Ok(archive)) => {
                let (said, found) = (manifest.sizes.archive_bytes, archive.len_bytes());
                if manifest.stem != files.stem() {
                    State::Damaged(format!("the manifest is that of {}", crate::shown::text(&manifest.stem)))
                } else if said != found {
                    State::Damaged(format!("the archive has {found} bytes; the manifest says {said}"))
                } else {
                    let is_bad = files_are_bad(&files, &manifest);
                    State::complete(Box::new(manifest), is_bad)
                }
            }
            // The manifest is missing.
            (Err(_), Ok(_)) if files.manifest_bytes() == 0 => State::WithoutManifest,
            (Err(error), _) => State::Damaged(with_causes(&error)),
            (_, Err(error)) => State::Damaged(with_causes(&error)),
        };
        Self { files, volume, state, is_named: true }
    }

    /// Its files.
    pub(super) fn files(&self) -> &Backup {
        &self.files
    }

    /// The name of its volume.
    pub fn volume(&self) -> &str {
        &self.volume
    }

    /// The common start of its file names.
    pub fn stem(&self) -> &str {
        self.files.stem()
    }

    /// When it was started; `None` if that is unknown.
    pub fn started_at(&self) -> Option<DateTime<Utc>> {
        self.manifest().map(|manifest| manifest.started_at)
    }

    /// The volume group of its volume.
    pub(in crate::run) fn group(&self) -> Option<&str> {
        self.manifest().and_then(|manifest| manifest.source.vg.as_deref())
    }

    /// The set that it is a member of.
    pub(in crate::run) fn set_id(&self) -> Option<&str> {
        self.manifest().and_then(|manifest| manifest.set.as_ref()).map(|set| set.id.as_str())
    }

    /// Whether a verification found it bad.
    pub(in crate::run) fn is_bad(&self) -> bool {
        matches!(self.state, State::Complete { is_bad: true, .. })
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn is_named(&self) -> bool {
        self.is_named
    }

    pub(super) fn manifest(&self) -> Option<&Manifest> {
        match &self.state {
            State::Complete { manifest, .. } => Some(manifest),
            _ => None,
        }
    }

    /// The destination that it is in: the directory above that of its volume.
    pub(super) fn root(&self) -> Option<&Path> {
        self.files.directory().parent().filter(|root| !root.as_os_str().is_empty())
    }

    /// The sort key of copies: by date, those of one set together.
    pub(super) fn order(&self) -> (Option<DateTime<Utc>>, String, String) {
        let set = self.manifest().and_then(|manifest| manifest.set.as_ref());
        (self.started_at(), set.map_or_else(String::new, |set| set.id.clone()), self.volume.clone())
    }
}

impl State {
    fn complete(mut manifest: Box<Manifest>, is_bad: bool) -> Self {
        // Only a restore needs these bytes, and there may be thousands of backups.
        manifest.layout.outside = Vec::new();
        Self::Complete { manifest, is_bad }
    }
}
