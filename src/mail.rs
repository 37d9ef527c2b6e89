//! Sends a rendered report as a mail, within one deadline. Mails that cannot be sent wait in a spool for the next run.
//!
//! lettre speaks SMTP. Its timeout applies to a single read, so a server that answers one byte at a time could block a run
//! for hours. Each mail is therefore sent on a thread of its own, which is abandoned at the deadline. The mail may still
//! arrive, and then arrives again from the spool with the same `Message-ID`: twice is better than never.

#[cfg(feature = "mail")]
mod compose;
#[cfg(feature = "mail")]
mod deliver;
mod delivery;
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

pub use delivery::Delivery;
pub use error::MailError;
pub use secret::PasswordSource;
pub use sending::{drop_old, send, send_waiting, try_server};
pub use settings::{Settings, SmtpServer, SpoolSettings, Tls, Transport};

#[cfg(test)]
#[cfg(feature = "mail")]
mod tests;
