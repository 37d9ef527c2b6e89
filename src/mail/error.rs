//! Why a mail was not sent.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailError {
    /// This build has no code that sends mail.
    #[cfg(not(feature = "mail"))]
    #[error("no mail was sent: this program was built without volbak's feature \"mail\"")]
    NotBuilt,
    /// An address is none.
    #[cfg(feature = "mail")]
    #[error("{address:?} is not a mail address")]
    Address {
        /// As it was given.
        address: String,
        /// Why.
        source: lettre::address::AddressError,
    },
    /// The mail could not be put together.
    #[cfg(feature = "mail")]
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
    #[cfg(feature = "mail")]
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

#[cfg(feature = "mail")]
impl MailError {
    /// Whether the server said no for good to what it was asked, rather than being away, slow or busy: asking it about
    /// other recipients, or other mails, makes sense.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Smtp { source, .. } if source.is_permanent())
    }

    /// Whether another mail may go although this one did not.
    pub(super) fn leaves_hope(&self) -> bool {
        self.is_refusal() || matches!(self, Self::Damaged { .. })
    }

    /// The error and its causes on one line.
    pub(super) fn whole(&self) -> String {
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
