//! The spool of mails: the sender and the recipients as a line of JSON, then the message.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::compose::Mail;
use super::error::MailError;
use super::settings::SpoolSettings;
use crate::events::{Problem, Severity};
use crate::outside::spool;

/// The spooled mails, oldest first, without those just dropped.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) waiting: Vec<(PathBuf, DateTime<Utc>)>,
    pub(super) problems: Vec<Problem>,
}

fn of(settings: &SpoolSettings) -> spool::Spool<'_> {
    spool::Spool {
        directory: &settings.directory,
        kind: "mail",
        max_messages: settings.max_mails,
        max_days: settings.max_days,
    }
}

/// Spools a mail, and returns its file, or `None` if the spool is disabled.
pub(super) fn put(settings: &SpoolSettings, mail: &Mail, now: DateTime<Utc>) -> Result<Option<PathBuf>, MailError> {
    let io = |source| MailError::Io { path: settings.directory.clone(), source };
    let mut bytes = serde_json::to_vec(mail).map_err(|error| io(error.into()))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&mail.message);
    of(settings).put(&bytes, now).map_err(io)
}

/// Lists the spooled mails. A missing directory is an empty spool.
pub(super) fn list(settings: &SpoolSettings, now: DateTime<Utc>) -> Listed {
    let listed = of(settings).list(now);
    let warning = |what| Problem::new(Severity::Warning, "mail spool", what);
    Listed { waiting: listed.waiting, problems: listed.problems.into_iter().map(warning).collect() }
}

/// Reads a spooled mail.
pub(super) fn read(path: &Path) -> Result<Mail, MailError> {
    let broken = || MailError::Damaged { path: path.to_owned() };
    let mut bytes = spool::read(path).map_err(|source| MailError::Io { path: path.to_owned(), source })?;
    let line_end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
    let mut mail: Mail = serde_json::from_slice(&bytes[..line_end]).map_err(|_| broken())?;
    mail.message = bytes.split_off(line_end + 1);
    Ok(mail)
}

/// Removes a mail that was sent.
pub(super) fn remove(path: &Path) -> Result<(), MailError> {
    fs::remove_file(path).map_err(|source| MailError::Io { path: path.to_owned(), source })
}
