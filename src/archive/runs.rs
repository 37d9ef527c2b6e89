//! The data runs of a file. A short list is kept. For a long one, the file is queried again each time: a sparse
//! file then costs no memory, however many holes it has.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use super::pax::{BLOCK_BYTES, SparseArea};
use crate::entry::FileContent;
use crate::units::ByteRange;

/// The maximum number of runs to keep: 1 MiB. With more, the map's length must follow from their number alone,
/// since the file may answer differently the next time.
const MAX_KEPT_RUNS: u64 = SparseArea::PLAIN_RUNS;
/// If holes cannot be queried, the rest of the file is read up to this length. Beyond that, the cost would depend
/// on the file's length, which may be 8 EiB.
const MAX_UNASKED_BYTES: u64 = 64 << 30;

/// The data runs of a file.
pub(super) struct Runs {
    size: u64,
    tally: Tally,
    /// All runs, or `None` if there are too many.
    kept: Option<Vec<ByteRange>>,
    /// Set if a query for holes failed.
    pub(super) unasked: Option<Unasked>,
}

/// A failed query for holes.
pub(super) struct Unasked {
    /// The rest of the file from here is one run, or a hole if `left_out`.
    pub(super) from: u64,
    pub(super) left_out: bool,
    pub(super) error: io::Error,
}

/// The summary of runs that are not kept.
#[derive(Clone)]
pub(super) struct Tally {
    area: SparseArea,
    order: DefaultHasher,
}

impl Tally {
    fn new(size: u64) -> Self {
        Self { area: SparseArea::new(size), order: DefaultHasher::new() }
    }

    pub(super) fn add(&mut self, run: ByteRange) {
        self.area.add(run);
        run.hash(&mut self.order);
    }
}

impl PartialEq for Tally {
    fn eq(&self, other: &Self) -> bool {
        self.area == other.area && self.order.finish() == other.order.finish()
    }
}

impl Runs {
    /// Queries a file of `size` bytes for all runs. `on_piece` gets each answer and may stop the query; several
    /// answers may belong to one run.
    pub(super) fn find<E>(
        content: &dyn FileContent,
        size: u64,
        mut on_piece: impl FnMut(ByteRange) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut asked = Asked::new(content, size);
        let mut tally = Tally::new(size);
        let mut kept = Some(Vec::new());
        loop {
            let piece = asked.ask();
            if let Some(piece) = piece {
                on_piece(piece)?;
            }
            if let Some(run) = asked.join(piece) {
                tally.add(run);
                if let Some(runs) = &mut kept {
                    if tally.area.runs() <= MAX_KEPT_RUNS { runs.push(run) } else { kept = None }
                }
            }
            if piece.is_none() {
                break;
            }
        }
        Ok(Self { size, tally, kept, unasked: asked.unasked })
    }

    /// Whether the file has no hole.
    pub(super) fn is_whole(&self) -> bool {
        self.size == 0 || self.kept.as_deref() == Some(&[ByteRange::new(0, self.size)])
    }

    /// Their length in the archive.
    pub(super) fn area(&self) -> SparseArea {
        self.tally.area
    }

    /// The runs of the file, which is queried again if they are not kept.
    pub(super) fn iter<'a>(&'a self, content: &'a dyn FileContent) -> Box<dyn Iterator<Item = ByteRange> + 'a> {
        match &self.kept {
            Some(runs) => Box::new(runs.iter().copied()),
            None => Box::new(Asked::new(content, self.size)),
        }
    }

    /// Fits the result of [`Runs::iter`] to the first query.
    pub(super) fn fit(&self) -> Fit<'_> {
        let area = self.area();
        Fit {
            found: &self.tally,
            again: Tally::new(self.size),
            runs_left: area.runs(),
            data_left: area.data_bytes(),
            end: 0,
        }
    }
}

/// Yields as many runs and bytes as the first query found, whatever later queries return. If they return the same,
/// the runs are unchanged. GNU tar aborts at a map that contradicts itself.
pub(super) struct Fit<'a> {
    found: &'a Tally,
    again: Tally,
    runs_left: u64,
    data_left: u64,
    /// The end of the last run. The rest of the data always fits between here and the end of the file.
    end: u64,
}

impl Fit<'_> {
    /// The run to use for `run`, or for a missing one; `None` after the last.
    pub(super) fn take(&mut self, run: Option<ByteRange>) -> Option<ByteRange> {
        if let Some(run) = run {
            self.again.add(run);
        }
        self.runs_left = self.runs_left.checked_sub(1)?;
        let run = run.unwrap_or_else(|| ByteRange::new(self.found.area.size(), 0));
        let latest_start = self.found.area.size() - self.data_left;
        let start = run.start.min(latest_start).max(self.end);
        let takes_all = self.runs_left == 0 || run.start > latest_start;
        let len = if takes_all { self.data_left } else { run.len.min(self.data_left) };
        self.data_left -= len;
        self.end = start + len;
        Some(ByteRange::new(start, len))
    }

    /// Whether all runs taken equal those found first.
    pub(super) fn is_same(&self) -> bool {
        self.again == *self.found
    }
}

/// Queries a file for its runs, and joins those without a hole between them. Runs start at multiples of the tar
/// block size, and end there or at the end of the file: GNU tar looks for the data of each run at the next block.
struct Asked<'a> {
    content: &'a dyn FileContent,
    size: u64,
    from: u64,
    held: Option<ByteRange>,
    unasked: Option<Unasked>,
}

impl<'a> Asked<'a> {
    fn new(content: &'a dyn FileContent, size: u64) -> Self {
        Self { content, size, from: 0, held: None, unasked: None }
    }

    fn ask(&mut self) -> Option<ByteRange> {
        if self.from >= self.size {
            return None;
        }
        let from = std::mem::replace(&mut self.from, self.size);
        match self.content.next_data(from) {
            Ok(Some(run)) if run.start >= from && run.len > 0 && run.start < self.size => {
                let end = run.end().and_then(|end| end.checked_next_multiple_of(BLOCK_BYTES));
                self.from = end.map_or(self.size, |end| end.min(self.size));
                // Not before `from`, which is block-aligned.
                let start = run.start - run.start % BLOCK_BYTES;
                Some(ByteRange::new(start, self.from - start))
            }
            Ok(_) => None,
            Err(error) => {
                let left_out = self.size - from > MAX_UNASKED_BYTES;
                self.unasked = Some(Unasked { from, left_out, error });
                (!left_out).then(|| ByteRange::new(from, self.size - from))
            }
        }
    }
}

impl Asked<'_> {
    /// Joins an adjacent piece to the current run; returns a completed run. `None` completes the last one.
    fn join(&mut self, piece: Option<ByteRange>) -> Option<ByteRange> {
        let Some(piece) = piece else { return self.held.take() };
        match &mut self.held {
            Some(held) if held.start + held.len == piece.start => {
                held.len += piece.len;
                None
            }
            held => held.replace(piece),
        }
    }
}

impl Iterator for Asked<'_> {
    type Item = ByteRange;

    fn next(&mut self) -> Option<ByteRange> {
        while let Some(piece) = self.ask() {
            if let Some(done) = self.join(Some(piece)) {
                return Some(done);
            }
        }
        self.join(None)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    use super::{MAX_KEPT_RUNS, MAX_UNASKED_BYTES, Runs};
    use crate::entry::FileContent;
    use crate::units::ByteRange;

    /// A file with `count` runs of one byte, one in each 10 KiB; queries fail from `broken`.
    struct Combed {
        count: u64,
        broken: u64,
        asked: Cell<u64>,
    }

    impl FileContent for Combed {
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }

        fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>> {
            self.asked.set(self.asked.get() + 1);
            if from >= self.broken {
                return Err(io::Error::other("broken"));
            }
            let run = from.saturating_sub(700).div_ceil(10_240);
            Ok((run < self.count).then(|| ByteRange::new(run * 10_240 + 700, 1)))
        }
    }

    fn combed(count: u64, broken: u64) -> Combed {
        Combed { count, broken, asked: Cell::new(0) }
    }

    fn find(content: &Combed, size: u64) -> Runs {
        Runs::find(content, size, |_| Ok::<_, ()>(())).unwrap()
    }

    #[test]
    fn many_runs_are_queried_again_and_cost_only_their_data() {
        for count in [1, 1000, MAX_KEPT_RUNS, MAX_KEPT_RUNS + 1, 70_000] {
            let content = combed(count, u64::MAX);
            let runs = find(&content, 1 << 62);
            assert_eq!(runs.kept.is_none(), count > MAX_KEPT_RUNS);
            assert_eq!((runs.area().data_bytes(), runs.area().map_runs()), (count * 512, count + 1));
            let mut fit = runs.fit();
            let mut next = 0;
            for run in runs.iter(&content) {
                assert_eq!(run, ByteRange::new(next * 10_240 + 512, 512));
                assert_eq!(fit.take(Some(run)), Some(run));
                next += 1;
            }
            assert_eq!((next, fit.take(None)), (count, None));
            assert!(fit.is_same());
            assert_eq!(fit.take(Some(ByteRange::new(1 << 61, 10))), None);
            assert!(!fit.is_same());
        }
    }

    #[test]
    fn runs_that_touch_are_one() {
        struct Pieces;
        impl FileContent for Pieces {
            fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
                Ok(0)
            }
            fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>> {
                Ok(Some(ByteRange::new(from, 7)))
            }
        }
        assert!(Runs::find(&Pieces, 100, |_| Ok::<_, ()>(())).unwrap().is_whole());
    }

    #[test]
    fn unknown_holes_are_data_up_to_a_bound() {
        let content = combed(9, 1025);
        let runs = find(&content, 100_000);
        // The last run found and the rest are adjacent: one run.
        assert_eq!(runs.iter(&content).collect::<Vec<_>>(), [ByteRange::new(512, 512), ByteRange::new(10_752, 89_248)]);
        let found = runs.unasked.unwrap();
        assert_eq!((found.from, found.left_out), (11_264, false));

        let runs = find(&content, 11_265 + MAX_UNASKED_BYTES);
        assert_eq!(runs.area().data_bytes(), 1024);
        assert!(runs.unasked.unwrap().left_out);
        assert!(find(&combed(9, 0), 1000).is_whole());
    }

    #[test]
    fn changed_runs_fit_the_declared_map() {
        let run = ByteRange::new;
        let size = 10 * 10_240;
        let runs = find(&combed(4, u64::MAX), size);
        for others in [
            vec![],
            vec![run(0, 512)],
            vec![run(0, size)],
            vec![run(size - 512, 512)],
            vec![run(512, 512), run(10_752, 512), run(size - 1024, 1024)],
            (0..9).map(|at| run(at * 5120, 512)).collect(),
        ] {
            let mut fit = runs.fit();
            let mut fitted: Vec<ByteRange> = others.iter().map_while(|other| fit.take(Some(*other))).collect();
            fitted.extend(std::iter::from_fn(|| fit.take(None)));
            assert!(!fit.is_same());
            assert_eq!(fitted.len(), 4);
            assert_eq!(fitted.iter().map(|run| run.len).sum::<u64>(), 4 * 512);
            assert!(fitted.windows(2).all(|pair| pair[0].start + pair[0].len <= pair[1].start), "{fitted:?}");
            assert!(fitted[3].start + fitted[3].len <= size);
        }
    }

    #[test]
    fn the_search_can_be_ended() {
        let content = combed(u64::MAX / 20_000, u64::MAX);
        let mut left = 100_000;
        let ended = Runs::find(&content, u64::MAX, |_| {
            left -= 1;
            if left == 0 { Err("enough") } else { Ok(()) }
        });
        assert_eq!(ended.err(), Some("enough"));
        assert!(content.asked.get() < 100_010);
    }
}
