//! The log of this process: its form, and the functions by which the verbs write to it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use rustix::fs::{FileType, Mode, OFlags};
use volbak::config::LOG_VARIABLE;
use volbak::events::SourceName;
use volbak::log::{Format, Journal, Kind, Line, Log, SOCKET, Severity, is_journal_stream, new_run_id, unit_of};

/// Time limit for one line while the journal, and then standard error, is full.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time limit without progress for waiting lines, and for a run's report on standard output, while the reader takes nothing.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(5);

static LOG: OnceLock<Log> = OnceLock::new();

/// The volume of lines that name none themselves, in verbs for one backup.
static SUBJECT: Mutex<Option<SourceName>> = Mutex::new(None);

/// The forms of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogForm {
    /// The journal if standard error is connected to it, else text
    Auto,
    /// Text for people
    Text,
    /// One JSON object per line
    Json,
    /// Entries of systemd's journal, with fields
    Journal,
}

/// Begins the log, in the form given by `--log` or by the environment.
pub(crate) fn begin(asked: Option<LogForm>) {
    let mut mistake = None;
    let form = asked.unwrap_or_else(|| {
        let variable = std::env::var_os(LOG_VARIABLE).filter(|value| !value.is_empty());
        variable.map_or(LogForm::Auto, |value| {
            named(&value).unwrap_or_else(|| {
                mistake = Some(value);
                LogForm::Auto
            })
        })
    });
    LOG.get_or_init(|| Log::new(format(form), new_run_id(), out(), PATIENCE));
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let is_captured = backtrace.status() == BacktraceStatus::Captured;
        let text = if is_captured { format!("{panic}\n{backtrace}") } else { panic.to_string() };
        log_of().write_from_panic(&Line::new(Severity::Critical, Kind::Panic, text));
    }));
    if let Some(value) = mistake {
        // A missing backup is worse than log lines in another form, so this is no error.
        let value = volbak::shown::bytes(value.as_encoded_bytes());
        warning(&format!(
            "warning: {LOG_VARIABLE}={value} is not a form of log lines: write auto, text, json or journal"
        ));
    }
}

/// As [`begin`], for invalid arguments: a valid `--log FORM` among them is used, and `--progress json`.
pub(crate) fn begin_for_wrong_usage(arguments: impl Iterator<Item = OsString>) {
    let mut arguments = arguments.take_while(|argument| argument != "--");
    let mut asked = None;
    while let Some(argument) = arguments.next() {
        let (option, value) = match argument.to_str().and_then(|text| text.split_once('=')) {
            Some((option, value)) => (OsString::from(option), Some(value.into())),
            None if argument == "--log" || argument == "--progress" => (argument, arguments.next()),
            None => continue,
        };
        asked = match value.and_then(|value: OsString| named(&value)) {
            form @ Some(_) if option == "--log" => form,
            form @ Some(LogForm::Json) if option == "--progress" => form,
            _ => asked,
        };
    }
    begin(asked);
}

fn named(value: &OsStr) -> Option<LogForm> {
    LogForm::from_str(value.to_str()?, true).ok()
}

fn format(form: LogForm) -> Format {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let is_stream = is_journal_stream(&stream, rustix::stdio::stderr());
    let journal = match form {
        LogForm::Auto if !is_stream => return Format::Text,
        LogForm::Text => return Format::Text,
        LogForm::Json => return Format::Json,
        LogForm::Auto | LogForm::Journal => Journal::new(Path::new(SOCKET), PATIENCE),
    };
    // The journal needs a descriptor. Without one, nothing else works either, so text is good enough.
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let unit = unit_of(&cgroups).map(str::to_owned);
    journal.map_or(Format::Text, |journal| Format::Journal { journal, is_stream, unit })
}

/// Standard error. A pipe or terminal is opened anew, for writing that does not block: only an open file description of our
/// own may be set so, and without it a write blocks where another process fills the same pipe between our look and our write.
fn out() -> BorrowedFd<'static> {
    let stderr = rustix::stdio::stderr();
    let is_stream = rustix::fs::fstat(stderr)
        .is_ok_and(|stat| matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::CharacterDevice));
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if is_stream && let Ok(own) = rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()) {
        // As long as the process.
        let own: &'static OwnedFd = Box::leak(Box::new(own));
        return own.as_fd();
    }
    stderr
}

fn log_of() -> &'static Log {
    LOG.get_or_init(|| Log::new(Format::Text, new_run_id(), out(), PATIENCE))
}

/// The id in all log lines of this process.
pub(crate) fn run_id() -> &'static str {
    log_of().run_id()
}

/// Whether log lines are for programs: they have fields, and lines that duplicate the progress bar are written, too.
pub(crate) fn has_fields() -> bool {
    !matches!(log_of().format(), Format::Text)
}

/// Whether programs parse standard error: it must have nothing but JSON lines.
pub(crate) fn is_json() -> bool {
    matches!(log_of().format(), Format::Json)
}

/// Sets the volume of later lines that name none themselves.
pub(crate) fn set_subject(source: SourceName) {
    *SUBJECT.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
}

/// Writes a line.
pub(crate) fn write(mut line: Line) {
    if line.source.is_none() {
        line.source.clone_from(&SUBJECT.lock().unwrap_or_else(PoisonError::into_inner));
    }
    log_of().write(&line);
}

/// Writes a line of severity error.
pub(crate) fn error(text: &str) {
    write(Line::new(Severity::Error, Kind::Message, text));
}

/// Writes a line of severity warning.
pub(crate) fn warning(text: &str) {
    write(Line::new(Severity::Warning, Kind::Message, text));
}

/// Set when the time limit for the reader of log lines has passed once: the next wait is short.
static IS_GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// Time limit for a reader that takes nothing: none at a terminal, where a person may be reading in a pager.
pub(crate) fn patience_at_the_end() -> Duration {
    if std::io::stdin().is_terminal() { Duration::MAX } else { PATIENCE_AT_THE_END }
}

/// The number of lines that are lost, or that wait for a reader that takes none. Those that wait for a pager at a terminal do not count.
pub(crate) fn unheard() -> u64 {
    if std::io::stdin().is_terminal() {
        return log_of().finish(Duration::ZERO).lost;
    }
    let unsent = log_of().finish(PATIENCE_AT_THE_END);
    IS_GIVEN_UP.store(unsent.waiting > 0, Ordering::Relaxed);
    unsent.lost.saturating_add(unsent.waiting)
}

/// Sends the waiting lines. Later lines are not written.
pub(crate) fn end() {
    if let Some(log) = LOG.get() {
        log.finish(if IS_GIVEN_UP.load(Ordering::Relaxed) { PATIENCE } else { patience_at_the_end() });
    }
}

/// Prints a usage error, the help or the version: clap reports all three as errors. Returns the exit status.
pub(crate) fn explained(usage: &clap::Error) -> Result<u8, std::io::Error> {
    let status = u8::try_from(usage.exit_code()).unwrap_or(2);
    if usage.use_stderr() && has_fields() {
        let text = usage.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        write(Line::new(Severity::Error, Kind::Usage, text));
        return Ok(status);
    }
    match usage.print() {
        Err(error) if !usage.use_stderr() && error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(status),
    }
}

/// Ends the process with a usage error that the argument parser could not detect.
pub(crate) fn exit_with_usage(usage: &clap::Error) -> ! {
    let status = explained(usage).unwrap_or(2);
    end();
    std::process::exit(status.into())
}
