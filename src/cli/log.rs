//! The log of this process: which form it has, and how the verbs write to it.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use volbak::config::LOG_VARIABLE;
use volbak::events::SourceName;
use volbak::log::{Format, Journal, Kind, Line, Log, SOCKET, Severity, is_journal_stream, new_run_id, unit_of};

/// How long a line waits for a journal, and then for a standard error, that is full; and all of them at the end.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(10);

static LOG: OnceLock<Log> = OnceLock::new();

/// What lines are about that name no volume themselves: a verb for one backup.
static SUBJECT: Mutex<Option<SourceName>> = Mutex::new(None);

/// The forms of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogForm {
    /// The journal where standard error is connected to it, else text
    Auto,
    /// Text for people
    Text,
    /// One JSON object a line
    Json,
    /// Entries of systemd's journal, with fields
    Journal,
}

/// Begins the log: in the form that was asked for, or that the environment asks for.
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
    let log = LOG.get_or_init(|| Log::new(format(form), new_run_id(), rustix::stdio::stderr(), PATIENCE));
    if !matches!(log.format(), Format::Text) {
        std::panic::set_hook(Box::new(|panic| {
            log_of().write_from_panic(&Line::new(Severity::Critical, Kind::Panic, panic.to_string()));
        }));
    }
    if let Some(value) = mistake {
        // A backup that does not run is worse than lines in another form.
        let value = volbak::shown::bytes(value.as_encoded_bytes());
        warning(&format!("warning: {LOG_VARIABLE}={value} is no form of log lines: write auto, text, json or journal"));
    }
}

/// As [`begin`], for arguments that cannot be understood: what they ask for counts as far as it can be seen.
pub(crate) fn begin_for_wrong_usage(arguments: impl Iterator<Item = OsString>) {
    let mut arguments = arguments.take_while(|argument| argument != "--");
    let mut asked = None;
    while let Some(argument) = arguments.next() {
        let value = match argument.as_encoded_bytes().strip_prefix(b"--log") {
            Some(b"") => arguments.next(),
            Some([b'=', _, ..]) => {
                argument.to_str().and_then(|text| text.split_once('=')).map(|(_, value)| value.into())
            }
            _ => None,
        };
        asked = value.and_then(|value| named(&value)).or(asked);
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
    // Without descriptors nothing else works, either.
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let unit = unit_of(&cgroups).map(str::to_owned);
    journal.map_or(Format::Text, |journal| Format::Journal { journal, is_stream, unit })
}

fn log_of() -> &'static Log {
    LOG.get_or_init(|| Log::new(Format::Text, new_run_id(), rustix::stdio::stderr(), PATIENCE))
}

/// The id that all lines of this process have.
pub(crate) fn run_id() -> &'static str {
    log_of().run_id()
}

/// Whether lines are for programs: they have fields, and none is left out because a bar shows it.
pub(crate) fn has_fields() -> bool {
    !matches!(log_of().format(), Format::Text)
}

/// Whether standard error is for lines that programs read, and nothing else.
pub(crate) fn is_json() -> bool {
    matches!(log_of().format(), Format::Json)
}

/// What lines from now on are about that name no volume themselves.
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

/// Something failed.
pub(crate) fn error(text: &str) {
    write(Line::new(Severity::Error, Kind::Message, text));
}

/// The work goes on.
pub(crate) fn warning(text: &str) {
    write(Line::new(Severity::Warning, Kind::Message, text));
}

/// Sends what still waits to be sent. Nothing is written afterwards.
pub(crate) fn end() {
    if let Some(log) = LOG.get() {
        log.finish(PATIENCE_AT_THE_END);
    }
}

/// Says how the program was called in a wrong way, or prints help or the version, which come the same way. Gives the exit
/// status that goes with it.
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

/// Ends the process, for wrong usage that is found later than by the arguments alone.
pub(crate) fn exit_with_usage(usage: &clap::Error) -> ! {
    let status = explained(usage).unwrap_or(2);
    end();
    std::process::exit(status.into())
}
