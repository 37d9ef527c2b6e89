//! Where notices go, and when.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::notice::NoticeEvent;

/// One `[[notify]]` of the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyOptions {
    /// Its name, unique in the config.
    pub name: String,
    /// When notices are sent.
    pub on: Vec<NoticeEvent>,
    /// Where they go.
    pub channel: Channel,
    /// The time for one notice and all attempts to send it, and for those that wait.
    pub deadline: Duration,
}

impl NotifyOptions {
    /// Whether notices of this event are sent.
    pub fn wants(&self, event: NoticeEvent) -> bool {
        event == NoticeEvent::Test || self.on.contains(&event)
    }

    /// Whether a notice that could not be sent waits for the next run. A start is over by then, and a check that misses
    /// its signal raises the alarm itself; a late signal would say that the host is well now.
    pub fn keeps(&self, event: NoticeEvent) -> bool {
        !matches!(event, NoticeEvent::Start | NoticeEvent::Test) && !matches!(self.channel, Channel::Healthchecks(_))
    }
}

/// Where notices go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Any HTTP service.
    Webhook {
        /// The server.
        endpoint: Endpoint,
        /// The method.
        method: Method,
        /// Headers, each with the file that holds its value.
        headers: Vec<(String, PathBuf)>,
        /// The type of the body.
        content_type: String,
        /// The template of the body; the facts as JSON if `None`.
        body: Option<String>,
    },
    /// A check of healthchecks.io.
    Healthchecks(Endpoint),
    /// A topic of ntfy; the file holds an access token.
    Ntfy(Endpoint, Option<PathBuf>),
    /// An incoming webhook of Slack, or of a program that is compatible.
    Slack(Endpoint),
    /// A room of Matrix.
    Matrix {
        /// The homeserver.
        endpoint: Endpoint,
        /// The room's ID.
        room: String,
        /// The file with the access token.
        token_file: PathBuf,
    },
    /// A program that gets the facts as JSON on its standard input.
    Command(Vec<String>),
}

impl Channel {
    /// Its word in the config.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Healthchecks(_) => "healthchecks",
            Self::Ntfy(..) => "ntfy",
            Self::Slack(_) => "slack",
            Self::Matrix { .. } => "matrix",
            Self::Command(_) => "command",
        }
    }

    /// The server; `None` for a command.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Webhook { endpoint, .. }
            | Self::Healthchecks(endpoint)
            | Self::Ntfy(endpoint, _)
            | Self::Slack(endpoint)
            | Self::Matrix { endpoint, .. } => Some(endpoint),
            Self::Command(_) => None,
        }
    }

    /// The files that it reads.
    pub fn files(&self) -> Vec<&PathBuf> {
        let mut files = Vec::new();
        if let Some(endpoint) = self.endpoint() {
            files.extend(&endpoint.ca_file);
            if let Address::File(path) = &endpoint.address {
                files.push(path);
            }
        }
        match self {
            Self::Webhook { headers, .. } => files.extend(headers.iter().map(|(_, path)| path)),
            Self::Ntfy(_, token) => files.extend(token),
            Self::Matrix { token_file, .. } => files.push(token_file),
            Self::Healthchecks(_) | Self::Slack(_) | Self::Command(_) => {}
        }
        files
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: Address,
    /// Certificates (PEM) to trust instead of those of the system.
    pub ca_file: Option<PathBuf>,
}

/// An address, which may hold a token. `{:?}` shows the host alone.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// Written in the config.
    Text(String),
    /// The first line of this file.
    File(PathBuf),
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(url) => f.write_str(shown_host(url).unwrap_or("…")),
            Self::File(path) => path.fmt(f),
        }
    }
}

/// The method of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// POST.
    Post,
    /// PUT.
    Put,
    /// GET, without a body.
    Get,
}

/// The host and port of an address; the error says why it is none.
pub fn shown_host(url: &str) -> Result<&str, &'static str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let rest = rest.ok_or("it begins with neither https:// nor http://")?;
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if host.contains('@') {
        return Err("it holds a user or a password; use a header from a file instead");
    }
    if host.is_empty() || !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains('#') {
        return Err("it is not like https://example.com/path");
    }
    Ok(host)
}
