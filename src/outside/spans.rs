//! What was read of the segments of a composed file that lies in an object store.
//!
//! There a read is a request. The parts of a composed file ascend in each of its segments, so a read goes on over what is
//! needed next of the same segment, and over short gaps between.

use std::collections::VecDeque;
use std::ops::Range;

use super::PartPlace;

/// A longer gap is not read. It takes less time to read than a request does.
const GAP_BYTES: u64 = 512 << 10;
/// The first read in a segment, and the longest one. They grow while a segment is read in its order.
const LEAST_BYTES: u64 = 256 << 10;
const MOST_BYTES: u64 = 4 << 20;
/// Bytes that are kept of all segments together. Those that were used longest ago are dropped.
const MOST_KEPT: usize = 64 << 20;
/// Parts behind a place that are looked through for those of its segment.
const MOST_AHEAD: usize = 64 << 10;

/// What was read last of each segment.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// The one that was used last at the end.
    kept: VecDeque<Span>,
    bytes: usize,
    /// Of each segment, where the last read ended, and how long it was.
    last: Vec<Option<(u64, u64)>>,
}

#[derive(Debug)]
struct Span {
    segment: u32,
    start: u64,
    bytes: Vec<u8>,
}

impl Spans {
    /// Copies what is kept of a segment from `offset` on; returns how much.
    pub(super) fn copied(&mut self, segment: u32, offset: u64, buf: &mut [u8]) -> usize {
        let Some(at) = self.kept.iter().position(|span| span.segment == segment) else { return 0 };
        let Some(span) = self.kept.remove(at) else { return 0 };
        let skip = offset.checked_sub(span.start).and_then(|skip| usize::try_from(skip).ok());
        let from = skip.and_then(|skip| span.bytes.get(skip..)).unwrap_or_default();
        let len = from.len().min(buf.len());
        buf[..len].copy_from_slice(&from[..len]);
        self.kept.push_back(span);
        len
    }

    /// The range to read for `len` bytes at `place`. `part_end` is where the part of `place` ends in its segment, and
    /// `next` has the parts behind it with their lengths.
    pub(super) fn next_read(
        &mut self,
        place: PartPlace,
        len: u64,
        part_end: u64,
        next: impl Iterator<Item = (PartPlace, u64)>,
    ) -> Range<u64> {
        let number = usize::try_from(place.segment).unwrap_or(usize::MAX);
        let goes_on = |(end, _): &(u64, u64)| (*end..=end.saturating_add(GAP_BYTES)).contains(&place.offset);
        let last = self.last.get(number).copied().flatten().filter(goes_on);
        let most = last.map_or(LEAST_BYTES, |(_, bytes)| (bytes * 2).clamp(LEAST_BYTES, MOST_BYTES));
        let limit = place.offset.saturating_add(most.max(len.min(MOST_BYTES)));
        let mut end = part_end.min(limit);
        for (next, len) in next.take(MOST_AHEAD).filter(|(next, _)| next.segment == place.segment) {
            let is_near = (end..=end.saturating_add(GAP_BYTES)).contains(&next.offset);
            if end >= limit || !is_near || next.offset >= limit {
                break;
            }
            end = next.offset.saturating_add(len).min(limit);
        }
        if self.last.len() <= number {
            self.last.resize(number.saturating_add(1), None);
        }
        if let Some(last) = self.last.get_mut(number) {
            *last = Some((end, most));
        }
        place.offset..end
    }

    /// Keeps what was read of a segment, instead of what was read of it before.
    pub(super) fn keep(&mut self, segment: u32, start: u64, bytes: Vec<u8>) {
        self.drop_where(|span| span.segment == segment);
        self.bytes += bytes.len();
        self.kept.push_back(Span { segment, start, bytes });
        while self.bytes > MOST_KEPT && self.kept.len() > 1 {
            let first = self.kept.pop_front();
            self.bytes -= first.map_or(0, |span| span.bytes.len());
        }
    }

    fn drop_where(&mut self, such: impl Fn(&Span) -> bool) {
        self.kept.retain(|span| !such(span));
        self.bytes = self.kept.iter().map(|span| span.bytes.len()).sum();
    }
}
