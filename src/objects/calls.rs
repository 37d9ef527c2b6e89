//! Single objects: put, read, looked up and deleted.

use std::ops::Range;
use std::time::Duration;

use ureq::http::{HeaderMap, Method};

use super::bucket::LockHeaders;
use super::call::{Call, Repeat};
use super::client::{ObjectClient, time_of};
use super::error::ObjectError;

/// An object that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its ETag without quotes; may be empty.
    pub etag: String,
    /// Its version, in a bucket with versions.
    pub version: Option<String>,
}

/// Facts of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its length.
    pub len: u64,
    /// Its ETag without quotes; may be empty.
    pub etag: String,
    /// Its version, in a bucket with versions.
    pub version: Option<String>,
    /// Until when it is locked, as the store writes it.
    pub locked_until: Option<String>,
    /// How long ago it was written, both times by the store's clock; `None` if the answer does not say.
    pub age: Option<Duration>,
    /// Whether it has to be restored from an archive tier before it can be read or copied.
    pub is_cold: bool,
}

impl ObjectClient {
    /// Writes an object; an earlier one of this key is replaced, if the store lets it. With `only_new` the store is
    /// asked to refuse that, and the request is not repeated.
    pub fn put(&self, key: &str, bytes: &[u8], only_new: bool) -> Result<Written, ObjectError> {
        let call = Call::new("PutObject", Method::PUT, Some(key)).body(bytes);
        let call = if only_new { Call { repeat: Repeat::No, ..call.header("if-none-match", "*") } } else { call };
        self.written(&call)
    }

    /// Writes an object with a lock, which the bucket has to support.
    pub fn put_locked(&self, key: &str, bytes: &[u8], lock: &LockHeaders) -> Result<Written, ObjectError> {
        self.written(&lock.on(Call::new("PutObject", Method::PUT, Some(key)).body(bytes)))
    }

    /// As [`Self::put`], with further headers.
    pub fn put_with(
        &self,
        key: &str,
        bytes: &[u8],
        headers: &[(&'static str, String)],
    ) -> Result<Written, ObjectError> {
        let mut call = Call { repeat: Repeat::No, ..Call::new("PutObject", Method::PUT, Some(key)).body(bytes) };
        for (name, value) in headers {
            call.headers.retain(|(other, _)| other != name);
            call = call.header(name, value.clone());
        }
        self.written(&call)
    }

    fn written(&self, call: &Call<'_>) -> Result<Written, ObjectError> {
        let answer = self.send(call)?;
        Ok(Written { etag: etag(&answer.headers), version: version(&answer.headers) })
    }

    /// Facts of an object; `None` if there is none.
    pub fn head(&self, key: &str) -> Result<Option<Found>, ObjectError> {
        let call = Call::new("HeadObject", Method::HEAD, Some(key));
        let answer = match self.send(&call) {
            Err(error) if error.status() == Some(404) => return Ok(None),
            other => other?,
        };
        let len = text(&answer.headers, "content-length").and_then(|len| len.parse().ok());
        let len = len.ok_or_else(|| self.not_understood(&call, "it has no Content-Length"))?;
        let locked_until = text(&answer.headers, "x-amz-object-lock-retain-until-date").map(str::to_owned);
        Ok(Some(Found { locked_until, ..found(len, &answer.headers) }))
    }

    /// Reads a short object; `None` if there is none. A longer one than `limit_bytes` is an error.
    pub fn get(&self, key: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>, ObjectError> {
        let call = Call { expected_bytes: limit_bytes, ..Call::new("GetObject", Method::GET, Some(key)) };
        match self.send(&call) {
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
            Ok(answer) if answer.body.len() as u64 > limit_bytes => {
                Err(ObjectError::TooLong { what: self.what(&call), limit_bytes })
            }
            Ok(answer) => Ok(Some(answer.body)),
        }
    }

    /// Reads a range, which must lie within the object.
    pub fn get_range(&self, key: &str, range: &Range<u64>) -> Result<Vec<u8>, ObjectError> {
        Ok(self.range(key, range)?.1)
    }

    /// As [`Self::get_range`]; an error if the object has another ETag by now.
    pub fn get_range_of(&self, key: &str, range: &Range<u64>, etag: &str) -> Result<Vec<u8>, ObjectError> {
        let (found, bytes) = self.range(key, range)?;
        if !found.is_empty() && found != etag {
            let what = format!("GetObject s3://{}/{}", self.address().bucket, crate::shown::text(key));
            return Err(ObjectError::NotUnderstood {
                what,
                why: "the object was replaced while it is read".to_owned(),
            });
        }
        Ok(bytes)
    }

    /// The facts of an object, and up to `most` of its first bytes, in one request; `None` if there is none.
    pub fn get_first(&self, key: &str, most: u64) -> Result<Option<(Found, Vec<u8>)>, ObjectError> {
        let call = Call { expected_bytes: most, ..Call::new("GetObject", Method::GET, Some(key)) };
        let call = call.header("range", format!("bytes=0-{}", most.saturating_sub(1)));
        let answer = match self.send(&call) {
            Err(error) if error.status() == Some(404) && error.code() != Some("NoSuchBucket") => return Ok(None),
            // An empty object has no first byte.
            Err(error) if error.status() == Some(416) => return Ok(self.head(key)?.map(|found| (found, Vec::new()))),
            other => other?,
        };
        let got = answer.body.len() as u64;
        let whole = text(&answer.headers, "content-range").and_then(|given| {
            let (range, whole) = given.strip_prefix("bytes 0-")?.split_once('/')?;
            let whole: u64 = whole.parse().ok()?;
            (range.parse::<u64>().ok()?.checked_add(1)? == got && got == whole.min(most)).then_some(whole)
        });
        // A store that does not heed ranges may still send all of a short object.
        let whole = whole.or_else(|| (answer.status == 200 && got < most).then_some(got));
        let len = whole.ok_or_else(|| self.not_understood(&call, "it is not the range that was asked for"))?;
        Ok(Some((found(len, &answer.headers), answer.body)))
    }

    /// The ETag and the bytes.
    fn range(&self, key: &str, range: &Range<u64>) -> Result<(String, Vec<u8>), ObjectError> {
        if range.is_empty() {
            return Ok((String::new(), Vec::new()));
        }
        let (first, last, len) = (range.start, range.end - 1, range.end - range.start);
        let call = Call { expected_bytes: len, ..Call::new("GetObject", Method::GET, Some(key)) };
        let call = call.header("range", format!("bytes={first}-{last}"));
        let answer = self.send(&call)?;
        if answer.status != 206 {
            return Err(self
                .not_understood(&call, format!("status {} instead of 206: the store ignores ranges", answer.status)));
        }
        let given = text(&answer.headers, "content-range").unwrap_or_default();
        if !given.starts_with(&format!("bytes {first}-{last}/")) || answer.body.len() as u64 != len {
            let got = answer.body.len();
            let given = crate::shown::text(given);
            return Err(self.not_understood(&call, format!("{got} bytes as `{given}` for bytes {first} to {last}")));
        }
        Ok((etag(&answer.headers), answer.body))
    }

    /// Deletes an object, or one version of it; a missing one is no error.
    pub fn delete(&self, key: &str, version: Option<&str>) -> Result<(), ObjectError> {
        let call = Call::new("DeleteObject", Method::DELETE, Some(key));
        let call = match version {
            Some(version) => call.query("versionId", version),
            None => call,
        };
        match self.send(&call) {
            Err(error) if error.status() == Some(404) && error.code() != Some("NoSuchBucket") => Ok(()),
            other => other.map(drop),
        }
    }
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn found(len: u64, headers: &HeaderMap) -> Found {
    let class = text(headers, "x-amz-storage-class").unwrap_or_default();
    let is_cold = is_cold(class) || headers.contains_key("x-amz-archive-status");
    let (etag, version, age) = (etag(headers), version(headers), age(headers));
    Found { len, etag, version, locked_until: None, age, is_cold }
}

/// Whether objects of this storage class have to be restored before they can be read.
pub(super) fn is_cold(class: &str) -> bool {
    ["GLACIER", "DEEP_ARCHIVE"].contains(&class)
}

pub(super) fn etag(headers: &HeaderMap) -> String {
    text(headers, "etag").unwrap_or_default().trim_matches('"').to_owned()
}

fn age(headers: &HeaderMap) -> Option<Duration> {
    let seconds = time_of(headers, "date")?.checked_sub(time_of(headers, "last-modified")?)?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

fn version(headers: &HeaderMap) -> Option<String> {
    text(headers, "x-amz-version-id").filter(|version| *version != "null").map(str::to_owned)
}
