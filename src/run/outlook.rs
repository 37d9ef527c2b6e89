//! Finds obstacles that prevent this host or user from reading a region's files, to report them before a backup
//! keeps its image.

use std::sync::Arc;

use crate::error::with_causes;
use crate::layout::{Region, RegionBlocks};
use crate::outside::BlockRead;
use crate::reader::filesystem::FsRegion;
use crate::reader::open::{readers, try_out};

/// Why a region's files cannot be read here; `None` if no obstacle is known.
pub(super) fn obstacle(blocks: &Arc<dyn BlockRead>, region: &Region) -> Option<String> {
    let of = FsRegion {
        name: &region.name,
        fs: region.holds.fs.as_deref()?,
        blocks: Arc::new(RegionBlocks::shared(Arc::clone(blocks), &region.extents)),
        pieces: &region.extents,
    };
    try_out(&readers(false), &of).err().map(|why| with_causes(&why))
}
