//! The settings for sending mail.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::PasswordSource;

/// Encryption of the connection to the mail server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// TLS from the first byte. The usual port is 465.
    Immediate,
    /// Plain text until STARTTLS; nothing is sent without it. The usual port is 587.
    #[default]
    StartTls,
    /// None. The usual port is 25.
    None,
}

/// A mail server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SmtpServer {
    /// Its name or address; its certificate must be for this name.
    pub host: String,
    /// Its port; `None` is the usual port.
    pub port: Option<u16>,
    /// Encryption of the connection.
    pub tls: Tls,
    /// Name and password to log in with.
    pub login: Option<(String, PasswordSource)>,
    /// Certificates (PEM) to trust instead of those of the system.
    pub ca_file: Option<PathBuf>,
}

/// The transport of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To a mail server.
    Smtp(SmtpServer),
    /// A program with the command line of sendmail that reads the mail from standard input.
    Sendmail {
        /// Absolute path of the program.
        program: PathBuf,
    },
    /// As a new file in a directory.
    File {
        /// The directory; created if it does not exist.
        directory: PathBuf,
    },
}

/// The settings for sending a mail.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The transport.
    pub transport: Transport,
    /// The sender, an address or `Name <address>`.
    pub from: String,
    /// The recipients, at least one.
    pub to: Vec<String>,
    /// This host's name, for greeting the server and in `Message-ID`.
    pub host: String,
    /// Time limit for the new mail and those in the spool together.
    pub deadline: Duration,
    /// The spool for mails that could not be sent.
    pub spool: SpoolSettings,
}

impl Settings {
    /// `volbak@HOST`, the sender if the config names none. Characters that are invalid in a host name become a dash.
    pub fn default_sender(host: &str) -> String {
        format!("volbak@{}", as_domain(host))
    }
}

/// Settings of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The directory; created with mode 0700 if it does not exist.
    pub directory: PathBuf,
    /// Maximum number of mails; the oldest are dropped. 0 disables the spool.
    pub max_mails: usize,
    /// Maximum age in days.
    pub max_days: u32,
}

/// Thirty mails, for a week.
impl Default for SpoolSettings {
    fn default() -> Self {
        Self { directory: PathBuf::from("/var/spool/volbak"), max_mails: 30, max_days: 7 }
    }
}

/// A host name with the characters that are valid in an address.
pub(super) fn as_domain(host: &str) -> String {
    let name: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' }).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() || name.contains("..") { "localhost".to_owned() } else { name.to_owned() }
}
