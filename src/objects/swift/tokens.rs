//! Requests with a token, which is renewed when it is refused.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ureq::http::{Method, Request};

use super::login::{Access, SwiftLogin};
use crate::http::Answer;
use crate::objects::call::{Call, Place};
use crate::objects::error::ObjectError;
use crate::objects::path::encoded;
use crate::objects::settings::ObjectSettings;
use crate::objects::wire::{Protocol, Refusal, http};
use crate::shown;

/// A token for a container, and for the one with its segments.
#[derive(Debug)]
pub(super) struct Tokens {
    settings: ObjectSettings,
    login: SwiftLogin,
    container: String,
    segments: String,
    access: Mutex<Option<Access>>,
}

impl Tokens {
    pub(super) fn new(settings: ObjectSettings, login: SwiftLogin, container: String, segments: String) -> Self {
        Self { settings, login, container, segments, access: Mutex::default() }
    }

    fn access(&self) -> MutexGuard<'_, Option<Access>> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of now. Of several threads one logs in, and the others wait for it.
    fn current(&self, until: Instant) -> Result<Access, ObjectError> {
        let mut access = self.access();
        if let Some(access) = &*access {
            return Ok(access.clone());
        }
        let new = self.login.log_in(http(&self.settings)?, until)?;
        Ok(access.insert(new).clone())
    }
}

impl Protocol for Tokens {
    fn request(&self, call: &Call<'_>, _now: i64, until: Instant) -> Result<Request<()>, ObjectError> {
        let Access { token, url } = self.current(until)?;
        let mut url = match call.place {
            Place::Bucket => format!("{url}/{}", encoded(&self.container)),
            Place::Segments => format!("{url}/{}", encoded(&self.segments)),
            Place::Info => format!("{}/info", root(&url)),
        };
        if let Some(key) = call.key {
            url.push('/');
            url.push_str(&encoded(key));
        }
        for (number, (name, value)) in call.query.iter().enumerate() {
            url.push(if number == 0 { '?' } else { '&' });
            url.push_str(&format!("{name}={}", encoded(value)));
        }
        let mut request = Request::builder().method(&call.method).uri(url).header("x-auth-token", token.reveal());
        if let Some(md5) = call.md5 {
            request = request.header("etag", shown::hex(&md5));
        }
        if call.method == Method::PUT {
            request = request.header("content-type", "application/octet-stream");
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        // The cause may quote the token.
        request.body(()).map_err(|_| ObjectError::Settings {
            place: call.operation.to_owned(),
            what: "the address, the key or the token has characters that HTTP does not allow".to_owned(),
        })
    }

    fn refusal(&self, call: &Call<'_>, answer: &Answer) -> Option<Refusal> {
        let is_copy = call.headers.iter().any(|(name, _)| *name == "x-copy-from");
        let code = match answer.status {
            200..=299 => return None,
            // Also what is written into a container that is missing. A copy may lack what it is made of.
            404 if call.key.is_none() || (call.method == Method::PUT && !is_copy) => "NoSuchContainer",
            408 => "RequestTimeout",
            412 => "PreconditionFailed",
            422 => "BadDigest",
            498 => "SlowDown",
            _ => "",
        };
        Some(Refusal { code: code.to_owned(), message: said(&answer.body) })
    }

    fn named(&self, call: &Call<'_>, bucket: String) -> String {
        let method = &call.method;
        match call.place {
            Place::Bucket => format!("{method} {bucket}"),
            Place::Segments => format!("{method} swift://{}", self.segments),
            Place::Info => format!("{method} /info of {}", self.settings.endpoint),
        }
    }

    fn server(&self) -> Option<String> {
        // Nobody waits here for a log-in.
        let access = self.access.try_lock().ok().and_then(|access| access.clone());
        access.map(|access| root(&access.url).to_owned())
    }

    fn hint(&self, status: u16, code: &str) -> &'static str {
        match (status, code) {
            (_, "NoSuchContainer") => {
                "; create the container: volbak never does, and needs CONTAINER and CONTAINER_segments"
            }
            (300..=399, _) => {
                "; the server redirects, and redirects are not followed: correct the endpoint of the catalogue"
            }
            (401, _) => "; a new token is not accepted either: check the user's roles in the project",
            (403, _) => "; the user lacks this right: give it a role that Swift heeds, or the container an ACL",
            (413, _) => "; a quota is reached, or the object is longer than the cluster allows",
            (429 | 498 | 503, _) => "; the store limits the rate, or is busy: try again later",
            (507, _) => "; the store is full",
            (500..=599, _) => "; look in the store's log",
            _ => "",
        }
    }

    fn without_secrets(&self, text: &str) -> String {
        let text = self.login.without_secrets(text);
        // Nobody waits here for a log-in.
        let access = self.access.try_lock().ok().and_then(|access| access.clone());
        access.map_or(text.clone(), |access| access.token.hide_in(&text))
    }

    fn logs_in_again(&self, status: u16) -> bool {
        if status == 401 {
            // Another request may have been refused with the same token, and have given it up already.
            *self.access() = None;
        }
        // A store that always answers 401 is not asked for ever: `Wire` mends each request once (`is_mended`).
        status == 401
    }

    fn version_header(&self) -> &'static str {
        "x-object-version-id"
    }
}

/// The address of a server without a path.
fn root(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |end| &url[..host + end])
}

/// What an error says: Swift's are short pages.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    let inner = text.split_once("<p>").and_then(|(_, rest)| rest.split_once("</p>")).map(|(inner, _)| inner);
    inner.unwrap_or(if text.contains('<') { "" } else { &text }).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{root, said};

    #[test]
    fn pages_and_addresses_are_shortened() {
        assert_eq!(
            said(b"<html><h1>Not Found</h1><p>The resource could not be found.</p></html>"),
            "The resource could not be found."
        );
        assert_eq!((said(b"<html>"), said(b" Errors:\nx ")), (String::new(), "Errors:\nx".to_owned()));
        assert_eq!((root("http://a:1/v1/AUTH_x"), root("https://a")), ("http://a:1", "https://a"));
    }
}
