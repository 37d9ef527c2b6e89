//! The map of one region, by its content.

use std::io;
use std::sync::Arc;

use super::map::{UsedMap, Whole};
use super::{exfat, ext, fat, ntfs, swap, xfs};
use crate::layout::probe::{judge, probe_all};
use crate::layout::window::Window;
use crate::layout::{HoldsKind, Region};
use crate::outside::{BlockRead, Cancel};

/// The map of one region, whose own bytes `blocks` are. Holes of the source are not used, whatever the content says.
///
/// The only errors are that of a cancelled run, `Interrupted`; where reading the map fails, all of it is used.
pub fn used_map(region: &Region, blocks: &Arc<dyn BlockRead>, cancel: &Cancel) -> io::Result<UsedMap> {
    content_map(region, blocks, cancel)?.without_holes(blocks.as_ref(), cancel)
}

/// The map of a region's content, without regard to the source's holes.
pub(super) fn content_map(region: &Region, blocks: &Arc<dyn BlockRead>, cancel: &Cancel) -> io::Result<UsedMap> {
    let len = blocks.len_bytes();
    // With several signatures, or a damaged one, a map could belong to something else.
    let judged = judge(probe_all(&Window::new(blocks.as_ref())));
    let is_sure = judged.remarks.is_empty()
        && !judged.keep_raw
        && judged.found.is_none_or(|found| found.holds.kind == region.holds.kind && found.holds.fs == region.holds.fs);
    let made = if !is_sure {
        Err(Whole::no_map("it has several signatures, or a damaged one"))
    } else if region.holds.size_bytes.is_some_and(|size| size > len) {
        Err(Whole::in_doubt("its content is longer than it, so that a part of it is missing"))
    } else {
        match (region.holds.kind, region.holds.fs.as_deref()) {
            (HoldsKind::Empty, _) => Ok(UsedMap::empty(len)),
            (HoldsKind::Filesystem, Some("ext2" | "ext3" | "ext4")) => ext::map(blocks, cancel),
            (HoldsKind::Filesystem, Some("ntfs")) => ntfs::map(blocks, cancel),
            (HoldsKind::Filesystem, Some("xfs")) => xfs::map(blocks.as_ref(), cancel),
            (HoldsKind::Filesystem, Some("vfat")) => fat::map(blocks.as_ref(), cancel),
            (HoldsKind::Filesystem, Some("exfat")) => exfat::map(blocks.as_ref(), cancel),
            (HoldsKind::Swap, Some("swap")) => swap::map(&region.holds, blocks.as_ref()),
            (_, Some(name)) => Err(Whole::no_map(format!("it holds {name}, of which no map is read"))),
            (_, None) => Err(Whole::no_map("it holds something unknown")),
        }
    };
    if cancel.is_cancelled() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(made.unwrap_or_else(|why| UsedMap::whole(len, why)))
}
