//! What is kept and what is removed: objects that expire, versions, large objects with their segments.

use std::time::Duration;

use md5::{Digest, Md5};
use serde::Deserialize;
use ureq::http::Method;

use super::listing::List;
use super::manifest::{Listed, kind};
use super::{Swift, changed};
use crate::objects::bucket::Keeping;
use crate::objects::call::{Call, Place};
use crate::objects::error::ObjectError;
use crate::objects::facts::{LockHeaders, ObjectVersion, Written};
use crate::objects::plain::{self, text};
use crate::shown;
use crate::shown::counted;

const NO_LOCK: &str =
    "Swift has no object lock; X-Versions-Enabled of the container keeps what is overwritten or deleted";
/// Names in an error.
const MOST_NAMED: usize = 3;

/// What Swift says of a removal with all segments, in an answer of 200.
#[derive(Deserialize)]
struct Removed {
    #[serde(rename = "Response Status", default)]
    status: String,
    #[serde(rename = "Errors", default)]
    errors: Vec<(String, String)>,
}

/// What a lock is refused with.
pub(super) fn no_lock() -> ObjectError {
    ObjectError::Settings { place: "`lock` in [store]".to_owned(), what: NO_LOCK.to_owned() }
}

impl Swift {
    fn checked(&self, call: &Call<'_>) -> Result<Written, ObjectError> {
        let written = plain::written(&self.wire, call)?;
        if written.etag != shown::hex(&Md5::digest(call.body)) {
            return Err(self.wire.not_understood(call, "its ETag is not the MD5 of what was sent"));
        }
        Ok(written)
    }

    /// Deletes a large object with its segments. What Swift could not delete is noted, so that the next run does.
    fn delete_large(&self, call: Call<'_>, key: &str, segments: &[Listed]) -> Result<(), ObjectError> {
        let expected_bytes = segments.len() as u64 * (32 << 10);
        let call =
            Call { expected_bytes, ..call.query("multipart-manifest", "delete") }.header("accept", "application/json");
        let answer = match self.wire.send(&call) {
            Err(error) if error.status() == Some(404) => return Ok(()),
            other => other?,
        };
        let said: Removed = serde_json::from_slice(&answer.body)
            .map_err(|error| self.wire.not_understood(&call, shown::text(&error.to_string())))?;
        let failed: Vec<&(String, String)> =
            said.errors.iter().filter(|(_, status)| !status.starts_with("404")).collect();
        if failed.is_empty() && (said.status.starts_with("200") || said.status.starts_with("404")) {
            return Ok(());
        }
        let begin = format!("/{}/segments/{key}/", self.segments);
        let mut ids: Vec<&str> =
            segments.iter().filter_map(|one| Some(one.name.strip_prefix(&begin)?.split_once('/')?.0)).collect();
        ids.dedup();
        for id in ids {
            self.note_upload(key, id)?;
        }
        let (code, status) = (said.status.get(..3).unwrap_or_default(), said.status.split(' ').next());
        let names = failed
            .iter()
            .take(MOST_NAMED)
            .map(|(name, status)| format!("{}: {}", shown::text(name), shown::text(status)));
        Err(ObjectError::Status {
            what: self.wire.what(&call),
            status: status.and_then(|status| status.parse().ok()).filter(|status| *status != 200).unwrap_or(500),
            code: shown::text(code),
            message: format!(
                ": {} left ({})",
                counted(failed.len() as u64, "object is", "objects are"),
                names.collect::<Vec<_>>().join(", ")
            ),
            hint: "; the next run removes them",
        })
    }
}

impl Keeping for Swift {
    fn put(&self, key: &str, bytes: &[u8], only_new: bool) -> Result<Written, ObjectError> {
        let call = plain::put_call(key, bytes, only_new);
        self.checked(&call)
    }

    fn put_for(&self, key: &str, bytes: &[u8], time: Duration) -> Result<Written, ObjectError> {
        self.checked(&plain::put_call(key, bytes, false).header("x-delete-after", time.as_secs().max(1).to_string()))
    }

    fn put_locked(&self, _: &str, _: &[u8], _: &LockHeaders) -> Result<Written, ObjectError> {
        Err(no_lock())
    }

    /// A large object goes with its segments if they are its own alone, and if no version of it stays.
    fn delete(&self, key: &str, version: Option<&str>) -> Result<(), ObjectError> {
        let found = kind(&self.wire, key, version)?;
        let call = Call::new("delete", Method::DELETE, Some(key));
        let call = match version {
            Some(version) => call.query("version-id", version),
            // A marker of a deletion is not found, and is deleted like a version.
            None if found.is_none() => return Ok(()),
            None => call,
        };
        if let Some(segments) = found.as_ref().and_then(|kind| kind.segments.as_ref()) {
            let own = format!("/{}/segments/{key}/", self.segments);
            let stays = version.is_none() && found.as_ref().is_some_and(|kind| kind.has_version);
            if !stays && segments.iter().all(|segment| segment.name.starts_with(&own)) {
                return self.delete_large(call, key, segments);
            }
        }
        match self.wire.send(&call) {
            Err(error) if error.status() == Some(404) => Ok(()),
            other => other.map(drop),
        }
    }

    fn object_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, ObjectError> {
        let list = List { place: Place::Bucket, prefix, by_folder: false, with_versions: true };
        let entries = list.all(&self.wire)?;
        let version = |entry: super::listing::Entry| {
            let is_marker = entry.content_type.starts_with("application/x-deleted");
            let etag = (!is_marker).then(|| entry.etag());
            let (is_latest, id) = (entry.is_latest, entry.version_id.unwrap_or_else(|| "null".to_owned()));
            Some(ObjectVersion { key: entry.name?, id, etag, is_latest })
        };
        Ok(entries.into_iter().filter_map(version).collect())
    }

    fn wrong_parts(&self, key: &str) -> Result<Vec<String>, ObjectError> {
        changed::wrong_segments(self, key)
    }

    fn versioning(&self) -> Result<Option<String>, ObjectError> {
        let answer = self.wire.send(&Call::new("container", Method::HEAD, None))?;
        let state = text(&answer.headers, "x-versions-enabled").map(str::to_ascii_lowercase);
        Ok(state.map(|state| if state == "true" { "Enabled" } else { "Suspended" }.to_owned()))
    }

    fn why_no_lock(&self) -> Option<&'static str> {
        Some(NO_LOCK)
    }

    fn has_object_lock(&self) -> Result<bool, ObjectError> {
        Ok(false)
    }

    fn retention(&self, _: &str, _: Option<&str>) -> Result<Option<(String, String)>, ObjectError> {
        Ok(None)
    }

    fn set_retention(&self, _: &str, _: Option<&str>, _: &LockHeaders, _: bool) -> Result<(), ObjectError> {
        Err(no_lock())
    }

    fn ends_uploads(&self) -> Result<Option<bool>, ObjectError> {
        Ok(None)
    }
}
