//! In place of sending, where the program was built without the feature `mail`: each attempt is an error.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::delivery::Delivery;
use super::error::MailError;
use super::settings::{Settings, SpoolSettings, Transport};
use crate::events::{Problem, Severity};
use crate::report::Rendered;

/// Sends nothing, and reports that as a warning.
pub fn send(_settings: &Settings, _report: &Rendered, _now: DateTime<Utc>) -> Delivery {
    let problem = Problem::new(Severity::Warning, "mail", MailError::NotBuilt.to_string());
    Delivery { problems: vec![problem], ..Delivery::default() }
}

/// Sends nothing: without mail nothing waits.
pub fn send_waiting(_settings: &Settings, _now: DateTime<Utc>) -> Delivery {
    Delivery::default()
}

/// Drops nothing: without mail nothing waits.
pub fn drop_old(_spool: &SpoolSettings, _now: DateTime<Utc>) -> Vec<Problem> {
    Vec::new()
}

/// The error [`MailError::NotBuilt`], where there is a server that could be tried.
pub fn try_server(settings: &Settings, _limit: Duration) -> Option<Result<(), MailError>> {
    matches!(settings.transport, Transport::Smtp(_)).then_some(Err(MailError::NotBuilt))
}
