//! Shows the layout of a source without a snapshot.

use std::ffi::OsStr;
use std::sync::Arc;

use super::outlook::obstacle;
use crate::events::{Problem, Severity};
use crate::image::format::Format;
use crate::layout::{Handling, Layout, LayoutError, detect};
use crate::outside::{BlockRead, RunCommand};
use crate::source::{self, SourceError};

/// Why a source could not be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It is no valid source, or cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its first or last sectors cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Reads the present layout of `spec`. For a volume in use, it may mix two moments; a backup reads its snapshot
/// instead. Sources that a backup refuses, such as mounted devices and snapshots, are allowed. A region whose files
/// this host or user cannot read is shown as the raw image that a backup would keep, with the reason.
/// `format` is that of an image file, as in [`resolve_as`](source::resolve_as).
pub fn inspect(spec: &OsStr, format: Option<Format>, commands: &dyn RunCommand) -> Result<Layout, InspectError> {
    let source = match source::resolve_as(spec, format, commands) {
        Ok(source) => source,
        // A device that is in use is no qcow2 image either.
        Err(refused @ SourceError::Refused { .. }) if format != Some(Format::Qcow2) => {
            let device = source::open_block_device(spec)?.ok_or(refused)?;
            let blocks: Arc<dyn BlockRead> = Arc::new(device.blocks);
            return look(&blocks, &device.display_name, device.sector_size_bytes);
        }
        Err(error) => return Err(error.into()),
    };
    look(&source.open_blocks()?, source.display_name(), source.sector_size_bytes())
}

fn look(blocks: &Arc<dyn BlockRead>, name: &str, sector_size_bytes: u32) -> Result<Layout, InspectError> {
    let mut layout = detect(&**blocks, name, Some(sector_size_bytes))?;
    for region in layout.regions.iter_mut().filter(|region| region.handling == Handling::Files) {
        if let Some(why) = obstacle(blocks, region) {
            region.handling = Handling::RawImage;
            let what = format!("{why}; a backup by this user on this host keeps it as a raw image");
            layout.problems.push(Problem::new(Severity::Warning, &region.name, what));
        }
    }
    Ok(layout)
}
