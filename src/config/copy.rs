//! The table `[copy]`: each run copies its backups to a second destination.

use std::path::{Path, PathBuf};

use super::kinds::{patterns, rate};
use super::pattern::Pattern;
use super::section::Section;
use crate::store::is_in_object_store;

/// The table `[copy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyTarget {
    /// The second destination; nothing is copied if `None`.
    pub to: Option<PathBuf>,
    /// The volumes whose backups are copied.
    pub volumes: Vec<Pattern>,
    /// Whether the second destination must be on a mount point other than `/`.
    pub require_mount: bool,
    /// The maximum rate in bytes per second; `None` means that of the run.
    pub read_rate_limit: Option<u64>,
}

impl Default for CopyTarget {
    fn default() -> Self {
        let volumes = Pattern::new("*").into_iter().collect();
        Self { to: None, volumes, require_mount: true, read_rate_limit: None }
    }
}

pub(super) fn read(section: &Section<'_>, is_there: bool) -> CopyTarget {
    let usual = CopyTarget::default();
    let right = "write an absolute path, like to = \"/mnt/second\", s3://BUCKET/PREFIX or swift://CONTAINER/PREFIX";
    let is_place = |text: &str| text.starts_with('/') || is_in_object_store(Path::new(text));
    let to = section.parsed("to", right, |text| is_place(text).then(|| PathBuf::from(text)));
    if is_there && to.is_none() && !section.has("to") {
        let what = "[copy] does not say where to";
        section.reading.mistake(&section.place("volumes"), what, "write to = \"/mnt/second\"");
    }
    CopyTarget {
        to,
        volumes: patterns(section, "volumes").unwrap_or(usual.volumes),
        require_mount: section.boolean("require_mount").unwrap_or(usual.require_mount),
        read_rate_limit: rate(section, "read_rate_limit"),
    }
}
