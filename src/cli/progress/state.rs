//! What is known of the sources under way, and the progress lines about them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use volbak::events::SourceName;
use volbak::log::{Kind, Line, Severity as Level, Value};
use volbak::units::ByteLen;

use super::MAX_SHOWN_PROBLEMS;
use super::bar::{Done, Turn};
use volbak::shown::counted;

/// A run, and its sources under way.
pub(super) struct All {
    pub(super) run: Run,
    /// The only source, or none.
    pub(super) alone: State,
    /// Those of several at the same time, by their shown names.
    pub(super) together: BTreeMap<String, State>,
}

/// A run over several sources.
pub(super) struct Run {
    pub(super) sources: u64,
    /// Number of finished and failed sources.
    pub(super) finished: u64,
    /// Estimate of the bytes to read from all sources; 0 if unknown.
    pub(super) expected_bytes: u64,
    /// Bytes read from the finished and failed sources.
    pub(super) read_bytes: u64,
    pub(super) started: Instant,
}

impl Run {
    pub(super) fn of(sources: u64, expected_bytes: u64) -> Self {
        Self { sources, finished: 0, expected_bytes, read_bytes: 0, started: Instant::now() }
    }

    pub(super) fn place(&self) -> Turn {
        Turn { number: (self.finished + 1).min(self.sources), sources: self.sources }
    }
}

pub(super) struct State {
    /// The current source.
    pub(super) source: Option<SourceName>,
    /// Its place in the run, if there are several at the same time.
    pub(super) number: Option<u64>,
    pub(super) step: String,
    pub(super) done: Done,
    pub(super) started: Instant,
    /// Number of problems that this verbosity shows: warnings and notices, and, separately, errors.
    pub(super) lesser: u64,
    pub(super) errors: u64,
    pub(super) last_line: Instant,
}

impl State {
    pub(super) fn of(source: Option<SourceName>) -> Self {
        let (step, now) = (String::new(), Instant::now());
        let done = Done::default();
        Self { source, number: None, step, done, started: now, lesser: 0, errors: 0, last_line: now }
    }

    /// The line with the number of problems that were not shown.
    pub(super) fn more_problems(&self) -> Option<Line> {
        let over = |count: u64| count.saturating_sub(MAX_SHOWN_PROBLEMS);
        let more = over(self.lesser) + over(self.errors);
        let severity = if over(self.errors) > 0 { Level::Error } else { Level::Warning };
        (more > 0).then(|| {
            let line = Line::new(
                severity,
                Kind::Problem,
                format!("{}and {}", self.prefix(), counted(more, "more problem", "more problems")),
            );
            line.about(self.source.clone()).with("more", Value::Number(more))
        })
    }

    /// The beginning of a line: the current source, if any.
    pub(super) fn prefix(&self) -> String {
        self.source.as_ref().map_or_else(String::new, |source| format!("{}: ", source.shown))
    }

    /// Its place in the run.
    pub(super) fn place(&self, run: &Run) -> Turn {
        let place = run.place();
        self.number.map_or(place, |number| Turn { number: number.min(place.sources), ..place })
    }
}

impl All {
    pub(super) fn new() -> Self {
        Self { run: Run::of(0, 0), alone: State::of(None), together: BTreeMap::new() }
    }

    /// Progress on the sources that are under way at the same time.
    pub(super) fn together(&self) -> Done {
        self.together.values().fold(Done::default(), |all, one| Done {
            read_bytes: all.read_bytes.saturating_add(one.done.read_bytes),
            expected_bytes: all.expected_bytes.saturating_add(one.done.expected_bytes.max(one.done.read_bytes)),
        })
    }

    /// Takes out the state that an event of this source changes. `is_start`: the source begins with it.
    pub(super) fn take(&mut self, of: Option<&SourceName>, is_start: bool) -> Taken {
        let Some(source) = of else {
            return Taken { state: std::mem::replace(&mut self.alone, State::of(None)), is_alone: true };
        };
        let known = self.together.remove(&source.shown);
        if known.is_some() || is_start {
            let number = Some(self.run.finished + self.together.len() as u64 + 1);
            let state = known.unwrap_or_else(|| State { number, ..State::of(Some(source.clone())) });
            return Taken { state, is_alone: false };
        }
        Taken { state: State::of(None), is_alone: false }
    }

    /// Puts it back, unless its source ended.
    pub(super) fn put_back(&mut self, taken: Taken) {
        match &taken.state.source {
            _ if taken.is_alone => self.alone = taken.state,
            Some(source) => drop(self.together.insert(source.shown.clone(), taken.state)),
            None => {}
        }
    }
}

/// The state of a source, while an event changes it.
pub(super) struct Taken {
    pub(super) state: State,
    is_alone: bool,
}

/// The time left for the run, or for this source if the run has no estimate.
pub(super) fn left(run: &Run, state: &State, others: Done) -> Option<Duration> {
    if run.expected_bytes > 0 {
        in_all(run, state, others).left(run.started.elapsed())
    } else {
        state.done.left(state.started.elapsed())
    }
}

/// Progress on all sources of a run. `others` are under way at the same time as this one.
pub(super) fn in_all(run: &Run, state: &State, others: Done) -> Done {
    let read_bytes = run.read_bytes.saturating_add(others.read_bytes);
    let least = read_bytes.saturating_add(state.done.expected_bytes.max(state.done.read_bytes));
    let least = least.saturating_add(others.expected_bytes.saturating_sub(others.read_bytes));
    Done { read_bytes: read_bytes.saturating_add(state.done.read_bytes), expected_bytes: run.expected_bytes.max(least) }
}

pub(super) fn progress_line(run: &Run, state: &State, others: Done) -> Line {
    let (done, place) = (state.done, state.place(run));
    let read = ByteLen(done.read_bytes);
    let about = if done.expected_bytes >= done.read_bytes {
        format!(" of about {}", ByteLen(done.expected_bytes))
    } else {
        String::new()
    };
    let mut line = Line::new(Level::Info, Kind::Progress, format!("{}read {read}{about}", state.prefix()))
        .with("read_bytes", Value::Number(done.read_bytes))
        .with("expected_bytes", Value::Number(done.expected_bytes));
    if !state.step.is_empty() {
        line = line.with("step", Value::Text(state.step.clone()));
    }
    if place.sources > 0 {
        line = line.with("number", Value::Number(place.number)).with("of", Value::Number(place.sources));
    }
    if run.expected_bytes > 0 {
        let all = in_all(run, state, others);
        line = line
            .with("run_read_bytes", Value::Number(all.read_bytes))
            .with("run_expected_bytes", Value::Number(all.expected_bytes));
    }
    if let Some(left) = left(run, state, others) {
        line = line.with("seconds_left", Value::Number(left.as_secs()));
    }
    line.about(state.source.clone())
}
