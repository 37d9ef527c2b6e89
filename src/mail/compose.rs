//! Composes a mail from a report and its addresses. lettre writes every header.

use chrono::{DateTime, Utc};
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};
use serde::{Deserialize, Serialize};

use super::error::MailError;
use super::settings::{Settings, as_domain};
use crate::report::Rendered;

/// A composed mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mail {
    /// The sender's bare address.
    pub(super) from: String,
    /// The recipients' bare addresses.
    pub(super) to: Vec<String>,
    /// The message, with CRLF line ends.
    #[serde(skip)]
    pub(super) message: Vec<u8>,
}

impl Mail {
    /// The same mail for some of its recipients. Its `To` header still names all of them.
    pub(super) fn only_to(&self, to: Vec<String>) -> Self {
        Self { from: self.from.clone(), to, message: self.message.clone() }
    }
}

/// Text and HTML as two alternatives of one mail.
pub(super) fn mail(settings: &Settings, report: &Rendered, now: DateTime<Utc>) -> Result<Mail, MailError> {
    let from = mailbox(&settings.from)?;
    let to = settings.to.iter().map(|address| mailbox(address)).collect::<Result<Vec<Mailbox>, _>>()?;
    let id =
        format!("<volbak.{}.{}@{}>", now.format("%Y%m%dT%H%M%S%9f"), std::process::id(), as_domain(&settings.host));
    let mut builder = Message::builder()
        .from(from.clone())
        .subject(report.subject.as_str())
        .date(now.into())
        .message_id(Some(id))
        // RFC 3834, section 5: suppresses automatic replies.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()));
    for recipient in &to {
        builder = builder.to(recipient.clone());
    }
    let parts = MultiPart::alternative()
        .singlepart(SinglePart::plain(report.text.clone()))
        .singlepart(SinglePart::html(report.html.clone()));
    let message = builder.multipart(parts).map_err(MailError::Compose)?;
    Ok(Mail {
        from: from.email.to_string(),
        to: to.iter().map(|recipient| recipient.email.to_string()).collect(),
        message: message.formatted(),
    })
}

fn mailbox(text: &str) -> Result<Mailbox, MailError> {
    text.parse().map_err(|source| MailError::Address { address: text.to_owned(), source })
}

/// A bare address in the form that lettre's envelope needs.
pub(super) fn address(text: &str) -> Result<Address, MailError> {
    text.parse().map_err(|source| MailError::Address { address: text.to_owned(), source })
}
