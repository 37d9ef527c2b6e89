//! Uploads in parts: segments, then a manifest. No segment is in two objects: what is copied becomes a segment of its own.

use std::collections::BTreeSet;

use md5::{Digest, Md5};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Deserialize;
use ureq::http::Method;

use super::Swift;
use super::keeping::no_lock;
use super::listing::List;
use super::manifest::{kind, manifest};
use crate::objects::bucket::{Keeping, Uploads};
use crate::objects::call::{Call, Place, Repeat};
use crate::objects::error::ObjectError;
use crate::objects::facts::{CopySource, LockHeaders, Part, PartLimits, Written};
use crate::objects::path::encoded;
use crate::objects::plain::{etag, version};
use crate::shown;

/// What clusters have unless they are told otherwise.
const USUAL_MOST: u32 = 1000;
/// With more the manifest would be longer than what is read of one.
const MOST: u32 = 5000;
/// Swift takes segments from one byte on; but there are not many of them.
const LEAST_BYTES: u64 = 1 << 20;
/// Numbers that are missing in a row where parts end: no more are on their way at once.
const ON_THEIR_WAY: u32 = 4;
const ID_BYTES: usize = 16;
const UPLOADS: &str = "uploads/";

/// What a cluster says of itself.
#[derive(Default, Deserialize)]
struct Info {
    slo: Option<LargeObjects>,
}

#[derive(Deserialize)]
struct LargeObjects {
    max_manifest_segments: Option<u32>,
}

/// The name of a segment. Names of one length are listed in the order of their numbers.
fn segment(key: &str, id: &str, number: u32) -> String {
    format!("{}{number:08}", folder(key, id))
}

/// What the names of all segments of an upload begin with.
pub(super) fn folder(key: &str, id: &str) -> String {
    format!("segments/{key}/{id}/")
}

fn note(key: &str, id: &str) -> String {
    format!("{UPLOADS}{key}/{id}")
}

fn is_id(text: &str) -> bool {
    text.len() == 2 * ID_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Swift {
    pub(super) fn in_segments(method: Method, key: &str) -> Call<'_> {
        let call = Call::new("segment", method, Some(key));
        Call { place: Place::Segments, ..call }
    }

    /// Notes that an upload is under way, so that the next run finds its segments.
    pub(super) fn note_upload(&self, key: &str, id: &str) -> Result<(), ObjectError> {
        self.wire.send(&Self::in_segments(Method::PUT, &note(key, id))).map(drop)
    }

    /// Deletes an object of the container of segments; a missing one is no error. Returns whether it was there.
    fn delete_beside(&self, name: &str) -> Result<bool, ObjectError> {
        match self.wire.send(&Self::in_segments(Method::DELETE, name)) {
            Err(error) if error.status() == Some(404) => Ok(false),
            other => other.map(|_| true),
        }
    }

    fn numbers(&self, key: &str, id: &str) -> Result<BTreeSet<u32>, ObjectError> {
        let prefix = folder(key, id);
        let list = List { place: Place::Segments, prefix: &prefix, by_folder: false, with_versions: false };
        let names = list.all(&self.wire)?.into_iter().filter_map(|entry| entry.name);
        Ok(names.filter_map(|name| name[prefix.len()..].parse().ok()).collect())
    }

    /// Whether the object of this key, or a version of it, is made of the segments of this upload. No list decides that.
    fn is_used(&self, key: &str, id: &str) -> Result<bool, ObjectError> {
        let begin = format!("/{}/{}", self.segments, folder(key, id));
        let uses = |version: Option<&str>| {
            let names = kind(&self.wire, key, version)?.and_then(|kind| kind.segments).unwrap_or_default();
            Ok::<_, ObjectError>(names.iter().any(|segment| segment.name.starts_with(&begin)))
        };
        if uses(None)? {
            return Ok(true);
        }
        if self.versioning()?.is_none() {
            return Ok(false);
        }
        for version in self.object_versions(key)? {
            if version.key == key && version.etag.is_some() && uses(Some(&version.id))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The answer of the cluster about itself; asked once.
    fn most_segments(&self) -> Result<Option<u32>, ObjectError> {
        if let Some(known) = self.most_segments.get() {
            return Ok(*known);
        }
        let call = Call { place: Place::Info, ..Call::new("info", Method::GET, None) };
        let most = match self.wire.send(&call) {
            // A cluster may keep it to itself.
            Err(error) if matches!(error.status(), Some(401 | 403 | 404 | 405)) => None,
            Err(error) => return Err(error),
            Ok(answer) => {
                let info: Info = serde_json::from_slice(&answer.body)
                    .map_err(|error| self.wire.not_understood(&call, shown::text(&error.to_string())))?;
                let Some(slo) = info.slo else {
                    let why = "the cluster has no static large objects (slo), which archives need";
                    return Err(self.wire.not_understood(&call, why));
                };
                slo.max_manifest_segments
            }
        };
        Ok(*self.most_segments.get_or_init(|| most))
    }
}

impl Uploads for Swift {
    fn part_limits(&self) -> Result<PartLimits, ObjectError> {
        let most = self.most_segments()?.unwrap_or(USUAL_MOST).min(MOST);
        Ok(PartLimits { most, least_bytes: LEAST_BYTES })
    }

    fn known_most_parts(&self) -> Result<Option<u32>, ObjectError> {
        Ok(Some(self.part_limits()?.most))
    }

    fn begin_upload(&self, key: &str, lock: Option<&LockHeaders>) -> Result<String, ObjectError> {
        if lock.is_some() {
            return Err(no_lock());
        }
        let mut id = [0_u8; ID_BYTES];
        getrandom(&mut id, GetRandomFlags::empty()).map_err(|error| ObjectError::Settings {
            place: "this host".to_owned(),
            what: format!("it has no random bytes for the name of an upload: {error}"),
        })?;
        let id = shown::hex(&id);
        self.note_upload(key, &id)?;
        Ok(id)
    }

    fn put_part(&self, key: &str, id: &str, number: u32, bytes: &[u8]) -> Result<Part, ObjectError> {
        let name = segment(key, id, number);
        let call = Self::in_segments(Method::PUT, &name).body(bytes);
        let answer = self.wire.send(&call)?;
        let etag = etag(&answer.headers);
        if etag != shown::hex(&Md5::digest(bytes)) {
            return Err(self.wire.not_understood(&call, "its ETag is not the MD5 of what was sent"));
        }
        Ok(Part { number, etag, len: bytes.len() as u64 })
    }

    fn copy_part(&self, key: &str, id: &str, number: u32, source: &CopySource<'_>) -> Result<Part, ObjectError> {
        let name = segment(key, id, number);
        let call = Self::in_segments(Method::PUT, &name)
            .header("x-copy-from", format!("{}/{}", encoded(&self.wire.address().bucket), encoded(source.key)))
            .header("x-fresh-metadata", "true")
            .header("if-match", format!("\"{}\"", source.etag))
            .header("range", source.range_header());
        let call = Call { copied_bytes: source.len(), ..call };
        let answer = self.wire.send(&call)?;
        let etag = etag(&answer.headers);
        if etag.is_empty() {
            return Err(self.wire.not_understood(&call, "it has no ETag"));
        }
        // That it has this length is compared when the manifest is written.
        Ok(Part { number, etag, len: source.len() })
    }

    fn complete_upload(&self, key: &str, id: &str, parts: &[Part], only_new: bool) -> Result<Written, ObjectError> {
        let (body, md5) = manifest(parts, |number| format!("/{}/{}", self.segments, segment(key, id, number)));
        let call = Call::new("complete", Method::PUT, Some(key)).query("multipart-manifest", "put").body(&body);
        let mut call = Call { md5: Some(md5), repeat: Repeat::No, ..call };
        // Swift looks at each segment before it answers.
        call.expected_bytes = parts.len() as u64 * (32 << 10);
        if only_new {
            call = call.header("if-none-match", "*");
        }
        let answer = self.wire.send(&call)?;
        let written = Written { etag: etag(&answer.headers), version: version(&self.wire, &answer.headers) };
        // If it stays, the next run sees that the object is made of these segments, and removes the note alone.
        let _ = self.delete_beside(&note(key, id));
        Ok(written)
    }

    fn abort_upload(&self, key: &str, id: &str) -> Result<(), ObjectError> {
        if !self.is_used(key, id)? {
            let listed = self.numbers(key, id)?;
            for number in listed.iter().rev() {
                self.delete_beside(&segment(key, id, *number))?;
            }
            // A list may be late: what follows the last number, or all if none is listed, is looked for by name.
            let mut missing = 0;
            for number in listed.last().copied().unwrap_or(0).saturating_add(1).. {
                missing = if self.delete_beside(&segment(key, id, number))? { 0 } else { missing + 1 };
                if missing == ON_THEIR_WAY || number > MOST {
                    break;
                }
            }
        }
        self.delete_beside(&note(key, id)).map(drop)
    }

    fn has_parts(&self, key: &str, id: &str) -> Result<bool, ObjectError> {
        let prefix = folder(key, id);
        let list = List { place: Place::Segments, prefix: &prefix, by_folder: false, with_versions: false };
        Ok(!list.first(&self.wire, 1)?.is_empty() && !self.is_used(key, id)?)
    }

    fn uploads(&self, prefix: &str) -> Result<Vec<(String, String)>, ObjectError> {
        let prefix = format!("{UPLOADS}{prefix}");
        let list = List { place: Place::Segments, prefix: &prefix, by_folder: false, with_versions: false };
        let names = match list.all(&self.wire) {
            // Without the container nothing was uploaded in parts.
            Err(error) if error.status() == Some(404) => Vec::new(),
            other => other?,
        };
        let of_name = |name: String| {
            let (key, id) = name.strip_prefix(UPLOADS)?.rsplit_once('/')?;
            is_id(id).then(|| (key.to_owned(), id.to_owned()))
        };
        Ok(names.into_iter().filter_map(|entry| entry.name).filter_map(of_name).collect())
    }
}
