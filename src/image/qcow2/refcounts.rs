//! Refcounts of a new image, whose clusters are taken in ascending order.

use std::collections::VecDeque;

/// Refcounts of the clusters that are written. A block of them is complete when the image is longer than what it covers.
#[derive(Debug)]
pub(super) struct Refcounts {
    per_block: u64,
    /// The block that `counts` begins with; those before it are written.
    first: u64,
    /// Blocks under way; those that count nothing yet are empty.
    counts: VecDeque<Vec<u16>>,
    /// The offset of each block that is written, and 0 of those that count nothing.
    table: Vec<u64>,
}

impl Refcounts {
    pub(super) fn new(per_block: u64) -> Self {
        Self { per_block, first: 0, counts: VecDeque::new(), table: Vec::new() }
    }

    /// Counts one use of each cluster from `first` to `last`, which are not before a block that was taken.
    pub(super) fn count(&mut self, first: u64, last: u64) {
        for cluster in first..=last {
            let block = place(cluster / self.per_block - self.first);
            if self.counts.len() <= block {
                self.counts.resize_with(block + 1, Vec::new);
            }
            let counts = &mut self.counts[block];
            counts.resize(place(self.per_block), 0);
            let count = &mut counts[place(cluster % self.per_block)];
            *count = count.saturating_add(1);
        }
    }

    /// The first block that is not written, when it covers only clusters before `cluster`: its bytes.
    pub(super) fn complete(&mut self, cluster: u64) -> Option<Vec<u8>> {
        ((self.first + 1) * self.per_block <= cluster).then(|| self.take())
    }

    /// The next block to be written, even if it counts nothing.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.first += 1;
        let mut counts = self.counts.pop_front().unwrap_or_default();
        counts.resize(place(self.per_block), 0);
        counts.iter().flat_map(|count| count.to_be_bytes()).collect()
    }

    /// Notes where the block that was taken last is: 0 when it is not written.
    pub(super) fn placed(&mut self, offset: u64) {
        self.table.push(offset);
    }

    /// Which block would be taken next.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The refcount table.
    pub(super) fn table(&self) -> &[u64] {
        &self.table
    }
}

/// An index in memory: blocks that are under way, and the clusters of one.
#[expect(clippy::cast_possible_truncation, reason = "a block covers at most 2^20 clusters, and two are under way")]
fn place(number: u64) -> usize {
    number as usize
}
