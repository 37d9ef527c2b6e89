//! The budget of one detection. Each structure has bounds of its own, but a disk can hold very many structures, and
//! the same one many times, so their sum is bounded too. See docs/decisions/102.

/// The remaining budget of a detection. Content that exceeds it is kept in a cheaper way, and a problem says so.
#[derive(Debug)]
pub(super) struct Budget {
    /// Extents of all nested regions.
    pub(super) extents: usize,
    /// Extents visited while logical volumes are mapped.
    pub(super) steps: usize,
    /// Parts of volume groups processed. A group counts each time it is assembled.
    pub(super) parts: usize,
    /// Bytes for the manifest, before compression.
    pub(super) preserved_bytes: u64,
}

impl Budget {
    /// The budget at the start of a detection.
    pub(super) fn new() -> Self {
        Self { extents: 131_072, steps: 8_000_000, parts: 2_000_000, preserved_bytes: 32 << 20 }
    }

    /// Takes `bytes` of the bytes for the manifest, or nothing if fewer are left.
    pub(super) fn preserve(&mut self, bytes: u64) -> bool {
        let left = self.preserved_bytes.checked_sub(bytes);
        self.preserved_bytes = left.unwrap_or(self.preserved_bytes);
        left.is_some()
    }

    /// Takes `count` parts, or nothing if fewer are left.
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
    fn an_exhausted_budget_gives_nothing() {
        let mut budget = Budget { preserved_bytes: 10, parts: 3, ..Budget::new() };
        assert!(budget.preserve(9) && !budget.preserve(2) && budget.preserve(1) && !budget.preserve(1));
        assert!(!budget.go_through(4) && budget.go_through(3) && !budget.go_through(1));
    }
}
