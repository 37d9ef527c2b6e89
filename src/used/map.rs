//! The map itself: runs in ascending order, in bounded memory.

use std::io;

use crate::events::Severity;
use crate::outside::{BlockRead, Cancel};
use crate::units::ByteRange;

/// A map of more runs than this, 16 MiB of them, is made coarser: its smallest holes count as used.
const MAX_RUNS: usize = 1 << 20;
/// The smallest hole that is filled when a map is made coarser.
const SMALLEST_HOLE: u64 = 4096;

/// Which bytes of a region, or of a whole source, its content uses. All others are free, or read as zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedMap {
    len_bytes: u64,
    runs: Vec<ByteRange>,
    whole: Option<Whole>,
}

/// Why every byte of a region counts as used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// `Notice` where there is no map, or one that is out of date since its system was using it; `Warning` where its map cannot be relied upon.
    pub severity: Severity,
    /// The reason, a sentence without its subject and its full stop: "it holds btrfs, of which no map is read".
    pub because: String,
}

impl Whole {
    /// The kind of content has no map that is read here.
    pub(super) fn no_map(because: impl Into<String>) -> Self {
        Self { severity: Severity::Notice, because: because.into() }
    }

    /// There is a map, and the system that was using it has not written all of it yet.
    pub(super) fn out_of_date(because: impl Into<String>) -> Self {
        Self { severity: Severity::Notice, because: because.into() }
    }

    /// There is a map, and it is damaged or contradicts other metadata.
    pub(super) fn in_doubt(because: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, because: because.into() }
    }
}

impl From<io::Error> for Whole {
    fn from(error: io::Error) -> Self {
        Self::in_doubt(format!("its map cannot be read: {error}"))
    }
}

impl UsedMap {
    /// A map of `len_bytes` bytes of which none is used.
    pub fn empty(len_bytes: u64) -> Self {
        Self { len_bytes, runs: Vec::new(), whole: None }
    }

    /// All of it is used.
    pub fn whole(len_bytes: u64, why: Whole) -> Self {
        let runs = if len_bytes == 0 { Vec::new() } else { vec![ByteRange::new(0, len_bytes)] };
        Self { len_bytes, runs, whole: Some(why) }
    }

    /// The length of what it maps.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The used runs in ascending order. They neither overlap nor touch, and all lie below the length.
    pub fn runs(&self) -> &[ByteRange] {
        &self.runs
    }

    /// How many bytes are used.
    pub fn used_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// Why it has no free bytes but the source's holes; `None` where the content's own map is followed.
    pub fn whole_because(&self) -> Option<&Whole> {
        self.whole.as_ref()
    }

    /// The first used run at or after `from`, or the rest of the one that `from` lies in.
    pub fn next_used(&self, from: u64) -> Option<ByteRange> {
        let next = self.runs.partition_point(|run| end(*run) <= from);
        self.runs.get(next).map(|run| {
            let start = run.start.max(from);
            ByteRange::new(start, end(*run) - start)
        })
    }

    /// Whether all of `range` is used.
    pub fn covers(&self, range: ByteRange) -> bool {
        range.len == 0
            || self.next_used(range.start).is_some_and(|run| run.start == range.start && run.len >= range.len)
    }

    /// What this map and another one of the same length both have as used.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut builder = MapBuilder::new(self.len_bytes);
        for run in &self.runs {
            let mut at = run.start;
            while let Some(next) = other.next_used(at).filter(|next| next.start < end(*run)) {
                builder.add(ByteRange::new(next.start, next.len.min(end(*run) - next.start)));
                at = end(next);
            }
        }
        builder.finish()
    }

    /// The same map with at most `max` runs, at least 1: the smallest holes count as used.
    #[must_use]
    pub fn coarsened(mut self, max: usize) -> Self {
        coarsen(&mut self.runs, max.max(1));
        self
    }

    /// The same map without the holes of the source that it describes.
    pub fn without_holes(self, blocks: &dyn BlockRead, cancel: &Cancel) -> io::Result<Self> {
        let mut builder = MapBuilder::new(self.len_bytes);
        // Data of the source that was met last, and where a hole begins behind it.
        let mut data = 0..0;
        for run in &self.runs {
            let run_end = end(*run);
            let mut at = run.start;
            while at < run_end {
                if cancel.is_cancelled() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                if at >= data.end {
                    // What cannot be asked for its holes has none.
                    let Some(start) = blocks.next_data(at).unwrap_or(Some(at)) else { break };
                    let start = start.max(at);
                    data = start..blocks.next_hole(start).unwrap_or(self.len_bytes).max(start + 1);
                }
                if data.start >= run_end {
                    break;
                }
                let (from, to) = (at.max(data.start), run_end.min(data.end));
                builder.add(ByteRange::new(from, to - from));
                at = to;
            }
        }
        Ok(Self { whole: self.whole, ..builder.finish() })
    }
}

/// Makes a map of runs that come in ascending order.
#[derive(Debug)]
pub(super) struct MapBuilder {
    len_bytes: u64,
    runs: Vec<ByteRange>,
    /// The largest hole that was filled to bound the map; 0 while none was.
    filled_hole: u64,
}

impl MapBuilder {
    pub(super) fn new(len_bytes: u64) -> Self {
        Self { len_bytes, runs: Vec::new(), filled_hole: 0 }
    }

    /// Adds a used run that begins at or after the start of the one before. What lies behind the end is cut off.
    pub(super) fn add(&mut self, run: ByteRange) {
        let run_end = run.start.saturating_add(run.len).min(self.len_bytes);
        if run_end <= run.start {
            return;
        }
        if let Some(last) = self.runs.last_mut()
            && run.start <= end(*last).saturating_add(self.filled_hole)
        {
            last.len = last.len.max(run_end - last.start);
            return;
        }
        self.runs.push(ByteRange::new(run.start, run_end - run.start));
        if self.runs.len() > MAX_RUNS {
            self.filled_hole = coarsen(&mut self.runs, MAX_RUNS / 2);
        }
    }

    pub(super) fn finish(self) -> UsedMap {
        UsedMap { len_bytes: self.len_bytes, runs: self.runs, whole: None }
    }
}

/// Used runs that come in any order, in bounded memory.
#[derive(Debug)]
pub(super) struct RunSet {
    len_bytes: u64,
    runs: Vec<ByteRange>,
    /// How many of `runs` are in order already, and joined.
    sorted: usize,
}

impl RunSet {
    pub(super) fn new(len_bytes: u64) -> Self {
        Self { len_bytes, runs: Vec::new(), sorted: 0 }
    }

    pub(super) fn add(&mut self, run: ByteRange) {
        let is_unsorted = self.sorted < self.runs.len();
        if let Some(last) = self.runs.last_mut()
            && is_unsorted
            && last.end() == Some(run.start)
        {
            last.len = last.len.saturating_add(run.len);
            return;
        }
        self.runs.push(run);
        // Sorting only what came in since, beside what is sorted already, would save little: sorts of runs are fast.
        if self.runs.len() >= self.sorted + MAX_RUNS {
            self.join();
        }
    }

    fn join(&mut self) {
        self.runs.sort_unstable_by_key(|run| run.start);
        let mut builder = MapBuilder::new(self.len_bytes);
        self.runs.iter().for_each(|run| builder.add(*run));
        self.runs = builder.finish().runs;
        self.sorted = self.runs.len();
    }

    pub(super) fn finish(mut self) -> UsedMap {
        self.join();
        UsedMap { len_bytes: self.len_bytes, runs: self.runs, whole: None }
    }
}

/// Free runs that come in any order. Where there are too many, the smallest are forgotten, and count as used.
#[derive(Debug, Default)]
pub(super) struct FreeRuns {
    runs: Vec<ByteRange>,
    smallest: u64,
}

impl FreeRuns {
    pub(super) fn add(&mut self, run: ByteRange) {
        if run.len < self.smallest {
            return;
        }
        self.runs.push(run);
        if self.runs.len() > 2 * MAX_RUNS {
            self.join();
            while self.runs.len() > MAX_RUNS {
                self.smallest = (2 * self.smallest).max(SMALLEST_HOLE);
                let smallest = self.smallest;
                self.runs.retain(|run| run.len >= smallest);
            }
        }
    }

    fn join(&mut self) {
        self.runs.sort_unstable_by_key(|run| run.start);
        self.runs.dedup_by(|run, before| {
            let is_joined = run.start <= end(*before);
            if is_joined {
                before.len = before.len.max(end(*run) - before.start);
            }
            is_joined
        });
    }

    /// The map of `len_bytes` bytes that has everything else as used.
    pub(super) fn into_used(mut self, len_bytes: u64) -> UsedMap {
        self.join();
        let mut builder = MapBuilder::new(len_bytes);
        let mut at = 0;
        for run in self.runs {
            builder.add(ByteRange::new(at, run.start.saturating_sub(at)));
            at = end(run);
        }
        builder.add(ByteRange::new(at, len_bytes.saturating_sub(at)));
        builder.finish()
    }
}

/// The end of a run of a map, which lies below the map's length.
fn end(run: ByteRange) -> u64 {
    run.start.saturating_add(run.len)
}

/// Fills the smallest holes until at most `max` runs are left; gives the size of hole up to which all are filled.
fn coarsen(runs: &mut Vec<ByteRange>, max: usize) -> u64 {
    let mut filled = 0;
    while runs.len() > max {
        filled = (filled * 2).max(SMALLEST_HOLE);
        runs.dedup_by(|run, before| {
            let is_joined = run.start - end(*before) <= filled;
            if is_joined {
                before.len = end(*run) - before.start;
            }
            is_joined
        });
    }
    filled
}

#[cfg(test)]
mod tests;
