//! What sending a mail needs to know.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::PasswordSource;

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
        format!("volbak@{}", as_domain(host))
    }
}

/// Where mails wait, and how many for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The directory; made with mode 0700 when it is not there.
    pub directory: PathBuf,
    /// So many at most; the oldest are dropped. 0 keeps none.
    pub max_mails: usize,
    /// So many days at most.
    pub max_days: u32,
}

/// A host's name as far as it can stand in an address.
pub(super) fn as_domain(host: &str) -> String {
    let name: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' }).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() || name.contains("..") { "localhost".to_owned() } else { name.to_owned() }
}
