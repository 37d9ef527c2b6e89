//! Zeros: what is not stored, since a hole reads the same.

/// Whether every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks_exact(64);
    chunks.all(|chunk| chunk.iter().fold(0, |seen, byte| seen | byte) == 0)
        && bytes.chunks_exact(64).remainder().iter().all(|byte| *byte == 0)
}
