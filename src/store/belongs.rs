//! Which archive the side files of a stem belong to: archives of several kinds may have one stem, if another program made some of them.

use std::io::Read;
use std::sync::Arc;

use super::api::Store;
use super::names::MANIFEST;
use crate::archive::image::index::HEADER_LINE as IMAGE_HEADER;
use crate::archive::kind::ArchiveKind;
use crate::manifest::{MAX_BYTES, Manifest};
use crate::outside::{BlockCursor, BlockRead};

/// The kind of archive that a manifest belongs to; `None` if it is not valid.
pub(super) fn kind_of_manifest(manifest: Arc<dyn BlockRead>) -> Option<ArchiveKind> {
    let mut bytes = Vec::new();
    BlockCursor::new(manifest).take(MAX_BYTES + 1).read_to_end(&mut bytes).ok()?;
    Some(Manifest::from_bytes(&bytes).ok()?.kind())
}

/// Whether an index is that of an image.
pub(super) fn is_image_index(index: &dyn BlockRead) -> bool {
    // Up to the version.
    let name = IMAGE_HEADER.split_inclusive('\t').next().unwrap_or_default().as_bytes();
    let mut found = vec![0; name.len()];
    index.read_at(0, &mut found).is_ok() && found == name
}

/// The kind of the backup with this stem: by its manifest, else by the archive that is there.
pub(super) fn kind_of_stem(folder: &dyn Store, stem: &str) -> ArchiveKind {
    let is_there = |kind: &ArchiveKind| folder.length(&format!("{stem}{}", kind.suffix())).is_some();
    let there: Vec<ArchiveKind> = ArchiveKind::ALL.into_iter().filter(is_there).collect();
    match there.as_slice() {
        [only] => *only,
        _ => folder.open(&format!("{stem}{MANIFEST}")).ok().and_then(kind_of_manifest).unwrap_or_default(),
    }
}
