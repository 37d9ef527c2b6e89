//! Compares a restored disk with the expected one.

use serde_json::Value;

use super::ext_settings;
use super::makefs::names::can_have_label;
use super::plan::Expected;
use crate::layout::{Handling, Holds, HoldsKind, Layout, Region};
use crate::shown;

/// Fields that depend on the size and differ on a smaller filesystem.
const OF_SIZE: &[&str] =
    &["xfs.group_bytes", "xfs.groups", "xfs.log_bytes", "xfs.log_group", "xfs.realtime_extent_bytes"];
/// Fields that cannot be restored, of which plan and result already inform, and one that depends on the place.
const SAID_BEFORE: &[&str] = &["xfs.quotas", "fat.hidden_sectors"];

/// The differences between the expected and the restored disk, one line each. Zeros in regions in `not_looked_at`
/// were not read to the end.
pub(super) fn differences(expected: &Expected, found: &Layout, not_looked_at: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    let mut settings = Vec::new();
    let mut differ = |place: &str, what: &str, was: &dyn std::fmt::Debug, is: &dyn std::fmt::Debug| {
        let place = shown::path(place.as_bytes());
        all.push(format!("{place}: its {what} is {is:?}, and should be {was:?}"));
    };
    if (expected.table.kind, &expected.table.uuid) != (found.table.kind, &found.table.uuid) {
        differ("table", "kind", &expected.table, &found.table);
    }
    for region in &expected.regions {
        let is_it = |other: &&Region| {
            other.number == region.number
                && other.lv == region.lv
                && other.extents == region.extents
                && is_tail(other) == is_tail(region)
        };
        let Some(other) = found.regions.iter().find(is_it) else {
            differ(&region.name, "place", &region.extents, &"not there");
            continue;
        };
        let mut check = |what: &str, was: &dyn std::fmt::Debug, is: &dyn std::fmt::Debug| {
            if format!("{was:?}") != format!("{is:?}") {
                differ(&region.name, what, was, is);
            }
        };
        check("type", &region.type_id, &other.type_id);
        check("partition's name", &region.partition_name, &other.partition_name);
        check("partition's UUID", &region.partition_uuid, &other.partition_uuid);
        check("boot flag", &region.bootable, &other.bootable);
        // Zeros are distinguished from unknown content by a full read, for which there was no time now or at the
        // backup.
        let is_blank = |kind| matches!(kind, HoldsKind::Empty | HoldsKind::Unknown);
        let is_unread = is_blank(region.holds.kind)
            && is_blank(other.holds.kind)
            && (not_looked_at.contains(&other.name) || region.handling == Handling::RawImage);
        if !is_unread {
            check("content", &(region.holds.kind, &region.holds.fs), &(other.holds.kind, &other.holds.fs));
        }
        // A filesystem without a serial number gets a new one.
        if region.holds.uuid.is_some() {
            check("UUID", &region.holds.uuid, &other.holds.uuid);
        }
        if can_have_label(&region.holds) {
            check("label", &region.holds.label, &other.holds.label);
        }
        let is_smaller = region.holds.size_bytes.is_some_and(|was| region.size_bytes < was);
        for (what, was, is) in made_differently(&region.holds, &other.holds, is_smaller) {
            check(&what, &format_args!("{was}"), &format_args!("{is}"));
        }
        let is_ext = region.holds.fs.as_deref().is_some_and(|fs| fs.starts_with("ext"));
        if let (true, Some(was), Some(is)) =
            (is_ext && region.handling == Handling::Files, &region.holds.made_with, &other.holds.made_with)
            && was.superblock.is_some()
        {
            let resized = region.holds.size_bytes != other.holds.size_bytes;
            let place = shown::path(region.name.as_bytes());
            settings
                .extend(ext_settings::differences(was, is, resized).into_iter().map(|what| format!("{place}: {what}")));
        }
    }
    all.extend(settings);
    all
}

fn is_tail(region: &Region) -> bool {
    region.type_name == "behind the content"
}

/// The parameters that differ: name, value in the manifest, value now.
fn made_differently(was: &Holds, is: &Holds, is_smaller: bool) -> Vec<(String, Value, Value)> {
    let is_compared = matches!(was.fs.as_deref(), Some("xfs" | "btrfs" | "vfat" | "swap"));
    // Another type of filesystem was reported before.
    let (true, Some(was), Some(is)) = (is_compared && was.fs == is.fs, &was.made_with, &is.made_with) else {
        return Vec::new();
    };
    // Structures of numbers and strings always serialise to JSON.
    let (was, is) = (serde_json::to_value(was).unwrap_or_default(), serde_json::to_value(is).unwrap_or_default());
    let mut all = Vec::new();
    unequal("", &was, &is, &mut all);
    all.retain(|(name, _, is)| {
        let is_expected = SAID_BEFORE.contains(&name.as_str()) || (is_smaller && OF_SIZE.contains(&name.as_str()));
        // Without a file that has data blocks there is no data chunk.
        let has_no_data = name == "btrfs.data_profiles" && is.is_null();
        !is_expected && !has_no_data
    });
    all
}

fn unequal(name: &str, was: &Value, is: &Value, all: &mut Vec<(String, Value, Value)>) {
    match was.as_object() {
        Some(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                unequal(&name, value, is.get(field).unwrap_or(&Value::Null), all);
            }
        }
        None if was == is => {}
        None => all.push((name.to_owned(), was.clone(), is.clone())),
    }
}
