//! One request, before a protocol writes it.

use md5::{Digest, Md5};
use ureq::http::Method;

/// Whether a request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It has the same effect as often as it is carried out.
    Yes,
    /// A lost answer leaves open whether it was carried out.
    No,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To the bucket.
    Bucket,
    /// To the container with the segments of Swift's large objects.
    #[cfg(feature = "swift")]
    Segments,
    /// To what Swift says of itself.
    #[cfg(feature = "swift")]
    Info,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    #[cfg_attr(not(feature = "swift"), allow(dead_code, reason = "there is one place alone"))]
    pub(super) place: Place,
    /// `None` for the bucket itself.
    pub(super) key: Option<&'a str>,
    /// Sorted by name.
    pub(super) query: Vec<(&'static str, String)>,
    /// Names in lower case.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: &'a [u8],
    /// The MD5 of the body, so that the store refuses one that was damaged on the way.
    pub(super) md5: Option<[u8; 16]>,
    /// The name of the operation in the API, for messages.
    pub(super) operation: &'static str,
    pub(super) repeat: Repeat,
    /// Bytes of content that a good answer has.
    pub(super) expected_bytes: u64,
    /// Bytes that the store copies before it answers.
    pub(super) copied_bytes: u64,
}

impl<'a> Call<'a> {
    pub(super) fn new(operation: &'static str, method: Method, key: Option<&'a str>) -> Self {
        Self {
            method,
            place: Place::Bucket,
            key,
            query: Vec::new(),
            headers: Vec::new(),
            body: &[],
            md5: None,
            operation,
            repeat: Repeat::Yes,
            expected_bytes: 0,
            copied_bytes: 0,
        }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self.query.sort();
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self.headers.sort();
        self
    }

    /// With a body and its MD5.
    pub(super) fn body(self, body: &'a [u8]) -> Self {
        Self { body, md5: Some(Md5::digest(body).into()), ..self }
    }
}
