//! Opens a block device to show its layout. It need not be a valid source.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::OFlags;

use crate::outside::FileBlocks;
use crate::shown;
use crate::source::device::{Node, NodeKind, length_bytes, sector_size_bytes};
use crate::source::error::SourceError;

/// A block device that was opened to show its layout.
#[derive(Debug)]
pub struct LookedAt {
    /// Its bytes, which may change at any time.
    pub blocks: FileBlocks,
    /// Its path.
    pub display_name: String,
    /// Its logical sector size.
    pub sector_size_bytes: u32,
}

/// Opens `spec` if it is the path of a block device, or `VG/LV` with a node in `/dev`. Other programs may write to
/// it meanwhile, so never use it for a backup.
pub fn open_block_device(spec: &OsStr) -> Result<Option<LookedAt>, SourceError> {
    // Joining an absolute path replaces the directory.
    for path in [Path::new(spec).to_owned(), Path::new("/dev").join(spec)] {
        let io_error = |error| SourceError::io("opening it", &path, error);
        let Ok(node) = Node::look(&path) else { continue };
        if !matches!(node.kind(), NodeKind::BlockDevice(_)) {
            continue;
        }
        let file = node.open(OFlags::empty()).map_err(io_error)?;
        let len_bytes = length_bytes(&file).map_err(io_error)?;
        let sector_size_bytes = sector_size_bytes(&file).map_err(io_error)?;
        let display_name = shown::bytes(path.as_os_str().as_encoded_bytes());
        return Ok(Some(LookedAt { blocks: FileBlocks::new(file, len_bytes), display_name, sector_size_bytes }));
    }
    Ok(None)
}
