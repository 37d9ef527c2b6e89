//! A rendered report → a mail → out of the host, within one deadline; what cannot be sent waits in a spool for the next
//! run.
//!
//! SMTP is lettre's. Its timeout holds for a single read, so that a server that answers a byte at a time could hold a
//! run for hours: each sending runs on a thread of its own, and is given up when the deadline is over. Then the mail
//! may still arrive, and arrives again from the spool, with the same `Message-ID`: better twice than never.

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

#[cfg(all(test, feature = "mail"))]
mod tests;
