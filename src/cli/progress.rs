//! What is shown while the work goes on: a bar at a terminal, plain lines elsewhere. All of it on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use volbak::events::{Event, Observer, Severity};
use volbak::shown;
use volbak::units::ByteLen;

/// Without a terminal, a line this often says how far it is.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// More problems of one source than this are not shown one by one: the manifest has them.
const MAX_SHOWN_PROBLEMS: u64 = 50;

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
    state: Mutex<State>,
}

struct State {
    source: String,
    read_bytes: u64,
    expected_bytes: u64,
    /// How many problems were met that this verbosity shows: warnings and notices, and errors.
    lesser: u64,
    errors: u64,
    last_line: Instant,
}

impl State {
    fn of(source: String) -> Self {
        Self { source, read_bytes: 0, expected_bytes: 0, lesser: 0, errors: 0, last_line: Instant::now() }
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
            let style = "{spinner} {prefix} {msg} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
            let bar = ProgressBar::new(0);
            // The template is a constant, and tried by a test.
            bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { verbosity, bar, state: Mutex::new(State::of(String::new())) }
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

    fn on_read(&self, state: &mut State, bytes: u64) {
        state.read_bytes += bytes;
        if let Some(bar) = &self.bar {
            bar.set_length(state.expected_bytes.max(state.read_bytes));
            bar.set_position(state.read_bytes);
        } else if self.verbosity > Verbosity::Quiet && state.last_line.elapsed() >= LINE_EVERY {
            state.last_line = Instant::now();
            let (read, expected) = (ByteLen(state.read_bytes), ByteLen(state.expected_bytes));
            self.line(&format!("{}read {read} of about {expected}", state.prefix()));
        }
    }
}

impl Observer for Progress {
    fn on_event(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let said = match event {
            Event::SourceStarted { source } => {
                *state = State::of(source.clone());
                if let Some(bar) = &self.bar {
                    bar.reset();
                    bar.set_prefix(shown::text(source));
                }
                None
            }
            Event::Step { step } => match &self.bar {
                Some(bar) => {
                    bar.set_message(shown::text(step));
                    None
                }
                None => Some((Verbosity::Normal, format!("{}{step}", state.prefix()))),
            },
            Event::ExpectedBytes { bytes } => {
                state.expected_bytes += bytes;
                None
            }
            Event::Read { bytes } | Event::Carried { bytes } => {
                self.on_read(&mut state, *bytes);
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
            // The bar is changed where sources begin and end.
            Event::RunStarted { .. } => None,
            Event::SourceFailed { source, why } => {
                *state = State::of(String::new());
                Some((Verbosity::Quiet, format!("{source}: FAILED: {why}")))
            }
            Event::RunFinished { severity: Severity::Notice, outcome } => Some((Verbosity::Normal, outcome.clone())),
            Event::RunFinished { outcome, .. } => Some((Verbosity::Quiet, outcome.clone())),
            Event::SourceFinished { .. } => {
                // What comes next is not about this source.
                let ended = std::mem::replace(&mut *state, State::of(String::new()));
                let over = |count: u64| count.saturating_sub(MAX_SHOWN_PROBLEMS);
                let more = over(ended.lesser) + over(ended.errors);
                (more > 0).then(|| (Verbosity::Quiet, format!("{}and {more} more problems", ended.prefix())))
            }
        };
        if let Some((_, text)) = said.filter(|(level, _)| *level <= self.verbosity) {
            self.line(&text);
        }
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
        let style = "{spinner} {prefix} {msg} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        assert!(indicatif::ProgressStyle::with_template(style).is_ok());
    }
}
