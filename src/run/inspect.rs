//! What lies on a source, without taking a snapshot of it.

use std::ffi::OsStr;

use crate::layout::{Layout, LayoutError, detect};
use crate::outside::{FileBlocks, RunCommand};
use crate::source::{self, SourceError};

/// Why a source could not be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is no source, or cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its first or last sectors cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Reads the layout of what `spec` names, as it is at this moment. Of a volume that is in use it may be a mixture of
/// two moments; a backup looks again at its snapshot. What a backup would refuse, since it is mounted or a snapshot
/// itself, may be looked at all the same.
pub fn inspect(spec: &OsStr, commands: &dyn RunCommand) -> Result<Layout, InspectError> {
    let source = match source::resolve(spec, commands) {
        Ok(source) => source,
        Err(refused @ SourceError::Refused { .. }) => {
            let device = source::open_block_device(spec)?.ok_or(refused)?;
            return Ok(detect(&device.blocks, &device.display_name, Some(device.sector_size_bytes))?);
        }
        Err(error) => return Err(error.into()),
    };
    let file = source.open()?;
    let blocks = FileBlocks::new(file, source.size_bytes());
    Ok(detect(&blocks, source.display_name(), Some(source.sector_size_bytes()))?)
}
