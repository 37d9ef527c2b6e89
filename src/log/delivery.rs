//! Delivers log lines, and keeps those that cannot be delivered at once.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use chrono::Utc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::journal::Journal;
use super::{Kind, Line, Severity};
use crate::shown::counted;
use crate::shown::hex;

/// The maximum number of lines that wait while neither the journal nor standard error accepts them.
const MAX_WAITING: usize = 10_000;
/// A ready pipe accepts this much without blocking: pipe(7), `PIPE_BUF`.
const PIECE_BYTES: usize = 4096;

/// The form of lines.
#[derive(Debug)]
pub enum Format {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
    /// Entries of the journal.
    Journal {
        /// The connection.
        journal: Journal,
        /// Whether standard error is also connected to the journal: lines written there get their priority as a
        /// prefix.
        is_stream: bool,
        /// The systemd service of this process.
        unit: Option<String>,
    },
}

/// The delivery of all lines of a run.
#[derive(Debug)]
pub struct Log {
    format: Format,
    run_id: String,
    out: BorrowedFd<'static>,
    patience: Duration,
    state: Mutex<State>,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Debug)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Lines that did not fit into `waiting`: since the last report, and in total.
    dropped: u64,
    lost: u64,
    /// Whether to wait for a full journal. Cleared after a timeout until it accepts a line.
    waits_for_journal: bool,
    /// The same for standard error.
    waits_for_out: bool,
    /// Whether the fallback from the journal to standard error was reported.
    is_told: bool,
    /// Whether standard error has a partial line that then went to the journal.
    is_cut: bool,
}

/// Lines that were not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Dropped lines.
    pub lost: u64,
    /// Lines still waiting.
    pub waiting: u64,
}

/// A line on its way to the journal or to standard error.
#[derive(Debug)]
struct Waiting {
    fields: Vec<(String, String)>,
    text: Vec<u8>,
    /// The number of bytes already written.
    written: usize,
}

/// Why a line still waits.
#[derive(Debug, PartialEq, Eq)]
enum Obstacle {
    /// The receiver is full; a later attempt may succeed.
    Full,
    /// The receiver is gone.
    Broken,
}

impl Log {
    /// Delivers the lines of run `run_id`. `out` is standard error: it gets lines as text and JSON, and those that
    /// the journal did not accept. If it is full, a line waits for `patience`; later lines do not wait until it has
    /// accepted one again. A run must not stop because the reader of its log does.
    pub fn new(format: Format, run_id: String, out: BorrowedFd<'static>, patience: Duration) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            dropped: 0,
            lost: 0,
            waits_for_journal: true,
            waits_for_out: true,
            is_told: false,
            is_cut: false,
        };
        Self { format, run_id, out, patience, state: Mutex::new(state) }
    }

    /// The run's id, part of each line.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The form of its lines.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Writes a line. If neither the journal nor standard error accepts it, it waits for the next call of this or
    /// of [`Self::finish`]. With [`MAX_WAITING`] lines waiting, it is dropped and counted.
    pub fn write(&self, line: &Line) {
        self.write_locked(line, self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Like [`Self::write`], for use after a panic, which may have happened in this module.
    pub fn write_from_panic(&self, line: &Line) {
        match self.state.try_lock() {
            Ok(state) => self.write_locked(line, state),
            Err(TryLockError::Poisoned(error)) => self.write_locked(line, error.into_inner()),
            Err(TryLockError::WouldBlock) => {
                // If this fails there is no other place to report it.
                let _ = write(self.out, self.as_written(line).as_bytes(), self.patience);
            }
        }
    }

    fn write_locked(&self, line: &Line, mut state: MutexGuard<'_, State>) {
        if state.waiting.len() < MAX_WAITING {
            state.waiting.push_back(self.waiting(line));
        } else {
            state.dropped += 1;
            state.lost += 1;
        }
        let _ = self.send(&mut state); // what waits is tried again
    }

    /// The line in the form for standard error.
    fn as_written(&self, line: &Line) -> String {
        let mut text = match &self.format {
            Format::Text | Format::Journal { is_stream: false, .. } => line.as_text(),
            Format::Json => line.as_json(&self.run_id, Utc::now()),
            Format::Journal { is_stream: true, .. } => line.as_text_with_priority(),
        };
        text.push('\n');
        text
    }

    fn waiting(&self, line: &Line) -> Waiting {
        let fields = match &self.format {
            Format::Journal { unit, .. } => line.as_journal(&self.run_id, unit.as_deref()),
            Format::Text | Format::Json => Vec::new(),
        };
        Waiting { fields, text: self.as_written(line).into_bytes(), written: 0 }
    }

    /// Sends waiting lines, as long as some are accepted within `limit`. Returns the number of undelivered lines.
    pub fn finish(&self, limit: Duration) -> Unsent {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = |state: &State| (state.waiting.len(), state.waiting.front().map(|first| first.written));
        let (mut began, mut before) = (Instant::now(), progress(&state));
        loop {
            (state.waits_for_journal, state.waits_for_out) = (true, true);
            let is_over = self.send(&mut state) != Err(Obstacle::Full);
            let now = progress(&state);
            if now != before {
                (began, before) = (Instant::now(), now);
            }
            if is_over || began.elapsed() >= limit {
                return Unsent { lost: state.lost, waiting: state.waiting.len() as u64 };
            }
        }
    }

    fn send(&self, state: &mut State) -> Result<(), Obstacle> {
        while let Some(first) = state.waiting.front_mut() {
            if let Format::Journal { journal, is_stream, .. } = &self.format {
                match journal.send(&first.fields, state.waits_for_journal) {
                    Ok(()) => {
                        state.is_cut |= first.written > 0;
                        state.waits_for_journal = true;
                        self.taken(state);
                        continue;
                    }
                    Err(error) => {
                        state.waits_for_journal &= error.kind() != io::ErrorKind::WouldBlock;
                        if !is_stream && !std::mem::replace(&mut state.is_told, true) {
                            let why = format!("the journal takes no lines, and they are written here: {error}");
                            let told = Line::new(Severity::Warning, Kind::Message, format!("warning: {why}\n"));
                            first.text.splice(..0, told.as_text().into_bytes());
                        }
                    }
                }
            }
            if std::mem::take(&mut state.is_cut) {
                first.text.insert(0, b'\n');
            }
            let patience = if state.waits_for_out { self.patience } else { Duration::ZERO };
            let rest = first.text.get(first.written..).unwrap_or_default();
            let (written, result) = write(self.out, rest, patience);
            first.written += written;
            state.waits_for_out = result.is_ok();
            let is_journal = matches!(self.format, Format::Journal { .. });
            match result {
                Ok(()) => self.taken(state),
                // The reader has ended; drop its lines.
                Err(Errno::PIPE) if !is_journal => self.taken(state),
                Err(Errno::AGAIN) => return Err(Obstacle::Full),
                Err(_) if state.waits_for_journal => return Err(Obstacle::Broken),
                Err(_) => return Err(Obstacle::Full),
            }
        }
        Ok(())
    }

    /// Marks the first waiting line as delivered.
    fn taken(&self, state: &mut State) {
        state.waiting.pop_front();
        if state.waiting.is_empty() && state.dropped > 0 {
            let who = match self.format {
                Format::Journal { .. } => "neither the journal nor standard error took them",
                Format::Text | Format::Json => "standard error did not take them in time",
            };
            let what = format!("warning: {} lost: {who}", counted(state.dropped, "line is", "lines are"));
            state.waiting.push_back(self.waiting(&Line::new(Severity::Warning, Kind::Message, what)));
            state.dropped = 0;
        }
    }
}

/// Writes all of `bytes` in pieces that do not block. Fails if none is accepted for `patience`.
pub fn write_in_time(out: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> io::Result<()> {
    match write(out, bytes, patience).1 {
        Err(Errno::AGAIN) => {
            let why = format!("what reads it took nothing for {} s", patience.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        }
        result => Ok(result?),
    }
}

/// Writes all of `bytes`. Waits for a full receiver for up to `patience` each time; then it returns
/// [`Errno::AGAIN`]. Returns the number of bytes written.
fn write(out: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> (usize, Result<(), Errno>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        if !is_ready(out, patience) {
            return (written, Err(Errno::AGAIN));
        }
        match rustix::io::write(out, rest.get(..PIECE_BYTES).unwrap_or(rest)) {
            Ok(0) => return (written, Err(Errno::IO)),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Waits until `out` accepts bytes or shows an error.
fn is_ready(out: BorrowedFd<'_>, patience: Duration) -> bool {
    let deadline = Instant::now().checked_add(patience);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut waited_for = [PollFd::from_borrowed_fd(out, PollFlags::OUT)];
        match poll(&mut waited_for, timeout.as_ref()) {
            Ok(0) => return false,
            // Interrupted by a signal.
            Err(Errno::INTR) => {}
            // If polling fails, the write will show the error.
            _ => return true,
        }
    }
}

/// A unique run id of 32 hex digits.
pub fn new_run_id() -> String {
    let mut bytes = [0; 16];
    // Fails only for buffers above 256 bytes, and on kernels before 3.17.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    hex(&bytes)
}
