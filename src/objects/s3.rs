//! The S3 API.

mod answers;
mod keeping;
mod listing;
mod multipart;
mod pages;

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rusty_s3::UrlStyle;
use ureq::http::{Method, Request};
use url::Url;

use super::address::ObjectAddress;
use super::bucket::Bucket;
use super::call::Call;
use super::error::ObjectError;
use super::limits::Limits;
use super::settings::{Credentials, ObjectSettings};
use super::wire::{Protocol, Refusal, Wire};
use crate::http::{Answer, Secret};

/// How long a signature is valid.
const SIGNATURE_SECONDS: u64 = 900;

/// A bucket of a store with an S3 API.
#[derive(Debug)]
pub(super) struct S3 {
    wire: Wire,
}

impl S3 {
    pub(super) fn new(
        address: ObjectAddress,
        settings: &ObjectSettings,
        credentials: &Credentials,
        limits: Limits,
    ) -> Result<Self, ObjectError> {
        let style = if settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let wrong = |what: String| ObjectError::Settings { place: format!("the endpoint {}", settings.endpoint), what };
        let url = Url::parse(&settings.endpoint).map_err(|error| wrong(error.to_string()))?;
        let bucket = rusty_s3::Bucket::new(url, style, address.bucket.clone(), settings.region.clone())
            .map_err(|error| wrong(format!("{error}; set `path_style = true` in [store]")))?;
        let signing = Signing { bucket, region: settings.region.clone(), credentials: credentials.clone() };
        Ok(Self { wire: Wire::new(address, settings, limits, Box::new(signing))? })
    }
}

impl Bucket for S3 {
    fn wire(&self) -> &Wire {
        &self.wire
    }
}

/// Requests with a signature in their address.
#[derive(Debug)]
struct Signing {
    bucket: rusty_s3::Bucket,
    region: String,
    credentials: Credentials,
}

impl Protocol for Signing {
    fn request(&self, call: &Call<'_>, now: i64, _until: Instant) -> Result<Request<()>, ObjectError> {
        let wrong = |what: &str| ObjectError::Settings { place: call.operation.to_owned(), what: what.to_owned() };
        let url = match call.key {
            Some(key) => self.bucket.object_url(key),
            None => self.bucket.base_url().clone(),
        };
        let date = Timestamp::from_second(now).map_err(|_| wrong("the clock is out of range"))?;
        let mut headers = call.headers.clone();
        headers.extend(call.md5.map(|md5| ("content-md5", STANDARD.encode(md5))));
        headers.sort();
        let signed = rusty_s3::signing::sign(
            &date,
            signed_method(&call.method),
            url,
            &self.credentials.key,
            self.credentials.secret.reveal(),
            self.credentials.token.as_ref().map(Secret::reveal),
            &self.region,
            SIGNATURE_SECONDS,
            call.query.iter().map(|(name, value)| (*name, value.as_str())),
            headers.iter().map(|(name, value)| (*name, value.as_str())),
        );
        let mut request = Request::builder().method(&call.method).uri(signed.as_str());
        for (name, value) in &headers {
            request = request.header(*name, value);
        }
        // The cause may quote the address, which holds the signature.
        request.body(()).map_err(|_| wrong("the key has characters that HTTP does not allow"))
    }

    fn refusal(&self, call: &Call<'_>, answer: &Answer) -> Option<Refusal> {
        let is_good = (200..300).contains(&answer.status);
        // Content of an object may look like an error.
        if is_good && (call.method == Method::GET && call.key.is_some() && call.query.is_empty()) {
            return None;
        }
        let found = answers::refusal(&answer.body);
        if is_good && found.is_none() {
            return None;
        }
        Some(found.unwrap_or_default())
    }

    fn hint(&self, status: u16, code: &str) -> &'static str {
        hint(status, code)
    }

    fn without_secrets(&self, text: &str) -> String {
        let text = self.credentials.secret.hide_in(text);
        self.credentials.token.as_ref().map_or(text.clone(), |token| token.hide_in(&text))
    }

    fn has_times(&self) -> bool {
        true
    }

    fn version_header(&self) -> &'static str {
        "x-amz-version-id"
    }
}

fn signed_method(method: &Method) -> rusty_s3::Method {
    match *method {
        Method::HEAD => rusty_s3::Method::Head,
        Method::PUT => rusty_s3::Method::Put,
        Method::POST => rusty_s3::Method::Post,
        Method::DELETE => rusty_s3::Method::Delete,
        _ => rusty_s3::Method::Get,
    }
}

/// What to do about an error.
fn hint(status: u16, code: &str) -> &'static str {
    match (status, code) {
        (_, "NoSuchBucket") => "; create the bucket: volbak never does",
        (_, "SignatureDoesNotMatch") => "; the secret key is wrong, or the region or the path style in [store]",
        (_, "InvalidAccessKeyId") => "; the store does not know the access key",
        (_, "RequestTimeTooSkewed") => "; check the clocks of this host and of the store",
        (300..=399, _) => "; the server redirects, and redirects are not followed: correct `endpoint` and `region`",
        (401 | 403, _) => "; the credentials lack this right, or an object lock holds the object",
        (429 | 503, _) => "; the store limits the rate: try again later",
        (501, _) => "; the store does not implement it",
        (500..=599, _) => "; look in the store's log",
        _ => "",
    }
}
