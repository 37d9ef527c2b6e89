//! Facts of a bucket: versions, object lock, the rule that ends uploads.

use ureq::http::Method;

use super::answers::{children, text_of, understood};
use super::call::Call;
use super::client::ObjectClient;
use super::error::ObjectError;

impl ObjectClient {
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
