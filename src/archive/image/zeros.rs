//! The members of zeros, each known by its length: nothing is compressed to make one, or decompressed to check one.
//!
//! Source: RFC 1951. A member is one deflate block with a code of its own, in which 258 zeros take two bits, both 0. The
//! format cannot say them shorter.

use crate::archive::codec::MemberFrame;
use crate::archive::gzip::{HEADER_BYTES, TRAILER_BYTES, header};

/// A match of this length takes two bits.
const MATCH_BYTES: u64 = 258;
/// The bits before the first zero: what kind of block it is, the lengths of the code's code words, and those of the code.
const PREAMBLE: [(u32, u32); 8] = [
    // The last block; its codes are its own; 286 of lengths, one of distances, 18 of the lengths' lengths.
    (0b1, 1),
    (0b10, 2),
    (29, 5),
    (0, 5),
    (14, 4),
    // Of the order 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1: `18` has one bit, `2` and `1` have two.
    (1 << 6, 9),
    (0, 27),
    (0, 0),
];
const CODE_LENGTHS: [(u32, u32); 13] = [
    (0, 9),
    // `2`, 0, `1` end the order.
    (2, 3),
    (0, 3),
    (2, 3),
    // Literal 0 has two bits; 255 literals have none; the end has two; 28 lengths have none; length 258 has one.
    (0b11, 2),
    (0, 1),
    (127, 7),
    (0, 1),
    (106, 7),
    (0b11, 2),
    (0, 1),
    (17, 7),
    // That of length 258, and that of distance 1.
    (0b0101, 4),
];
/// The code words, as they lie in the stream: the literal 0, and the end.
const LITERAL: (u32, u32) = (0b01, 2);
const END: (u32, u32) = (0b11, 2);

/// The CRC-32 polynomial, bits reversed.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// The member that holds `len` zeros, 1 to 2^32 - 1.
pub(super) fn zero_member(len: u64) -> Vec<u8> {
    let member_bytes = zero_member_bytes(len);
    let frame = MemberFrame {
        // About a thousandth of `len`.
        member_bytes: u32::try_from(member_bytes).unwrap_or(u32::MAX),
        data_bytes: u32::try_from(len).unwrap_or(u32::MAX),
    };
    let mut bits = Bits { out: header(frame).to_vec(), held: 0, count: 0 };
    for (value, count) in PREAMBLE.into_iter().chain(CODE_LENGTHS) {
        bits.push(value, count);
    }
    let (matches, literals) = split(len);
    bits.push_all([LITERAL]);
    bits.zeros(2 * matches);
    bits.push_all((0..literals).map(|_| LITERAL));
    bits.push_all([END]);
    let mut out = bits.finish();
    out.extend_from_slice(&crc_of_zeros(len).to_le_bytes());
    out.extend_from_slice(&frame.data_bytes.to_le_bytes());
    out
}

/// The length of [`zero_member`] for this many zeros.
pub(super) fn zero_member_bytes(len: u64) -> u64 {
    let (matches, literals) = split(len);
    let preamble: u32 = PREAMBLE.iter().chain(&CODE_LENGTHS).map(|(_, count)| count).sum();
    let bits = u64::from(preamble) + 2 * (2 + matches + literals);
    (HEADER_BYTES + TRAILER_BYTES) as u64 + bits.div_ceil(8)
}

/// The matches and the literals that follow the first literal.
fn split(len: u64) -> (u64, u64) {
    let rest = len.saturating_sub(1);
    (rest / MATCH_BYTES, rest % MATCH_BYTES)
}

/// Packs bits, the lowest first.
struct Bits {
    out: Vec<u8>,
    held: u32,
    /// Fewer than 8.
    count: u32,
}

impl Bits {
    /// Appends the lowest `count` bits, at most 24; more of them must be zeros.
    fn push(&mut self, value: u32, count: u32) {
        self.held |= value << self.count;
        self.count += count.min(24);
        while self.count >= 8 {
            self.out.push((self.held & 0xff) as u8);
            self.held >>= 8;
            self.count -= 8;
        }
        self.zeros(u64::from(count.saturating_sub(24)));
    }

    fn push_all(&mut self, words: impl IntoIterator<Item = (u32, u32)>) {
        words.into_iter().for_each(|(value, count)| self.push(value, count));
    }

    /// Appends this many zero bits.
    fn zeros(&mut self, mut count: u64) {
        while count > 0 && self.count > 0 {
            self.push(0, 1);
            count -= 1;
        }
        let bytes = usize::try_from(count / 8).unwrap_or(0);
        self.out.resize(self.out.len() + bytes, 0);
        (0..count % 8).for_each(|_| self.push(0, 1));
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.push(0, 8 - self.count);
        }
        self.out
    }
}

/// The CRC-32 of this many zeros. A zero byte multiplies the register by x^8, so that any number takes a power.
fn crc_of_zeros(len: u64) -> u32 {
    // x^0, and x^8.
    let (mut power, mut factor) = (1 << 31, 1 << 23);
    let mut left = len;
    while left > 0 {
        if left & 1 == 1 {
            power = multiply(factor, power);
        }
        factor = multiply(factor, factor);
        left >>= 1;
    }
    !multiply(power, u32::MAX)
}

/// The product of two polynomials modulo that of the CRC, bits reversed.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
    }
    product
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::{crc_of_zeros, zero_member, zero_member_bytes};
    use crate::archive::codec::contract::Codec;
    use crate::archive::gzip::Gzip;

    #[test]
    fn members_of_zeros_are_what_each_decoder_says() {
        let mut decoder = Gzip.decoder().unwrap();
        let mut all = Vec::new();
        let mut total = 0;
        for len in (1..1200).chain([4096, 65_535, 1 << 20, (1 << 20) - 1, 1_000_003]) {
            let member = zero_member(len);
            assert_eq!(member.len() as u64, zero_member_bytes(len), "{len}");
            let crc = libdeflater::crc32(&vec![0; usize::try_from(len).unwrap()]);
            assert_eq!(crc_of_zeros(len), crc, "{len}");
            if len <= 1 << 20 {
                let mut data = Vec::new();
                decoder.decode(&member, len, &mut data).unwrap();
                assert!(data.iter().all(|byte| *byte == 0));
            }
            all.extend(member);
            total += len;
        }
        let large = zero_member(64 << 20);
        assert!(large.len() < 70_000, "{}", large.len());
        all.extend(large);
        total += 64 << 20;
        let mut gunzip = Command::new("gunzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = gunzip.stdin.take().unwrap();
        let writing = std::thread::spawn(move || input.write_all(&all).unwrap());
        let output = gunzip.wait_with_output().unwrap();
        writing.join().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout.len() as u64, total);
        assert!(output.stdout.iter().all(|byte| *byte == 0));
    }
}
