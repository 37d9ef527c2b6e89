//! The hashes of directory names in an index: ext4 layout, "Hash Tree Directories", and Linux' `fs/ext4/hash.c`.

/// The hash function of a filesystem.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameHash {
    pub(crate) kind: Kind,
    /// `s_hash_seed`; all zeros select the built-in seed.
    pub(crate) seed: [u32; 4],
    /// Whether bytes above 127 are negative, as on most architectures.
    pub(crate) is_signed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Legacy,
    HalfMd4,
    Tea,
}

/// Reserved for the end of the directory; no name has this hash.
const END: u32 = 0xFFFF_FFFE;
const FIRST_SEED: [u32; 4] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];

impl NameHash {
    /// The hash of a name; the lowest bit is 0.
    pub(crate) fn of(&self, name: &[u8]) -> u32 {
        let mut state = if self.seed == [0; 4] { FIRST_SEED } else { self.seed };
        let hash = match self.kind {
            Kind::Legacy => self.legacy(name),
            Kind::HalfMd4 => {
                for piece in name.len_pieces(32) {
                    half_md4(&mut state, &self.words(piece));
                }
                state[1]
            }
            Kind::Tea => {
                for piece in name.len_pieces(16) {
                    tea(&mut state, &self.words(piece));
                }
                state[0]
            }
        } & !1;
        if hash == END { END - 2 } else { hash }
    }

    fn byte(&self, byte: u8) -> u32 {
        if self.is_signed { i32::from(byte.cast_signed()).cast_unsigned() } else { u32::from(byte) }
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let (mut last, mut before) = (0x12A3_FE2D_u32, 0x37AB_E8F9_u32);
        for byte in name {
            let hash = before.wrapping_add(last ^ self.byte(*byte).wrapping_mul(7_152_373));
            let hash = if hash & 0x8000_0000 == 0 { hash } else { hash.wrapping_sub(0x7FFF_FFFF) };
            (before, last) = (last, hash);
        }
        last << 1
    }

    /// The input words of one piece of the name. Missing bytes are padded with the length of the rest of the name.
    fn words<const N: usize>(&self, rest: &[u8]) -> [u32; N] {
        // A name has at most 255 bytes.
        let len = u32::try_from(rest.len()).unwrap_or(0);
        let pad = len | len << 8;
        let pad = pad | pad << 16;
        let mut words = [pad; N];
        for (word, bytes) in words.iter_mut().zip(rest.chunks(4)) {
            *word = match <&[u8; 4]>::try_from(bytes) {
                // ASCII bytes have the same value signed and unsigned, and four of them overwrite the padding.
                Ok(four) if four.is_ascii() => u32::from_be_bytes(*four),
                _ => bytes.iter().fold(pad, |word, byte| self.byte(*byte).wrapping_add(word << 8)),
            };
        }
        words
    }
}

/// The rest of the name at the start of each piece.
trait Pieces {
    fn len_pieces(&self, piece_bytes: usize) -> impl Iterator<Item = &[u8]>;
}

impl Pieces for [u8] {
    fn len_pieces(&self, piece_bytes: usize) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).step_by(piece_bytes).map(|start| &self[start..])
    }
}

/// Half MD4: three rounds of eight steps.
fn half_md4(state: &mut [u32; 4], words: &[u32; 8]) {
    const ORDERS: [[usize; 8]; 3] = [[0, 1, 2, 3, 4, 5, 6, 7], [1, 3, 5, 7, 0, 2, 4, 6], [3, 7, 2, 6, 1, 5, 0, 4]];
    const SHIFTS: [[u32; 4]; 3] = [[3, 7, 11, 19], [3, 5, 9, 13], [3, 9, 11, 15]];
    const ADDED: [u32; 3] = [0, 0x5A82_7999, 0x6ED9_EBA1];
    let [mut a, mut b, mut c, mut d] = *state;
    for round in 0..3 {
        for step in 0..8 {
            let mixed = match round {
                0 => d ^ (b & (c ^ d)),
                1 => (b & c).wrapping_add((b ^ c) & d),
                _ => b ^ c ^ d,
            };
            let sum = a.wrapping_add(mixed).wrapping_add(words[ORDERS[round][step]]).wrapping_add(ADDED[round]);
            (a, b, c, d) = (d, sum.rotate_left(SHIFTS[round][step % 4]), b, c);
        }
    }
    for (state, added) in state.iter_mut().zip([a, b, c, d]) {
        *state = state.wrapping_add(added);
    }
}

/// 16 rounds of the Tiny Encryption Algorithm over the first half of the state.
fn tea(state: &mut [u32; 4], words: &[u32; 4]) {
    let [mut left, mut right, ..] = *state;
    let mut sum = 0_u32;
    let mixed = |of: u32, sum: u32, first: u32, second: u32| {
        (of << 4).wrapping_add(first) ^ of.wrapping_add(sum) ^ (of >> 5).wrapping_add(second)
    };
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9E37_79B9);
        left = left.wrapping_add(mixed(right, sum, words[0], words[1]));
        right = right.wrapping_add(mixed(left, sum, words[2], words[3]));
    }
    state[0] = state[0].wrapping_add(left);
    state[1] = state[1].wrapping_add(right);
}

#[cfg(test)]
mod tests {
    use super::{Kind, NameHash};

    /// Expected values from `debugfs -R 'dx_hash -h KIND -s 01020304-0506-0708-090a-0b0c0d0e0f10 NAME'` (e2fsprogs
    /// 1.47.0).
    #[test]
    fn hashes_are_those_of_debugfs() {
        let seed = [0x0403_0201, 0x0807_0605, 0x0C0B_0A09, 0x100F_0E0D].map(|word: u32| word);
        let long = "x".repeat(70);
        let cases = [
            (Kind::Legacy, [0x3225_2546_u32, 0xE74B_53E2, 0x4B65_D2C4, 0xC202_F150]),
            (Kind::HalfMd4, [0xE2DD_F968, 0x8D08_EC4C, 0xFD5B_0756, 0x1674_DAF0]),
            (Kind::Tea, [0x1A56_92B6, 0xF535_28F0, 0x919C_F676, 0x6294_7A52]),
        ];
        for (kind, expected) in cases {
            let hash = NameHash { kind, seed, is_signed: true };
            let found = ["hello", "a", &long, "grün"].map(|name| hash.of(name.as_bytes()));
            assert_eq!(found, expected, "{kind:?}");
            let unsigned = NameHash { is_signed: false, ..hash };
            assert_eq!(unsigned.of(b"hello"), expected[0]);
            assert_ne!(unsigned.of("grün".as_bytes()), expected[3]);
        }
    }
}
