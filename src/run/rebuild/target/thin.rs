//! The room in the pool of a thin volume.

use super::error::TargetError;
use crate::outside::RunCommand;
use crate::source::{self, LvFacts};
use crate::units::ByteLen;

/// A thin pool, and how much can be written to one of its volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PoolRoom {
    /// `VG/LV`.
    pool: String,
    /// What the pool has left, and what the volume has of it already. lvs(8) rounds both to a ten thousandth.
    bytes: u64,
}

impl PoolRoom {
    /// That of a volume's pool; `None` if it is no thin volume, or LVM does not say how full the pool is.
    pub(super) fn of(volume: &LvFacts, commands: &dyn RunCommand) -> Result<Option<Self>, TargetError> {
        Ok(source::pool_of(volume, commands)?.and_then(|pool| Self::between(volume, &pool)))
    }

    fn between(volume: &LvFacts, pool: &LvFacts) -> Option<Self> {
        let used = part_of(pool.size_bytes, pool.data_percent?);
        let own = part_of(volume.size_bytes, volume.data_percent.unwrap_or(0.0));
        Some(Self { pool: pool.full_name(), bytes: pool.size_bytes.saturating_sub(used).saturating_add(own) })
    }

    /// Why so many bytes cannot be written.
    pub(super) fn lacks(&self, needed_bytes: u64) -> Option<String> {
        let missing = needed_bytes.checked_sub(self.bytes).filter(|missing| *missing > 0)?;
        let Self { pool, bytes } = self;
        Some(format!(
            "its thin pool has room for {}, and about {} are needed; a full pool fails the writes of all its volumes: extend it \
             first, with `lvextend -L +{}m {pool}`",
            ByteLen(*bytes),
            ByteLen(needed_bytes),
            missing.saturating_add(spare(needed_bytes)).div_ceil(1 << 20)
        ))
    }
}

/// For what is not known exactly: filesystems' metadata, and chunks of which only a part is written.
fn spare(needed_bytes: u64) -> u64 {
    (needed_bytes / 16).max(64 << 20)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a percentage"
)]
fn part_of(bytes: u64, percent: f64) -> u64 {
    (bytes as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64
}
