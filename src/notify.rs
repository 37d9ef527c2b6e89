//! Notices about a run: a request to a webhook, to healthchecks.io, ntfy, Slack or Matrix, or a command.
//!
//! The facts of a notice are a JSON object (`docs/notify.md`). Each channel renders them in its own form. Addresses and
//! tokens are secrets: messages show the host of an address alone.

mod error;
mod notice;
#[cfg(feature = "notify")]
mod request;
#[cfg(feature = "notify")]
mod sending;
#[cfg(not(feature = "notify"))]
#[path = "notify/without.rs"]
mod sending;
mod settings;
#[cfg(feature = "notify")]
mod template;

pub use error::NotifyError;
pub use notice::{Notice, NoticeEvent, NoticeVolume};
pub use sending::{check_template, send, try_server};
pub use settings::{Address, Channel, Endpoint, Method, NotifyOptions, shown_host};
