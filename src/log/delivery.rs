//! Where lines go, and what becomes of those that do not get there at once.

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
use crate::shown::hex;

/// More lines than this do not wait for a journal and a standard error that take none.
const MAX_WAITING: usize = 10_000;
/// A pipe that is ready takes as much at once without blocking: pipe(7), `PIPE_BUF`.
const PIECE_BYTES: usize = 4096;

/// The form of lines.
#[derive(Debug)]
pub enum Format {
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
    /// Entries of the journal.
    Journal {
        /// The way to it.
        journal: Journal,
        /// Whether standard error is a stream to the journal, too: what goes there instead has its priority before it.
        is_stream: bool,
        /// The service that this process runs in.
        unit: Option<String>,
    },
}

/// The one place through which all lines of a run go.
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
    /// How many did not fit into `waiting`.
    dropped: u64,
    /// Whether a full journal is waited for: not again before it took a line.
    waits_for_journal: bool,
    /// The same of standard error.
    waits_for_out: bool,
    /// Whether it was said that lines go to standard error instead of the journal.
    is_told: bool,
    /// Whether standard error has a part of a line that the journal then took.
    is_cut: bool,
}

/// A line on its way to the journal, or to standard error.
#[derive(Debug)]
struct Waiting {
    fields: Vec<(String, String)>,
    text: Vec<u8>,
    /// How much of the text is written.
    written: usize,
}

/// Why a line is still waiting.
#[derive(Debug, PartialEq, Eq)]
enum Obstacle {
    /// It may get through later.
    Full,
    /// There is no way for it.
    Broken,
}

impl Log {
    /// Lines of the run `run_id`. `out` is standard error; one that is full is waited for without end by text and JSON, and as
    /// long as `patience` by lines that the journal did not take.
    pub fn new(format: Format, run_id: String, out: BorrowedFd<'static>, patience: Duration) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            dropped: 0,
            waits_for_journal: true,
            waits_for_out: true,
            is_told: false,
            is_cut: false,
        };
        Self { format, run_id, out, patience, state: Mutex::new(state) }
    }

    /// The run's id, which each of its lines has.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The form of its lines.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Writes a line. When neither the journal nor standard error take it, it waits for the next call of this or of
    /// [`Self::finish`].
    pub fn write(&self, line: &Line) {
        self.write_locked(line, Some(self.state.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    /// As [`Self::write`], from a panic, which may have come about in here.
    pub fn write_from_panic(&self, line: &Line) {
        let state = match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        self.write_locked(line, state);
    }

    fn write_locked(&self, line: &Line, state: Option<MutexGuard<'_, State>>) {
        let mut text = match &self.format {
            Format::Text | Format::Journal { is_stream: false, .. } => line.as_text(),
            Format::Json => line.as_json(&self.run_id, Utc::now()),
            Format::Journal { is_stream: true, .. } => line.as_text_with_priority(),
        };
        text.push('\n');
        match (&self.format, state) {
            (Format::Journal { journal, unit, .. }, Some(mut state)) => {
                if state.waiting.len() < MAX_WAITING {
                    let fields = line.as_journal(&self.run_id, unit.as_deref());
                    state.waiting.push_back(Waiting { fields, text: text.into_bytes(), written: 0 });
                } else {
                    state.dropped += 1;
                }
                let _ = self.send(journal, &mut state); // what waits is tried again
            }
            // When it cannot be written there is nowhere left to say so.
            (_, _state) => _ = write(self.out, text.as_bytes(), None),
        }
    }

    /// Sends what is waiting, for `limit` at most.
    pub fn finish(&self, limit: Duration) {
        let Format::Journal { journal, .. } = &self.format else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        loop {
            (state.waits_for_journal, state.waits_for_out) = (true, true);
            if self.send(journal, &mut state) != Err(Obstacle::Full) || began.elapsed() >= limit {
                return;
            }
        }
    }

    fn send(&self, journal: &Journal, state: &mut State) -> Result<(), Obstacle> {
        while let Some(first) = state.waiting.front_mut() {
            match journal.send(&first.fields, state.waits_for_journal) {
                Ok(()) => {
                    state.is_cut |= first.written > 0;
                    state.waits_for_journal = true;
                    state.taken(&self.run_id);
                    continue;
                }
                Err(error) => {
                    state.waits_for_journal &= error.kind() != io::ErrorKind::WouldBlock;
                    let is_stream = matches!(self.format, Format::Journal { is_stream: true, .. });
                    if !is_stream && !std::mem::replace(&mut state.is_told, true) {
                        let why = format!("the journal takes no lines, and they are written here: {error}");
                        let told = Line::new(Severity::Warning, Kind::Message, format!("warning: {why}\n"));
                        first.text.splice(..0, told.as_text().into_bytes());
                    }
                }
            }
            if std::mem::take(&mut state.is_cut) {
                first.text.insert(0, b'\n');
            }
            let patience = if state.waits_for_out { self.patience } else { Duration::ZERO };
            let rest = first.text.get(first.written..).unwrap_or_default();
            let (written, result) = write(self.out, rest, Some(patience));
            first.written += written;
            state.waits_for_out = result.is_ok();
            match result {
                Ok(()) => state.taken(&self.run_id),
                Err(Errno::AGAIN) => return Err(Obstacle::Full),
                Err(_) if state.waits_for_journal => return Err(Obstacle::Broken),
                Err(_) => return Err(Obstacle::Full),
            }
        }
        Ok(())
    }
}

impl State {
    /// The first line is where it should be.
    fn taken(&mut self, run_id: &str) {
        self.waiting.pop_front();
        if self.waiting.is_empty() && self.dropped > 0 {
            let what =
                format!("warning: {} lines are lost: neither the journal nor standard error took them", self.dropped);
            let line = Line::new(Severity::Warning, Kind::Message, what);
            let text = format!("{}\n", line.as_text()).into_bytes();
            self.waiting.push_back(Waiting { fields: line.as_journal(run_id, None), text, written: 0 });
            self.dropped = 0;
        }
    }
}

/// Writes all of `bytes`. One that is full is waited for as long as `patience` each time, or without end; then it is
/// [`Errno::AGAIN`]. Gives how much was written.
fn write(out: BorrowedFd<'_>, bytes: &[u8], patience: Option<Duration>) -> (usize, Result<(), Errno>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let piece = match patience {
            Some(patience) if !is_ready(out, Some(patience)) => return (written, Err(Errno::AGAIN)),
            Some(_) => rest.get(..PIECE_BYTES).unwrap_or(rest),
            None => rest,
        };
        match rustix::io::write(out, piece) {
            Ok(0) => return (written, Err(Errno::IO)),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            // Another process that has it may have made it one that does not block.
            Err(Errno::AGAIN) if patience.is_none() => _ = is_ready(out, None),
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Waits until `out` takes bytes, or an error shows. Without patience for it, without end.
fn is_ready(out: BorrowedFd<'_>, patience: Option<Duration>) -> bool {
    let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
    let mut waited_for = [PollFd::from_borrowed_fd(out, PollFlags::OUT)];
    // One that cannot be waited for says what is wrong when it is written to.
    !matches!(poll(&mut waited_for, timeout.as_ref()), Ok(0) | Err(Errno::INTR))
}

/// 32 hex digits that no other run has.
pub fn new_run_id() -> String {
    let mut bytes = [0; 16];
    // Fails for buffers longer than 256 bytes, and for kernels before 3.17.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    hex(&bytes)
}
