//! The devices on which regions are made.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{CarryOutError, io_error};
use crate::outside::RunCommand;
use crate::reader::kernel::device_map::DeviceMap;
use crate::reader::kernel::loop_device::LoopDevice;
use crate::units::{ByteRange, Extent};

/// A device over a region's extents on the target. Fields drop in this order.
pub(super) struct RegionDevice {
    pub(super) path: PathBuf,
    map: Option<DeviceMap>,
    _device: LoopDevice,
}

impl RegionDevice {
    /// Creates a device over the region's extents in the target `file`.
    pub(super) fn attach(
        file: &File,
        region: &str,
        extents: &[Extent],
        commands: &Arc<dyn RunCommand>,
    ) -> Result<Self, CarryOutError> {
        let start = extents.iter().map(|piece| piece.source_offset).min().unwrap_or(0);
        let end = extents.iter().map(|piece| piece.source_offset.saturating_add(piece.length)).max().unwrap_or(0);
        let range = ByteRange::new(start, end.saturating_sub(start));
        let device =
            LoopDevice::attach(file, range, true).map_err(io_error(format!("{region}: no loop device can be made")))?;
        if extents.len() == 1 {
            return Ok(Self { path: device.path().to_owned(), map: None, _device: device });
        }
        let shifted: Vec<Extent> = extents
            .iter()
            .map(|piece| Extent { source_offset: piece.source_offset - start, length: piece.length })
            .collect();
        let map = DeviceMap::create(device.path(), &shifted, false, region, Arc::clone(commands))
            .map_err(|source| CarryOutError::Pieces { region: region.to_owned(), source })?;
        Ok(Self { path: map.path().to_owned(), map: Some(map), _device: device })
    }

    /// Releases it.
    pub(super) fn finish(self, region: &str) -> Result<(), CarryOutError> {
        let map = self.map.map_or(Ok(()), DeviceMap::finish);
        map.map_err(|source| CarryOutError::Pieces { region: region.to_owned(), source })
    }
}
