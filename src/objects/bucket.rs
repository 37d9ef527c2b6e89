//! What a client asks of a bucket, whatever its API: the narrow place between the store and the APIs. Objects are put and
//! read alike in all of them (`plain`); the rest is an implementation for each.

use std::fmt::Debug;
use std::time::Duration;

use super::error::ObjectError;
use super::facts::{CopySource, LockHeaders, ObjectListing, ObjectVersion, Part, PartLimits, Written};
use super::wire::Wire;

/// A bucket.
pub(super) trait Bucket: Lists + Uploads + Keeping + Debug + Send + Sync {
    fn wire(&self) -> &Wire;
}

/// Names of objects.
pub(super) trait Lists {
    /// The first keys that begin with `prefix`, at most `most` of them.
    fn list_first(&self, prefix: &str, most: u32) -> Result<Vec<String>, ObjectError>;

    /// All keys that begin with `prefix`; with `by_folder` without those below a further slash.
    fn list(&self, prefix: &str, by_folder: bool) -> Result<ObjectListing, ObjectError>;
}

/// Uploads in parts. An upload that is not completed shows no object.
pub(super) trait Uploads {
    fn part_limits(&self) -> Result<PartLimits, ObjectError>;

    /// The highest number of a part if the store says it; otherwise it can be found by trying.
    fn known_most_parts(&self) -> Result<Option<u32>, ObjectError> {
        Ok(None)
    }

    fn begin_upload(&self, key: &str, lock: Option<&LockHeaders>) -> Result<String, ObjectError>;

    fn put_part(&self, key: &str, id: &str, number: u32, bytes: &[u8]) -> Result<Part, ObjectError>;

    fn copy_part(&self, key: &str, id: &str, number: u32, source: &CopySource<'_>) -> Result<Part, ObjectError>;

    fn complete_upload(&self, key: &str, id: &str, parts: &[Part], only_new: bool) -> Result<Written, ObjectError>;

    fn abort_upload(&self, key: &str, id: &str) -> Result<(), ObjectError>;

    fn has_parts(&self, key: &str, id: &str) -> Result<bool, ObjectError>;

    fn uploads(&self, prefix: &str) -> Result<Vec<(String, String)>, ObjectError>;
}

/// What keeps objects, and what removes them.
pub(super) trait Keeping {
    fn put(&self, key: &str, bytes: &[u8], only_new: bool) -> Result<Written, ObjectError>;

    /// Writes an object that the store may remove after this time.
    fn put_for(&self, key: &str, bytes: &[u8], _time: Duration) -> Result<Written, ObjectError> {
        self.put(key, bytes, false)
    }

    fn put_locked(&self, key: &str, bytes: &[u8], lock: &LockHeaders) -> Result<Written, ObjectError>;

    fn delete(&self, key: &str, version: Option<&str>) -> Result<(), ObjectError>;

    fn object_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, ObjectError>;

    /// What is wrong with the parts of an object, where these are objects that can be changed by themselves.
    fn wrong_parts(&self, _key: &str) -> Result<Vec<String>, ObjectError> {
        Ok(Vec::new())
    }

    fn versioning(&self) -> Result<Option<String>, ObjectError>;

    /// Why no bucket of this API has an object lock; `None` if one may have it.
    fn why_no_lock(&self) -> Option<&'static str> {
        None
    }

    fn has_object_lock(&self) -> Result<bool, ObjectError>;

    fn retention(&self, key: &str, version: Option<&str>) -> Result<Option<(String, String)>, ObjectError>;

    /// Sets the retention of a version. Only with `may_shorten` a lock that is there may end earlier.
    fn set_retention(
        &self,
        key: &str,
        version: Option<&str>,
        lock: &LockHeaders,
        may_shorten: bool,
    ) -> Result<(), ObjectError>;

    /// Whether the bucket has a rule that ends uploads; `None` if the API has no such rules.
    fn ends_uploads(&self) -> Result<Option<bool>, ObjectError>;
}
