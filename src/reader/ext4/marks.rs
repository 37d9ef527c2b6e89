//! A sparse bit set. Its bits are in pieces that are allocated on first use; a piece with all bits set needs no
//! memory, which is common for blocks and inodes.

use std::collections::BTreeMap;

/// Bits per piece.
const PIECE_BITS: u64 = 1 << 16;
const WORDS: usize = 1024;
/// The maximum number of pieces with bits of their own: 128 MiB. Bits past that limit read as not set.
const MAX_PIECES: usize = 16 << 10;

#[derive(Default)]
pub(super) struct Marks {
    pieces: Vec<Piece>,
    /// The index in `pieces` of each range of numbers.
    places: BTreeMap<u64, usize>,
    /// The piece used last: the next number is usually close.
    last: Option<(u64, usize)>,
    with_bits: usize,
}

struct Piece {
    set: u64,
    /// `None` if all bits are set.
    bits: Option<Box<[u64; WORDS]>>,
}

impl Marks {
    /// Sets a bit. False if it was set before.
    pub(super) fn add(&mut self, number: u64) -> bool {
        self.add_run(number, 1).is_none()
    }

    /// Sets `len` bits from `start`. Returns the first one that was set before, and how many were.
    pub(super) fn add_run(&mut self, start: u64, len: u64) -> Option<(u64, u64)> {
        let end = start.saturating_add(len);
        let mut at = start;
        let (mut first, mut count) = (None, 0);
        while at < end {
            let piece_start = at - at % PIECE_BITS;
            let to = end.min(piece_start.saturating_add(PIECE_BITS));
            if let Some(piece) = self.piece(at / PIECE_BITS) {
                let was_full = piece.bits.is_none();
                let twice = piece.add(at - piece_start, to - piece_start);
                let is_full = piece.bits.is_none();
                if let Some((number, twice)) = twice {
                    first = first.or(Some(piece_start + number));
                    count += twice;
                }
                if !was_full && is_full {
                    self.with_bits -= 1;
                }
            }
            at = to;
        }
        first.map(|first| (first, count))
    }

    fn piece(&mut self, number: u64) -> Option<&mut Piece> {
        let place = match self.last {
            Some((last, place)) if last == number => place,
            _ => {
                let place = self.place_of(number)?;
                self.last = Some((number, place));
                place
            }
        };
        self.pieces.get_mut(place)
    }

    /// The piece for `number`, allocated if needed; `None` at the limit.
    fn place_of(&mut self, number: u64) -> Option<usize> {
        if let Some(place) = self.places.get(&number) {
            return Some(*place);
        }
        if self.with_bits >= MAX_PIECES {
            return None;
        }
        self.with_bits += 1;
        let place = self.pieces.len();
        self.pieces.push(Piece { set: 0, bits: Some(Box::new([0; WORDS])) });
        self.places.insert(number, place);
        Some(place)
    }
}

impl Piece {
    /// Sets the bits `from..to`. Returns the first one that was set before, and how many were.
    fn add(&mut self, from: u64, to: u64) -> Option<(u64, u64)> {
        let Some(bits) = &mut self.bits else { return Some((from, to - from)) };
        let (mut first, mut twice) = (None, 0);
        let mut at = from;
        while at < to {
            let bit = at % 64;
            let in_word = (64 - bit).min(to - at);
            let mask = (u64::MAX >> (64 - in_word)) << bit;
            // Below the piece's length.
            let Some(word) = usize::try_from(at / 64).ok().and_then(|word| bits.get_mut(word)) else { break };
            let both = *word & mask;
            self.set += in_word;
            if both != 0 {
                let count = u64::from(both.count_ones());
                first = first.or(Some(at - bit + u64::from(both.trailing_zeros())));
                twice += count;
                self.set -= count;
            }
            *word |= mask;
            at += in_word;
        }
        if self.set == PIECE_BITS {
            self.bits = None;
        }
        first.map(|first| (first, twice))
    }
}

#[cfg(test)]
mod tests {
    use super::Marks;

    #[test]
    fn bits_set_before_are_counted_across_words_and_pieces() {
        let mut marks = Marks::default();
        assert_eq!(marks.add_run(60, 10), None);
        assert_eq!(marks.add_run(0, 100), Some((60, 10)));
        assert_eq!(marks.add_run(99, 2), Some((99, 1)));
        assert!(marks.add(65_536 + 7) && !marks.add(65_536 + 7));
        assert_eq!(marks.add_run(101, 200_000), Some((65_543, 1)));
        assert_eq!(marks.with_bits, 1, "three pieces of four are full");
        assert_eq!(marks.add_run(70_000, 5), Some((70_000, 5)));
        assert_eq!(marks.add_run(u64::MAX - 1, 5), None);
    }
}
