//! The result of sending a report and the mails in the spool.

use crate::events::Problem;

/// The result of sending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Whether all recipients were sent the new mail.
    pub sent: bool,
    /// Number of mails of earlier runs that were sent.
    pub sent_from_spool: usize,
    /// Number of mails that wait for the next run.
    pub waiting: usize,
    /// Problems. They affect the exit status as problems, never as failures.
    pub problems: Vec<Problem>,
}
