//! Detects possible duplicate names without comparing them, since this runs for every directory.

/// A table of up to this many slots is on the stack.
const FEW_SLOTS: usize = 256;

/// Whether two of `count` digests may be equal. The upper bits of a digest select a slot of a hash table, the lower
/// half is compared there. This takes one step per digest, faster than sorting.
pub(super) fn may_repeat(count: usize, digests: impl Iterator<Item = u64>) -> bool {
    // Most directories are small.
    let (mut few, mut many) = ([0_u32; FEW_SLOTS], Vec::new());
    let slots = (2 * count).next_power_of_two();
    let table = if let Some(table) = few.get_mut(..slots) {
        table
    } else {
        many.resize(slots, 0);
        &mut many[..]
    };
    let mask = slots - 1;
    // Names chosen to collide in the table fall back to sorting.
    let mut steps_left = count.saturating_mul(8);
    for digest in digests {
        // 0 marks a free slot.
        let [key, place] = [digest & 0xFFFF_FFFF | 1, digest >> 32].map(|half| u32::try_from(half).unwrap_or(0));
        let mut slot = usize::try_from(place).unwrap_or(0) & mask;
        while table[slot] != 0 {
            if table[slot] == key || steps_left == 0 {
                return true;
            }
            steps_left -= 1;
            slot = (slot + 1) & mask;
        }
        table[slot] = key;
    }
    false
}

/// A fast digest of a name; different names may collide.
pub(super) fn quick_digest(name: &[u8]) -> u64 {
    // The multiplier of FxHash. Both halves of the product are used: otherwise names that differ in some of
    // their last bits would collide.
    const MULTIPLIER: u64 = 0x517c_c1b7_2722_0a95;
    let step = |digest: u64, word: u64| {
        let product = u128::from(digest.rotate_left(5) ^ word) * u128::from(MULTIPLIER);
        // Each half has 64 bits.
        let [low, high] = [product & u128::from(u64::MAX), product >> 64].map(|half| u64::try_from(half).unwrap_or(0));
        low ^ high
    };
    let mut words = name.chunks_exact(8);
    let mut digest = step(0, name.len() as u64);
    for word in words.by_ref() {
        digest =
            step(digest, u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]));
    }
    let rest = match name.last_chunk::<8>() {
        // The last 8 bytes overlap those before.
        Some(last) => u64::from_le_bytes(*last),
        None => words.remainder().iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    step(digest, rest)
}

#[cfg(test)]
mod tests {
    use super::{may_repeat, quick_digest};

    #[test]
    fn quick_digests_of_typical_names_differ() {
        let forms: [fn(usize) -> String; 6] = [
            |number| format!("file-{number:06}.txt"),
            |number| format!("{number}"),
            |number| format!("f{number:05}"),
            |number| format!("mail-{number:07}"),
            |number| format!("{number:016x}.{number}"),
            |number| format!("{}n", "x".repeat(number % 255)) + &number.to_string(),
        ];
        for (which, form) in forms.iter().enumerate() {
            let digests: Vec<u64> = (0..100_000).map(|number| quick_digest(form(number).as_bytes())).collect();
            let apart: std::collections::HashSet<u64> = digests.iter().copied().collect();
            assert_eq!(apart.len(), digests.len(), "{which}");
            assert!(!may_repeat(digests.len(), digests.iter().copied()), "{which}");
            let again = digests.iter().chain(&digests[77..78]).copied();
            assert!(may_repeat(digests.len() + 1, again), "{which}");
        }
    }

    #[test]
    fn digests_that_meet_in_the_table_end_it() {
        // The same slot with different keys.
        let meeting = (0..50_000_u64).map(|key| 7 << 32 | key << 1);
        assert!(may_repeat(50_000, meeting));
        assert!(!may_repeat(3, [0, 2, 1 << 32].into_iter()));
        assert!(may_repeat(2, [0, 0].into_iter()));
    }
}
