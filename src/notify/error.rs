//! Why a notice was not sent. No error holds an address, a token or a header's value.

use std::path::PathBuf;

/// Why a notice was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// This build has no code that sends notices.
    #[error("no notice was sent: this program was built without volbak's feature \"notify\"")]
    NotBuilt,
    /// A file with an address, a token, a header or certificates cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The address is none.
    #[error("the address in {place} is not used: {why}")]
    Address {
        /// The key or the file.
        place: String,
        /// Why.
        why: &'static str,
    },
    /// A token would cross the network in plain text.
    #[error("{host}: a token or a header from a file is not sent without TLS; write an address with https://")]
    Unprotected {
        /// The server.
        host: String,
    },
    /// The template failed.
    #[error("the template of the body failed: {why}")]
    Template {
        /// Where and why.
        why: String,
    },
    /// There is no answer.
    #[error("{host}: {why}")]
    NoAnswer {
        /// The server.
        host: String,
        /// Why.
        why: String,
    },
    /// The server answers with an error.
    #[error("{host}: status {status}{message}{hint}")]
    Status {
        /// The server.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The server's message, after a colon.
        message: String,
        /// What to do next, after a semicolon.
        hint: String,
    },
    /// The deadline passed.
    #[error("{host}: not done within {seconds} s (deadline_seconds){last}")]
    Deadline {
        /// The server or the program.
        host: String,
        /// The limit.
        seconds: u64,
        /// The last failure, after a colon.
        last: String,
    },
    /// The command failed.
    #[error("{program}: {why}")]
    Command {
        /// The program.
        program: String,
        /// Why.
        why: String,
    },
}

impl NotifyError {
    /// Whether the server did not answer, so that further notices for it need not be tried now.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::Deadline { .. })
    }
}
