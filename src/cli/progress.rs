//! Progress on standard error: a bar at a terminal, plain lines elsewhere, or JSON lines for programs.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{CommandFactory, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use volbak::events::{Event, Observer, Problem, Severity, SourceName};
use volbak::log::{Kind, Line, Severity as Level, Value};
use volbak::shown;

mod bar;
mod state;

use super::log::{self, LogForm};
use bar::{Done, bar_line};
use state::{All, Run, State, in_all, left, progress_line};

/// Width of a terminal that does not report it.
const COLUMNS: u16 = 80;
/// Interval of progress lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// Interval of progress lines for programs.
const JSON_LINE_EVERY: Duration = Duration::from_secs(1);
/// Number of problems of one source that are shown. The manifest has all of them.
const MAX_SHOWN_PROBLEMS: u64 = 50;

const TICK: Duration = Duration::from_millis(200);
const STYLE: &str = "{spinner} {msg}";

/// The amount of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// Also steps and notices.
    Normal,
    /// Also the fill level of snapshots.
    Verbose,
}

/// The forms of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressForm {
    /// A bar at a terminal, a line each minute elsewhere
    Auto,
    /// A JSON line each second; all log lines are JSON, too
    Json,
    /// No progress
    None,
}

static FORM: OnceLock<ProgressForm> = OnceLock::new();

fn form() -> ProgressForm {
    FORM.get().copied().unwrap_or(ProgressForm::Auto)
}

/// Sets the form of this process, and returns the form of log lines that goes with it: both are on standard error.
pub(crate) fn begin<C: CommandFactory>(asked: ProgressForm, log_form: Option<LogForm>) -> Option<LogForm> {
    FORM.get_or_init(|| asked);
    match (asked, log_form) {
        (ProgressForm::Json, None | Some(LogForm::Json)) => Some(LogForm::Json),
        (ProgressForm::Json, Some(_)) => {
            let why = "--progress json writes JSON lines to standard error, and --log asks for another form there; leave --log out, \
                       or write --log json";
            log::begin(log_form);
            log::exit_with_usage(&C::command().error(ErrorKind::ArgumentConflict, why))
        }
        (_, log_form) => log_form,
    }
}

/// Shows events.
pub(crate) struct Progress {
    verbosity: Verbosity,
    bar: Option<ProgressBar>,
    state: Mutex<All>,
}

impl Progress {
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        // A bar would break the JSON lines.
        let is_bar_asked = form() == ProgressForm::Auto && verbosity != Verbosity::Quiet && !log::is_json();
        let at_terminal = is_bar_asked && io::stderr().is_terminal();
        let bar = at_terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            // The template is a constant, and a test checks it.
            bar.set_style(ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { verbosity, bar, state: Mutex::new(All::new()) }
    }

    /// Removes the bar, so that results can be printed, and reports the number of problems that were not shown.
    pub(crate) fn done(&self) {
        self.tell_more(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).alone);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Reports the number of problems that were not shown, once.
    fn tell_more(&self, state: &mut State) {
        if let Some(line) = state.more_problems() {
            self.line(line);
        }
        (state.lesser, state.errors) = (state.lesser.min(MAX_SHOWN_PROBLEMS), state.errors.min(MAX_SHOWN_PROBLEMS));
    }

    fn line(&self, line: Line) {
        match &self.bar {
            Some(bar) => bar.suspend(|| log::write(line)),
            None => log::write(line),
        }
    }

    /// Whether progress is also written as lines: there is no bar, or the lines go to the journal.
    fn has_all_lines(&self) -> bool {
        self.bar.is_none() || log::has_fields()
    }

    /// Updates the bar at a terminal.
    fn show(&self, all: &All) {
        let Some(bar) = &self.bar else { return };
        let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
        let columns = size.map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(COLUMNS);
        // The spinner takes two columns, and some terminals wrap after the last column.
        let columns = usize::from(columns).saturating_sub(3);
        let run = &all.run;
        let line = match all.together.values().next() {
            // Of several, the progress of the whole run is shown.
            Some(first) if all.together.len() > 1 => {
                let names: Vec<String> = all.together.keys().map(|name| shown::text(name)).collect();
                let done = in_all(run, &all.alone, all.together());
                let left = done.left(run.started.elapsed());
                bar_line(first.place(run), &names.join(", "), "", done, left, columns)
            }
            only => {
                let state = only.unwrap_or(&all.alone);
                let left = left(run, state, Done::default());
                let source = state.source.as_ref().map_or("", |source| &source.shown);
                let (source, step) = (shown::text(source), shown::text(&state.step));
                bar_line(state.place(run), &source, &step, state.done, left, columns)
            }
        };
        bar.set_message(line);
    }

    /// Writes a progress line now and then, for programs more often, or without a terminal.
    fn now_and_then(&self, run: &Run, state: &mut State, others: Done) {
        let (is_wanted, interval) = match form() {
            ProgressForm::Json => (true, JSON_LINE_EVERY),
            ProgressForm::Auto => (self.has_all_lines() && self.verbosity > Verbosity::Quiet, LINE_EVERY),
            ProgressForm::None => (false, LINE_EVERY),
        };
        if is_wanted && state.last_line.elapsed() >= interval {
            state.last_line = Instant::now();
            self.line(progress_line(run, state, others));
        }
    }
}

impl Progress {
    /// The line of a problem, or `None` after [`MAX_SHOWN_PROBLEMS`].
    fn problem(&self, state: &mut State, problem: &Problem, of: Option<&SourceName>) -> Option<(Verbosity, Line)> {
        let (level, word) = match problem.severity {
            Severity::Notice => (Verbosity::Normal, "notice"),
            Severity::Warning => (Verbosity::Quiet, "warning"),
            Severity::Error => (Verbosity::Quiet, "error"),
        };
        // Problems that this verbosity hides do not count, and errors have a limit of their own, so that neither notices
        // nor many warnings hide an error.
        let count = if problem.severity == Severity::Error { &mut state.errors } else { &mut state.lesser };
        *count += u64::from(level <= self.verbosity);
        (*count <= MAX_SHOWN_PROBLEMS).then(|| {
            let text = format!("{}{word}: {problem}", state.prefix());
            let line = Line::new(problem.severity.into(), Kind::Problem, text).with_problem(problem);
            (level, line.about(of.cloned()))
        })
    }
}

impl Observer for Progress {
    fn unheard(&self) -> u64 {
        log::unheard()
    }

    fn on_event(&self, event: &Event) {
        let mut all = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (event, of) = match event {
            Event::Of { source, event } => (&**event, Some(source)),
            event => (event, None),
        };
        let mut taken = all.take(of, matches!(event, Event::SourceStarted { .. }));
        let others = all.together();
        let state = &mut taken.state;
        let said = self.said(event, &mut all.run, state, others);
        if let Some((_, mut line)) = said.filter(|(level, _)| *level <= self.verbosity) {
            line.source = line.source.or_else(|| state.source.clone()).or_else(|| of.cloned());
            self.line(line);
        }
        all.put_back(taken);
        self.show(&all);
    }
}

impl Progress {
    /// Notes an event, and returns the line that it makes.
    fn said(&self, event: &Event, run: &mut Run, state: &mut State, others: Done) -> Option<(Verbosity, Line)> {
        match event {
            Event::RunStarted { sources, bytes } => {
                *run = Run::of(*sources, *bytes);
                None
            }
            Event::SourceStarted { source } => {
                self.tell_more(state);
                *state = State { number: state.number, ..State::of(Some(source.clone())) };
                if let Some(bar) = &self.bar {
                    // Results printed between two sources removed the bar.
                    bar.reset();
                    bar.enable_steady_tick(TICK);
                }
                let place = state.place(run);
                let is_said = log::has_fields() || (self.bar.is_none() && place.sources > 1);
                is_said.then(|| {
                    let text = format!("{}volume {} of {}", state.prefix(), place.number, place.sources.max(1));
                    let line = Line::new(Level::Info, Kind::VolumeStarted, text)
                        .with("number", Value::Number(place.number))
                        .with("of", Value::Number(place.sources.max(1)));
                    (Verbosity::Normal, line)
                })
            }
            Event::Step { step } => {
                state.step.clone_from(step);
                let text = || format!("{}{step}", state.prefix());
                let line = || (Verbosity::Normal, Line::new(Level::Info, Kind::Step, text()));
                self.has_all_lines().then(line)
            }
            Event::ExpectedBytes { bytes } => {
                state.done.expected_bytes = state.done.expected_bytes.saturating_add(*bytes);
                None
            }
            Event::Read { bytes } | Event::Carried { bytes } => {
                state.done.read_bytes = state.done.read_bytes.saturating_add(*bytes);
                self.now_and_then(run, state, others);
                None
            }
            Event::SnapshotFill { snapshot, percent } => {
                let text = format!("{snapshot}: the snapshot is {percent:.1} % full");
                let line = Line::new(Level::Info, Kind::SnapshotFill, text);
                Some((Verbosity::Verbose, line.with("percent", Value::Percent(*percent))))
            }
            Event::Problem(problem) => self.problem(state, problem, None),
            Event::ProblemOf { source, problem } => self.problem(state, problem, Some(source)),
            Event::SourceFailed { source, why } => {
                run.finished += 1;
                run.read_bytes = run.read_bytes.saturating_add(state.done.read_bytes);
                self.tell_more(state);
                *state = State::of(None);
                let text = format!("{}: FAILED: {why}", source.shown);
                let line = Line::new(Level::Error, Kind::VolumeFailed, text).about(Some(source.clone()));
                Some((Verbosity::Quiet, line.with("what", Value::Text(why.clone()))))
            }
            Event::SourcePostponed { source, why } => {
                self.tell_more(state);
                *state = State::of(None);
                let text = format!("{}: it failed, and is tried again later in this run: {why}", source.shown);
                let line = Line::new(Level::Notice, Kind::Problem, text).about(Some(source.clone()));
                Some((Verbosity::Normal, line.with("what", Value::Text(why.clone()))))
            }
            // Another one within is none.
            Event::Of { .. } => None,
            Event::RunFinished { severity, outcome, figures } => {
                let verbosity = if *severity == Severity::Notice { Verbosity::Normal } else { Verbosity::Quiet };
                let line = Line::new((*severity).into(), Kind::Summary, outcome.clone());
                Some((verbosity, line.with_figures(figures)))
            }
            Event::SourceFinished { source, outcome, worst } => {
                // Later lines do not belong to this source.
                run.finished += 1;
                run.read_bytes = run.read_bytes.saturating_add(state.done.read_bytes);
                self.tell_more(state);
                *state = State::of(None);
                let text = if outcome.starts_with(&source.shown) {
                    outcome.clone()
                } else {
                    format!("{}: finished: {outcome}", source.shown)
                };
                let severity = worst.map_or(Level::Info, Level::from);
                let verbosity = if worst.is_some() { Verbosity::Quiet } else { Verbosity::Normal };
                let line = Line::new(severity, Kind::VolumeFinished, text).about(Some(source.clone()));
                log::has_fields().then_some((verbosity, line))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_template_is_one() {
        assert!(indicatif::ProgressStyle::with_template(super::STYLE).is_ok());
    }
}
