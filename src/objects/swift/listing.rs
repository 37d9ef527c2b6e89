//! Lists of objects, in pages that go on behind the last name of the one before.

use serde::Deserialize;
use ureq::http::Method;

use super::Swift;
use crate::objects::bucket::Lists;
use crate::objects::call::{Call, Place};
use crate::objects::error::ObjectError;
use crate::objects::facts::{ListedObject, ObjectListing};
use crate::objects::wire::Wire;

/// Names that are asked for at once: a page of the longest ones is no longer than an answer may be. A cluster that lists
/// fewer refuses the request, so that a page with fewer is the last.
const PAGE: usize = 2000;
const MOST_PAGES: usize = 20_000;
const MOST_KEYS: usize = 2_000_000;

/// An object of a page, or a folder.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) name: Option<String>,
    subdir: Option<String>,
    #[serde(default)]
    pub(super) bytes: u64,
    #[serde(default)]
    pub(super) hash: String,
    /// The ETag of a large object; `hash` is that of its manifest.
    slo_etag: Option<String>,
    #[serde(default)]
    pub(super) content_type: String,
    pub(super) version_id: Option<String>,
    #[serde(default)]
    pub(super) is_latest: bool,
}

impl Entry {
    /// As a reader of the object sees it.
    pub(super) fn etag(&self) -> String {
        self.slo_etag.as_ref().unwrap_or(&self.hash).trim_matches('"').to_owned()
    }

    fn at(&self) -> Option<&str> {
        self.name.as_deref().or(self.subdir.as_deref())
    }
}

/// A list of names that begin with `prefix`.
pub(super) struct List<'a> {
    pub(super) place: Place,
    pub(super) prefix: &'a str,
    pub(super) by_folder: bool,
    pub(super) with_versions: bool,
}

impl List<'_> {
    fn call(&self, limit: usize, behind: Option<&Entry>) -> Call<'static> {
        let call = Call::new("GET", Method::GET, None).query("format", "json").query("limit", limit.to_string());
        let mut call = Call { place: self.place, ..call }.query("prefix", self.prefix);
        if self.by_folder {
            call = call.query("delimiter", "/");
        }
        if self.with_versions {
            call = call.query("versions", "true");
        }
        if let Some(name) = behind.and_then(Entry::at) {
            call = call.query("marker", name);
        }
        match behind.and_then(|last| last.version_id.as_deref()) {
            Some(version) if self.with_versions => call.query("version_marker", version),
            _ => call,
        }
    }

    /// The first page behind `behind`.
    fn page(&self, wire: &Wire, limit: usize, behind: Option<&Entry>) -> Result<Vec<Entry>, ObjectError> {
        let call = self.call(limit, behind);
        let answer = wire.send(&call)?;
        if answer.status == 204 {
            return Ok(Vec::new());
        }
        let page: Vec<Entry> = serde_json::from_slice(&answer.body)
            .map_err(|error| wire.not_understood(&call, crate::shown::text(&error.to_string())))?;
        let is_right = |entry: &Entry| entry.at().is_some_and(|name| name.starts_with(self.prefix));
        if !page.iter().all(is_right) {
            return Err(wire.not_understood(&call, "a name does not begin with the prefix that was asked for"));
        }
        // Versions of one name follow each other in any order of their own.
        let at = |entry: &Entry| entry.at().unwrap_or_default().to_owned();
        let goes_on =
            |before: &Entry, next: &Entry| at(before) < at(next) || (self.with_versions && at(before) == at(next));
        let in_order = page.windows(2).all(|two| goes_on(&two[0], &two[1]));
        if !in_order || behind.zip(page.first()).is_some_and(|(last, first)| !goes_on(last, first)) {
            return Err(ObjectError::Endless { what: wire.what(&call), why: "its names are not in order".to_owned() });
        }
        Ok(page)
    }

    /// All pages.
    pub(super) fn all(&self, wire: &Wire) -> Result<Vec<Entry>, ObjectError> {
        let mut all: Vec<Entry> = Vec::new();
        let endless = |why: &str| ObjectError::Endless { what: wire.what(&self.call(PAGE, None)), why: why.to_owned() };
        for _ in 0..MOST_PAGES {
            let page = self.page(wire, PAGE, all.last())?;
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
            if all.len() > MOST_KEYS {
                return Err(endless("it has more than 2,000,000 names"));
            }
        }
        Err(endless("it has too many pages"))
    }

    /// The first names.
    pub(super) fn first(&self, wire: &Wire, most: usize) -> Result<Vec<String>, ObjectError> {
        let page = self.page(wire, most.min(PAGE), None)?;
        Ok(page.into_iter().filter_map(|entry| entry.name).collect())
    }
}

impl Lists for Swift {
    fn list_first(&self, prefix: &str, most: u32) -> Result<Vec<String>, ObjectError> {
        let list = List { place: Place::Bucket, prefix, by_folder: false, with_versions: false };
        list.first(&self.wire, usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn list(&self, prefix: &str, by_folder: bool) -> Result<ObjectListing, ObjectError> {
        let mut listing = ObjectListing::default();
        for entry in (List { place: Place::Bucket, prefix, by_folder, with_versions: false }).all(&self.wire)? {
            let etag = entry.etag();
            if let Some(key) = entry.name {
                listing.objects.push(ListedObject { key, len: entry.bytes, etag, is_cold: false });
            } else {
                listing.prefixes.extend(entry.subdir);
            }
        }
        Ok(listing)
    }
}
