//! Bitmaps with one bit for each cluster, set if it is used.

use super::map::RunSet;
use crate::units::ByteRange;

/// Where the bits of a bitmap lead: cluster 0 begins at `first_byte`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clusters {
    pub(super) first_byte: u64,
    pub(super) bytes: u64,
    pub(super) count: u64,
}

impl Clusters {
    /// The bytes of `count` clusters from `first` on.
    pub(super) fn range(self, first: u64, count: u64) -> ByteRange {
        let start = self.first_byte.saturating_add(first.saturating_mul(self.bytes));
        ByteRange::new(start, count.saturating_mul(self.bytes))
    }

    /// Adds what the bits of `bitmap`, whose first one is that of cluster `first`, have as used. Bits behind the last cluster
    /// mean nothing. Returns how many clusters that is.
    pub(super) fn add_used(self, runs: &mut RunSet, first: u64, bitmap: &[u8]) -> u64 {
        let mut used = 0;
        let mut add = |from: u64, to: u64| {
            used += to.saturating_sub(from);
            runs.add(self.range(from, to.saturating_sub(from)));
        };
        let mut used_from = None;
        let mut cluster = first;
        for byte in bitmap {
            // Eight at once where they are alike, as they mostly are.
            let alike = (*byte == 0 && used_from.is_none()) || (*byte == 0xFF && used_from.is_some());
            if alike {
                cluster += 8;
                continue;
            }
            for bit in 0..8 {
                if cluster >= self.count {
                    break;
                }
                match (byte >> bit & 1 == 1, used_from) {
                    (true, None) => used_from = Some(cluster),
                    (false, Some(from)) => {
                        add(from, cluster);
                        used_from = None;
                    }
                    _ => {}
                }
                cluster += 1;
            }
        }
        if let Some(from) = used_from {
            add(from, cluster.min(self.count));
        }
        used
    }
}
