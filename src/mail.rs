//! A rendered report → a mail → out of the host, within one deadline; what cannot be sent waits in a spool for the next
//! run.
//!
//! SMTP is lettre's. Its timeout holds for a single read, so that a server that answers a byte at a time could hold a
//! run for hours: each sending runs on a thread of its own, and is given up when the deadline is over. Then the mail
//! may still arrive, and arrives again from the spool, with the same `Message-ID`: better twice than never.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::events::{Problem, Severity};
use crate::report::Rendered;

mod compose;
mod deliver;
mod secret;
mod spool;

pub use secret::PasswordSource;
pub use spool::SpoolSettings;

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// TLS from the first byte. The usual port is 465.
    Immediate,
    /// Plain at first, then TLS; without it nothing is sent. The usual port is 587.
    StartTls,
    /// None. The usual port is 25.
    None,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpServer {
    /// Its name or address; its certificate must be for this name.
    pub host: String,
    /// Its port; `None` is the usual one.
    pub port: Option<u16>,
    /// How the connection is protected.
    pub tls: Tls,
    /// Name and password to log in with.
    pub login: Option<(String, PasswordSource)>,
    /// Certificates (PEM) to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
}

/// How a mail leaves the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To a mail server.
    Smtp(SmtpServer),
    /// To a program that is called as sendmail is and takes the mail on standard input.
    Sendmail {
        /// The program, absolute.
        program: PathBuf,
    },
    /// As a new file in a directory.
    File {
        /// The directory; made when it is not there.
        directory: PathBuf,
    },
}

/// Everything that sending needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How a mail leaves.
    pub transport: Transport,
    /// The sender, an address or `Name <address>`.
    pub from: String,
    /// The recipients, at least one.
    pub to: Vec<String>,
    /// This host's name, for greeting the server and in `Message-ID`.
    pub host: String,
    /// How long everything may take together: the new mail and those in the spool.
    pub deadline: Duration,
    /// Where mails wait.
    pub spool: SpoolSettings,
}

impl Settings {
    /// `volbak@HOST`, the sender when the config names none. What cannot stand in a host's name becomes a dash.
    pub fn default_sender(host: &str) -> String {
        format!("volbak@{}", compose::as_domain(host))
    }
}

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// An address is none.
    #[error("{address:?} is not a mail address")]
    Address {
        /// As it was given.
        address: String,
        /// Why.
        source: lettre::address::AddressError,
    },
    /// The mail could not be put together.
    #[error("the mail could not be put together")]
    Compose(#[source] lettre::error::Error),
    /// There is no password.
    #[error("{place}: no password to be had: {why}")]
    Password {
        /// The file or variable.
        place: String,
        /// Why.
        why: String,
    },
    /// The certificates to trust cannot be used.
    #[error("{path}: no certificate to be had: {why}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The mail server could not be reached, or refused.
    #[error("{server}")]
    Smtp {
        /// The server.
        server: String,
        /// What went wrong.
        source: lettre::transport::smtp::Error,
    },
    /// The mail server let us in, and then answered no more.
    #[error("{server}: it ended the connection")]
    Hung {
        /// The server.
        server: String,
    },
    /// Not done when the deadline was over.
    #[error("not done within {seconds} s")]
    Deadline {
        /// The deadline.
        seconds: u64,
    },
    /// The sending runs on a thread of its own, and there was none to be had.
    #[error("the mail could not be sent: no thread could be started")]
    NoThread(#[source] io::Error),
    /// The program failed.
    #[error("{program} ended with {status}: {stderr}")]
    Program {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said, at most 1000 bytes of it.
        stderr: String,
    },
    /// A file in the spool is not a mail.
    #[error("{path}: not a mail that volbak keeps")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A file or program could not be used.
    #[error("{path}")]
    Io {
        /// The file or program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl MailError {
    /// Whether the server said no for good to what it was asked, rather than being away, slow or busy: asking it about
    /// other recipients, or other mails, makes sense.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Smtp { source, .. } if source.is_permanent())
    }

    /// Whether another mail may go although this one did not.
    fn leaves_hope(&self) -> bool {
        self.is_refusal() || matches!(self, Self::Damaged { .. })
    }

    /// The error and its causes on one line.
    fn whole(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line = format!("{line}: {text}");
            }
            cause = error.source();
        }
        line
    }
}

/// What became of the mails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The new mail reached everyone that it is for.
    pub sent: bool,
    /// How many mails of earlier runs were sent now.
    pub sent_from_spool: usize,
    /// How many mails wait for the next run.
    pub waiting: usize,
    /// What went wrong. Each counts for the exit status, and never for more than a problem.
    pub problems: Vec<Problem>,
}

/// Connects to the mail server as [`send`] would, greets it, begins TLS and logs in, and sends nothing. It ends within
/// `limit`. `None`: there is no server to be tried.
pub fn try_server(settings: &Settings, limit: Duration) -> Option<Result<(), MailError>> {
    match &settings.transport {
        Transport::Smtp(server) => Some(deliver::try_server(server, &settings.host, limit)),
        Transport::Sendmail { .. } | Transport::File { .. } => None,
    }
}

/// Sends `report`, then what waits in the spool. It ends within the deadline (and the time that the spool's files
/// take), and never fails: what went wrong is in [`Delivery::problems`], and what was not sent waits in the spool.
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

/// Sends what waits in the spool, and no new mail. Ends and fails as [`send`] does.
pub fn send_waiting(settings: &Settings, now: DateTime<Utc>) -> Delivery {
    let mut delivery = Delivery::default();
    try_waiting(settings, now, Instant::now() + settings.deadline, None, &mut delivery);
    delivery
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

/// Tries a mail of the spool once more. What reaches only some of its recipients waits on for the others.
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

#[cfg(test)]
mod tests;
