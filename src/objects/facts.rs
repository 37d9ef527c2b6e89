//! What a client says of objects.

use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// An object that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its ETag without quotes; may be empty.
    pub etag: String,
    /// Its version, in a bucket with versions.
    pub version: Option<String>,
}

/// Facts of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its length.
    pub len: u64,
    /// Its ETag without quotes; may be empty.
    pub etag: String,
    /// Its version, in a bucket with versions.
    pub version: Option<String>,
    /// Until when it is locked, as the store writes it.
    pub locked_until: Option<String>,
    /// How long ago it was written, both times by the store's clock; `None` if the answer does not say.
    pub age: Option<Duration>,
    /// Whether it has to be restored from an archive tier before it can be read or copied.
    pub is_cold: bool,
}

/// What lies below a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectListing {
    /// The objects.
    pub objects: Vec<ListedObject>,
    /// With a delimiter: the prefixes that end in it.
    pub prefixes: Vec<String>,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its length.
    pub len: u64,
    /// Its ETag without quotes; empty if the store does not list it.
    pub etag: String,
    /// Whether it has to be restored from an archive tier before it can be read or copied.
    pub is_cold: bool,
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

/// A part that the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1 on.
    pub number: u32,
    /// Its ETag without quotes.
    pub etag: String,
    /// Its length.
    pub len: u64,
}

/// What a part is copied from: a range of another object.
#[derive(Clone, Debug)]
pub struct CopySource<'a> {
    /// The object's key in the same bucket.
    pub key: &'a str,
    /// The object's ETag without quotes.
    pub etag: &'a str,
    /// The bytes.
    pub range: Range<u64>,
}

impl CopySource<'_> {
    /// How many bytes.
    pub(super) fn len(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// The value of `Range` and of `x-amz-copy-source-range` (RFC 9110, section 14.1.2).
    pub(super) fn range_header(&self) -> String {
        format!("bytes={}-{}", self.range.start, self.range.end.saturating_sub(1))
    }
}

/// The parts of one upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLimits {
    /// How many there are at most.
    pub most: u32,
    /// The fewest bytes of a part that is not the last.
    pub least_bytes: u64,
}

/// The lock of an object that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHeaders {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: &'static str,
    /// Its end.
    pub until: DateTime<Utc>,
}
