//! How many cases of a seeded test, or moments of a kill, one run tries.

/// A third of `whole`; all of it with `scripts/test --all-cases`, which takes long and is for a release.
pub fn count(whole: usize) -> usize {
    if is_whole() { whole } else { whole.div_ceil(3) }
}

/// The numbers of these cases, spread over `0..whole`; 0 is among them. Their step shares no factor with 2 and 5, so that a test that
/// goes by a remainder of the number gets each remainder.
pub fn numbers(whole: usize) -> impl Iterator<Item = usize> {
    (0..whole).step_by(if is_whole() { 1 } else { 3 })
}

fn is_whole() -> bool {
    std::env::var_os("VOLBAK_ALL_CASES").is_some()
}
