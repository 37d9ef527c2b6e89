//! How a backup is restored into a directory.

use std::path::PathBuf;

use super::names::IdWish;
use crate::outside::Cancel;
use crate::outside::host::processors;

/// What happens with what is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is, and the entry is reported. Directories are gone into, and stay as they are.
    #[default]
    Keep,
    /// What is equal stays: files of the same size, time and content. Directories get their attributes anew. The rest
    /// as with `Keep`.
    Resume,
    /// It is replaced. Only directories are never removed.
    Overwrite,
}

/// How a backup is restored.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct RestoreOptions {
    /// The directory to restore into; made when it is not there.
    pub to: PathBuf,
    /// The only region whose files are restored, by its name: its root becomes `to`. All regions without one.
    pub region: Option<String>,
    /// Patterns of what is wanted, see [`super::select::Selection`]; everything without any.
    pub paths: Vec<String>,
    /// What happens with what is there already.
    pub existing: Existing,
    /// Whether each file is compared with its digest in the index, and a whole archive with its checksum.
    pub verify: bool,
    /// Whether devices are made. Only root can.
    pub devices: bool,
    /// Whether the directory itself gets the owner, mode, times and attributes that the archive's root has. Without it,
    /// it keeps its own; one that was made is its owner's alone (0700).
    pub top: bool,
    /// Whether files keep set-user-id and set-group-id bits and capabilities also where other users of this host can
    /// reach them.
    pub keep_set_id: bool,
    /// Other numbers for owners and groups.
    pub ids: IdWish,
    /// How many threads inflate.
    pub threads: usize,
    /// The wish to stop.
    pub cancel: Cancel,
}

impl RestoreOptions {
    /// Everything into the directory `to`: existing files stay, digests are compared, devices are left out, and set-id bits are
    /// dropped where other users of the host could use them.
    pub fn into_directory(to: impl Into<PathBuf>) -> Self {
        Self {
            to: to.into(),
            region: None,
            paths: Vec::new(),
            existing: Existing::default(),
            verify: true,
            devices: false,
            top: false,
            keep_set_id: false,
            ids: IdWish::default(),
            threads: processors(),
            cancel: Cancel::default(),
        }
    }
}
