//! Fields of on-disk structures at fixed offsets.

/// Writes `bytes` at `at`. The structures here have fixed lengths, so that a field is never outside.
pub(super) fn put<const N: usize>(structure: &mut [u8], at: usize, bytes: [u8; N]) {
    structure[at..at + N].copy_from_slice(&bytes);
}

/// The low 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "the other half is written elsewhere")]
pub(super) fn low16(number: u32) -> [u8; 2] {
    (number as u16).to_le_bytes()
}

/// Bits 16 to 31.
pub(super) fn high16(number: u32) -> [u8; 2] {
    low16(number >> 16)
}

/// The low 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "the other half is written elsewhere")]
pub(super) fn low32(number: u64) -> [u8; 4] {
    (number as u32).to_le_bytes()
}

/// Bits 32 to 63.
pub(super) fn high32(number: u64) -> [u8; 4] {
    low32(number >> 32)
}

/// Bits 32 to 47.
pub(super) fn middle16(number: u64) -> [u8; 2] {
    let [low, high, ..] = high32(number);
    [low, high]
}
