//! Lists that come in pages.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use ureq::http::Method;

use super::answers::{Attachment, Link, Server, Volume};
use super::catalogue::ServiceKind;
use super::error::CloudError;
use super::message::in_path;
use super::session::Session;
use crate::shown;

/// More pages, or more rows, than any cloud has.
const MOST_PAGES: usize = 10_000;
const MOST_ROWS: usize = 500_000;
/// A row of a list.
pub(super) trait Row {
    /// Whether an answer that is cut off links to the rest.
    const HAS_LINKS: bool = true;
    fn id(&self) -> &str;
}

impl Row for Volume {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Row for Server {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Row for Attachment {
    /// Cinder cuts the list off at its `osapi_max_limit`, and does not say so.
    const HAS_LINKS: bool = false;
    fn id(&self) -> &str {
        &self.id
    }
}

impl Session {
    /// Reads all pages of a list. Only the query of a link to the next page is used: its host may be wrong behind a
    /// proxy, or hostile.
    pub(super) fn list<T: DeserializeOwned + Row>(
        &self,
        service: ServiceKind,
        version: &str,
        path: &str,
        key: &str,
    ) -> Result<Vec<T>, CloudError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let endpoint = self.endpoint(service)?;
        let first = format!("{query}&limit={}", self.limits.page);
        let mut query = first.clone();
        let mut asked = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut rows: Vec<T> = Vec::new();
        loop {
            let url = format!("{endpoint}{path}?{query}");
            let what = format!("GET {}", shown::text(&url));
            let endless = |why: String| CloudError::Endless { what: what.clone(), why };
            if !asked.insert(query.clone()) {
                return Err(endless("a page leads back to itself".to_owned()));
            }
            if asked.len() > MOST_PAGES {
                return Err(endless(format!("it has more than {MOST_PAGES} pages")));
            }
            let answer = self.attempt(&Method::GET, &url, Some((service, version)), None)?;
            let (found, next) =
                page::<T>(&answer.body, key).map_err(|why| CloudError::NotUnderstood { what: what.clone(), why })?;
            drop(answer);
            let mut is_new = false;
            for row in found {
                // What moves between two pages while they are read comes twice.
                if ids.insert(row.id().to_owned()) {
                    rows.push(row);
                    is_new = true;
                }
            }
            if rows.len() > MOST_ROWS {
                return Err(endless(format!("it has more than {MOST_ROWS} rows")));
            }
            let Some(next) = next else {
                // The end is a page with nothing new.
                match rows.last().filter(|_| is_new && !T::HAS_LINKS) {
                    Some(last) => query = format!("{first}&marker={}", in_path(last.id())?),
                    None => return Ok(rows),
                }
                continue;
            };
            if !is_new {
                return Err(endless("a page has nothing new and leads to another one".to_owned()));
            }
            let next =
                next.split_once('?').map(|(_, next)| next).filter(|next| next.bytes().all(|b| b.is_ascii_graphic()));
            next.ok_or_else(|| endless("a page leads to an address without a query".to_owned()))?
                .clone_into(&mut query);
        }
    }
}

/// The rows of a page, and the link to the next one.
fn page<T: DeserializeOwned>(body: &[u8], key: &str) -> Result<(Vec<T>, Option<String>), String> {
    // Parts of the answer, not yet read: rows go from its bytes into their own types.
    let parts: std::collections::BTreeMap<String, &serde_json::value::RawValue> =
        serde_json::from_slice(body).map_err(|error| shown::text(&error.to_string()))?;
    let of = |key: &str| parts.get(key).map(|part| part.get());
    let rows = of(key).ok_or_else(|| format!("it has no `{key}`"))?;
    let rows = serde_json::from_str(rows).map_err(|error| format!("`{key}`: {}", shown::text(&error.to_string())))?;
    let links: Vec<Link> = match of(&format!("{key}_links")) {
        Some(links) => serde_json::from_str::<Option<Vec<Link>>>(links)
            .map_err(|error| format!("`{key}_links`: {}", shown::text(&error.to_string())))?
            .unwrap_or_default(),
        None => Vec::new(),
    };
    Ok((rows, links.into_iter().find(|link| link.rel == "next").map(|link| link.href)))
}
