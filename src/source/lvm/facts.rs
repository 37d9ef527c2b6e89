//! Facts about volumes and volume groups, from LVM.

use std::path::{Path, PathBuf};

use crate::events::SourceName;

/// A logical volume, from lvs.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as LVM has them")]
#[derive(Clone, Debug, PartialEq)]
pub struct LvFacts {
    /// Its volume group.
    pub vg: String,
    /// Its name, without the brackets of a hidden one.
    pub lv: String,
    /// Its UUID, which a rename does not change.
    pub uuid: String,
    /// Its group's UUID.
    pub vg_uuid: String,
    /// Its size. For a thick snapshot this is the size of its exception store (COW area), not of the data it shows.
    pub size_bytes: u64,
    /// The attributes, as in lvs(8) (`owi-a-s---`).
    pub attr: String,
    /// Its layout (`linear`, or `thin` and `sparse`).
    pub layout: Vec<String>,
    /// Its roles (`public` and `origin`, or `private`, `thin`, `pool` and `data`).
    pub roles: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// `writeable`, `read-only` or `read-only-override`; `unknown` while it is inactive.
    pub permissions: String,
    /// Its thin pool.
    pub pool: Option<String>,
    /// The volume that it is a snapshot of.
    pub origin: Option<String>,
    /// Whether it is hidden, as an internal part of other volumes.
    pub hidden: bool,
    /// Whether it, or a snapshot of it, is being merged.
    pub merging: bool,
    /// Whether it is active on this host.
    pub is_active: bool,
    /// Whether its device is open.
    pub is_open: bool,
    /// Its health (`partial`, `out_of_data`, `failed`); empty if good.
    pub health: String,
    /// Whether it is a thick snapshot that overflowed.
    pub snapshot_invalid: bool,
    /// Used space in percent: of a thick snapshot's exception store, or of a pool's data space.
    pub data_percent: Option<f64>,
    /// Used metadata space of a pool, in percent.
    pub metadata_percent: Option<f64>,
    /// Its device number, while it is active.
    pub device: Option<(u32, u32)>,
    /// Its number in its thin pool.
    pub thin_id: Option<u64>,
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

    /// Its name in events and log lines.
    pub fn name(&self) -> SourceName {
        SourceName::of_volume(&self.vg, &self.lv)
    }

    /// Whether it is in a thin pool.
    pub fn is_thin(&self) -> bool {
        self.pool.is_some() && self.layout.iter().any(|layout| layout == "thin")
    }

    /// The node to open: `/dev/VG/LV`, or the one under `/dev/mapper` if only that exists (no udev).
    pub fn node(&self) -> &Path {
        if !self.path.exists() && self.dm_path.exists() { &self.dm_path } else { &self.path }
    }

    /// The UUID of its device-mapper device.
    pub(crate) fn dm_uuid(&self) -> String {
        format!("LVM-{}", [self.vg_uuid.as_str(), &self.uuid].concat().replace('-', ""))
    }
}

/// A volume group, from vgs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VgFacts {
    pub(crate) name: String,
    pub(crate) extent_size_bytes: u64,
    pub(crate) free_extents: u64,
}
