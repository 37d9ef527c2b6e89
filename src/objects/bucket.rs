//! Facts of a bucket: versions, object lock, the rule that ends uploads.

use chrono::{DateTime, SecondsFormat, Utc};
use ureq::http::Method;

use super::answers::{children, needed, text_of, understood};
use super::call::Call;
use super::client::ObjectClient;
use super::error::ObjectError;
use super::pages::Pages;

/// The lock of an object that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHeaders {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: &'static str,
    /// Its end.
    pub until: DateTime<Utc>,
}

impl LockHeaders {
    pub(super) fn on<'a>(&self, call: Call<'a>) -> Call<'a> {
        let until = self.until.to_rfc3339_opts(SecondsFormat::Secs, true);
        call.header("x-amz-object-lock-mode", self.mode).header("x-amz-object-lock-retain-until-date", until)
    }
}

/// A version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// Its key.
    pub key: String,
    /// Its id.
    pub id: String,
    /// Its ETag without quotes; `None` for a marker, which says that the object was deleted.
    pub etag: Option<String>,
    /// Whether it is what a reader of the key gets.
    pub is_latest: bool,
}

impl ObjectClient {
    /// The versions and markers of all keys that begin with `prefix`.
    pub fn object_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, ObjectError> {
        let pages = Pages {
            name: "ListObjectVersions",
            asked: "versions",
            root: "ListVersionsResult",
            id_marker: "version-id-marker",
            next_id: "NextVersionIdMarker",
        };
        let mut all = Vec::new();
        self.by_two_markers(&pages, prefix, |root| {
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
    pub fn versioning(&self) -> Result<Option<String>, ObjectError> {
        let call = Call::new("GetBucketVersioning", Method::GET, None).query("versioning", "");
        let answer = self.send(&call)?;
        let status = understood(&answer.body, "VersioningConfiguration", |root| Ok(text_of(root, "Status")));
        Ok(status.map_err(|why| self.not_understood(&call, why))?.filter(|status| !status.is_empty()))
    }

    /// Whether the bucket was made with object lock.
    pub fn has_object_lock(&self) -> Result<bool, ObjectError> {
        let call = Call::new("GetObjectLockConfiguration", Method::GET, None).query("object-lock", "");
        match self.send(&call) {
            Err(error) if error.code() == Some("ObjectLockConfigurationNotFoundError") => Ok(false),
            Err(error) => Err(error),
            Ok(answer) => understood(&answer.body, "ObjectLockConfiguration", |root| {
                Ok(text_of(root, "ObjectLockEnabled").is_some_and(|is| is == "Enabled"))
            })
            .map_err(|why| self.not_understood(&call, why)),
        }
    }

    /// The retention of an object's version: its mode, and until when. `None` if it has none.
    pub fn retention(&self, key: &str, version: Option<&str>) -> Result<Option<(String, String)>, ObjectError> {
        let mut call = Call::new("GetObjectRetention", Method::GET, Some(key)).query("retention", "");
        if let Some(version) = version {
            call = call.query("versionId", version);
        }
        match self.send(&call) {
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => understood(&answer.body, "Retention", |root| {
                Ok(text_of(root, "Mode").zip(text_of(root, "RetainUntilDate")))
            })
            .map_err(|why| self.not_understood(&call, why)),
        }
    }

    /// Sets the retention of a version. To end a lock earlier, credentials need a right of their own, and a store of its own
    /// to heed it.
    pub fn set_retention(&self, key: &str, version: Option<&str>, lock: &LockHeaders) -> Result<(), ObjectError> {
        let until = lock.until.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mode = lock.mode;
        let body = format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>");
        let mut call = Call::new("PutObjectRetention", Method::PUT, Some(key)).query("retention", "");
        if let Some(version) = version {
            call = call.query("versionId", version);
        }
        let call = call.body(body.as_bytes()).header("x-amz-bypass-governance-retention", "true");
        self.send(&call).map(drop)
    }

    /// Whether a rule of the bucket ends uploads that were not completed.
    pub fn ends_uploads(&self) -> Result<bool, ObjectError> {
        let call = Call::new("GetBucketLifecycleConfiguration", Method::GET, None).query("lifecycle", "");
        match self.send(&call) {
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Ok(false),
            Err(error) => Err(error),
            Ok(answer) => understood(&answer.body, "LifecycleConfiguration", |root| {
                Ok(children(root, "Rule").any(|rule| {
                    let is_on = text_of(rule, "Status").is_some_and(|is| is == "Enabled");
                    is_on && children(rule, "AbortIncompleteMultipartUpload").next().is_some()
                }))
            })
            .map_err(|why| self.not_understood(&call, why)),
        }
    }
}
