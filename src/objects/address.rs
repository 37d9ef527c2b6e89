//! The address of a destination in an object store: `s3://BUCKET/PREFIX`, or `swift://CONTAINER/PREFIX`.

use std::fmt;

use super::error::ObjectError;

/// Keys may have 1024 bytes (Amazon S3 User Guide, "Naming objects"); names of volumes and files come after the prefix.
const LONGEST_PREFIX: usize = 512;

/// The API that a store is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectScheme {
    /// `s3://`
    S3,
    /// `swift://`: OpenStack Swift, natively.
    Swift,
}

impl ObjectScheme {
    const ALL: [Self; 2] = [Self::S3, Self::Swift];

    /// What addresses of it begin with.
    pub fn text(self) -> &'static str {
        match self {
            Self::S3 => "s3://",
            Self::Swift => "swift://",
        }
    }
}

/// A bucket, and a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectAddress {
    /// The API.
    pub scheme: ObjectScheme,
    /// The bucket, which Swift calls a container.
    pub bucket: String,
    /// The prefix without a slash at its begin or end; empty for the whole bucket.
    pub prefix: String,
}

impl ObjectAddress {
    /// Whether `text` is meant as such an address.
    pub fn is_meant(text: &str) -> bool {
        ObjectScheme::ALL.iter().any(|scheme| text.starts_with(scheme.text()))
    }

    /// Reads `s3://BUCKET/PREFIX` or `swift://CONTAINER/PREFIX`. A slash at the end is dropped.
    pub fn parse(text: &str) -> Result<Self, ObjectError> {
        let wrong = |what: &str| ObjectError::Address { text: text.to_owned(), what: what.to_owned() };
        let split = |scheme: ObjectScheme| Some((scheme, text.strip_prefix(scheme.text())?));
        let (scheme, rest) = ObjectScheme::ALL
            .into_iter()
            .find_map(split)
            .ok_or_else(|| wrong("it does not begin with s3:// or swift://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        match scheme {
            ObjectScheme::S3 if !is_bucket(bucket) => {
                return Err(wrong("the bucket's name has 3 to 63 letters, digits, and . _ - inside"));
            }
            ObjectScheme::Swift if !is_container(bucket) => {
                return Err(wrong(
                    "the container's name has up to 240 bytes: letters, digits, spaces, and . _ - + inside",
                ));
            }
            _ => {}
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
        Ok(Self { scheme, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The address of the whole bucket.
    pub(super) fn bucket_address(&self) -> String {
        format!("{}{}", self.scheme.text(), self.bucket)
    }

    /// The key of `name` below the prefix. `name` may have slashes.
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }
}

impl fmt::Display for ObjectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.bucket_address())?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

fn is_bucket(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (3..=63).contains(&name.len())
        && name.chars().all(is_allowed)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.contains("..")
}

/// Names of containers have up to 256 bytes, and another one's is longer by `_segments`.
fn is_container(name: &str) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || "._-+ ".contains(c);
    (1..=240).contains(&name.len())
        && name.chars().all(is_allowed)
        && name.starts_with(char::is_alphanumeric)
        && name.trim_end() == name
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
            ("swift://Sicherung ü/host-1/", "Sicherung ü", "host-1", "host-1/a/b"),
            ("swift://b", "b", "", "a/b"),
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
            "swift://",
            "swift:///x",
            "swift://user:pass@host",
            "swift://a?b",
            "swift://a%2fb",
            "swift://..",
            "swift://a /b",
            "swift://b/../x",
            &long,
        ] {
            let error = ObjectAddress::parse(text).unwrap_err();
            assert!(matches!(error, ObjectError::Address { .. }), "{text}: {error}");
        }
    }
}
