//! Single objects, put, read and looked up: in each API these are the same requests.

use std::ops::Range;
use std::time::Duration;

use ureq::http::{HeaderMap, Method};

use super::call::{Call, Repeat};
use super::error::ObjectError;
use super::facts::{Found, Written};
use super::wire::{Wire, time_of};

/// Writes an object; an earlier one of this key is replaced, if the store lets it. With `only_new` the store is asked to
/// refuse that, and the request is not repeated.
pub(super) fn put(wire: &Wire, key: &str, bytes: &[u8], only_new: bool) -> Result<Written, ObjectError> {
    written(wire, &put_call(key, bytes, only_new))
}

pub(super) fn put_call<'a>(key: &'a str, bytes: &'a [u8], only_new: bool) -> Call<'a> {
    let call = Call::new("PutObject", Method::PUT, Some(key)).body(bytes);
    if only_new { Call { repeat: Repeat::No, ..call.header("if-none-match", "*") } } else { call }
}

/// As [`put`], with an MD5 that may be wrong.
pub(super) fn put_with_md5(wire: &Wire, key: &str, bytes: &[u8], md5: [u8; 16]) -> Result<Written, ObjectError> {
    let call = Call::new("PutObject", Method::PUT, Some(key)).body(bytes);
    written(wire, &Call { repeat: Repeat::No, md5: Some(md5), ..call })
}

pub(super) fn written(wire: &Wire, call: &Call<'_>) -> Result<Written, ObjectError> {
    let answer = wire.send(call)?;
    Ok(Written { etag: etag(&answer.headers), version: version(wire, &answer.headers) })
}

/// Facts of an object; `None` if there is none.
pub(super) fn head(wire: &Wire, key: &str) -> Result<Option<Found>, ObjectError> {
    let call = Call::new("HeadObject", Method::HEAD, Some(key));
    let answer = match wire.send(&call) {
        Err(error) if error.status() == Some(404) => return Ok(None),
        other => other?,
    };
    let len = text(&answer.headers, "content-length").and_then(|len| len.parse().ok());
    let len = len.ok_or_else(|| wire.not_understood(&call, "it has no Content-Length"))?;
    let locked_until = text(&answer.headers, "x-amz-object-lock-retain-until-date").map(str::to_owned);
    Ok(Some(Found { locked_until, ..found(wire, len, &answer.headers) }))
}

/// Reads a short object; `None` if there is none. A longer one than `limit_bytes` is an error.
pub(super) fn get(wire: &Wire, key: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>, ObjectError> {
    let call = Call { expected_bytes: limit_bytes, ..Call::new("GetObject", Method::GET, Some(key)) };
    match wire.send(&call) {
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
        Ok(answer) if answer.body.len() as u64 > limit_bytes => {
            Err(ObjectError::TooLong { what: wire.what(&call), limit_bytes })
        }
        Ok(answer) => Ok(Some(answer.body)),
    }
}

/// The facts of an object, and up to `most` of its first bytes, in one request; `None` if there is none.
pub(super) fn get_first(wire: &Wire, key: &str, most: u64) -> Result<Option<(Found, Vec<u8>)>, ObjectError> {
    let call = Call { expected_bytes: most, ..Call::new("GetObject", Method::GET, Some(key)) };
    let call = call.header("range", format!("bytes=0-{}", most.saturating_sub(1)));
    let answer = match wire.send(&call) {
        Err(error) if error.status() == Some(404) && error.code() != Some("NoSuchBucket") => return Ok(None),
        // An empty object has no first byte.
        Err(error) if error.status() == Some(416) => return Ok(head(wire, key)?.map(|found| (found, Vec::new()))),
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
    let len = whole.ok_or_else(|| wire.not_understood(&call, "it is not the range that was asked for"))?;
    Ok(Some((found(wire, len, &answer.headers), answer.body)))
}

/// Reads a range, which must lie within the object. An error if the object has another ETag than this one.
pub(super) fn get_range(wire: &Wire, key: &str, range: &Range<u64>, of: Option<&str>) -> Result<Vec<u8>, ObjectError> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let (first, last, len) = (range.start, range.end - 1, range.end - range.start);
    let call = Call { expected_bytes: len, ..Call::new("GetObject", Method::GET, Some(key)) };
    let call = call.header("range", format!("bytes={first}-{last}"));
    let answer = wire.send(&call)?;
    if answer.status != 206 {
        let why = format!("status {} instead of 206: the store ignores ranges", answer.status);
        return Err(wire.not_understood(&call, why));
    }
    let given = text(&answer.headers, "content-range").unwrap_or_default();
    if !given.starts_with(&format!("bytes {first}-{last}/")) || answer.body.len() as u64 != len {
        let got = answer.body.len();
        let given = crate::shown::text(given);
        return Err(wire.not_understood(&call, format!("{got} bytes as `{given}` for bytes {first} to {last}")));
    }
    let found = etag(&answer.headers);
    if of.is_some_and(|of| !found.is_empty() && found != of) {
        return Err(wire.not_understood(&call, "the object was replaced while it is read"));
    }
    Ok(answer.body)
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn found(wire: &Wire, len: u64, headers: &HeaderMap) -> Found {
    let class = text(headers, "x-amz-storage-class").unwrap_or_default();
    let is_cold = is_cold(class) || headers.contains_key("x-amz-archive-status");
    let (etag, version, age) = (etag(headers), version(wire, headers), age(headers));
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

/// The version of an object that was read or written.
pub(super) fn version(wire: &Wire, headers: &HeaderMap) -> Option<String> {
    text(headers, wire.version_header()).filter(|version| *version != "null").map(str::to_owned)
}
