//! What one detection may cost altogether. Every structure has bounds of its own; a disk can hold very many of them,
//! and the same one many times over, so their sum is bounded as well. See docs/decisions/102.

/// What is left of a detection's means. What no means are left for is kept in a cheaper way, and it is said.
#[derive(Debug)]
pub(super) struct Budget {
    /// Extents of all regions that lie in others.
    pub(super) extents: usize,
    /// Looks at an extent while logical volumes are mapped.
    pub(super) steps: usize,
    /// Parts of volume groups that are gone through; a group counts each time that it is put together.
    pub(super) parts: usize,
    /// Bytes that go into the manifest, before they are compressed.
    pub(super) preserved_bytes: u64,
}

impl Budget {
    /// What a whole detection has.
    pub(super) fn new() -> Self {
        Self { extents: 131_072, steps: 8_000_000, parts: 2_000_000, preserved_bytes: 32 << 20 }
    }

    /// Takes `bytes` of what the manifest may keep, or nothing when there are not as many.
    pub(super) fn preserve(&mut self, bytes: u64) -> bool {
        let left = self.preserved_bytes.checked_sub(bytes);
        self.preserved_bytes = left.unwrap_or(self.preserved_bytes);
        left.is_some()
    }

    /// Takes `count` of the parts, or nothing when there are not as many.
    pub(super) fn go_through(&mut self, count: usize) -> bool {
        let left = self.parts.checked_sub(count);
        self.parts = left.unwrap_or(self.parts);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn what_is_not_there_is_not_taken() {
        let mut budget = Budget { preserved_bytes: 10, parts: 3, ..Budget::new() };
        assert!(budget.preserve(9) && !budget.preserve(2) && budget.preserve(1) && !budget.preserve(1));
        assert!(!budget.go_through(4) && budget.go_through(3) && !budget.go_through(1));
    }
}
