//! How much room the next backup of a volume will take.

use super::prune::Shelf;

/// The room that the next backup of a volume will take, if it is like the newest; `None` without one.
pub(super) fn next_bytes(shelf: &Shelf) -> Option<u64> {
    let newest = shelf.newest()?;
    let files = shelf.entries.iter().find(|entry| entry.stem == newest.stem)?.files();
    let archive_bytes = files.new_bytes().unwrap_or(newest.sizes.archive_bytes);
    Some(archive_bytes.saturating_add(newest.sizes.index_bytes))
}
