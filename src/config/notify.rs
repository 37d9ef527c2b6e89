//! Each `[[notify]]`.

use std::path::PathBuf;
use std::time::Duration;

use super::kinds::{commands, seconds};
use super::mistake::Location;
use super::section::Section;
use super::written::{Item, Value};
use crate::notify::{Address, Channel, Endpoint, Method, NoticeEvent, NotifyOptions, check_template, shown_host};
use crate::shown;

/// Each has a thread while a notice is sent.
const MOST: usize = 16;
const DEADLINE: Duration = Duration::from_secs(20);
const JSON: &str = "application/json";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Webhook,
    Healthchecks,
    Ntfy,
    Slack,
    Matrix,
    Command,
}

const KINDS: [(&str, Kind); 6] = [
    ("webhook", Kind::Webhook),
    ("healthchecks", Kind::Healthchecks),
    ("ntfy", Kind::Ntfy),
    ("slack", Kind::Slack),
    ("matrix", Kind::Matrix),
    ("command", Kind::Command),
];

pub(super) fn read(top: &Section<'_>) -> Vec<NotifyOptions> {
    let items = match top.item("notify") {
        Some(Item { place, value: Value::Table(_) }) => {
            let right = "write two brackets, [[notify]], so that there can be several";
            top.reading.mistake(&place, "`notify` is a single table", right);
            Vec::new()
        }
        _ => top.items("notify").unwrap_or_default(),
    };
    let mut found: Vec<NotifyOptions> = Vec::new();
    for item in items {
        let Value::Table(entries) = item.value else {
            top.reading.mistake(&item.place, "`notify` is not a table", "write its keys under a line [[notify]]");
            continue;
        };
        let section = Section::new(top.reading, "notify", entries, false);
        let Some(one) = one(&section, &item.place) else { continue };
        if found.iter().any(|other| other.name == one.name) {
            let what = format!("there are two [[notify]] named \"{}\"", shown::text(&one.name));
            top.reading.mistake(&item.place, what, "give each its own `name`");
        }
        found.push(one);
    }
    if found.len() > MOST {
        let what = format!("there are more than {MOST} [[notify]]");
        top.reading.mistake(&Location::Nowhere, what, "let one service pass the notices on");
    }
    found
}

fn one(section: &Section<'_>, place: &Location) -> Option<NotifyOptions> {
    let reading = section.reading;
    let kind = section.choice("kind", &KINDS);
    if kind.is_none() && section.place("kind") == Location::Nowhere {
        reading.mistake(place, "this [[notify]] has no `kind`", "add kind = \"webhook\", or another one");
    }
    let name = section.text("name", "on-call");
    let on = section.list("on", |text| {
        let events = [NoticeEvent::Start, NoticeEvent::Ok, NoticeEvent::Warning, NoticeEvent::Failure];
        let right = "it is one of \"start\", \"ok\", \"warning\" and \"failure\"";
        events.into_iter().find(|event| event.word() == text).ok_or(right)
    });
    let deadline = seconds(section, "deadline_seconds", 600).unwrap_or(DEADLINE);
    let endpoint = endpoint(section);
    let method = section.choice("method", &[("POST", Method::Post), ("PUT", Method::Put), ("GET", Method::Get)]);
    let headers = headers(section);
    let content_type = section.text("content_type", JSON);
    let body = section.text("body", "{\"text\": {{ subject }}}");
    let token_file = section.path("token_file", "/etc/volbak/notify.token");
    let room = section.text("room", "!abc:example.com");
    let command = commands(section, "command");
    let kind = kind?;
    let default = if kind == Kind::Healthchecks {
        vec![NoticeEvent::Start, NoticeEvent::Ok, NoticeEvent::Warning, NoticeEvent::Failure]
    } else {
        vec![NoticeEvent::Warning, NoticeEvent::Failure]
    };
    let channel = channel(
        section,
        place,
        kind,
        Written { endpoint, method, headers, content_type, body, token_file, room, command },
    )?;
    let name = name.unwrap_or_else(|| channel.word().to_owned());
    Some(NotifyOptions { name, on: on.unwrap_or(default), channel, deadline })
}

/// What the table says.
struct Written {
    endpoint: Option<Endpoint>,
    method: Option<Method>,
    headers: Vec<(String, PathBuf)>,
    content_type: Option<String>,
    body: Option<String>,
    token_file: Option<PathBuf>,
    room: Option<String>,
    command: Option<Vec<Vec<String>>>,
}

fn channel(section: &Section<'_>, place: &Location, kind: Kind, written: Written) -> Option<Channel> {
    let reading = section.reading;
    let word = KINDS.iter().find(|(_, one)| *one == kind).map_or("", |(word, _)| word);
    let lacks = |key: &'static str, right: &str| {
        if section.place(key) == Location::Nowhere {
            reading.mistake(place, format!("a {word} has no `{key}`"), right);
        }
    };
    let is_used = |key: &str| match kind {
        Kind::Webhook => !matches!(key, "token_file" | "room" | "command"),
        Kind::Ntfy => !matches!(key, "method" | "headers" | "content_type" | "body" | "room" | "command"),
        Kind::Healthchecks | Kind::Slack => {
            !matches!(key, "method" | "headers" | "content_type" | "body" | "token_file" | "room" | "command")
        }
        Kind::Matrix => !matches!(key, "method" | "headers" | "content_type" | "body" | "command"),
        Kind::Command => key == "command",
    };
    for key in
        ["url", "url_file", "ca_file", "method", "headers", "content_type", "body", "token_file", "room", "command"]
    {
        if !is_used(key) && section.has(key) {
            reading.mistake(&section.place(key), format!("a {word} does not use `{key}`"), "remove it");
        }
    }
    if kind == Kind::Command {
        lacks("command", "add command = [\"/usr/local/sbin/tell\", \"argument\"]");
        let mut commands = written.command?;
        if commands.len() != 1 {
            let right = "write one list; another command is another [[notify]]";
            reading.mistake(&section.place("command"), "`command` is not one command", right);
        }
        return commands.pop().map(Channel::Command);
    }
    if written.endpoint.is_none() {
        let what = format!("a {word} has no `url` and no `url_file`");
        if !section.has("url") && !section.has("url_file") {
            reading.mistake(
                place,
                what,
                "add url_file = \"/etc/volbak/notify.url\", a file whose first line is the address",
            );
        }
    }
    let endpoint = written.endpoint;
    Some(match kind {
        Kind::Webhook => {
            let content_type = written.content_type.unwrap_or_else(|| JSON.to_owned());
            if let Some(Err(error)) = written.body.as_deref().map(|body| check_template(body, &content_type)) {
                reading.mistake(
                    &section.place("body"),
                    shown::text(&error.to_string()),
                    "docs/notify.md has the names",
                );
            }
            let (method, headers, body) = (written.method.unwrap_or(Method::Post), written.headers, written.body);
            Channel::Webhook { endpoint: endpoint?, method, headers, content_type, body }
        }
        Kind::Healthchecks => Channel::Healthchecks(endpoint?),
        Kind::Ntfy => Channel::Ntfy(endpoint?, written.token_file),
        Kind::Slack => Channel::Slack(endpoint?),
        Kind::Matrix => {
            lacks("room", "add room = \"!abc:example.com\", the room's ID");
            lacks("token_file", "add token_file = \"/etc/volbak/matrix.token\"");
            Channel::Matrix { endpoint: endpoint?, room: written.room?, token_file: written.token_file? }
        }
        Kind::Command => return None,
    })
}

fn endpoint(section: &Section<'_>) -> Option<Endpoint> {
    let ca_file = section.path("ca_file", "/etc/volbak/notify-ca.pem");
    let file = section.path("url_file", "/etc/volbak/notify.url");
    let url = section.text("url", "https://example.com/hook");
    if let Some(url) = &url {
        // The message never shows the address: it may hold a token.
        if let Err(why) = shown_host(url) {
            section.reading.mistake(&section.place("url"), format!("`url` is no address: {why}"), "");
        }
        if file.is_some() {
            section.reading.mistake(&section.place("url_file"), "there is a `url`, too", "remove one of them");
        }
    }
    let address = url.map(Address::Text).or_else(|| file.map(Address::File))?;
    Some(Endpoint { address, ca_file })
}

/// The headers, each with its file.
fn headers(section: &Section<'_>) -> Vec<(String, PathBuf)> {
    let right = "write headers = { Authorization = \"/etc/volbak/notify.header\" }: the file's first line is the value";
    let Some(item) = section.item("headers") else { return Vec::new() };
    let Value::Table(entries) = item.value else {
        section.reading.mistake(&item.place, "`headers` is no table", right);
        return Vec::new();
    };
    let mut headers = Vec::new();
    for entry in entries {
        let is_name =
            !entry.key.is_empty() && entry.key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        match entry.item.value {
            Value::Text(path) if is_name && path.starts_with('/') => headers.push((entry.key, PathBuf::from(path))),
            // The value may be the secret itself.
            _ => section.reading.mistake(&entry.key_place, "a header's value is not the path of a file", right),
        }
    }
    headers
}
