//! The spool: mails that could not be sent, one file each, kept for the next run. Only files with volbak's names are ever
//! read or removed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Duration, NaiveDateTime, Utc};

use super::compose::Mail;
use super::error::MailError;
use super::settings::SpoolSettings;
use crate::events::{Problem, Severity};

const PREFIX: &str = "volbak-";
const SUFFIX: &str = ".mail";
const UNFINISHED: &str = ".volbak-unfinished-";
const TIME_FORMAT: &str = "%Y%m%dT%H%M%S%.9f";

/// Maximum size of a spooled mail; volbak's mails are far smaller.
const MAX_BYTES: u64 = 32 << 20;

/// The spooled mails, oldest first, without those just dropped.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) waiting: Vec<(PathBuf, DateTime<Utc>)>,
    pub(super) problems: Vec<Problem>,
}

/// Spools a mail, and returns its file, or `None` if the spool is disabled. The file gets its name only when it is complete
/// and synced; only its owner can read it.
pub(super) fn put(settings: &SpoolSettings, mail: &Mail, now: DateTime<Utc>) -> Result<Option<PathBuf>, MailError> {
    if settings.max_mails == 0 {
        return Ok(None);
    }
    let io = |source| MailError::Io { path: settings.directory.clone(), source };
    make_directory(&settings.directory).map_err(io)?;
    let mut bytes = serde_json::to_vec(mail).map_err(|error| io(error.into()))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&mail.message);
    let name = new_name(now, "mail");
    write_new(&settings.directory, &name, &bytes).map_err(io)?;
    Ok(Some(settings.directory.join(name)))
}

/// Lists the spooled mails. A missing directory is an empty spool.
pub(super) fn list(settings: &SpoolSettings, now: DateTime<Utc>) -> Listed {
    let mut listed = Listed::default();
    let entries = match fs::read_dir(&settings.directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return listed,
        Err(error) => {
            listed.problems.push(Problem::new(Severity::Warning, "mail spool", error.to_string()));
            return listed;
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(queued) = name.to_str().and_then(queued_at) else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            listed.waiting.push((entry.path(), queued));
        }
    }
    listed.waiting.sort();
    let oldest = now.checked_sub_signed(Duration::days(i64::from(settings.max_days)));
    let too_many = listed.waiting.len().saturating_sub(settings.max_mails);
    let mut at = 0;
    listed.waiting.retain(|(path, queued)| {
        at += 1;
        let why = if oldest.is_some_and(|oldest| *queued < oldest) {
            format!("it waited for more than {} days", settings.max_days)
        } else if at <= too_many {
            format!("more than {} were waiting", settings.max_mails)
        } else {
            return true;
        };
        let what = match fs::remove_file(path) {
            Ok(()) => format!("the mail of {} was dropped: {why}", queued.format("%d/%m/%Y %H:%M")),
            Err(error) => format!("{}: {error}", path.display()),
        };
        listed.problems.push(Problem::new(Severity::Warning, "mail spool", what));
        false
    });
    listed
}

/// Reads a spooled mail.
pub(super) fn read(path: &Path) -> Result<Mail, MailError> {
    let io = |source| MailError::Io { path: path.to_owned(), source };
    let broken = || MailError::Damaged { path: path.to_owned() };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)).map_err(io)?;
    let line_end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
    let mut mail: Mail = serde_json::from_slice(&bytes[..line_end]).map_err(|_| broken())?;
    mail.message = bytes.split_off(line_end + 1);
    Ok(mail)
}

/// Removes a mail that was sent.
pub(super) fn remove(path: &Path) -> Result<(), MailError> {
    fs::remove_file(path).map_err(|source| MailError::Io { path: path.to_owned(), source })
}

/// Creates a directory that only its owner can read, and its parents.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// A file name with the time and the process ID: `volbak-20261120T010001.000000000-4711.mail`.
pub(super) fn new_name(now: DateTime<Utc>, extension: &str) -> String {
    format!("{PREFIX}{}-{}.{extension}", now.format(TIME_FORMAT), std::process::id())
}

fn queued_at(name: &str) -> Option<DateTime<Utc>> {
    let (time, process) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    process.parse::<u32>().ok()?;
    Some(NaiveDateTime::parse_from_str(time, TIME_FORMAT).ok()?.and_utc())
}

/// Writes a file atomically: mode 0600, synced, renamed, its directory synced.
pub(super) fn write_new(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = directory.join(format!("{UNFINISHED}{}", std::process::id()));
    // The remains of an earlier process with the same ID.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&unfinished, directory.join(name)));
    if let Err(error) = written {
        // The write failed, and its error is reported. An error of the removal would add nothing.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}
