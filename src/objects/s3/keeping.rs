//! Facts of a bucket: versions, object lock, the rule that ends uploads.

use chrono::SecondsFormat;
use ureq::http::Method;

use super::S3;
use super::answers::{children, needed, text_of, understood};
use super::pages::{Pages, by_two_markers};
use crate::objects::bucket::Keeping;
use crate::objects::call::Call;
use crate::objects::error::ObjectError;
use crate::objects::facts::{LockHeaders, ObjectVersion, Written};
use crate::objects::plain::{self, written};

/// The request of an object with a lock.
pub(super) fn locked<'a>(call: Call<'a>, lock: &LockHeaders) -> Call<'a> {
    let until = lock.until.to_rfc3339_opts(SecondsFormat::Secs, true);
    call.header("x-amz-object-lock-mode", lock.mode).header("x-amz-object-lock-retain-until-date", until)
}

impl Keeping for S3 {
    fn put(&self, key: &str, bytes: &[u8], only_new: bool) -> Result<Written, ObjectError> {
        plain::put(&self.wire, key, bytes, only_new)
    }

    fn put_locked(&self, key: &str, bytes: &[u8], lock: &LockHeaders) -> Result<Written, ObjectError> {
        written(&self.wire, &locked(Call::new("PutObject", Method::PUT, Some(key)).body(bytes), lock))
    }

    fn delete(&self, key: &str, version: Option<&str>) -> Result<(), ObjectError> {
        let call = Call::new("DeleteObject", Method::DELETE, Some(key));
        let call = match version {
            Some(version) => call.query("versionId", version),
            None => call,
        };
        match self.wire.send(&call) {
            Err(error) if error.status() == Some(404) && error.code() != Some("NoSuchBucket") => Ok(()),
            other => other.map(drop),
        }
    }

    /// The versions and markers of all keys that begin with `prefix`.
    fn object_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, ObjectError> {
        let pages = Pages {
            name: "ListObjectVersions",
            asked: "versions",
            root: "ListVersionsResult",
            id_marker: "version-id-marker",
            next_id: "NextVersionIdMarker",
        };
        let mut all = Vec::new();
        by_two_markers(&self.wire, &pages, prefix, |root| {
            let before = all.len();
            for name in ["Version", "DeleteMarker"] {
                for one in children(root, name) {
                    let etag = text_of(one, "ETag").map(|etag| etag.trim_matches('"').to_owned());
                    let (key, id) = (needed(one, "Key")?, needed(one, "VersionId")?);
                    if key.starts_with(prefix) {
                        let etag = (name == "Version").then(|| etag.unwrap_or_default());
                        let is_latest = text_of(one, "IsLatest").is_some_and(|is| is == "true");
                        all.push(ObjectVersion { key, id, etag, is_latest });
                    }
                }
            }
            Ok(all.len() > before)
        })?;
        Ok(all)
    }

    /// Whether the bucket keeps versions: `Enabled`, `Suspended`, or `None` if it never did.
    fn versioning(&self) -> Result<Option<String>, ObjectError> {
        let call = Call::new("GetBucketVersioning", Method::GET, None).query("versioning", "");
        let answer = self.wire.send(&call)?;
        let status = understood(&answer.body, "VersioningConfiguration", |root| Ok(text_of(root, "Status")));
        Ok(status.map_err(|why| self.wire.not_understood(&call, why))?.filter(|status| !status.is_empty()))
    }

    /// Whether the bucket was made with object lock.
    fn has_object_lock(&self) -> Result<bool, ObjectError> {
        let call = Call::new("GetObjectLockConfiguration", Method::GET, None).query("object-lock", "");
        match self.wire.send(&call) {
            Err(error) if error.code() == Some("ObjectLockConfigurationNotFoundError") => Ok(false),
            Err(error) => Err(error),
            Ok(answer) => understood(&answer.body, "ObjectLockConfiguration", |root| {
                Ok(text_of(root, "ObjectLockEnabled").is_some_and(|is| is == "Enabled"))
            })
            .map_err(|why| self.wire.not_understood(&call, why)),
        }
    }

    /// The retention of an object's version: its mode, and until when. `None` if it has none.
    fn retention(&self, key: &str, version: Option<&str>) -> Result<Option<(String, String)>, ObjectError> {
        let mut call = Call::new("GetObjectRetention", Method::GET, Some(key)).query("retention", "");
        if let Some(version) = version {
            call = call.query("versionId", version);
        }
        match self.wire.send(&call) {
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => understood(&answer.body, "Retention", |root| {
                Ok(text_of(root, "Mode").zip(text_of(root, "RetainUntilDate")))
            })
            .map_err(|why| self.wire.not_understood(&call, why)),
        }
    }

    /// Sets the retention of a version. To end a lock earlier, credentials need a right of their own, and a store of its own
    /// to heed it.
    fn set_retention(
        &self,
        key: &str,
        version: Option<&str>,
        lock: &LockHeaders,
        may_shorten: bool,
    ) -> Result<(), ObjectError> {
        let until = lock.until.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mode = lock.mode;
        let body = format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>");
        let mut call = Call::new("PutObjectRetention", Method::PUT, Some(key)).query("retention", "");
        if let Some(version) = version {
            call = call.query("versionId", version);
        }
        let mut call = call.body(body.as_bytes());
        if may_shorten {
            call = call.header("x-amz-bypass-governance-retention", "true");
        }
        self.wire.send(&call).map(drop)
    }

    /// Whether a rule of the bucket ends uploads that were not completed.
    fn ends_uploads(&self) -> Result<Option<bool>, ObjectError> {
        let call = Call::new("GetBucketLifecycleConfiguration", Method::GET, None).query("lifecycle", "");
        match self.wire.send(&call) {
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Ok(Some(false)),
            Err(error) => Err(error),
            Ok(answer) => understood(&answer.body, "LifecycleConfiguration", |root| {
                Ok(Some(children(root, "Rule").any(|rule| {
                    let is_on = text_of(rule, "Status").is_some_and(|is| is == "Enabled");
                    is_on && children(rule, "AbortIncompleteMultipartUpload").next().is_some()
                })))
            })
            .map_err(|why| self.wire.not_understood(&call, why)),
        }
    }
}
