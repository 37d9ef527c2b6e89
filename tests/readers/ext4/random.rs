//! Chance that is the same each time.

/// Numbers that look random and are the same for the same seed (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    /// A case's own numbers; `VOLBAK_SEED` gives all cases others.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self((seed ^ number_from("VOLBAK_SEED", 0)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `bound` - 1; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound.max(1)
    }

    /// One of these; there is at least one.
    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// How many rounds a random test takes.
pub(crate) fn rounds(unless_told: u64) -> u64 {
    number_from("VOLBAK_ROUNDS", unless_told)
}

fn number_from(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().unwrap())
}
