//! A client of one bucket.

use std::ops::Range;
use std::time::Duration;

use super::address::{ObjectAddress, ObjectScheme};
use super::bucket::Bucket;
use super::error::ObjectError;
use super::facts::{CopySource, Found, LockHeaders, ObjectListing, ObjectVersion, Part, PartLimits, Written};
use super::limits::Limits;
use super::plain;
use super::s3::S3;
use super::settings::{Login, ObjectSettings};
#[cfg(feature = "swift")]
use super::swift::Swift;
use crate::outside::Traffic;

/// A client of one bucket. Threads may share it.
#[derive(Debug)]
pub struct ObjectClient {
    settings: ObjectSettings,
    bucket: Box<dyn Bucket>,
}

impl ObjectClient {
    /// A client of the bucket in `address`. Nothing is sent yet.
    pub fn new(address: ObjectAddress, settings: ObjectSettings, limits: Limits) -> Result<Self, ObjectError> {
        let bucket: Box<dyn Bucket> = match (address.scheme, &settings.login) {
            (ObjectScheme::S3, Login::S3(credentials)) => Box::new(S3::new(address, &settings, credentials, limits)?),
            #[cfg(feature = "swift")]
            (ObjectScheme::Swift, Login::Swift(login)) => Box::new(Swift::new(address, &settings, login, limits)?),
            _ => return Err(ObjectError::NoClient { address: address.to_string() }),
        };
        Ok(Self { settings, bucket })
    }

    /// The bucket and the prefix.
    pub fn address(&self) -> &ObjectAddress {
        self.bucket.wire().address()
    }

    /// How the store is reached.
    pub fn settings(&self) -> &ObjectSettings {
        &self.settings
    }

    /// What was sent and received so far.
    pub fn traffic(&self) -> Traffic {
        self.bucket.wire().traffic()
    }

    /// The number of requests that may have changed something.
    pub(crate) fn changes(&self) -> u64 {
        self.bucket.wire().changes()
    }

    /// The store's clock minus this host's in seconds; 0 unless the store refused a request for its time.
    pub fn skew_seconds(&self) -> i64 {
        self.bucket.wire().skew_seconds()
    }

    /// What the user has to know of the requests so far, and was not told yet.
    pub fn take_notes(&self) -> Vec<String> {
        self.bucket.wire().take_notes()
    }

    /// Writes an object; an earlier one of this key is replaced, if the store lets it. With `only_new` the store is
    /// asked to refuse that, and the request is not repeated.
    pub fn put(&self, key: &str, bytes: &[u8], only_new: bool) -> Result<Written, ObjectError> {
        self.bucket.put(key, bytes, only_new)
    }

    /// Writes an object that is of no use after this time: a store that can do it removes it then.
    pub(crate) fn put_for(&self, key: &str, bytes: &[u8], time: Duration) -> Result<Written, ObjectError> {
        self.bucket.put_for(key, bytes, time)
    }

    /// Writes an object with a lock, which the bucket has to support.
    pub fn put_locked(&self, key: &str, bytes: &[u8], lock: &LockHeaders) -> Result<Written, ObjectError> {
        self.bucket.put_locked(key, bytes, lock)
    }

    /// Writes an object with an MD5 that may be wrong, to see whether the store compares it.
    pub(crate) fn put_with_md5(&self, key: &str, bytes: &[u8], md5: [u8; 16]) -> Result<Written, ObjectError> {
        plain::put_with_md5(self.bucket.wire(), key, bytes, md5)
    }

    /// Facts of an object; `None` if there is none.
    pub fn head(&self, key: &str) -> Result<Option<Found>, ObjectError> {
        plain::head(self.bucket.wire(), key)
    }

    /// Reads a short object; `None` if there is none. A longer one than `limit_bytes` is an error.
    pub fn get(&self, key: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>, ObjectError> {
        plain::get(self.bucket.wire(), key, limit_bytes)
    }

    /// Reads a range, which must lie within the object.
    pub fn get_range(&self, key: &str, range: &Range<u64>) -> Result<Vec<u8>, ObjectError> {
        plain::get_range(self.bucket.wire(), key, range, None)
    }

    /// As [`Self::get_range`]; an error if the object has another ETag by now.
    pub fn get_range_of(&self, key: &str, range: &Range<u64>, etag: &str) -> Result<Vec<u8>, ObjectError> {
        plain::get_range(self.bucket.wire(), key, range, Some(etag))
    }

    /// The facts of an object, and up to `most` of its first bytes, in one request; `None` if there is none.
    pub fn get_first(&self, key: &str, most: u64) -> Result<Option<(Found, Vec<u8>)>, ObjectError> {
        plain::get_first(self.bucket.wire(), key, most)
    }

    /// Deletes an object, or one version of it; a missing one is no error.
    pub fn delete(&self, key: &str, version: Option<&str>) -> Result<(), ObjectError> {
        self.bucket.delete(key, version)
    }

    /// Whether any key begins with `prefix`.
    pub fn has_any(&self, prefix: &str) -> Result<bool, ObjectError> {
        Ok(!self.list_first(prefix, 1)?.is_empty())
    }

    /// The first keys that begin with `prefix`, at most `most` of them.
    pub fn list_first(&self, prefix: &str, most: u32) -> Result<Vec<String>, ObjectError> {
        self.bucket.list_first(prefix, most)
    }

    /// All keys that begin with `prefix`. With `by_folder` those with a further slash are not listed: their prefixes up to
    /// that slash are.
    pub fn list(&self, prefix: &str, by_folder: bool) -> Result<ObjectListing, ObjectError> {
        self.bucket.list(prefix, by_folder)
    }

    /// The parts that an upload may have; asked of the store once if that has a limit of its own.
    pub fn part_limits(&self) -> Result<PartLimits, ObjectError> {
        self.bucket.part_limits()
    }

    /// The highest number of a part if the store says it.
    pub(crate) fn known_most_parts(&self) -> Result<Option<u32>, ObjectError> {
        self.bucket.known_most_parts()
    }

    /// Begins an upload, and returns its id. If the answer is lost, an upload may be left behind.
    pub fn begin_upload(&self, key: &str) -> Result<String, ObjectError> {
        self.bucket.begin_upload(key, None)
    }

    /// As [`Self::begin_upload`], of an object with a lock.
    pub fn begin_upload_locked(&self, key: &str, lock: Option<&LockHeaders>) -> Result<String, ObjectError> {
        self.bucket.begin_upload(key, lock)
    }

    /// Sends a part.
    pub fn put_part(&self, key: &str, id: &str, number: u32, bytes: &[u8]) -> Result<Part, ObjectError> {
        self.bucket.put_part(key, id, number, bytes)
    }

    /// Makes a part of a range of another object in the bucket; no byte of it passes this host. An error of status 412 if
    /// that object has another ETag by now, in stores that heed the condition: ask for its ETag afterwards.
    pub fn copy_part(&self, key: &str, id: &str, number: u32, source: &CopySource<'_>) -> Result<Part, ObjectError> {
        self.bucket.copy_part(key, id, number, source)
    }

    /// Completes an upload. With `only_new` the store is asked to refuse to replace an object.
    ///
    /// The request is not repeated: after a lost answer, look whether the object is there with its length.
    pub fn complete_upload(&self, key: &str, id: &str, parts: &[Part], only_new: bool) -> Result<Written, ObjectError> {
        self.bucket.complete_upload(key, id, parts, only_new)
    }

    /// Aborts an upload; a missing one is no error. Parts that are on their way may still arrive: see [`Self::has_parts`].
    pub fn abort_upload(&self, key: &str, id: &str) -> Result<(), ObjectError> {
        self.bucket.abort_upload(key, id)
    }

    /// Whether an upload still holds parts.
    pub fn has_parts(&self, key: &str, id: &str) -> Result<bool, ObjectError> {
        self.bucket.has_parts(key, id)
    }

    /// The uploads under way of keys that begin with `prefix`: each with its key and its id.
    pub fn uploads(&self, prefix: &str) -> Result<Vec<(String, String)>, ObjectError> {
        self.bucket.uploads(prefix)
    }

    /// The versions and markers of all keys that begin with `prefix`.
    pub fn object_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, ObjectError> {
        self.bucket.object_versions(prefix)
    }

    /// What is wrong with the parts of an object, where these are objects that can be changed by themselves.
    pub(crate) fn wrong_parts(&self, key: &str) -> Result<Vec<String>, ObjectError> {
        self.bucket.wrong_parts(key)
    }

    /// Whether the bucket keeps versions: `Enabled`, `Suspended`, or `None` if it never did.
    pub fn versioning(&self) -> Result<Option<String>, ObjectError> {
        self.bucket.versioning()
    }

    /// Why no bucket of this API has an object lock; `None` if one may have it.
    pub fn why_no_lock(&self) -> Option<&'static str> {
        self.bucket.why_no_lock()
    }

    /// Whether the bucket was made with object lock.
    pub fn has_object_lock(&self) -> Result<bool, ObjectError> {
        self.bucket.has_object_lock()
    }

    /// The retention of an object's version: its mode, and until when. `None` if it has none.
    pub fn retention(&self, key: &str, version: Option<&str>) -> Result<Option<(String, String)>, ObjectError> {
        self.bucket.retention(key, version)
    }

    /// Sets the retention of a version. To end a lock earlier, credentials need a right of their own, and a store of its own
    /// to heed it.
    pub fn set_retention(&self, key: &str, version: Option<&str>, lock: &LockHeaders) -> Result<(), ObjectError> {
        self.bucket.set_retention(key, version, lock, true)
    }

    /// Locks the current version of an object, which was written before.
    pub fn lock_written(&self, key: &str, lock: &LockHeaders) -> Result<(), ObjectError> {
        self.bucket.set_retention(key, None, lock, false)
    }

    /// Whether a rule of the bucket ends uploads that were not completed; `None` if the API has no such rules.
    pub fn ends_uploads(&self) -> Result<Option<bool>, ObjectError> {
        self.bucket.ends_uploads()
    }
}
