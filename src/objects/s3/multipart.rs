//! Uploads in parts. An upload that is not completed shows no object, and is aborted later.

use std::collections::BTreeSet;

use ureq::http::Method;

use super::S3;
use super::answers::{children, needed, text_of, understood};
use super::keeping::locked;
use super::pages::{Pages, by_two_markers};
use crate::objects::bucket::Uploads;
use crate::objects::call::{Call, Repeat};
use crate::objects::error::ObjectError;
use crate::objects::facts::{CopySource, LockHeaders, Part, PartLimits, Written};
use crate::objects::path::encoded;
use crate::objects::plain::{etag, version};

impl Uploads for S3 {
    fn part_limits(&self) -> Result<PartLimits, ObjectError> {
        // The most that every store takes is Swift's number. Others are 10,000.
        Ok(PartLimits { most: 1000, least_bytes: 5 << 20 })
    }

    fn begin_upload(&self, key: &str, lock: Option<&LockHeaders>) -> Result<String, ObjectError> {
        let call = Call::new("CreateMultipartUpload", Method::POST, Some(key)).query("uploads", "");
        let call = lock.map_or(call.clone(), |lock| locked(call, lock));
        let answer = self.wire.send(&call)?;
        let id = understood(&answer.body, "InitiateMultipartUploadResult", |root| needed(root, "UploadId"));
        let id = id.map_err(|why| self.wire.not_understood(&call, why))?;
        if id.is_empty() {
            return Err(self.wire.not_understood(&call, "the UploadId is empty"));
        }
        Ok(id)
    }

    /// Sends a part.
    fn put_part(&self, key: &str, id: &str, number: u32, bytes: &[u8]) -> Result<Part, ObjectError> {
        let call = Call::new("UploadPart", Method::PUT, Some(key))
            .query("partNumber", number.to_string())
            .query("uploadId", id)
            .body(bytes);
        let answer = self.wire.send(&call)?;
        let etag = etag(&answer.headers);
        if etag.is_empty() {
            return Err(self.wire.not_understood(&call, "it has no ETag"));
        }
        Ok(Part { number, etag, len: bytes.len() as u64 })
    }

    /// Makes a part of a range of another object in the bucket; no byte of it passes this host. An error of status 412 if
    /// that object has another ETag by now, in stores that heed the condition: ask for its ETag afterwards.
    fn copy_part(&self, key: &str, id: &str, number: u32, source: &CopySource<'_>) -> Result<Part, ObjectError> {
        let call = Call::new("UploadPartCopy", Method::PUT, Some(key))
            .query("partNumber", number.to_string())
            .query("uploadId", id)
            .header("x-amz-copy-source", format!("/{}/{}", self.wire.address().bucket, encoded(source.key)))
            .header("x-amz-copy-source-range", source.range_header());
        // Swift compares the condition with another ETag than it shows, if the object was an upload in parts.
        let etag = source.etag;
        let call = if etag.contains('-') { call } else { call.header("x-amz-copy-source-if-match", etag) };
        let call = Call { copied_bytes: source.len(), ..call };
        let answer = self.wire.send(&call)?;
        let etag = understood(&answer.body, "CopyPartResult", |root| needed(root, "ETag"));
        let etag = etag.map_err(|why| self.wire.not_understood(&call, why))?.trim_matches('"').to_owned();
        Ok(Part { number, etag, len: source.len() })
    }

    /// Completes an upload. With `only_new` the store is asked to refuse to replace an object.
    ///
    /// The request is not repeated: after a lost answer, look whether the object is there with its length.
    fn complete_upload(&self, key: &str, id: &str, parts: &[Part], only_new: bool) -> Result<Written, ObjectError> {
        let mut body = String::from("<CompleteMultipartUpload>");
        for part in parts {
            let (number, etag) = (part.number, escaped(&part.etag));
            body.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag></Part>"));
        }
        body.push_str("</CompleteMultipartUpload>");
        let call = Call::new("CompleteMultipartUpload", Method::POST, Some(key)).query("uploadId", id);
        let mut call = Call { repeat: Repeat::No, ..call.body(body.as_bytes()) };
        if only_new {
            call = call.header("if-none-match", "*");
        }
        let answer = self.wire.send(&call)?;
        let etag = understood(&answer.body, "CompleteMultipartUploadResult", |root| {
            Ok(text_of(root, "ETag").unwrap_or_default().trim_matches('"').to_owned())
        });
        let etag = etag.map_err(|why| self.wire.not_understood(&call, why))?;
        Ok(Written { etag, version: version(&self.wire, &answer.headers) })
    }

    /// Aborts an upload; a missing one is no error. Parts that are on their way may still arrive: see [`Self::has_parts`].
    fn abort_upload(&self, key: &str, id: &str) -> Result<(), ObjectError> {
        let call = Call::new("AbortMultipartUpload", Method::DELETE, Some(key)).query("uploadId", id);
        match self.wire.send(&call) {
            Err(error) if error.code() == Some("NoSuchUpload") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Whether an upload still holds parts.
    fn has_parts(&self, key: &str, id: &str) -> Result<bool, ObjectError> {
        let call = Call::new("ListParts", Method::GET, Some(key)).query("uploadId", id);
        match self.wire.send(&call) {
            Err(error) if error.code() == Some("NoSuchUpload") || error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
            Ok(answer) => {
                understood(&answer.body, "ListPartsResult", |root| Ok(children(root, "Part").next().is_some()))
                    .map_err(|why| self.wire.not_understood(&call, why))
            }
        }
    }

    /// The uploads under way of keys that begin with `prefix`: each with its key and its id.
    fn uploads(&self, prefix: &str) -> Result<Vec<(String, String)>, ObjectError> {
        let pages = Pages {
            name: "ListMultipartUploads",
            asked: "uploads",
            root: "ListMultipartUploadsResult",
            id_marker: "upload-id-marker",
            next_id: "NextUploadIdMarker",
        };
        let mut all = BTreeSet::new();
        by_two_markers(&self.wire, &pages, prefix, |root| {
            let before = all.len();
            for upload in children(root, "Upload") {
                let key = needed(upload, "Key")?;
                // Some stores do not heed the prefix, and the uploads of others are not ours to abort.
                if key.starts_with(prefix) {
                    all.insert((key, needed(upload, "UploadId")?));
                }
            }
            Ok(all.len() > before)
        })?;
        Ok(all.into_iter().collect())
    }
}

/// An ETag came in an answer, and goes into XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
