//! Types of values other than words, numbers and paths: sizes, patterns, addresses, commands.

use std::time::Duration;

use ignore::gitignore::GitignoreBuilder;

use super::mistake::Location;
use super::options::IoNice;
use super::pattern::Pattern;
use super::section::Section;
use super::size::{parse_bytes, parse_snapshot_size};
use super::written::{Item, Value};
use crate::archive::level::{BadCompressionLevel, CompressionLevel};
use crate::source::SnapshotSize;

const SIZE_RIGHT: &str = "write a size with its unit, like \"50G\", or a share of the volume, like \"20%ORIGIN\"";

const BYTES_RIGHT: &str = "write bytes with a unit in quotes, like \"500M\" or \"500G\"";

const RATE_RIGHT: &str = "write the bytes a second with its unit in quotes, like \"100M\" or \"1G\"";

pub(super) const YEARS_100: i64 = 36_525;

/// The form of a mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write an address like admin@example.com (root@localhost for this host)")]
pub(super) struct BadAddress;

pub(super) fn address(text: &str) -> Result<String, BadAddress> {
    #[cfg(feature = "mail")]
    let is_address = text.parse::<lettre::message::Mailbox>().is_ok();
    // Without the feature no mail is sent, and no parser for RFC 5322 is built in.
    #[cfg(not(feature = "mail"))]
    let is_address = text.contains('@');
    if is_address { Ok(text.to_owned()) } else { Err(BadAddress) }
}

pub(super) fn patterns(section: &Section<'_>, key: &'static str) -> Option<Vec<Pattern>> {
    section.list(key, |text| {
        Pattern::new(text).map_err(|error| format!("as a pattern it is wrong: {error}; try one like \"volume-*\""))
    })
}

/// Names of volume groups, checked by lvm(8), "VALID NAMES".
pub(super) fn volume_groups(section: &Section<'_>) -> Option<Vec<String>> {
    let groups = section.list("volume_groups", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
        let ok = !text.is_empty() && !text.starts_with('-') && text.chars().all(allowed) && text != "." && text != "..";
        let right = "a group's name has letters, digits and + _ . - and does not begin with -";
        if ok { Ok(text.to_owned()) } else { Err(right) }
    })?;
    if section.items("volume_groups").is_some_and(|items| items.is_empty()) {
        let what = "`volume_groups` is empty: nothing would be backed up";
        section.reading.mistake(&section.place("volume_groups"), what, "name at least one group");
    }
    Some(groups)
}

pub(super) fn ionice(section: &Section<'_>, key: &'static str) -> Option<IoNice> {
    section.parsed(key, "write \"idle\" or \"best-effort:0\" to \"best-effort:7\"", |text| match text.split_once(':') {
        None => (text == "idle").then_some(IoNice::Idle),
        Some(("best-effort", level)) => level.parse().ok().filter(|level| *level <= 7).map(IoNice::BestEffort),
        Some(_) => None,
    })
}

/// A size above 0.
pub(super) fn bytes(section: &Section<'_>, key: &'static str) -> Option<u64> {
    section.parsed(key, BYTES_RIGHT, |text| parse_bytes(text).filter(|bytes| *bytes > 0))
}

/// A rate in bytes per second above 0. The unit is mandatory, since a bare number is usually meant in megabytes.
pub(super) fn rate(section: &Section<'_>, key: &'static str) -> Option<u64> {
    section.parsed(key, RATE_RIGHT, |text| {
        let has_unit = text.trim().ends_with(|c: char| c.is_ascii_alphabetic());
        parse_bytes(text).filter(|bytes| *bytes > 0 && has_unit)
    })
}

pub(super) fn snapshot_size(section: &Section<'_>, key: &'static str) -> Option<SnapshotSize> {
    section.parsed(key, SIZE_RIGHT, parse_snapshot_size)
}

/// Exclude patterns, compiled with the reader's own crate, so that a mistake shows here and not at night.
pub(super) fn exclude_list(section: &Section<'_>) -> Option<Vec<String>> {
    section.list("exclude", |text| {
        let right = |why: &str| format!("{why}; write it as a line of a .gitignore, like \"/var/cache/**\"");
        if text.trim().is_empty() || text.starts_with('#') {
            return Err(right("it would match nothing"));
        }
        let mut builder = GitignoreBuilder::new("/");
        builder.allow_unclosed_class(false);
        match builder.add_line(None, text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(right(&error.to_string())),
        }
    })
}

pub(super) fn level(section: &Section<'_>) -> Option<CompressionLevel> {
    section.parsed("level", &BadCompressionLevel.to_string(), |text| text.parse().ok())
}

pub(super) fn seconds(section: &Section<'_>, key: &'static str, highest: i64) -> Option<Duration> {
    section.number(key, 1, highest).map(|n| Duration::from_secs(u64::from(n)))
}

pub(super) fn minutes(section: &Section<'_>, key: &'static str, highest: i64) -> Option<Duration> {
    section.number(key, 1, highest).map(|n| Duration::from_secs(u64::from(n) * 60))
}

/// One command as a list of strings, or several as a list of such lists.
pub(super) fn commands(section: &Section<'_>, key: &'static str) -> Option<Vec<Vec<String>>> {
    let items = section.items(key)?;
    let right = format!("write the program and its arguments as a list: {key} = [\"/usr/bin/program\", \"argument\"]");
    let wrong = |place: &Location| section.reading.mistake(place, format!("`{key}` is no command"), &right);
    let argv = |items: &[Item], place: &Location| {
        let mut argv = Vec::new();
        for item in items {
            match &item.value {
                Value::Text(text) => argv.push(text.clone()),
                _ => wrong(&item.place),
            }
        }
        if !argv.first().is_some_and(|program| program.starts_with('/')) {
            let what = format!("`{key}` does not begin with an absolute path");
            section.reading.mistake(place, what, &right);
        }
        argv
    };
    if items.iter().any(|item| matches!(item.value, Value::List(_))) {
        let mut list = Vec::new();
        for item in &items {
            match &item.value {
                Value::List(inner) => list.push(argv(inner, &item.place)),
                _ => wrong(&item.place),
            }
        }
        return Some(list);
    }
    Some(if items.is_empty() { Vec::new() } else { vec![argv(&items, &section.place(key))] })
}
