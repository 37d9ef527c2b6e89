//! Manifests of static large objects.

use std::fmt::Write;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use crate::objects::call::Call;
use crate::objects::error::ObjectError;
use crate::objects::facts::Part;
use crate::objects::plain::text;
use crate::objects::wire::Wire;

/// A segment as it is given to Swift.
#[derive(Serialize)]
struct Given<'a> {
    path: String,
    etag: &'a str,
    size_bytes: u64,
}

/// A segment as a manifest has it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    /// `/CONTAINER/NAME`.
    pub(super) name: String,
    #[serde(default)]
    pub(super) hash: String,
    #[serde(default)]
    pub(super) bytes: u64,
}

/// What an object is, as far as its removal is concerned.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its segments, if it is a large object.
    pub(super) segments: Option<Vec<Listed>>,
    /// Whether its container keeps versions.
    pub(super) has_version: bool,
}

/// The body of a manifest, and the ETag that the object gets by it: the MD5 of the ETags of its segments.
pub(super) fn manifest(parts: &[Part], path: impl Fn(u32) -> String) -> (Vec<u8>, [u8; 16]) {
    let given: Vec<Given<'_>> =
        parts.iter().map(|part| Given { path: path(part.number), etag: &part.etag, size_bytes: part.len }).collect();
    let mut etags = String::new();
    for part in parts {
        // Writing to memory does not fail.
        let _ = etags.write_str(&part.etag);
    }
    (serde_json::to_vec(&given).unwrap_or_default(), Md5::digest(etags.as_bytes()).into())
}

/// Looks at an object, or a version of it, in all places that have it; `None` if there is none.
pub(super) fn kind(wire: &Wire, key: &str, version: Option<&str>) -> Result<Option<Kind>, ObjectError> {
    let of_version = |call: Call<'static>| match version {
        Some(version) => call.query("version-id", version),
        None => call,
    };
    // What a late replica says of an object that was just written counts less than what the others say.
    let newest = |method| of_version(Call::new("look", method, None)).header("x-newest", "true");
    let call = Call { key: Some(key), ..newest(Method::HEAD) };
    let answer = match wire.send(&call) {
        Err(error) if error.status() == Some(404) => return Ok(None),
        other => other?,
    };
    let has_version = text(&answer.headers, wire.version_header()).is_some_and(|version| version != "null");
    let is_large = text(&answer.headers, "x-static-large-object").is_some_and(|is| is.eq_ignore_ascii_case("true"));
    if !is_large {
        return Ok(Some(Kind { segments: None, has_version }));
    }
    let call = Call { key: Some(key), ..newest(Method::GET).query("multipart-manifest", "get") };
    let answer = match wire.send(&call) {
        Err(error) if error.status() == Some(404) => return Ok(None),
        other => other?,
    };
    let listed: Vec<Listed> = serde_json::from_slice(&answer.body)
        .map_err(|error| wire.not_understood(&call, crate::shown::text(&error.to_string())))?;
    Ok(Some(Kind { segments: Some(listed), has_version }))
}

#[cfg(test)]
mod tests {
    use super::manifest;
    use crate::objects::facts::Part;

    #[test]
    fn a_manifest_names_each_segment_with_its_length_and_etag() {
        let part = |number, len| Part { number, etag: format!("{number:032x}"), len };
        let (body, etag) = manifest(&[part(1, 5), part(2, 7)], |number| format!("/c_segments/ü/{number}"));
        let text = String::from_utf8(body).unwrap();
        assert!(
            text.starts_with(r#"[{"path":"/c_segments/ü/1","etag":"00000000000000000000000000000001","size_bytes":5}"#),
            "{text}"
        );
        let both = format!("{:032x}{:032x}", 1, 2);
        assert_eq!(etag, <[u8; 16]>::from(<md5::Md5 as md5::Digest>::digest(both.as_bytes())));
    }
}
