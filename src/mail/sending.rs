//! Sends a report, then what waits in the spool, within one deadline.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::delivery::Delivery;
use super::error::MailError;
use super::settings::{Settings, SpoolSettings, Transport};
use super::{compose, deliver, spool};
use crate::events::{Problem, Severity};
use crate::report::Rendered;

/// Connects to the mail server as [`send`] would, greets it, starts TLS and logs in, but sends nothing. Ends within `limit`.
/// `None`: the transport is not SMTP.
pub fn try_server(settings: &Settings, limit: Duration) -> Option<Result<(), MailError>> {
    match &settings.transport {
        Transport::Smtp(server) => Some(deliver::try_server(server, &settings.host, limit)),
        Transport::Sendmail { .. } | Transport::File { .. } => None,
    }
}

/// Sends `report`, then the mails in the spool. Ends within the deadline (and the time to read the spool's files), and never
/// fails: [`Delivery::problems`] has the problems, and unsent mails wait in the spool.
pub fn send(settings: &Settings, report: &Rendered, now: DateTime<Utc>) -> Delivery {
    let ends = Instant::now() + settings.deadline;
    let mut delivery = Delivery::default();
    let mut server_answers = true;
    let mut just_kept = None;
    match compose::mail(settings, report, now) {
        Err(error) => delivery.problems.push(problem("mail", &error)),
        Ok(mail) => match deliver::to_all(settings, &mail, ends, now) {
            Ok(()) => delivery.sent = true,
            Err(undelivered) => {
                server_answers = undelivered.errors.iter().all(|(_, error)| error.is_refusal());
                delivery.problems.extend(undelivered.errors.iter().map(|(whom, error)| problem(whom, error)));
                match spool::put(&settings.spool, &mail.only_to(undelivered.to), now) {
                    Ok(path) => just_kept = path,
                    Err(error) => delivery.problems.push(problem("mail spool", &error)),
                }
            }
        },
    }

    if server_answers {
        try_waiting(settings, now, ends, just_kept.as_deref(), &mut delivery);
    } else {
        list_waiting(settings, now, &mut delivery);
    }
    delivery
}

/// Sends the mails in the spool, and no new mail. Ends and fails as [`send`] does.
pub fn send_waiting(settings: &Settings, now: DateTime<Utc>) -> Delivery {
    let mut delivery = Delivery::default();
    try_waiting(settings, now, Instant::now() + settings.deadline, None, &mut delivery);
    delivery
}

/// Drops mails that waited for too long, where none are sent any more. Returns what was dropped.
pub fn drop_old(spool: &SpoolSettings, now: DateTime<Utc>) -> Vec<Problem> {
    // A user that cannot read the spool has no mail in it.
    if fs::read_dir(&spool.directory).is_err() { Vec::new() } else { spool::list(spool, now).problems }
}

fn list_waiting(settings: &Settings, now: DateTime<Utc>, delivery: &mut Delivery) -> Vec<(PathBuf, DateTime<Utc>)> {
    let listed = spool::list(&settings.spool, now);
    delivery.problems.extend(listed.problems);
    delivery.waiting = listed.waiting.len();
    listed.waiting
}

fn try_waiting(
    settings: &Settings,
    now: DateTime<Utc>,
    ends: Instant,
    just_kept: Option<&Path>,
    delivery: &mut Delivery,
) {
    for (path, queued) in list_waiting(settings, now, delivery) {
        if Some(path.as_path()) == just_kept {
            continue;
        }
        if Instant::now() >= ends {
            break;
        }
        match again(settings, &path, queued, ends) {
            Ok(()) => {
                delivery.sent_from_spool += 1;
                delivery.waiting -= 1;
            }
            Err(error) => {
                delivery.problems.push(problem("mail spool", &error));
                if !error.leaves_hope() {
                    break;
                }
            }
        }
    }
}

/// Sends a mail of the spool again. If only some recipients were sent the mail, it stays in the spool for the others.
fn again(settings: &Settings, path: &Path, queued: DateTime<Utc>, ends: Instant) -> Result<(), MailError> {
    let mail = spool::read(path)?;
    match deliver::to_all(settings, &mail, ends, queued) {
        Ok(()) => spool::remove(path),
        Err(undelivered) => {
            if undelivered.to.len() < mail.to.len() {
                let kept = spool::put(&settings.spool, &mail.only_to(undelivered.to), queued)?;
                if kept.is_some_and(|kept| kept != path) {
                    spool::remove(path)?;
                }
            }
            undelivered.errors.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
        }
    }
}

fn problem(location: &str, error: &MailError) -> Problem {
    Problem::new(Severity::Warning, location, error.whole())
}
