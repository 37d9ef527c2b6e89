//! Sends a rendered report as a mail, within one deadline. Mails that cannot be sent wait in a spool for the next run.
//!
//! lettre speaks SMTP. Its timeout applies to a single read, so a server that answers one byte at a time could block a run
//! for hours. Each mail is therefore sent on a thread of its own, which is abandoned at the deadline. The mail may still
//! arrive, and then arrives again from the spool with the same `Message-ID`: twice is better than never.

#[cfg(feature = "mail")]
mod compose;
#[cfg(feature = "mail")]
mod deliver;
mod error;
mod secret;
#[cfg(feature = "mail")]
mod sending;
#[cfg(not(feature = "mail"))]
#[path = "mail/without.rs"]
mod sending;
mod settings;
#[cfg(feature = "mail")]
mod spool;

use crate::events::Problem;

pub use error::MailError;
pub use secret::PasswordSource;
pub use sending::{send, send_waiting, try_server};
pub use settings::{Settings, SmtpServer, SpoolSettings, Tls, Transport};

/// The result of sending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Whether all recipients were sent the new mail.
    pub sent: bool,
    /// Number of mails of earlier runs that were sent.
    pub sent_from_spool: usize,
    /// Number of mails that wait for the next run.
    pub waiting: usize,
    /// Problems. They affect the exit status as problems, never as failures.
    pub problems: Vec<Problem>,
}

#[cfg(test)]
#[cfg(feature = "mail")]
mod tests;
