//! A new segment, and the recipe that refers to it.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use chrono::NaiveDate;

use super::facts::SegmentFacts;
use super::names::{PARTS, SEGMENTS_FOLDER};
use super::reading::{hold_to_read, read_recipe};
use super::recipe::Recipe;
use crate::archive::kind::ArchiveKind;
use crate::store::api::{Folder, RunLock, StoreFile};
use crate::store::error::StoreError;
use crate::store::names::INDEX;
use crate::store::open::OpenError;
use crate::store::stem::{is_run, without_run};

/// A segment that is written. Dropping it removes the segment, unless the recipe is published.
#[derive(Debug)]
pub(super) struct NewSegment {
    volume: Folder,
    /// The recipe's name.
    recipe: String,
    pub(super) segments: Folder,
    pub(super) name: String,
    pub(super) file: Box<dyn StoreFile>,
    pub(super) facts: Arc<SegmentFacts>,
    /// Nothing is freed while it is written.
    _held: RunLock,
}

impl NewSegment {
    /// For the file `of`, whose stem is `stem`; the segment's name ends with `suffix`.
    pub(super) fn create(
        volume: &Folder,
        of: &str,
        (stem, suffix): (&str, &str),
        facts: Arc<SegmentFacts>,
    ) -> Result<Self, StoreError> {
        let path = volume.path().join(SEGMENTS_FOLDER);
        let segments = volume.folder(SEGMENTS_FOLDER, true)?.ok_or_else(|| StoreError::Missing(path.clone()))?;
        let held = hold_to_read(&*segments).map_err(StoreError::io("writing in", &path))?;
        let start = first_name(stem);
        let first = format!("{start}{suffix}");
        // In an object store the name is that of a run.
        let (name, file) = if segments.refuses_to_replace() {
            let listing = segments.list()?;
            let known = known_names(volume, stem)?;
            let mut names = std::iter::once(first).chain((2..1000).map(|number| format!("{start}.{number}{suffix}")));
            let name = names.find(|name| !listing.has(name) && !listing.has_staged(name) && !known.contains(name));
            let name = name.ok_or(StoreError::NoFreeName(path))?;
            let file = segments.create(&name)?;
            (name, file)
        } else {
            let file = segments.create_own(&first)?;
            (first, file)
        };
        let recipe = format!("{of}{PARTS}");
        Ok(Self { volume: volume.clone(), recipe, segments, name, file, facts, _held: held })
    }

    /// Publishes the segment, of this length, and stages the recipe.
    pub(super) fn settle(&self, recipe: &Recipe, bytes: u64) -> Result<(), StoreError> {
        self.file.settle(bytes)?;
        if bytes == 0 {
            self.segments.discard(&self.name)?;
        } else if let Some(object) = self.segments.publish(&self.name)? {
            self.facts.note(&self.name, object);
        }
        // What the recipe refers to is durable before the recipe.
        self.segments.sync()?;
        let text = recipe.to_text();
        let file = self.volume.create_own(&self.recipe)?;
        file.write_all(&text)?;
        file.settle(text.len() as u64)
    }

    /// What the length of the composed file should have been.
    pub(super) fn wrong_length(&self, found_bytes: u64, expected_bytes: u64) -> StoreError {
        StoreError::WrongLength { path: self.volume.path_of_staged(&self.recipe), found_bytes, expected_bytes }
    }

    /// The staged file cannot be read before it is published.
    pub(super) fn unreadable(&self) -> OpenError {
        let path = self.volume.path_of_staged(&self.recipe);
        OpenError::Io { path, source: io::ErrorKind::Unsupported.into() }
    }
}

impl Drop for NewSegment {
    fn drop(&mut self) {
        // In doubt it stays: what nothing refers to is freed later.
        if matches!(self.volume.open(&self.recipe), Err(OpenError::Missing(_))) {
            let _ = self.volume.discard(&self.recipe);
            let _ = self.segments.discard(&self.name);
            // In an object store another run may refer to it already: there it is marked first.
            if self.segments.refuses_to_replace() {
                let _ = self.segments.remove(&self.name);
                let _ = self.segments.remove_if_empty();
            }
        }
    }
}

/// The segments that archives of this night or a later one refer to, also those that are lost: another one with such a name would
/// be taken for it. One that cannot be read names none.
fn known_names(volume: &Folder, stem: &str) -> Result<HashSet<String>, StoreError> {
    let night = date_of(stem);
    let is_of_now = |name: &String| {
        let of = name.strip_suffix(PARTS);
        let of_archive = of.and_then(ArchiveKind::of_name).map(|(stem, _)| stem);
        let stem = of_archive.or_else(|| of?.strip_suffix(INDEX));
        stem.is_some_and(|stem| date_of(stem) >= night)
    };
    let recipes = volume.list()?.files.into_iter().filter(is_of_now);
    Ok(recipes.filter_map(|name| read_recipe(&**volume, &name).ok()).flat_map(|recipe| recipe.segments).collect())
}

/// The name of the segment of the backup `stem`, unless another one of that day has it.
pub(super) fn first_name(stem: &str) -> String {
    let date = date_of(stem).map_or_else(|| "night".to_owned(), |date| date.to_string());
    match stem.rsplit_once('_') {
        Some((_, run)) if is_run(run) => format!("{date}-{run}"),
        _ => date,
    }
}

/// The night in a stem.
pub(super) fn date_of(stem: &str) -> Option<NaiveDate> {
    let stem = without_run(stem);
    let parts: Vec<&str> = stem.rsplit('_').take(4).collect();
    let date = |year: &str, month: &str, day: &str| {
        NaiveDate::parse_from_str(&format!("{year}-{month}-{day}"), "%Y-%m-%d").ok()
    };
    let found = match parts.as_slice() {
        [year, month, day, ..] => date(year, month, day),
        _ => None,
    };
    found.or_else(|| match parts.as_slice() {
        [_, year, month, day] => date(year, month, day),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::{date_of, first_name};

    #[test]
    fn a_segment_has_the_date_of_its_night() {
        let date = |stem| date_of(stem).map(|date| date.to_string());
        assert_eq!(date("a b_1_29_11_2026").as_deref(), Some("2026-11-29"));
        assert_eq!(date("vol_29_11_2026_010203").as_deref(), Some("2026-11-29"));
        assert_eq!(date("vol_29_11_2026_010203_0123456789ab").as_deref(), Some("2026-11-29"));
        assert_eq!(first_name("vol_29_11_2026_010203_0123456789ab"), "2026-11-29-0123456789ab");
        assert_eq!(first_name("vol_29_11_2026_010203"), "2026-11-29");
        assert_eq!(date("x"), None);
        assert_eq!(date("../x_29_13_2026"), None);
    }
}
