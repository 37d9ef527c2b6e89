//! Why the cloud could not be asked. Each error says what was tried, where, and what to do next.

use std::time::Duration;

use crate::http::files::FileError;

/// Why the cloud could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// No cloud and no login are configured.
    #[error(
        "nothing says which cloud to ask: set `cloud` in [openstack] to a name from clouds.yaml, or OS_CLOUD, or \
         OS_AUTH_URL and its companions; looked for clouds.yaml in {looked}"
    )]
    NoCloud {
        /// The files that were looked for.
        looked: String,
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
    /// Keystone does not accept the credentials.
    #[error(
        "{url} refuses the credentials of {who} (status {status}{message}); check the password or the application \
         credential, the project and the domains"
    )]
    Refused {
        /// Keystone's address.
        url: String,
        /// The user or the application credential.
        who: String,
        /// The HTTP status.
        status: u16,
        /// What the server says, after a colon.
        message: String,
    },
    /// The catalogue lacks a service.
    #[error("the catalogue of {url} has no {interface} endpoint of {service}{region}; it has: {has}")]
    NoEndpoint {
        /// Keystone's address.
        url: String,
        /// The service.
        service: &'static str,
        /// The interface asked for.
        interface: String,
        /// The region asked for, as ` in region R`.
        region: String,
        /// What the catalogue has of the service.
        has: String,
    },
    /// Several regions, and none is chosen.
    #[error("{service} is in several regions ({regions}); set `region_name` in clouds.yaml, or OS_REGION_NAME")]
    WhichRegion {
        /// The service.
        service: &'static str,
        /// The regions.
        regions: String,
    },
    /// No answer came: no connection, or it broke.
    #[error("{what}: {why}; check that the service runs, and that this host reaches it")]
    NoAnswer {
        /// The method and address.
        what: String,
        /// The cause.
        why: String,
    },
    /// There is no connection, and another attempt would fail, too: the certificate is not trusted, for one.
    #[error("{what}: {why}")]
    NoConnection {
        /// The method and address.
        what: String,
        /// The cause.
        why: String,
    },
    /// The time for the whole use of the cloud is over.
    #[error("{what}: no answer within the {} s that the cloud has in all (`deadline_seconds` in [openstack])", limit.as_secs())]
    Deadline {
        /// The method and address of the last request.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The server answers with an error.
    #[error("{what}: status {status}{message}{hint}")]
    Status {
        /// The method and address.
        what: String,
        /// The HTTP status.
        status: u16,
        /// What the server says, after a colon.
        message: String,
        /// What to do next, after a semicolon.
        hint: &'static str,
    },
    /// An answer is longer than any honest one.
    #[error("{what}: the answer has more than {limit_bytes} bytes; it is not read")]
    TooLong {
        /// The method and address.
        what: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// An answer is not what the API's documentation says.
    #[error("{what}: the answer is not understood: {why}; is it an OpenStack API, and not a proxy's page?")]
    NotUnderstood {
        /// The method and address.
        what: String,
        /// The cause.
        why: String,
    },
    /// A list has no end.
    #[error("{what}: {why}; the list was not used")]
    Endless {
        /// The method and address.
        what: String,
        /// Why it is taken for endless.
        why: String,
    },
}

impl CloudError {
    /// The HTTP status of the server's answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } | Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// What to do about a status.
pub(super) fn hint(status: u16) -> &'static str {
    match status {
        300..=399 => "; the server redirects, and redirects are not followed: correct the endpoint",
        401 => "; the token is not accepted, a new one is not either: check the clocks and the credentials",
        403 => {
            "; the user lacks this right: volbak reads all projects as a user with the role admin (or reader on the system)"
        }
        404 => "; the endpoint of the catalogue may be wrong, or what is asked for is gone",
        406 => "; the service does not know this microversion: it is older than volbak needs",
        409 => "; the state of what is asked for forbids it",
        429 => "; the service limits the rate: try again later",
        500..=599 => "; look in the service's log",
        _ => "",
    }
}
