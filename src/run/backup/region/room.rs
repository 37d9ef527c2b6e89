//! Limits how much of a region's files is archived as files.

use crate::archive::error::ArchiveError;
use crate::events::Severity;
use crate::layout::Region;
use crate::reader::filesystem::Filesystem;
use crate::units::ByteLen;

/// Allowance for maps of holes and long headers: a 64th of the region, and this much.
const BESIDE_DATA_BYTES: u64 = 4 << 20;
/// Btrfs compresses extents of up to 128 KiB to at least one block of 4 KiB, so unshared data is at most this many
/// times larger.
const MAX_COMPRESSION: u64 = 32;

/// The limit of a region's archived files. A filesystem without shared blocks holds at most as much as its region.
/// One with shared blocks may hold more; it could not be restored to a region of that size, and may have been
/// crafted to fill the destination.
pub(super) struct Room {
    pub(super) limit_bytes: u64,
    /// Up to this size the files can certainly be restored; `None` if that is certain for all of them.
    clear_bytes: Option<u64>,
}

impl Room {
    pub(super) fn of(region: &Region) -> Self {
        let size = region.size_bytes;
        let own_bytes = size.saturating_add(size / 64).saturating_add(BESIDE_DATA_BYTES);
        if may_compress(region) {
            Self { limit_bytes: own_bytes.saturating_mul(MAX_COMPRESSION), clear_bytes: Some(own_bytes) }
        } else {
            Self { limit_bytes: own_bytes, clear_bytes: None }
        }
    }

    /// Checks the archived length so far. An error if it could not be restored to a region of the same size.
    pub(super) fn check(&mut self, taken_bytes: u64, open: &dyn Filesystem) -> Result<(), ArchiveError> {
        if let Some(clear_bytes) = self.clear_bytes.filter(|clear_bytes| taken_bytes > *clear_bytes) {
            // Compressed data may be longer than the region and still fit; shared data does not.
            if open.restored_bytes().is_none_or(|restored| restored > clear_bytes) {
                return Err(ArchiveError::TooMuch { limit_bytes: clear_bytes });
            }
            self.clear_bytes = None;
        }
        Ok(())
    }
}

fn may_compress(region: &Region) -> bool {
    region.holds.fs.as_deref() == Some("btrfs")
}

/// Whether files of the filesystem may legitimately share blocks.
fn may_share(region: &Region) -> bool {
    let has = |name: &str| {
        let made_with = region.holds.made_with.as_ref();
        made_with.is_some_and(|made_with| made_with.features.iter().any(|feature| feature == name))
    };
    may_compress(region) || has("reflink") || has("shared_blocks")
}

/// Why a region is kept as a raw image although its files can be read.
pub(in crate::run::backup) fn too_much(region: &Region, limit_bytes: u64) -> (Severity, String) {
    let what = format!(
        "its files hold more than {} together, and it is {} long",
        ByteLen(limit_bytes),
        ByteLen(region.size_bytes)
    );
    if may_share(region) {
        let why = "snapshots or reflinks share their data, so its files could not be restored to its own size";
        (Severity::Warning, format!("{what}: {why}; kept as a raw image, which can"))
    } else {
        let why = "blocks are mapped more than once, so it is damaged, or was made to fill the destination";
        (Severity::Error, format!("{what}: {why}; kept as a raw image"))
    }
}
