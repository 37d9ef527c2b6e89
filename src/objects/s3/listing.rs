//! Lists of objects, in pages of at most 1000 keys.

use std::borrow::Cow;

use ureq::http::Method;

use super::S3;
use super::answers::{children, needed, text_of, understood};
use crate::objects::bucket::Lists;
use crate::objects::call::Call;
use crate::objects::error::ObjectError;
use crate::objects::facts::{ListedObject, ObjectListing};
use crate::objects::plain::is_cold;

/// More pages than any honest store has below one prefix.
const MOST_PAGES: usize = 20_000;
const MOST_KEYS: usize = 2_000_000;

struct Page {
    listing: ObjectListing,
    next: Option<String>,
}

impl Lists for S3 {
    /// The first keys that begin with `prefix`, at most `most` of them.
    fn list_first(&self, prefix: &str, most: u32) -> Result<Vec<String>, ObjectError> {
        let call = Call::new("ListObjectsV2", Method::GET, None)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("max-keys", most.to_string())
            .query("prefix", prefix);
        let page = page(&self.wire.send(&call)?.body, prefix).map_err(|why| self.wire.not_understood(&call, why))?;
        Ok(page.listing.objects.into_iter().map(|object| object.key).collect())
    }

    /// All keys that begin with `prefix`. With `by_folder` those with a further slash are not listed: their prefixes up to
    /// that slash are.
    fn list(&self, prefix: &str, by_folder: bool) -> Result<ObjectListing, ObjectError> {
        let mut all = ObjectListing::default();
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut call = Call::new("ListObjectsV2", Method::GET, None)
                .query("list-type", "2")
                .query("encoding-type", "url")
                .query("prefix", prefix);
            if by_folder {
                call = call.query("delimiter", "/");
            }
            if let Some(token) = &next {
                call = call.query("continuation-token", token);
            }
            let answer = self.wire.send(&call)?;
            let page = page(&answer.body, prefix).map_err(|why| self.wire.not_understood(&call, why))?;
            let endless = |why: &str| ObjectError::Endless { what: self.wire.what(&call), why: why.to_owned() };
            let (before, has) = (all.objects.last().map(|object| object.key.clone()), &page.listing);
            let goes_on = has.objects.first().is_none_or(|first| before.is_none_or(|before| first.key > before));
            if !goes_on {
                return Err(endless("a page begins before the end of the one before it"));
            }
            let is_empty = has.objects.is_empty() && has.prefixes.is_empty();
            all.objects.extend(page.listing.objects);
            all.prefixes.extend(page.listing.prefixes);
            if all.objects.len() + all.prefixes.len() > MOST_KEYS {
                return Err(endless("it has more than 2,000,000 keys"));
            }
            match page.next {
                None => {
                    all.prefixes.dedup();
                    return Ok(all);
                }
                Some(token) if Some(&token) == next.as_ref() || is_empty => {
                    return Err(endless("a page leads back to itself, or has nothing and leads to another one"));
                }
                token => next = token,
            }
        }
        Err(ObjectError::Endless {
            what: format!("ListObjectsV2 {}", self.wire.address().bucket_address()),
            why: "it has too many pages".to_owned(),
        })
    }
}

fn page(body: &[u8], prefix: &str) -> Result<Page, String> {
    understood(body, "ListBucketResult", |root| {
        let is_encoded = text_of(root, "EncodingType").is_some_and(|encoding| encoding == "url");
        let decoded = |text: String| if is_encoded { decode(&text) } else { Ok(text) };
        let mut listing = ObjectListing::default();
        for one in children(root, "Contents") {
            // Spaces at the ends belong to a key.
            let key = children(one, "Key").next().and_then(|key| key.text()).ok_or("an object has no Key")?;
            let key = decoded(key.to_owned())?;
            let len = needed(one, "Size")?.parse().map_err(|_| "a Size is no number".to_owned())?;
            let etag = text_of(one, "ETag").unwrap_or_default().trim_matches('"').to_owned();
            let is_cold = text_of(one, "StorageClass").is_some_and(|class| is_cold(&class));
            listing.objects.push(ListedObject { key, len, etag, is_cold });
        }
        for one in children(root, "CommonPrefixes") {
            listing.prefixes.push(decoded(needed(one, "Prefix")?)?);
        }
        let names = listing.objects.iter().map(|object| &object.key).chain(&listing.prefixes);
        if names.into_iter().any(|name| !name.starts_with(prefix)) {
            return Err("a key does not begin with the prefix that was asked for".to_owned());
        }
        let is_cut = text_of(root, "IsTruncated").is_some_and(|is| is == "true");
        let next = text_of(root, "NextContinuationToken").filter(|token| !token.is_empty());
        match (is_cut, next) {
            (true, None) => Err("it is cut off, and has no NextContinuationToken".to_owned()),
            (is_cut, next) => Ok(Page { listing, next: next.filter(|_| is_cut) }),
        }
    })
}

/// Undoes the encoding of `encoding-type=url`.
fn decode(text: &str) -> Result<String, String> {
    let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    let mut bytes = Vec::with_capacity(spaced.len());
    let mut left = spaced.as_bytes();
    while let Some((&byte, rest)) = left.split_first() {
        left = rest;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = left.get(..2).and_then(|digits| str::from_utf8(digits).ok()).ok_or("a key is encoded wrongly")?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| "a key is encoded wrongly")?);
        left = &left[2..];
    }
    String::from_utf8(bytes).map_err(|_| "a key is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{decode, page};

    #[test]
    fn a_page_has_objects_folders_and_a_next_one() {
        let body = br#"<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
            <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t/1=</NextContinuationToken>
            <Contents><Key>h/a%20b</Key><Size>5</Size></Contents><CommonPrefixes><Prefix>h/c/</Prefix></CommonPrefixes>
            </ListBucketResult>"#;
        let found = page(body, "h/").unwrap();
        assert_eq!(found.listing.objects[0].key, "h/a b");
        assert_eq!((found.listing.objects[0].len, found.listing.prefixes[0].as_str()), (5, "h/c/"));
        assert_eq!(found.next.as_deref(), Some("t/1="));
        assert!(page(body, "other/").is_err());
        let cut = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
        assert!(page(cut, "").is_err());
    }

    #[test]
    fn keys_are_decoded() {
        assert_eq!(decode("a+b%2Bc%C3%BC").unwrap(), "a b+c\u{fc}");
        for wrong in ["%", "%4", "%zz", "%ff"] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }
}
