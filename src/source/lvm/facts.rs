//! What LVM reports of volumes and volume groups.

use std::path::{Path, PathBuf};

use crate::events::SourceName;

/// A logical volume, as lvs reports it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as LVM has them")]
#[derive(Clone, Debug, PartialEq)]
pub struct LvFacts {
    /// Its volume group.
    pub vg: String,
    /// Its name, without the brackets of a hidden one.
    pub lv: String,
    /// Its UUID, which stays when it is renamed.
    pub uuid: String,
    /// Its group's UUID.
    pub vg_uuid: String,
    /// Its size; a thick snapshot's is that of its exception store (COW area), not that of what one reads from it.
    pub size_bytes: u64,
    /// The attributes, as in lvs(8) (`owi-a-s---`).
    pub attr: String,
    /// How it is laid out (`linear`, or `thin` and `sparse`).
    pub layout: Vec<String>,
    /// What it is for (`public` and `origin`, or `private`, `thin`, `pool` and `data`).
    pub roles: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// `writeable`, `read-only`, `read-only-override`; `unknown` while it is not active.
    pub permissions: String,
    /// The thin pool that it is in.
    pub pool: Option<String>,
    /// The volume that it is a snapshot of.
    pub origin: Option<String>,
    /// Whether it is hidden: a part of other volumes.
    pub hidden: bool,
    /// Whether it, or a snapshot of it, is being merged.
    pub merging: bool,
    /// Whether it is active on this host.
    pub is_active: bool,
    /// Whether its device is open.
    pub is_open: bool,
    /// What ails it (`partial`, `out_of_data`, `failed`); empty when nothing does.
    pub health: String,
    /// Whether it is a thick snapshot that overflowed.
    pub snapshot_invalid: bool,
    /// How full it is: a thick snapshot's exception store, a pool's data space. Percent.
    pub data_percent: Option<f64>,
    /// How full a pool's metadata space is. Percent.
    pub metadata_percent: Option<f64>,
    /// Its device number, while it is active.
    pub device: Option<(u32, u32)>,
    /// `/dev/VG/LV`.
    pub path: PathBuf,
    /// Its node under `/dev/mapper`.
    pub dm_path: PathBuf,
}

impl LvFacts {
    /// `VG/LV`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.vg, self.lv)
    }

    /// How events and log lines name it.
    pub fn name(&self) -> SourceName {
        SourceName::of_volume(&self.vg, &self.lv)
    }

    /// Whether it lives in a thin pool.
    pub fn is_thin(&self) -> bool {
        self.pool.is_some() && self.layout.iter().any(|layout| layout == "thin")
    }

    /// The node to open it by: `/dev/VG/LV`, or the one under `/dev/mapper` when only that exists (no udev).
    pub fn node(&self) -> &Path {
        if !self.path.exists() && self.dm_path.exists() { &self.dm_path } else { &self.path }
    }
}

/// A volume group, as vgs reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VgFacts {
    pub(crate) name: String,
    pub(crate) extent_size_bytes: u64,
    pub(crate) free_extents: u64,
}
