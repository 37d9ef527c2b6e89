//! Lists whose pages are continued by two markers: a key, and an id of it.

use roxmltree::Node;
use ureq::http::Method;

use super::answers::{text_of, understood};
use crate::objects::call::Call;
use crate::objects::error::ObjectError;
use crate::objects::wire::Wire;

/// More pages than the versions or uploads of a prefix have.
const MOST_PAGES: usize = 1000;

/// What such a list is called in the S3 API.
pub(super) struct Pages {
    pub(super) name: &'static str,
    /// The query that asks for it.
    pub(super) asked: &'static str,
    /// The root of its answers.
    pub(super) root: &'static str,
    /// The query with the id from which a page goes on.
    pub(super) id_marker: &'static str,
    /// The element with this id in the page before.
    pub(super) next_id: &'static str,
}

/// Has `read` read each page; it returns whether the page had something new. Fails if the pages do not end.
pub(super) fn by_two_markers(
    wire: &Wire,
    pages: &Pages,
    prefix: &str,
    mut read: impl FnMut(Node<'_, '_>) -> Result<bool, String>,
) -> Result<(), ObjectError> {
    let mut markers: Option<(String, String)> = None;
    for _ in 0..MOST_PAGES {
        let mut call = Call::new(pages.name, Method::GET, None).query(pages.asked, "").query("prefix", prefix);
        if let Some((key, id)) = &markers {
            call = call.query("key-marker", key).query(pages.id_marker, id);
        }
        let answer = wire.send(&call)?;
        let page = understood(&answer.body, pages.root, |root| {
            let is_new = read(root)?;
            let is_cut = text_of(root, "IsTruncated").is_some_and(|is| is == "true");
            let marker = |name| text_of(root, name).unwrap_or_default();
            Ok((is_new, is_cut.then(|| (marker("NextKeyMarker"), marker(pages.next_id)))))
        });
        match page.map_err(|why| wire.not_understood(&call, why))? {
            (_, None) => return Ok(()),
            (true, Some(next)) if Some(&next) != markers.as_ref() => markers = Some(next),
            _ => break,
        }
    }
    let what = format!("{} {}", pages.name, wire.address().bucket_address());
    Err(ObjectError::Endless { what, why: "a page leads back to itself, or there are too many".to_owned() })
}
