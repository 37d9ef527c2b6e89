//! The address of a destination in an object store: `s3://BUCKET/PREFIX`.

use std::fmt;

use super::error::ObjectError;

const SCHEME: &str = "s3://";
/// Keys may have 1024 bytes (Amazon S3 User Guide, "Naming objects"); names of volumes and files come after the prefix.
const LONGEST_PREFIX: usize = 512;

/// A bucket, and a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectAddress {
    /// The bucket.
    pub bucket: String,
    /// The prefix without a slash at its begin or end; empty for the whole bucket.
    pub prefix: String,
}

impl ObjectAddress {
    /// Whether `text` is meant as such an address.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Reads `s3://BUCKET/PREFIX`. A slash at the end is dropped.
    pub fn parse(text: &str) -> Result<Self, ObjectError> {
        let wrong = |what: &str| ObjectError::Address { text: text.to_owned(), what: what.to_owned() };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| wrong("it does not begin with s3://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_name = (3..=63).contains(&bucket.len())
            && bucket.chars().all(allowed)
            && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !bucket.contains("..");
        if !is_name {
            return Err(wrong("the bucket's name has 3 to 63 letters, digits, and . _ - inside"));
        }
        let prefix = match prefix.strip_suffix('/') {
            Some("") => return Err(wrong("a part of the prefix is empty")),
            Some(without_slash) => without_slash,
            None => prefix,
        };
        if prefix.len() > LONGEST_PREFIX {
            return Err(wrong("the prefix has more than 512 bytes"));
        }
        let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
        if !prefix.is_empty() && !prefix.split('/').all(is_part) {
            return Err(wrong("a part of the prefix is empty, `.` or `..`, or has a control character"));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The key of `name` below the prefix. `name` may have slashes.
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }
}

impl fmt::Display for ObjectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::{ObjectAddress, ObjectError};

    #[test]
    fn a_bucket_and_a_prefix() {
        for (text, bucket, prefix, key) in [
            ("s3://backups", "backups", "", "a/b"),
            ("s3://backups/", "backups", "", "a/b"),
            ("s3://b-1.x/host-1", "b-1.x", "host-1", "host-1/a/b"),
            ("s3://b-1/host 1/über/", "b-1", "host 1/über", "host 1/über/a/b"),
        ] {
            let address = ObjectAddress::parse(text).unwrap();
            assert_eq!((address.bucket.as_str(), address.prefix.as_str()), (bucket, prefix));
            assert_eq!(address.key("a/b"), key);
            assert_eq!(address.to_string(), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn addresses_that_lead_elsewhere_are_refused() {
        let long = format!("s3://bucket/{}", "x".repeat(513));
        for text in [
            "",
            "s3:/b",
            "http://bucket/x",
            "s3://",
            "s3://ab",
            "s3:///x",
            "s3://-bucket",
            "s3://a..b",
            "s3://user:pass@host",
            "s3://bucket/../other",
            "s3://bucket/a//b",
            "s3://bucket/./a",
            "s3://bucket//",
            "s3://bucket/a\nb",
            &long,
        ] {
            let error = ObjectAddress::parse(text).unwrap_err();
            assert!(matches!(error, ObjectError::Address { .. }), "{text}: {error}");
        }
    }
}
