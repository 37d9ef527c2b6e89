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
    /// Invalid address.
    #[cfg(feature = "mail")]
    #[error("{address:?} is not a mail address")]
    Address {
        /// As it was given.
        address: String,
        /// Why.
        source: lettre::address::AddressError,
    },
    /// The mail could not be composed.
    #[cfg(feature = "mail")]
    #[error("the mail could not be composed")]
    Compose(#[source] lettre::error::Error),
    /// There is no password.
    #[error("{place}: cannot read the password: {why}")]
    Password {
        /// The file or variable.
        place: String,
        /// Why.
        why: String,
    },
    /// The certificates to trust cannot be used.
    #[error("{path}: cannot use the certificate: {why}")]
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
    /// The mail server accepted the connection, and then closed it.
    #[error("{server}: the server closed the connection")]
    Hung {
        /// The server.
        server: String,
    },
    /// The deadline passed before the mail was sent.
    #[error("not done within {seconds} s")]
    Deadline {
        /// The deadline.
        seconds: u64,
    },
    /// The thread for sending could not be started.
    #[error("the mail could not be sent: no thread could be started")]
    NoThread(#[source] io::Error),
    /// The program failed.
    #[error("{program} ended with {status}: {stderr}")]
    Program {
        /// The program.
        program: PathBuf,
        /// Its exit status.
        status: ExitStatus,
        /// Its standard error, at most 1000 bytes.
        stderr: String,
    },
    /// A file in the spool is not a mail.
    #[error("{path}: not a mail spooled by volbak")]
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
    /// Whether the server refused permanently, rather than being unreachable, slow or busy. Other recipients and other mails
    /// are then worth trying.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Smtp { source, .. } if source.is_permanent())
    }

    /// Whether another mail may succeed although this one failed.
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
