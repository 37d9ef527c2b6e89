//! Errors of the client.

use std::time::Duration;

use crate::http::files::FileError;
use crate::shown;

/// What the client of an object store cannot do, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// An address is wrong.
    #[error("{}: {what}; write s3://BUCKET/PREFIX or swift://CONTAINER/PREFIX", shown::text(text))]
    Address {
        /// The address as written.
        text: String,
        /// What is wrong.
        what: String,
    },
    /// This build reaches no such stores.
    #[error("{address}: this build has no client for it: use one with the cargo features `s3` and `swift`")]
    NoClient {
        /// The address.
        address: String,
    },
    /// Nothing says where the store is.
    #[error(
        "nothing says where the object store is: set `endpoint` in [store], or AWS_ENDPOINT_URL, to an address like \
         https://s3.example.com"
    )]
    NoEndpoint,
    /// There are no credentials.
    #[error(
        "there are no credentials for the object store: set `credentials_file` in [store], or AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY; looked for the profile {profile} in {looked}"
    )]
    NoCredentials {
        /// The profile.
        profile: String,
        /// The files that were looked at.
        looked: String,
    },
    /// Nothing says which Swift is meant, and as whom.
    #[error(
        "nothing says which Swift is meant: set `cloud` in [store] to a name from clouds.yaml, or OS_CLOUD, or OS_AUTH_URL \
         and its companions; where there is no Keystone, ST_AUTH, ST_USER and ST_KEY; looked for clouds.yaml in {looked}"
    )]
    NoCloud {
        /// The files that were looked for.
        looked: String,
    },
    /// The log-in failed, and another one would, too.
    #[error("the log-in to the object store failed: {why}")]
    LogIn {
        /// The cause.
        why: String,
    },
    /// A file of settings or of certificates.
    #[error(transparent)]
    File(#[from] FileError),
    /// The settings contradict each other, or lack something.
    #[error("{place}: {what}")]
    Settings {
        /// Where they come from.
        place: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// No answer came: no connection, or it broke.
    #[error("{what}: {why}; check that the store runs, and that this host reaches {endpoint}")]
    NoAnswer {
        /// The request.
        what: String,
        /// The cause.
        why: String,
        /// The store's address.
        endpoint: String,
    },
    /// The time for a request and its repetitions is over.
    #[error("{what}: no success within {} s (`deadline_seconds` in [store]); the last attempt: {last}", limit.as_secs())]
    Deadline {
        /// The request.
        what: String,
        /// The limit.
        limit: Duration,
        /// How the last attempt ended.
        last: String,
    },
    /// The store answers with an error.
    #[error("{what}: status {status} {code}{message}{hint}")]
    Status {
        /// The request.
        what: String,
        /// The HTTP status. It may be 200: some errors come in the body of such an answer.
        status: u16,
        /// The `Code` of the error; may be empty.
        code: String,
        /// What the store says, after a colon.
        message: String,
        /// What to do next, after a semicolon.
        hint: &'static str,
    },
    /// An answer is longer than an honest one.
    #[error("{what}: the answer has more than {limit_bytes} bytes; it is not read")]
    TooLong {
        /// The request.
        what: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// An answer is not what the API's documentation says.
    #[error("{what}: the answer is not understood: {why}; is it an object store, and not a proxy's page?")]
    NotUnderstood {
        /// The request.
        what: String,
        /// The cause.
        why: String,
    },
    /// A list has no end.
    #[error("{what}: {why}; the list was not used")]
    Endless {
        /// The request.
        what: String,
        /// Why it is taken for endless.
        why: String,
    },
}

impl ObjectError {
    /// The HTTP status of the store's answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The `Code` of the store's error.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Status { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl ObjectError {
    /// Whether the store kept this process from reading: that says nothing about the object.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Status { status: 401 | 403 | 408, .. } | Self::LogIn { .. } | Self::NotUnderstood { .. } => true,
            _ => self.may_pass(),
        }
    }

    /// Whether the same request may succeed in some minutes.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::Deadline { .. } => true,
            Self::Status { status, .. } => matches!(status, 429 | 498 | 500..=599),
            _ => false,
        }
    }
}
