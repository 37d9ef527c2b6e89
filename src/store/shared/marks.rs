//! Frees segments in an object store, which has no lock: any number of runs may write and free at the same time, and each may
//! be killed, or suspended, at any moment.
//!
//! | a run that writes | a run that frees |
//! | --- | --- |
//! | publishes its recipe | marks what no recipe refers to: `segments/NAME.unneeded` |
//! | then looks for marks, and fails if one of its segments has one or is gone | a day or more later, reads all recipes again |
//! | then publishes its manifest | then removes what is marked and still unneeded |
//!
//! A mark stays as long as its segment, whoever needs that again, and a week longer. So if a run has not seen the recipe
//! that refers to a segment, and removes it, then that recipe was published after the mark, and its run finds the mark.
//! [Decision 112](../../../docs/decisions/0112-shared-layout-in-object-stores.md) has the proof.

use std::collections::BTreeSet;
use std::time::Duration;

use super::free::needed;
use super::names::{PARTS, SEGMENTS_FOLDER, UNNEEDED};
use super::reading::read_recipe;
use crate::outside::host::uptime;
use crate::store::api::{Folder, Freed, Listing, Store, Writers};
use crate::store::error::StoreError;
use crate::store::open::OpenError;

/// A younger segment is not marked: the run that wrote it may be about to publish its recipe. It does so within an hour, or
/// not at all.
const MARKED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// What is marked is removed after this time. Listings are younger, and so is what a restore of a removed backup reads.
const REMOVED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// The content of a mark, for people.
const MARK: &[u8] = b"No backup refers to this segment: volbak removes it later.\n";
/// The mark of a segment that is gone is put once more, and removed after this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// So long after the recipes were read, nothing is removed any more: then they were read after the mark was set.
const REMOVED_WITHIN: Duration = Duration::from_secs(3600);

fn mark_of(segment: &str) -> String {
    format!("{segment}{UNNEEDED}")
}

/// Marks segments that no recipe in this folder of a volume refers to, and removes those that were marked long ago.
pub(super) fn free(volume: &dyn Store) -> Result<Freed, StoreError> {
    let began = uptime();
    let volume = volume.detached();
    let Some(segments) = volume.folder(SEGMENTS_FOLDER, false)? else { return Ok(Freed::default()) };
    let refused = |why: String| StoreError::NotFreed { path: segments.path().to_owned(), why };
    let listing = segments.list()?;
    // A mark that is old now is older than what is read next.
    let mut due = BTreeSet::new();
    for mark in listing.files.iter().filter(|name| name.ends_with(UNNEEDED)) {
        if is_older(&segments, mark, REMOVED_AFTER)? {
            due.insert(mark.clone());
        }
    }
    // Recipes and manifests that this host has are not read again.
    let seen = if due.is_empty() { volume.survey(&[])? } else { volume.survey_anew()? };
    let needed = needed(seen.as_deref().unwrap_or(&*volume))
        .map_err(|why| refused(format!("{why}; nothing is freed until that is mended")))?;
    for name in needed.keys() {
        if is_missing(&segments, &listing, name) {
            return Err(refused(format!("the segment {name} is missing")));
        }
    }
    let unneeded = listing.files.iter().filter(|name| !name.ends_with(UNNEEDED) && !needed.contains_key(*name));
    let mut freed = Freed::default();
    for name in unneeded {
        if !is_older(&segments, name, MARKED_AFTER)? {
            continue;
        }
        let mark = mark_of(name);
        if !listing.has(&mark) {
            segments.put(&mark, MARK, Writers::Many)?;
        } else if due.contains(&mark) {
            if uptime().saturating_sub(began) > REMOVED_WITHIN {
                return Err(refused("that took too long; the next run frees the rest".to_owned()));
            }
            let bytes = segments.length(name).unwrap_or(0);
            match segments.remove(name) {
                Ok(()) => {
                    freed.bytes += bytes;
                    segments.put(&mark, MARK, Writers::Many)?;
                }
                // A run with credentials that may delete it does so.
                Err(StoreError::Held { .. } | StoreError::MayNotDelete(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    forget_marks(&segments, &listing)?;
    segments.remove_if_empty()?;
    Ok(freed)
}

/// Removes the marks of segments that have been gone for long.
fn forget_marks(segments: &Folder, listing: &Listing) -> Result<(), StoreError> {
    for mark in &listing.files {
        let Some(name) = mark.strip_suffix(UNNEEDED) else { continue };
        let is_gone = !listing.has(name) && matches!(segments.open(name), Err(OpenError::Missing(_)));
        if is_gone && is_older(segments, mark, FORGOTTEN_AFTER)? {
            segments.remove(mark)?;
        }
    }
    Ok(())
}

/// Whether a segment can be neither listed nor found.
fn is_missing(segments: &Folder, listing: &Listing, name: &str) -> bool {
    !listing.has(name) && segments.length(name).is_none()
}

/// Whether a file is so old. Without its age it is not.
fn is_older(segments: &Folder, name: &str, than: Duration) -> Result<bool, StoreError> {
    Ok(segments.age(name)?.is_some_and(|age| age >= than))
}

/// Fails if a segment that one of these files refers to is marked or gone. They are published. Returns the names of the
/// segments.
pub(super) fn confirm<'a>(
    volume: &dyn Store,
    names: impl Iterator<Item = &'a String>,
) -> Result<BTreeSet<String>, StoreError> {
    let volume = volume.detached();
    let mut needed = BTreeSet::new();
    for name in names {
        // Published means: others can read it, too.
        match read_recipe(&*volume, &format!("{name}{PARTS}")) {
            Ok(recipe) => needed.extend(recipe.segments),
            // An index may be a file of its own.
            Err(OpenError::Missing(_)) if volume.length(name).is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let path = volume.path().join(SEGMENTS_FOLDER);
    let segments = volume.folder(SEGMENTS_FOLDER, false)?.ok_or_else(|| StoreError::Missing(path.clone()))?;
    let listing = segments.list()?;
    for name in &needed {
        let is = match () {
            () if listing.has(&mark_of(name)) => "is marked for removal",
            () if is_missing(&segments, &listing, name) => "is missing",
            () => continue,
        };
        return Err(StoreError::Unneeded { path: path.join(name), is });
    }
    Ok(needed)
}

/// Whether there may be something to free in this folder of a volume although no backup was removed: what is marked, or
/// what is left of a volume without backups.
pub(in crate::store) fn has_marks(volume: &dyn Store) -> Result<bool, StoreError> {
    let Some(segments) = volume.folder(SEGMENTS_FOLDER, false)? else { return Ok(false) };
    let listing = segments.list()?;
    let is_marked = listing.files.iter().any(|name| name.ends_with(UNNEEDED));
    let has_recipes = || Ok::<_, StoreError>(volume.list()?.files.iter().any(|name| name.ends_with(PARTS)));
    Ok(is_marked || (!listing.files.is_empty() && !has_recipes()?))
}
