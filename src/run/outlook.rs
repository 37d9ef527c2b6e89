//! What keeps this host, and this user, from reading a region's files: said before a backup keeps its image instead.

use std::sync::Arc;

use crate::error::with_causes;
use crate::layout::{Region, RegionBlocks};
use crate::outside::BlockRead;
use crate::reader::filesystem::FsRegion;
use crate::reader::open::{readers, try_out};

/// Why a region's files cannot be read here. `None` when nothing is known that speaks against it.
pub(super) fn obstacle(blocks: &Arc<dyn BlockRead>, region: &Region) -> Option<String> {
    let of = FsRegion {
        name: &region.name,
        fs: region.holds.fs.as_deref()?,
        blocks: Arc::new(RegionBlocks::shared(Arc::clone(blocks), &region.extents)),
        pieces: &region.extents,
    };
    try_out(&readers(false), &of).err().map(|why| with_causes(&why))
}
