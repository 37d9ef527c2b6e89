//! Sends a notice over HTTP, with repeated attempts, within its deadline.

use std::thread::sleep;
use std::time::{Duration, Instant};

use ureq::http::Request;

use super::error::NotifyError;
use super::notice::Notice;
use super::request::{Prepared, request, target};
use super::settings::{Channel, NotifyOptions, shown_host};
use super::template;
use crate::http::files::FileError;
use crate::http::{Answer, Failure, Http, retry_after};
use crate::shown;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// Characters of a server's message that an error repeats.
const MESSAGE_CHARS: usize = 200;

/// Tries a template of the body of a webhook.
pub fn check_template(body: &str, content_type: &str) -> Result<(), NotifyError> {
    template::check(body, template::is_json(content_type))
}

/// Sends `notice`, and tries again until the deadline if another attempt may succeed.
pub fn send(notify: &NotifyOptions, notice: &Notice) -> Result<(), NotifyError> {
    let until = Instant::now() + notify.deadline;
    let Some(prepared) = request(&notify.channel, notice)? else { return Err(NotifyError::NotBuilt) };
    let http = http(notify)?;
    let mut pause = FIRST_PAUSE;
    loop {
        let (error, wait) = match once(&http, &prepared, until) {
            Ok(answer) if answer.status < 300 => return Ok(()),
            Ok(answer) => {
                let is_passing = matches!(answer.status, 408 | 425 | 429 | 500..=599);
                let wait = is_passing.then(|| pause.max(retry_after(&answer.headers).unwrap_or_default()));
                (refused(&prepared, &answer), wait)
            }
            Err(Failure::Late) => return Err(late(notify, &prepared.host, "")),
            Err(Failure::Broken(why)) => (no_answer(&prepared, &why), Some(pause)),
            Err(Failure::Final(why)) => (no_answer(&prepared, &why), None),
            Err(Failure::TooLong) => {
                let why = format!("the answer has more than {MAX_ANSWER_BYTES} bytes");
                (NotifyError::NoAnswer { host: prepared.host.clone(), why }, None)
            }
        };
        let Some(wait) = wait else { return Err(error) };
        if until.saturating_duration_since(Instant::now()) <= wait {
            return Err(late(notify, &prepared.host, &format!(": {}", last_of(&error))));
        }
        sleep(wait);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Tries the template of the body, then connects to the server, over TLS if the address says so, and asks for nothing: no
/// token is sent, and no path. Returns the host; `None` for a command.
pub fn try_server(notify: &NotifyOptions, limit: Duration) -> Result<Option<String>, NotifyError> {
    if let Channel::Webhook { body: Some(body), content_type, .. } = &notify.channel {
        template::check_with_volumes(body, template::is_json(content_type))?;
    }
    let Some(endpoint) = notify.channel.endpoint() else { return Ok(None) };
    let target = target(endpoint)?;
    let (scheme, _) = target.url.split_once("://").unwrap_or_default();
    let url = format!("{scheme}://{}/", target.host);
    let asked = Request::builder().method("HEAD").uri(url).body(());
    let asked = asked.map_err(|_| NotifyError::Address { place: "url".to_owned(), why: "it has no valid host" })?;
    match http(notify)?.send(asked, &[], MAX_ANSWER_BYTES, Instant::now() + limit) {
        Ok(_) | Err(Failure::TooLong) => Ok(Some(target.host)),
        Err(Failure::Late) => {
            Err(NotifyError::NoAnswer { host: target.host, why: format!("no answer within {} s", limit.as_secs()) })
        }
        Err(Failure::Broken(why) | Failure::Final(why)) => {
            Err(NotifyError::NoAnswer { host: target.host, why: shown::text(&why) })
        }
    }
}

fn http(notify: &NotifyOptions) -> Result<Http, NotifyError> {
    let ca_file = notify.channel.endpoint().and_then(|endpoint| endpoint.ca_file.as_deref());
    Http::new(ca_file).map_err(|error| match error {
        FileError::Wrong { path, what } => NotifyError::File { path, why: what },
        FileError::Unreadable { path, source } => NotifyError::File { path, why: source.to_string() },
    })
}

fn once(http: &Http, prepared: &Prepared, until: Instant) -> Result<Answer, Failure> {
    let mut made = Request::builder().method(prepared.method).uri(prepared.url.reveal());
    for (name, value) in &prepared.headers {
        made = made.header(name, value.reveal());
    }
    // The cause may quote a header's value.
    let made =
        made.body(()).map_err(|_| Failure::Final("the address or a header has characters that HTTP forbids".into()))?;
    http.send(made, &prepared.body, MAX_ANSWER_BYTES, until)
}

fn no_answer(prepared: &Prepared, why: &str) -> NotifyError {
    NotifyError::NoAnswer { host: prepared.host.clone(), why: shown::text(&prepared.hide_in(why)) }
}

fn refused(prepared: &Prepared, answer: &Answer) -> NotifyError {
    let said = prepared.hide_in(&String::from_utf8_lossy(&answer.body));
    let said: String = said.trim().lines().next().unwrap_or_default().chars().take(MESSAGE_CHARS).collect();
    let message =
        if said.is_empty() || said.starts_with('<') { String::new() } else { format!(": {}", shown::text(&said)) };
    let hint = match answer.status {
        300..=399 => {
            let to = answer.headers.get("location").and_then(|to| to.to_str().ok()).map(shown_host);
            let to = to.and_then(Result::ok).map_or_else(String::new, |host| format!(" to {}", shown::text(host)));
            format!("; the server redirects{to}, and redirects are not followed: correct `url`")
        }
        401 | 403 => "; check the token or the address".to_owned(),
        404 | 410 => "; the address is not known there".to_owned(),
        429 => "; the service limits the rate".to_owned(),
        _ => String::new(),
    };
    NotifyError::Status { host: prepared.host.clone(), status: answer.status, message, hint }
}

fn late(notify: &NotifyOptions, host: &str, last: &str) -> NotifyError {
    NotifyError::Deadline { host: host.to_owned(), seconds: notify.deadline.as_secs(), last: last.to_owned() }
}

/// An error without its host, which the one around it names.
fn last_of(error: &NotifyError) -> String {
    match error {
        NotifyError::NoAnswer { why, .. } => why.clone(),
        NotifyError::Status { status, message, .. } => format!("status {status}{message}"),
        other => other.to_string(),
    }
}
