//! A digest of a disk's content that does not depend on how it is stored.

use crate::outside::zeros::is_zero;

/// Zeros are left out in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// A digest of a disk's bytes and of their places. Pieces of zeros do not count, so that it is the same whether they were
/// read, a hole, or left out.
#[derive(Clone, Debug, Default)]
pub struct DiskDigest(blake3::Hasher);

impl DiskDigest {
    /// Chunks begin at multiples of this number of bytes.
    pub const GRANULE_BYTES: usize = PIECE_BYTES;

    /// Takes note of what lies at `start`, a multiple of the granule, in ascending order. Only the last chunk may end
    /// elsewhere than at one; it counts as if zeros followed.
    pub fn update(&mut self, start: u64, bytes: &[u8]) {
        let mut at = start;
        for piece in bytes.chunks(PIECE_BYTES) {
            if !is_zero(piece) {
                self.0.update(&at.to_le_bytes()).update(piece);
                if piece.len() < PIECE_BYTES {
                    self.0.update(&vec![0; PIECE_BYTES - piece.len()]);
                }
            }
            at += piece.len() as u64;
        }
    }

    /// The digest of all that was noted.
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::{DiskDigest, PIECE_BYTES};

    #[test]
    fn zeros_do_not_count_and_places_do() {
        let of = |chunks: &[(usize, &[u8])]| {
            let mut digest = DiskDigest::default();
            for (piece, bytes) in chunks {
                digest.update((piece * PIECE_BYTES) as u64, bytes);
            }
            digest.finish()
        };
        let mut disk = vec![0; 3 * PIECE_BYTES];
        disk[PIECE_BYTES + 5] = 1;
        assert_eq!(of(&[(0, &disk)]), of(&[(1, &disk[PIECE_BYTES..PIECE_BYTES + 6])]));
        assert_eq!(of(&[(0, &disk)]), of(&[(0, &disk[..2 * PIECE_BYTES]), (2, &disk[2 * PIECE_BYTES..])]));
        assert_ne!(of(&[(0, &disk)]), of(&[(2, &disk[PIECE_BYTES..])]));
        assert_ne!(of(&[(0, &disk)]), of(&[]));
    }
}
