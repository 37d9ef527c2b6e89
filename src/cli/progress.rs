//! What is shown while the work goes on: a bar at a terminal, plain lines elsewhere. All of it on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use volbak::events::{Event, Observer, Severity};
use volbak::shown;
use volbak::units::ByteLen;

mod bar;

use bar::{Done, Place, bar_line};

/// What is taken for a terminal's width where it does not say.
const COLUMNS: u16 = 80;
/// Without a terminal, a line this often says how far it is.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// More problems of one source than this are not shown one by one: the manifest has them.
const MAX_SHOWN_PROBLEMS: u64 = 50;

const TICK: Duration = Duration::from_millis(200);
const STYLE: &str = "{spinner} {msg}";

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Problems alone.
    Quiet,
    /// Also what is done.
    Normal,
    /// Also how full the snapshot is.
    Verbose,
}

/// Shows events.
pub(crate) struct Progress {
    verbosity: Verbosity,
    bar: Option<ProgressBar>,
    state: Mutex<(Run, State)>,
}

/// The run over several sources, if it is one.
struct Run {
    sources: u64,
    /// Sources that are done, whatever came of them.
    finished: u64,
    /// What they all will read, an estimate; 0 when it is not known.
    expected_bytes: u64,
    /// What was read of those that are done.
    read_bytes: u64,
    started: Instant,
}

impl Run {
    fn of(sources: u64, expected_bytes: u64) -> Self {
        Self { sources, finished: 0, expected_bytes, read_bytes: 0, started: Instant::now() }
    }

    fn place(&self) -> Place {
        Place { number: (self.finished + 1).min(self.sources), sources: self.sources }
    }
}

struct State {
    source: String,
    step: String,
    done: Done,
    started: Instant,
    /// How many problems were met that this verbosity shows: warnings and notices, and errors.
    lesser: u64,
    errors: u64,
    last_line: Instant,
}

impl State {
    fn of(source: String) -> Self {
        let (step, now) = (String::new(), Instant::now());
        Self { source, step, done: Done::default(), started: now, lesser: 0, errors: 0, last_line: now }
    }

    /// What a line begins with: the source, where the work is on one.
    fn prefix(&self) -> String {
        if self.source.is_empty() { String::new() } else { format!("{}: ", self.source) }
    }
}

impl Progress {
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        let at_terminal = io::stderr().is_terminal() && verbosity != Verbosity::Quiet;
        let bar = at_terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            // The template is a constant, and tried by a test.
            bar.set_style(ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { verbosity, bar, state: Mutex::new((Run::of(0, 0), State::of(String::new()))) }
    }

    /// Takes the bar away, so that results can be printed.
    pub(crate) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| write_line(text)),
            None => write_line(text),
        }
    }

    /// Shows how far it is, at a terminal.
    fn show(&self, run: &Run, state: &State) {
        let Some(bar) = &self.bar else { return };
        let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
        let columns = size.map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(COLUMNS);
        // Two are the spinner's, and in the last one some terminals begin a new line.
        let columns = usize::from(columns).saturating_sub(3);
        let left = if run.expected_bytes > 0 {
            let rest = state.done.expected_bytes.max(state.done.read_bytes);
            let expected_bytes = run.expected_bytes.max(run.read_bytes.saturating_add(rest));
            Done { read_bytes: run.read_bytes.saturating_add(state.done.read_bytes), expected_bytes }
                .left(run.started.elapsed())
        } else {
            state.done.left(state.started.elapsed())
        };
        let (source, step) = (shown::text(&state.source), shown::text(&state.step));
        bar.set_message(bar_line(run.place(), &source, &step, state.done, left, columns));
    }

    /// Without a terminal, now and then a line.
    fn now_and_then(&self, state: &mut State) {
        if self.bar.is_none() && self.verbosity > Verbosity::Quiet && state.last_line.elapsed() >= LINE_EVERY {
            state.last_line = Instant::now();
            let read = ByteLen(state.done.read_bytes);
            let about = if state.done.expected_bytes >= state.done.read_bytes {
                format!(" of about {}", ByteLen(state.done.expected_bytes))
            } else {
                String::new()
            };
            self.line(&format!("{}read {read}{about}", state.prefix()));
        }
    }
}

impl Observer for Progress {
    fn on_event(&self, event: &Event) {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (run, state) = &mut *guard;
        let said = match event {
            Event::RunStarted { sources, bytes } => {
                *run = Run::of(*sources, *bytes);
                None
            }
            Event::SourceStarted { source } => {
                *state = State::of(source.clone());
                if let Some(bar) = &self.bar {
                    // After what was printed between two sources.
                    bar.reset();
                    bar.enable_steady_tick(TICK);
                }
                let place = run.place();
                let is_one = self.bar.is_some() || place.sources < 2;
                (!is_one).then(|| {
                    (Verbosity::Normal, format!("{}volume {} of {}", state.prefix(), place.number, place.sources))
                })
            }
            Event::Step { step } => {
                state.step.clone_from(step);
                self.bar.is_none().then(|| (Verbosity::Normal, format!("{}{step}", state.prefix())))
            }
            Event::ExpectedBytes { bytes } => {
                state.done.expected_bytes = state.done.expected_bytes.saturating_add(*bytes);
                None
            }
            Event::Read { bytes } | Event::Carried { bytes } => {
                state.done.read_bytes = state.done.read_bytes.saturating_add(*bytes);
                self.now_and_then(state);
                None
            }
            Event::SnapshotFill { snapshot, percent } => {
                Some((Verbosity::Verbose, format!("{snapshot}: the snapshot is {percent:.1} % full")))
            }
            Event::Problem(problem) => {
                let (level, word) = match problem.severity {
                    Severity::Notice => (Verbosity::Normal, "notice"),
                    Severity::Warning => (Verbosity::Quiet, "warning"),
                    Severity::Error => (Verbosity::Quiet, "error"),
                };
                // Those that are not shown at this verbosity must not use up the room of those that are.
                // Nor may many warnings use up that of an error.
                let count = if problem.severity == Severity::Error { &mut state.errors } else { &mut state.lesser };
                *count += u64::from(level <= self.verbosity);
                (*count <= MAX_SHOWN_PROBLEMS).then(|| (level, format!("{}{word}: {problem}", state.prefix())))
            }
            Event::SourceFailed { source, why } => {
                run.finished += 1;
                run.read_bytes = run.read_bytes.saturating_add(state.done.read_bytes);
                *state = State::of(String::new());
                Some((Verbosity::Quiet, format!("{source}: FAILED: {why}")))
            }
            Event::RunFinished { severity: Severity::Notice, outcome } => Some((Verbosity::Normal, outcome.clone())),
            Event::RunFinished { outcome, .. } => Some((Verbosity::Quiet, outcome.clone())),
            Event::SourceFinished { .. } => {
                // What comes next is not about this source.
                run.finished += 1;
                run.read_bytes = run.read_bytes.saturating_add(state.done.read_bytes);
                let ended = std::mem::replace(state, State::of(String::new()));
                let over = |count: u64| count.saturating_sub(MAX_SHOWN_PROBLEMS);
                let more = over(ended.lesser) + over(ended.errors);
                (more > 0).then(|| (Verbosity::Quiet, format!("{}and {more} more problems", ended.prefix())))
            }
        };
        if let Some((_, text)) = said.filter(|(level, _)| *level <= self.verbosity) {
            self.line(&text);
        }
        self.show(run, state);
    }
}

/// Writes a line to standard error, whatever is in it made fit to be shown; when even that fails, there is nowhere left to say so.
pub(crate) fn write_line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", shown::lines(text));
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_template_is_one() {
        assert!(indicatif::ProgressStyle::with_template(super::STYLE).is_ok());
    }
}
