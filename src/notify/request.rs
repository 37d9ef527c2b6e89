//! The request that carries a notice, in the form of each service.

use std::path::Path;

use serde_json::json;

use super::error::NotifyError;
use super::notice::{Notice, NoticeEvent};
use super::settings::{Address, Channel, Endpoint, Method, shown_host};
use super::template::{is_json, rendered};
use crate::http::Secret;
use crate::outside::secret_file::first_line;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// The log of a ping that healthchecks.io keeps.
const HEALTHCHECKS_BYTES: usize = 100_000;
/// ntfy turns longer messages into attachments.
const NTFY_BYTES: usize = 4000;
/// Slack cuts longer texts.
const SLACK_BYTES: usize = 30_000;
/// An event of Matrix has at most 64 KiB.
const MATRIX_BYTES: usize = 40_000;

/// A request, ready to be sent.
pub(super) struct Prepared {
    pub(super) method: &'static str,
    pub(super) url: Secret,
    /// The server, for messages.
    pub(super) host: String,
    pub(super) headers: Vec<(String, Secret)>,
    pub(super) body: Vec<u8>,
}

impl Prepared {
    fn new(method: &'static str, target: &Target, url: String, content_type: &str, body: String) -> Self {
        Self {
            method,
            url: Secret::new(url),
            host: target.host.clone(),
            headers: vec![("Content-Type".to_owned(), Secret::new(content_type))],
            body: body.into_bytes(),
        }
    }

    /// `text` without the address, its path and the values of headers.
    pub(super) fn hide_in(&self, text: &str) -> String {
        let mut text = self.url.hide_in(text);
        // Parts of the path are tokens, and a library may show the path alone.
        for part in self.url.reveal().split(['/', '?', '&', '=']).skip(3).filter(|part| part.len() >= 6) {
            text = Secret::new(part).hide_in(&text);
        }
        self.headers.iter().skip(1).fold(text, |text, (_, value)| value.hide_in(&text))
    }

    /// Adds a header from a file, which never crosses a network in plain text.
    fn with_secret(mut self, name: &str, value: String) -> Result<Self, NotifyError> {
        let name_only = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
        let is_here = ["localhost", "127.0.0.1", "[::1]"].contains(&name_only);
        if self.url.reveal().starts_with("http://") && !is_here {
            return Err(NotifyError::Unprotected { host: self.host });
        }
        self.headers.push((name.to_owned(), Secret::new(value)));
        Ok(self)
    }
}

/// The address of a server, read from its file.
pub(super) struct Target {
    pub(super) url: String,
    pub(super) host: String,
}

pub(super) fn target(endpoint: &Endpoint) -> Result<Target, NotifyError> {
    let (url, place) = match &endpoint.address {
        Address::Text(url) => (url.clone(), "url".to_owned()),
        Address::File(path) => (secret(path)?, path.display().to_string()),
    };
    let host = shown_host(&url).map_err(|why| NotifyError::Address { place, why })?.to_owned();
    Ok(Target { url, host })
}

fn secret(path: &Path) -> Result<String, NotifyError> {
    first_line(path).map_err(|why| NotifyError::File { path: path.to_owned(), why })
}

/// The request for `notice`; `None` for a command.
pub(super) fn request(channel: &Channel, notice: &Notice) -> Result<Option<Prepared>, NotifyError> {
    let Some(endpoint) = channel.endpoint() else { return Ok(None) };
    let target = target(endpoint)?;
    let (base, query) = path_and_query(&target.url);
    let whole = || if notice.text.is_empty() { notice.subject.clone() } else { both(notice) };
    let prepared = match channel {
        Channel::Webhook { method, headers, content_type, body, .. } => {
            let is_json = is_json(content_type);
            let (method, body) = match method {
                Method::Get => ("GET", String::new()),
                Method::Post => ("POST", rendered(body.as_deref().unwrap_or(DEFAULT_BODY), notice, is_json)?),
                Method::Put => ("PUT", rendered(body.as_deref().unwrap_or(DEFAULT_BODY), notice, is_json)?),
            };
            let mut prepared = Prepared::new(method, &target, target.url.clone(), content_type, body);
            for (name, path) in headers {
                prepared = prepared.with_secret(name, secret(path)?)?;
            }
            prepared
        }
        Channel::Healthchecks(_) => {
            let end = match notice.event {
                NoticeEvent::Start => "/start",
                // Problems are in the log; the backups are there.
                NoticeEvent::Ok | NoticeEvent::Warning => "",
                NoticeEvent::Failure => "/fail",
                NoticeEvent::Test => "/log",
            };
            Prepared::new("POST", &target, format!("{base}{end}{query}"), TEXT, cut(&whole(), HEALTHCHECKS_BYTES))
        }
        Channel::Ntfy(_, token) => {
            let (server, topic) =
                base.rsplit_once('/').filter(|(server, _)| shown_host(server).is_ok()).ok_or(NotifyError::Address {
                    place: "url".to_owned(),
                    why: "it names no topic, as https://ntfy.sh/TOPIC",
                })?;
            let (priority, tag) = match notice.event {
                NoticeEvent::Failure => (5, "rotating_light"),
                NoticeEvent::Warning => (4, "warning"),
                NoticeEvent::Ok => (3, "white_check_mark"),
                NoticeEvent::Start | NoticeEvent::Test => (2, "hourglass"),
            };
            let text = if notice.text.is_empty() { &notice.subject } else { &notice.text };
            let body = json!({ "topic": topic, "title": notice.subject, "message": cut(text, NTFY_BYTES),
                               "priority": priority, "tags": [tag] });
            let prepared = Prepared::new("POST", &target, format!("{server}/{query}"), JSON, body.to_string());
            match token {
                Some(path) => prepared.with_secret("Authorization", format!("Bearer {}", secret(path)?))?,
                None => prepared,
            }
        }
        Channel::Slack(_) => {
            let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let mut text = format!("*{}*", escaped(&notice.subject));
            if !notice.text.is_empty() {
                let fenced = cut(&escaped(&notice.text), SLACK_BYTES).replace("```", "'''");
                text = format!("{text}\n```\n{fenced}\n```");
            }
            Prepared::new("POST", &target, target.url.clone(), JSON, json!({ "text": text }).to_string())
        }
        Channel::Matrix { room, token_file, .. } => {
            let body = json!({ "msgtype": "m.text", "body": cut(&whole(), MATRIX_BYTES) }).to_string();
            // The server drops a second event with this ID, so that a repeated attempt shows once.
            let id = format!("volbak.{}.{}.{}", notice.host, notice.started.timestamp_micros(), notice.event);
            let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{}", in_path(room), in_path(&id));
            let prepared = Prepared::new("PUT", &target, format!("{base}{path}{query}"), JSON, body);
            prepared.with_secret("Authorization", format!("Bearer {}", secret(token_file)?))?
        }
        Channel::Command(_) => return Ok(None),
    };
    Ok(Some(prepared))
}

/// An address up to the end of its path, without a slash there, and its query with the `?`. What a service appends to the path
/// stands before the query: `https://hc-ping.com/KEY/SLUG?create=1`.
fn path_and_query(url: &str) -> (&str, &str) {
    let (path, query) = url.split_at(url.find('?').unwrap_or(url.len()));
    (path.trim_end_matches('/'), query)
}

/// All facts.
const DEFAULT_BODY: &str = "{\"format\": {{ format }}, \"event\": {{ event }}, \"host\": {{ host }}, \
    \"run_id\": {{ run_id }}, \"started\": {{ started }}, \"duration_seconds\": {{ duration_seconds }}, \
    \"destination\": {{ destination }}, \"subject\": {{ subject }}, \"text\": {{ text }}, \
    \"volumes\": {{ volumes }}, \"problems\": {{ problems }}}";

fn both(notice: &Notice) -> String {
    format!("{}\n\n{}", notice.subject, notice.text)
}

/// The first bytes of a text, whole characters.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}\n… cut; `volbak report` shows all of it", &text[..text.floor_char_boundary(bytes)])
}

/// Percent-encodes what has a meaning in a path.
fn in_path(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}
