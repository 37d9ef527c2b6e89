//! The blocks of a tar stream.

/// The unit of a tar stream: a header is one block, and data is padded to whole blocks.
pub const BLOCK_BYTES: u64 = 512;
pub(crate) const BLOCK: usize = 512;

/// The number of zero bytes after data of this length.
pub fn padding_after(len_bytes: u64) -> u64 {
    len_bytes.wrapping_neg() % BLOCK_BYTES
}

/// The two zero blocks that end an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

#[cfg(test)]
mod tests {
    use super::padding_after;

    #[test]
    fn padding_fills_the_block() {
        assert_eq!([0, 1, 511, 512, 513].map(padding_after), [0, 511, 1, 0, 511]);
    }
}
