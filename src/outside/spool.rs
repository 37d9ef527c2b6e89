//! A spool: messages that could not be sent, one file each, kept for the next run. Only files with volbak's names are ever
//! read or removed.

use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Duration, NaiveDateTime, Utc};

const PREFIX: &str = "volbak-";
const UNFINISHED: &str = ".volbak-unfinished-";
const TIME_FORMAT: &str = "%Y%m%dT%H%M%S%.9f";

/// Maximum size of a spooled message; volbak's are far smaller.
const MAX_BYTES: u64 = 32 << 20;

/// A directory of messages of one kind, and its bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spool<'a> {
    /// Created with mode 0700 if it does not exist.
    pub(crate) directory: &'a Path,
    /// What a message is called, and the end of its file's name.
    pub(crate) kind: &'static str,
    /// Maximum number of messages; 0 disables the spool.
    pub(crate) max_messages: usize,
    /// Maximum age in days.
    pub(crate) max_days: u32,
}

/// The waiting messages, oldest first, without those just dropped.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) waiting: Vec<(PathBuf, DateTime<Utc>)>,
    /// What was dropped and why, and what could not be read.
    pub(crate) problems: Vec<String>,
}

impl Spool<'_> {
    /// Keeps a message, and returns its file, or `None` if the spool is disabled. The file gets its name only when it is
    /// complete and synced; only its owner can read it.
    pub(crate) fn put(&self, message: &[u8], now: DateTime<Utc>) -> io::Result<Option<PathBuf>> {
        if self.max_messages == 0 {
            return Ok(None);
        }
        make_directory(self.directory)?;
        let name = new_name(now, self.kind);
        write_new(self.directory, &name, message)?;
        Ok(Some(self.directory.join(name)))
    }

    /// Lists the messages, and drops those beyond the bounds. A missing directory is an empty spool.
    pub(crate) fn list(&self, now: DateTime<Utc>) -> Listed {
        let mut listed = Listed::default();
        let entries = match fs::read_dir(self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return listed,
            Err(error) => {
                listed.problems.push(error.to_string());
                return listed;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if is_left_unfinished(&entry, now) {
                // Another run may have removed it.
                let _ = fs::remove_file(entry.path());
                continue;
            }
            let Some(queued) = name.to_str().and_then(|name| queued_at(name, self.kind)) else { continue };
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                listed.waiting.push((entry.path(), queued));
            }
        }
        listed.waiting.sort();
        let oldest = now.checked_sub_signed(Duration::days(i64::from(self.max_days)));
        let too_many = listed.waiting.len().saturating_sub(self.max_messages);
        let mut at = 0;
        listed.waiting.retain(|(path, queued)| {
            at += 1;
            let why = if oldest.is_some_and(|oldest| *queued < oldest) {
                format!("it waited for more than {} days", self.max_days)
            } else if at <= too_many {
                format!("more than {} were waiting", self.max_messages)
            } else {
                return true;
            };
            listed.problems.push(match fs::remove_file(path) {
                Ok(()) => format!("the {} of {} was dropped: {why}", self.kind, queued.format("%d/%m/%Y %H:%M")),
                Err(error) => format!("{}: {error}", path.display()),
            });
            false
        });
        listed
    }
}

/// Reads a message, up to the largest size that volbak writes.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Creates a directory that only its owner can read, and its parents.
pub(crate) fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// A file name with the time and the process ID: `volbak-20261120T010001.000000000-4711.mail`.
pub(crate) fn new_name(now: DateTime<Utc>, extension: &str) -> String {
    format!("{PREFIX}{}-{}.{extension}", now.format(TIME_FORMAT), std::process::id())
}

/// Whether a process was killed while it wrote this message: that takes a moment, and its number may be another's now.
fn is_left_unfinished(entry: &DirEntry, now: DateTime<Utc>) -> bool {
    let is_named_so = entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED));
    let written = || entry.metadata().ok().filter(fs::Metadata::is_file)?.modified().ok();
    is_named_so && written().is_some_and(|at| now - DateTime::<Utc>::from(at) > Duration::hours(1))
}

fn queued_at(name: &str, kind: &str) -> Option<DateTime<Utc>> {
    let stem = name.strip_prefix(PREFIX)?.strip_suffix(kind)?.strip_suffix('.')?;
    let (time, process) = stem.rsplit_once('-')?;
    process.parse::<u32>().ok()?;
    Some(NaiveDateTime::parse_from_str(time, TIME_FORMAT).ok()?.and_utc())
}

/// Writes a file atomically: mode 0600, synced, renamed, its directory synced.
pub(crate) fn write_new(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
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
