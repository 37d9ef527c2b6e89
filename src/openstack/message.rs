//! Builds a request, and decodes an answer.

use serde::de::DeserializeOwned;
use ureq::http::{Method, Request};

use super::catalogue::{COMPUTE, ServiceKind};
use super::error::CloudError;
use crate::http::Secret;
use crate::shown;

pub(super) fn request(
    method: &Method,
    url: &str,
    token: Option<&Secret>,
    version: Option<(ServiceKind, &str)>,
    body: Option<&[u8]>,
) -> Result<Request<Vec<u8>>, CloudError> {
    let mut made = Request::builder().method(method).uri(url).header("Accept", "application/json");
    if let Some(token) = token {
        made = made.header("X-Auth-Token", token.reveal());
    }
    if let Some((service, version)) = version {
        made = made.header("OpenStack-API-Version", format!("{} {version}", service.header));
        if service == COMPUTE {
            // Nova before 2.27 knows only this header.
            made = made.header("X-OpenStack-Nova-API-Version", version);
        }
    }
    if body.is_some() {
        made = made.header("Content-Type", "application/json");
    }
    made.body(body.unwrap_or_default().to_vec()).map_err(|_| CloudError::NotUnderstood {
        // The cause may quote a header, and a token is one.
        what: format!("{method} {}", shown::text(url)),
        why: "the address or the token has characters that HTTP does not allow".to_owned(),
    })
}

pub(super) fn understood<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, CloudError> {
    serde_json::from_slice(body)
        .map_err(|error| CloudError::NotUnderstood { what: shown::text(what), why: shown::text(&error.to_string()) })
}

/// An id that can stand in a path: it came in an answer.
pub(super) fn in_path(id: &str) -> Result<&str, CloudError> {
    let is_id = !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_id {
        return Ok(id);
    }
    let what = "an instance's id".to_owned();
    Err(CloudError::NotUnderstood { what, why: format!("{:?} is no UUID", shown::text(id)) })
}
