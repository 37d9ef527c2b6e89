//! Compares the config's expectations for a volume with the content found by a backup. Expected content is a
//! notice; other content without files is a problem, and so is expected content that is missing.

use std::fmt::Write;

use crate::config::{Config, Expectation};
use crate::events::{Problem, Severity};
use crate::layout::{Handling, HoldsKind, Region};
use crate::manifest::{Manifest, RegionRecord};

/// The layout's type for a region between partitions.
const OUTSIDE: &str = "outside the partitions";
const EMPTY: &str = "empty";
const SWAP: &str = "swap";
const SWAP_ONLY: &str = "swap-only";
const RAW: &str = "raw";

/// The expectations for a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a>(pub(super) &'a [Expectation]);

impl Expected<'_> {
    /// The severity of keeping this region as a raw image.
    pub(super) fn severity_of_raw(self, region: &Region) -> Severity {
        let word = word_of(region);
        // The name of a filesystem with a reader does not imply that its files are unreadable.
        let is_meant = |word: &String, by: &str| word == RAW || (*word == by && region.handling != Handling::Files);
        let permits = |item: &Expectation| {
            item.region.as_ref().is_none_or(|name| *name == region.name)
                && item.words.iter().any(|expected| is_meant(expected, &word))
        };
        if self.0.iter().any(permits) { Severity::Notice } else { Severity::Warning }
    }

    /// A problem of the layout, lowered to a notice if it only says that an expected region is kept as an image.
    pub(super) fn weighed(self, mut problem: Problem, regions: &[Region]) -> Problem {
        let region = regions.iter().find(|region| region.name == problem.location && region.type_name == OUTSIDE);
        if let Some(region) = region
            && problem.severity == Severity::Warning
            && region.handling == Handling::RawImage
        {
            problem.severity = self.severity_of_raw(region);
        }
        problem
    }

    /// The expectations that were not met, each as a problem.
    pub(super) fn missing(self, source: &str, regions: &[Region], records: &[RegionRecord]) -> Vec<Problem> {
        let seen: Vec<Seen<'_>> = seen(regions, records);
        let is_met = |item: &&Expectation| item.words.iter().any(|word| is_seen(word, item.region.as_deref(), &seen));
        let unmet = self.0.iter().filter(|item| !is_met(item));
        unmet
            .map(|item| {
                let location = item.region.clone().unwrap_or_else(|| source.to_owned());
                let what = format!(
                    "the config expects {} here, and it is not there any more: {}",
                    item.words.join(" or "),
                    described(&seen, item.region.as_deref())
                );
                Problem::new(Severity::Warning, location, what)
            })
            .collect()
    }

    /// Whether an item expects that the region `name` of an earlier backup is no longer the same filesystem. An
    /// item without a region must match a new occurrence: `luks` for one partition does not explain a second one.
    pub(super) fn explains(self, name: &str, before: &Manifest, now: (&[Region], &[RegionRecord])) -> bool {
        let (was, is) = (seen(&before.layout.regions, &before.regions), seen(now.0, now.1));
        let is_there = is.iter().any(|one| one.region.name == name);
        let explains = |item: &Expectation, word: &String| {
            let of_item = item.region.as_deref();
            let is_new = || !is_seen(word, of_item, &was);
            if matches!(word.as_str(), EMPTY | SWAP_ONLY) && of_item.is_none() {
                return is_new() && is_seen(word, None, &is);
            }
            match of_item {
                Some(of_item) if is_there => of_item == name && is_seen(word, Some(name), &is),
                None if is_there => is_new() && is_seen(word, Some(name), &is),
                _ => is_new() && is_seen(word, of_item, &is),
            }
        };
        self.0.iter().any(|item| item.words.iter().any(|word| explains(item, word)))
    }

    /// Whether a volume without any files meets the expectations.
    pub(super) fn permits_no_files(self, manifest: &Manifest) -> bool {
        !self.0.is_empty() && self.missing("", &manifest.layout.regions, &manifest.regions).is_empty()
    }
}

/// A region and what was found in it.
struct Seen<'a> {
    region: &'a Region,
    handling: Handling,
    word: String,
}

fn seen<'a>(regions: &'a [Region], records: &[RegionRecord]) -> Vec<Seen<'a>> {
    let handling = |region: &Region| {
        let record = records.iter().find(|record| record.name == region.name);
        record.map_or(region.handling, |record| record.handling)
    };
    regions.iter().map(|region| Seen { region, handling: handling(region), word: word_of(region) }).collect()
}

/// A region's content as a word of `expect`.
fn word_of(region: &Region) -> String {
    let holds = &region.holds;
    match (holds.kind, holds.fs.as_deref()) {
        (HoldsKind::Luks, _) => "luks".to_owned(),
        (HoldsKind::Swap, _) => SWAP.to_owned(),
        (HoldsKind::Empty, _) => EMPTY.to_owned(),
        (HoldsKind::Mdraid, _) => "mdraid".to_owned(),
        (HoldsKind::Lvm2Pv, _) => "lvm2".to_owned(),
        (_, Some(fs)) => {
            let fs = fs.to_ascii_lowercase();
            let short = fs.strip_suffix("_member").unwrap_or(&fs);
            short.strip_suffix("_volume").unwrap_or(short).to_owned()
        }
        (_, None) => "unknown".to_owned(),
    }
}

fn is_seen(word: &str, name: Option<&str>, seen: &[Seen<'_>]) -> bool {
    let holds_nothing = |one: &Seen<'_>| one.handling == Handling::Container || one.word == EMPTY;
    match (word, name) {
        (EMPTY, None) => seen.iter().all(holds_nothing),
        (SWAP_ONLY, _) => {
            seen.iter().all(|one| holds_nothing(one) || one.word == SWAP) && seen.iter().any(|one| one.word == SWAP)
        }
        _ => seen.iter().filter(|one| name.is_none_or(|name| one.region.name == name)).any(|one| {
            let is_image = one.handling == Handling::RawImage;
            // A filesystem whose reading failed is not the expected one.
            let is_as_known = !is_image || one.region.handling != Handling::Files;
            (word == RAW && is_image) || (one.word == word && is_as_known)
        }),
    }
}

/// The content found, in words.
fn described(seen: &[Seen<'_>], name: Option<&str>) -> String {
    let shown: Vec<String> = seen
        .iter()
        .filter(|one| name.is_none_or(|name| one.region.name == name))
        .map(|one| match (one.handling, one.word.as_str()) {
            (_, EMPTY) => format!("{} holds nothing but zeros", one.region.name),
            (Handling::RawImage, word) => format!("{} holds {word}, kept as a raw image", one.region.name),
            (_, word) => format!("{} holds {word}", one.region.name),
        })
        .take(8)
        .collect();
    match (shown.is_empty(), name) {
        (false, _) => shown.join(", "),
        (true, Some(name)) => format!("there is no region {name}"),
        (true, None) => "the volume has no region with data".to_owned(),
    }
}

/// Lines for the config that expect the content of this backup. They start with a comment if there is nothing to
/// expect, or if the config already has a table of that name.
pub fn as_config(manifest: &Manifest, config: &Config) -> String {
    let seen = seen(&manifest.layout.regions, &manifest.regions);
    let whole = |word: &str| is_seen(word, None, &seen).then(|| vec![word.to_owned()]);
    let words = whole(EMPTY).or_else(|| whole(SWAP_ONLY)).unwrap_or_else(|| {
        let has_several = seen.iter().filter(|one| one.handling != Handling::Container).count() > 1;
        let images = seen.iter().filter(|one| one.handling == Handling::RawImage);
        let named = images.map(|one| {
            let word = if one.region.handling == Handling::Files { RAW } else { &one.word };
            if has_several { format!("{}={word}", one.region.name) } else { word.to_owned() }
        });
        named.collect()
    });
    let stem = &manifest.stem;
    let mut text = String::new();
    // Writing to a String cannot fail.
    if words.is_empty() {
        let _ = writeln!(text, "# {stem}: all of it is archived as files, and there is nothing to expect");
        return text;
    }
    let _ = writeln!(text, "# as {stem} saw it: {}", described(&seen, None));
    if config.volumes.iter().any(|volume| volume.pattern.as_str() == manifest.name) {
        text.push_str("# the config has this table already: add the second line to it\n");
    }
    let list: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let _ = writeln!(text, "[volume.{}]\nexpect = [{}]", quoted(&manifest.name), list.join(", "));
    text
}

/// Quotes a TOML string on one line.
fn quoted(name: &str) -> String {
    let mut key = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => key.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(key, "\\u{:04X}", u32::from(c));
            }
            c => key.push(c),
        }
    }
    key.push('"');
    key
}
