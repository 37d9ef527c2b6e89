//! Frees the room of what no archive refers to any more.
//!
//! What is needed is found from all recipes of the volume, each time. It fails closed: if one of them cannot be read, does
//! not fit its manifest, or is missing beside its manifest, nothing is freed.

use std::collections::HashMap;
use std::ops::Range;

use super::names::{PARTS, SEGMENTS_FOLDER};
use super::reading::{parse_recipe, read_manifest, read_recipe};
use super::recipe::Recipe;
use crate::error::with_causes;
use crate::outside::BlockRead;
use crate::store::api::{Folder, Freed, Listing, Store};
use crate::store::error::StoreError;
use crate::store::names::{MANIFEST, index_suffix};

/// Freed ranges begin and end at multiples of this.
const BLOCK_BYTES: u64 = 4096;

/// Frees what nothing in this folder of a volume refers to. Requires the lock.
pub(super) fn free(volume: &dyn Store) -> Result<Freed, StoreError> {
    let Some(segments) = volume.folder(SEGMENTS_FOLDER, false)? else { return Ok(Freed::default()) };
    let refused = |why: String| StoreError::NotFreed { path: segments.path().to_owned(), why };
    // Who reads an archive, or writes one, keeps what is there.
    let Some(held) = segments.hold(true) else {
        return Err(refused("an archive is being read; the next run frees it".to_owned()));
    };
    // A recipe that was removed stays removed.
    volume.sync()?;
    let needed = needed(volume).map_err(|why| refused(format!("{why}; nothing is freed until that is mended")))?;
    let listing = segments.list()?;
    let mut lengths = HashMap::new();
    for (name, ranges) in &needed {
        let length = segments.length(name).ok_or_else(|| refused(format!("the segment {name} is missing")))?;
        if ranges.last().is_some_and(|last| last.end > length) {
            return Err(refused(format!("the segment {name} has only {length} bytes")));
        }
        lengths.insert(name.as_str(), length);
    }
    let mut freed = Freed::default();
    for name in &listing.staged {
        segments.discard(name)?;
    }
    for name in &listing.files {
        if let Some(ranges) = needed.get(name) {
            let length = lengths.get(name.as_str()).copied().unwrap_or(0);
            free_in(&segments, name, ranges, length, &mut freed)?;
        } else {
            freed.bytes += segments.open(name).map_or(0, |segment| data_bytes(&*segment, 0..segment.len_bytes()));
            segments.remove(name)?;
        }
    }
    segments.sync()?;
    drop(held);
    segments.remove_if_empty()?;
    Ok(freed)
}

/// Ranges of segments.
pub(super) type Ranges = HashMap<String, Vec<Range<u64>>>;

/// The ranges of each segment that an archive refers to, sorted and joined. The error says why that is not known.
pub(super) fn needed(volume: &dyn Store) -> Result<Ranges, String> {
    let listing = volume.list().map_err(|error| with_causes(&error))?;
    let mut needed = Ranges::new();
    let mut add = |recipe: &Recipe| {
        for (segment, offset, length) in recipe.parts() {
            needed.entry(segment.to_owned()).or_default().push(offset..offset + length);
        }
    };
    let mut lengths = HashMap::new();
    for name in listing.files.iter().filter(|name| name.ends_with(PARTS)) {
        let recipe = read_recipe(volume, name).map_err(|error| with_causes(&error))?;
        add(&recipe);
        lengths.insert(name.as_str(), recipe.len_bytes);
    }
    for name in listing.staged.iter().filter(|name| name.ends_with(PARTS)) {
        let file = volume.open_staged(name).map_err(|error| with_causes(&error))?;
        add(&parse_recipe(volume.path_of_staged(name), file).map_err(|error| with_causes(&error))?);
    }
    for name in listing.files.iter().filter(|name| name.ends_with(MANIFEST)) {
        check_manifest(volume, &listing, name, &lengths)?;
    }
    for ranges in needed.values_mut() {
        ranges.sort_unstable_by_key(|range| range.start);
        let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges.drain(..) {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        *ranges = joined;
    }
    Ok(needed)
}

/// Fails if a manifest does not fit the recipe beside it, or has neither a recipe nor an archive.
fn check_manifest(
    volume: &dyn Store,
    listing: &Listing,
    name: &str,
    lengths: &HashMap<&str, u64>,
) -> Result<(), String> {
    let shown = || volume.path().join(name).display().to_string();
    let manifest = read_manifest(volume, name)?;
    let stem = name.strip_suffix(MANIFEST).unwrap_or(name);
    let archive = format!("{stem}{}", manifest.kind().suffix());
    let recipe = format!("{archive}{PARTS}");
    let index = format!("{stem}{}", index_suffix(manifest.kind()));
    match lengths.get(recipe.as_str()) {
        Some(length) if *length != manifest.sizes.archive_bytes => {
            Err(format!("{recipe} makes {length} bytes, and the manifest says {}", manifest.sizes.archive_bytes))
        }
        Some(_) if listing.has(&index) || listing.has(&format!("{index}{PARTS}")) => Ok(()),
        Some(_) => Err(format!("{} has neither {index} nor {index}{PARTS} beside it", shown())),
        None if listing.has(&archive) => Ok(()),
        None => Err(format!("{} has neither {archive} nor {recipe} beside it", shown())),
    }
}

/// Frees the blocks between the ranges.
fn free_in(
    segments: &Folder,
    name: &str,
    needed: &[Range<u64>],
    length: u64,
    freed: &mut Freed,
) -> Result<(), StoreError> {
    let segment = segments.open(name)?;
    let mut gaps = Vec::new();
    let mut gap_bytes = 0;
    let mut at = 0;
    for range in needed.iter().cloned().chain(std::iter::once(length..length)) {
        let gap = at.min(range.start).next_multiple_of(BLOCK_BYTES)..range.start / BLOCK_BYTES * BLOCK_BYTES;
        at = range.end;
        let data = if gap.start < gap.end { data_bytes(&*segment, gap.clone()) } else { 0 };
        if data > 0 {
            gap_bytes += data;
            gaps.push(gap);
        }
    }
    drop(segment);
    if gaps.is_empty() {
        return Ok(());
    }
    let has_freed = segments.free_ranges(name, &gaps)?;
    *(if has_freed { &mut freed.bytes } else { &mut freed.wasted_bytes }) += gap_bytes;
    Ok(())
}

/// Bytes in the range that are no hole.
fn data_bytes(segment: &dyn BlockRead, range: Range<u64>) -> u64 {
    let (mut at, mut bytes) = (range.start, 0);
    while at < range.end {
        let from = match segment.next_data(at) {
            Ok(Some(from)) if from < range.end => from.max(at),
            Ok(_) => break,
            Err(_) => at,
        };
        let to = segment.next_hole(from).unwrap_or(range.end).clamp(from + 1, range.end);
        bytes += to - from;
        at = to;
    }
    bytes
}
