//! In place of sending, where the program was built without the feature `notify`: each attempt is an error.

use std::time::Duration;

use super::error::NotifyError;
use super::notice::Notice;
use super::settings::NotifyOptions;

/// Accepts every template: none is used.
pub fn check_template(_body: &str, _content_type: &str) -> Result<(), NotifyError> {
    Ok(())
}

/// The error [`NotifyError::NotBuilt`].
pub fn send(_notify: &NotifyOptions, _notice: &Notice) -> Result<(), NotifyError> {
    Err(NotifyError::NotBuilt)
}

/// The error [`NotifyError::NotBuilt`], where there is a server that could be tried.
pub fn try_server(notify: &NotifyOptions, _limit: Duration) -> Result<Option<String>, NotifyError> {
    notify.channel.endpoint().map_or(Ok(None), |_| Err(NotifyError::NotBuilt))
}
