//! The header block of an entry: POSIX.1-2001, pax(1), "ustar Interchange Format".

use super::block::BLOCK;
use crate::entry::Timestamp;

/// The largest number in 11 octal digits.
const MAX_OCTAL_11: u64 = 0o777_7777_7777;
/// The largest number in 7 octal digits.
const MAX_OCTAL_7: u64 = 0o777_7777;

/// Whether a number fits into the octal digits of POSIX.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fits {
    InOctal,
    /// The field has it in GNU tar's base-256 form, for readers without extended headers, and a record repeats it.
    OnlyInBinary,
}

/// Whether a name may be in the header block itself. Non-ASCII UTF-8 goes into a record, where the encoding is
/// defined. Bytes that are not UTF-8 stay here: readers take them unchanged, while a record would need
/// `hdrcharset`.
fn stands_as_it_is(name: &[u8]) -> bool {
    name.is_ascii() || std::str::from_utf8(name).is_err()
}

/// A ustar header block. Offsets are those of POSIX's table "ustar Header Block".
pub(super) struct Ustar {
    pub(super) block: [u8; BLOCK],
}

impl Ustar {
    pub(super) fn new() -> Self {
        let mut block = [0; BLOCK];
        block[257..265].copy_from_slice(b"ustar\x0000");
        Self { block }
    }

    /// Writes `name`, or `prefix` and `name`. False if it does not fit; then it is truncated.
    pub(super) fn set_path(&mut self, path: &[u8]) -> bool {
        let plain = stands_as_it_is(path);
        if path.len() <= 100 {
            self.block[..path.len()].copy_from_slice(path);
            return plain;
        }
        let split = path.iter().enumerate().position(|(at, byte)| {
            *byte == b'/' && at > 0 && at <= 155 && path.len() - at - 1 <= 100 && at + 1 < path.len()
        });
        let Some(split) = split.filter(|_| plain) else {
            self.block[..100].copy_from_slice(&path[..100]);
            return false;
        };
        self.block[345..345 + split].copy_from_slice(&path[..split]);
        let name = &path[split + 1..];
        self.block[..name.len()].copy_from_slice(name);
        true
    }

    pub(super) fn set_link(&mut self, target: &[u8]) -> bool {
        let len = target.len().min(100);
        self.block[157..157 + len].copy_from_slice(&target[..len]);
        target.len() <= 100 && stands_as_it_is(target)
    }

    /// Octal digits with a final NUL, or base-256 if they do not suffice.
    pub(super) fn set_number(&mut self, field: std::ops::Range<usize>, number: u64) -> Fits {
        let digits = field.len() - 1;
        let largest = if digits == 7 { MAX_OCTAL_7 } else { MAX_OCTAL_11 };
        if number > largest {
            self.set_binary(field, i128::from(number));
            return Fits::OnlyInBinary;
        }
        let mut left = number;
        for digit in self.block[field.start..field.start + digits].iter_mut().rev() {
            // Below 8.
            *digit = b'0' + (left & 7) as u8;
            left >>= 3;
        }
        Fits::InOctal
    }

    pub(super) fn set_time(&mut self, time: Timestamp) -> Fits {
        if let Ok(seconds) = u64::try_from(time.sec) {
            return self.set_number(136..148, seconds);
        }
        self.set_binary(136..148, i128::from(time.sec));
        Fits::OnlyInBinary
    }

    /// GNU tar's manual, "Standard Format": the first byte is 0x80, or 0xff for a negative number, and the rest is
    /// the number, big-endian.
    fn set_binary(&mut self, field: std::ops::Range<usize>, number: i128) {
        let bytes = number.to_be_bytes();
        let len = field.len();
        self.block[field.clone()].copy_from_slice(&bytes[bytes.len() - len..]);
        self.block[field.start] = if number < 0 { 0xff } else { 0x80 };
    }

    /// Sets the checksum: the sum of all bytes, with its own field taken as spaces.
    pub(super) fn finish(mut self) -> [u8; BLOCK] {
        self.block[148..156].copy_from_slice(b"        ");
        // 512 bytes: their sum is far below 2^32. wrapping_add avoids an overflow check per byte in debug
        // builds.
        let sum = self.block.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
        // Six digits and a NUL; the following space is already set.
        self.block[154] = 0;
        self.set_number(148..155, u64::from(sum));
        self.block
    }
}
