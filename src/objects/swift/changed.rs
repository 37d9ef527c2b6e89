//! Whether the segments of a large object are those that its manifest names.
//!
//! Whoever overwrites a segment changes what a reader gets, and neither the manifest nor the object's ETag. Swift compares
//! them only while it sends the object.

use std::collections::HashMap;

use ureq::http::Method;

use super::Swift;
use super::listing::List;
use super::manifest::{Listed, kind};
use crate::objects::bucket::Bucket;
use crate::objects::call::Place;
use crate::objects::error::ObjectError;
use crate::objects::plain::{etag, text};
use crate::shown;

/// Segments that are named; further ones are not looked for.
const MOST_NAMED: usize = 3;

/// What is wrong with the segments of an object, in words. Takes a list, and a request for each segment in doubt.
pub(super) fn wrong_segments(swift: &Swift, key: &str) -> Result<Vec<String>, ObjectError> {
    let Some(named) = kind(swift.wire(), key, None)?.and_then(|kind| kind.segments) else { return Ok(Vec::new()) };
    let beside = format!("/{}/", swift.segments);
    let (prefix, mut there) = (format!("segments/{key}/"), HashMap::new());
    let list = List { place: Place::Segments, prefix: &prefix, by_folder: false, with_versions: false };
    let entries = match list.all(swift.wire()) {
        // Without the container, each of them is missing.
        Err(error) if error.status() == Some(404) => Vec::new(),
        other => other?,
    };
    for entry in entries {
        let (etag, bytes) = (entry.etag(), entry.bytes);
        if let Some(name) = entry.name {
            there.insert(name, (etag, bytes));
        }
    }
    let mut wrong = Vec::new();
    for segment in &named {
        let what = match segment.name.strip_prefix(&beside) {
            None => Some("is in another container than the segments of volbak".to_owned()),
            Some(name) if there.get(name).is_some_and(|(etag, bytes)| is_it(segment, etag, *bytes)) => None,
            // Lists may be late.
            Some(name) => look(swift, name, segment)?,
        };
        if let Some(what) = what {
            wrong.push(format!("its segment {} {what}", shown::text(&segment.name)));
        }
        if wrong.len() == MOST_NAMED {
            break;
        }
    }
    Ok(wrong)
}

fn is_it(segment: &Listed, etag: &str, bytes: u64) -> bool {
    segment.hash.trim_matches('"').eq_ignore_ascii_case(etag) && segment.bytes == bytes
}

/// What the segment itself says; `None` if it is the one in the manifest.
fn look(swift: &Swift, name: &str, segment: &Listed) -> Result<Option<String>, ObjectError> {
    let call = Swift::in_segments(Method::HEAD, name).header("x-newest", "true");
    let answer = match swift.wire().send(&call) {
        Err(error) if error.status() == Some(404) => return Ok(Some("is missing".to_owned())),
        other => other?,
    };
    let bytes = text(&answer.headers, "content-length").and_then(|len| len.parse::<u64>().ok());
    let bytes = bytes.ok_or_else(|| swift.wire().not_understood(&call, "it has no Content-Length"))?;
    if is_it(segment, &etag(&answer.headers), bytes) {
        return Ok(None);
    }
    Ok(Some(format!("was overwritten: it has {bytes} bytes, and the manifest names other ones ({})", segment.bytes)))
}
