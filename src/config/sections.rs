//! Each table of the config: its keys, their kinds, ranges and defaults.

use std::ffi::OsString;
use std::time::Duration;

use ignore::gitignore::GitignoreBuilder;

use super::expect::Expectation;
use super::level::{BadCompressionLevel, CompressionLevel};
use super::mistake::{Mistake, Place};
use super::options::{
    ArchiveOptions, ChangeOptions, HookOptions, IoNice, ReportOptions, RetentionOptions, SnapshotOptions, VerifyLevel,
    VerifyOptions,
};
use super::pattern::Pattern;
use super::reading::{Entry, Item, Reading, Section, Value};
use super::size::{SnapshotSize, parse_bytes, parse_snapshot_size};
use super::volume::VolumeException;
use super::{Config, dumps, mail};
use crate::shown;

const SIZE_RIGHT: &str = "write a size with its unit, like \"50G\", or a share of the volume, like \"20%ORIGIN\"";
const BYTES_RIGHT: &str = "write bytes with a unit in quotes, like \"500M\" or \"500G\"";
const RATE_RIGHT: &str = "write the bytes a second with its unit in quotes, like \"100M\" or \"1G\"";
pub(super) const YEARS_100: i64 = 36_525;

/// Reads everything. What is missing or wrong stands as its default: the config is one only when there are no mistakes.
pub(super) fn read(text: &str, environment: impl IntoIterator<Item = (OsString, OsString)>) -> (Config, Vec<Mistake>) {
    let reading = Reading::new(environment);
    let config = all(&reading, text);
    (config, reading.finish())
}

/// Reads every table, so that every key there is was asked for.
pub(super) fn all(reading: &Reading, text: &str) -> Config {
    config(reading, reading.parse(text))
}

fn config(reading: &Reading, entries: Vec<Entry>) -> Config {
    let top = reading.section("", entries, true);
    let table = |name: &'static str| reading.section(name, top.table(name), true);

    let destination = top.path("backup_destination", "/BACKUPS/EBS-VOL");
    if destination.is_none() && top.place("backup_destination") == Place::Nowhere {
        reading.mistake(
            &Place::Nowhere,
            "`backup_destination` is not set",
            "name the directory for the backups, like backup_destination = \"/BACKUPS/EBS-VOL\"",
        );
    }
    let enable_mysql_dump = top.boolean("enable_mysql_dump").unwrap_or(false);
    let enable_mail_notification = top.boolean("enable_mail_notification").unwrap_or(false);
    let email_recipient = top.list("email_recipient", address).unwrap_or_default();
    let nobody_is_named = top.items("email_recipient").is_none_or(|items| items.is_empty());
    if enable_mail_notification && nobody_is_named {
        reading.mistake(
            &top.place("enable_mail_notification"),
            "mail is switched on, and there is nobody to send it to",
            "add email_recipient = [\"admin@example.com\"]",
        );
    }
    let include = patterns(&top, "include").unwrap_or_else(|| Pattern::new("volume-*").into_iter().collect());
    let is_empty = |key: &'static str| top.items(key).is_some_and(|items| items.is_empty());
    if is_empty("include") {
        reading.mistake(
            &top.place("include"),
            "`include` is empty: nothing would be backed up",
            "write [\"*\"] for all",
        );
    }
    let retention = retention(&top, &table("retention"));
    Config {
        backup_destination: destination.unwrap_or_default(),
        enable_checksum: top.boolean("enable_checksum").unwrap_or(true),
        enable_mysql_dump,
        enable_lvmsnapshots: top.boolean("enable_lvmsnapshots").unwrap_or(true),
        enable_mail_notification,
        lvm_test_mode: top.boolean("lvm_test_mode").unwrap_or(false),
        volume_groups: volume_groups(&top),
        changeable: None,
        volume_groups_by_default: top.place("volume_groups") == Place::Nowhere,
        include,
        exclude: patterns(&top, "exclude").unwrap_or_default(),
        require_mount: top.boolean("require_mount").unwrap_or(true),
        max_run: top.hours("max_run_hours", 168),
        max_volume: top.hours("max_volume_hours", 168),
        max_volume_size: top.parsed("max_volume_size", BYTES_RIGHT, |text| parse_bytes(text).filter(|b| *b > 0)),
        nice: top.number("nice", 0, 19),
        ionice: top.parsed("ionice", "write \"idle\" or \"best-effort:0\" to \"best-effort:7\"", ionice),
        read_rate_limit: top.parsed("read_rate_limit", RATE_RIGHT, |text| {
            // A bare number is more often meant in megabytes than in bytes.
            let has_unit = text.trim().ends_with(|c: char| c.is_ascii_alphabetic());
            parse_bytes(text).filter(|bytes| *bytes > 0 && has_unit)
        }),
        snapshot: snapshot(&top, &table("snapshot")),
        archive: archive(&table("archive")),
        change: change(&table("sudden_change")),
        report: report(&table("report")),
        mail: mail::read(&table("mail"), enable_mail_notification),
        dumps: dumps::read(&table("dumps"), enable_mysql_dump, retention.days),
        hooks: hooks(&table("hooks")),
        verify: verify(&table("verify")),
        volumes: volumes(reading, &top),
        retention,
        email_recipient,
    }
}

fn ionice(text: &str) -> Option<IoNice> {
    match text.split_once(':') {
        None => (text == "idle").then_some(IoNice::Idle),
        Some(("best-effort", level)) => level.parse().ok().filter(|level| *level <= 7).map(IoNice::BestEffort),
        Some(_) => None,
    }
}

pub(super) fn address(text: &str) -> Result<String, String> {
    #[cfg(feature = "mail")]
    let is_address = text.parse::<lettre::message::Mailbox>().is_ok();
    // Without the feature no mail is sent, and nothing here can parse RFC 5322.
    #[cfg(not(feature = "mail"))]
    let is_address = text.contains('@');
    if is_address {
        Ok(text.to_owned())
    } else {
        Err("write an address like admin@example.com (root@localhost for this host)".to_owned())
    }
}

pub(super) fn patterns(section: &Section<'_>, key: &'static str) -> Option<Vec<Pattern>> {
    section.list(key, |text| {
        Pattern::new(text).map_err(|error| format!("as a pattern it is wrong: {error}; try one like \"volume-*\""))
    })
}

/// LVM's own rule for names (lvm(8), "VALID NAMES").
fn volume_groups(top: &Section<'_>) -> Vec<String> {
    let right = "a group's name has letters, digits and + _ . - and does not begin with -";
    let groups = top.list("volume_groups", |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
        let ok = !text.is_empty() && !text.starts_with('-') && text.chars().all(allowed) && text != "." && text != "..";
        if ok { Ok(text.to_owned()) } else { Err(right.to_owned()) }
    });
    match groups {
        None => vec!["cinder-volumes".to_owned(), "nova-volumes".to_owned()],
        Some(groups) => {
            if top.items("volume_groups").is_some_and(|items| items.is_empty()) {
                let what = "`volume_groups` is empty: nothing would be backed up";
                top.reading.mistake(&top.place("volume_groups"), what, "name at least one group");
            }
            groups
        }
    }
}

fn snapshot(top: &Section<'_>, section: &Section<'_>) -> SnapshotOptions {
    SnapshotOptions {
        max_size: top.parsed("snapshot_max_size", SIZE_RIGHT, parse_snapshot_size).unwrap_or(SnapshotSize::FullOrigin),
        extend: section.boolean("extend").unwrap_or(true),
    }
}

/// Checked as the reader will read them, with the same crate: a mistake must show here and not at night.
fn exclude_list(section: &Section<'_>) -> Option<Vec<String>> {
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

fn level(section: &Section<'_>) -> Option<CompressionLevel> {
    section.parsed("level", &BadCompressionLevel.to_string(), |text| text.parse().ok())
}

fn archive(section: &Section<'_>) -> ArchiveOptions {
    ArchiveOptions {
        level: level(section).unwrap_or(CompressionLevel::Fixed(6)),
        threads: section.number("threads", 1, 1024),
        exclude: exclude_list(section).unwrap_or_default(),
        scratch: section.path("scratch", "/var/tmp"),
        by_kernel: section.choice("reader", &[("auto", false), ("kernel", true)]).unwrap_or(false),
        read_only_snapshots: section.boolean("read_only_snapshots").unwrap_or(false),
        full_read_every_days: section.number("full_read_every_days", 0, YEARS_100).unwrap_or(7),
        share_blocks: section.boolean("share_blocks").unwrap_or(true),
    }
}

fn retention(top: &Section<'_>, section: &Section<'_>) -> RetentionOptions {
    let days = top.number("backups_retention_days", 1, YEARS_100).unwrap_or(7);
    let count = |key: &'static str| section.number(key, 0, 100_000).unwrap_or(0);
    let gone_days = section.number("gone_days", 1, YEARS_100);
    if gone_days.is_some_and(|gone_days| gone_days < days) {
        section.reading.mistake(
            &section.place("gone_days"),
            format!("`gone_days` is below `backups_retention_days` ({days})"),
            "backups of a volume that is gone are kept longer than others, not shorter",
        );
    }
    RetentionOptions {
        days,
        keep_last: count("keep_last"),
        keep_daily: count("keep_daily"),
        keep_weekly: count("keep_weekly"),
        keep_monthly: count("keep_monthly"),
        keep_yearly: count("keep_yearly"),
        gone_days: gone_days.unwrap_or(days.max(90)),
        remove_last_of_gone: section.boolean("remove_last_of_gone").unwrap_or(false),
    }
}

fn change(section: &Section<'_>) -> ChangeOptions {
    let usual = ChangeOptions::default();
    ChangeOptions {
        enabled: section.boolean("enabled").unwrap_or(usual.enabled),
        below_percent: section.number("below_percent", 1, 99).unwrap_or(usual.below_percent),
        changed_percent: section.number("changed_percent", 1, 100).unwrap_or(usual.changed_percent),
        min_entries: section.number("min_entries", 1, 1_000_000).unwrap_or(usual.min_entries),
    }
}

fn report(section: &Section<'_>) -> ReportOptions {
    ReportOptions {
        decimal_separator: section.choice("decimal_separator", &[(",", ','), (".", '.')]).unwrap_or(','),
        keep_days: section.number("keep_days", 1, YEARS_100).unwrap_or(400),
        metrics_file: section.path("metrics_file", "/var/lib/prometheus/node-exporter/volbak.prom"),
    }
}

pub(super) fn seconds(section: &Section<'_>, key: &'static str, highest: i64, default: u64) -> Duration {
    section.number(key, 1, highest).map_or(Duration::from_secs(default), |n| Duration::from_secs(u64::from(n)))
}

/// One command as a list of texts, or several as a list of such lists.
fn commands(section: &Section<'_>, key: &'static str) -> Option<Vec<Vec<String>>> {
    let items = section.items(key)?;
    let right = format!("write the program and its arguments as a list: {key} = [\"/usr/bin/program\", \"argument\"]");
    let wrong = |place: &Place| section.reading.mistake(place, format!("`{key}` is no command"), &right);
    let argv = |items: &[Item], place: &Place| {
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

fn hooks(section: &Section<'_>) -> HookOptions {
    HookOptions {
        before_snapshot: commands(section, "before_snapshot").unwrap_or_default(),
        after_snapshot: commands(section, "after_snapshot").unwrap_or_default(),
        timeout: seconds(section, "timeout_seconds", 86_400, 60),
    }
}

fn verify(section: &Section<'_>) -> VerifyOptions {
    let level = section
        .choice("level", &[("quick", VerifyLevel::Quick), ("full", VerifyLevel::Full)])
        .unwrap_or(VerifyLevel::Full);
    let second_opinion = section.boolean("second_opinion").unwrap_or(false);
    if second_opinion && level == VerifyLevel::Quick {
        let what = "a quick check does not read the archive, so there is no second opinion on it";
        section.reading.mistake(&section.place("second_opinion"), what, "write level = \"full\"");
    }
    VerifyOptions {
        enabled: section.boolean("enabled").unwrap_or(false),
        level,
        second_opinion,
        share_percent: section.number("share_percent", 1, 100).unwrap_or(5),
        time_budget: section
            .number("time_budget_minutes", 1, 10_080)
            .map_or(Duration::from_secs(3600), |minutes| Duration::from_secs(u64::from(minutes) * 60)),
    }
}

fn volumes(reading: &Reading, top: &Section<'_>) -> Vec<VolumeException> {
    let mut tables = top.table("volume");
    if let Some(Item { value: Value::Environment(text), .. }) = reading.environment("", "volumes") {
        match reading.parse_environment("VOLBAK_VOLUMES", text.trim()).map(|item| (item.place, item.value)) {
            Some((_, Value::Table(entries))) => tables = entries,
            Some((place, _)) => {
                let right = "write it like {\"volume-1\" = {level = 1}}";
                reading.mistake(&place, "not a table of volumes", right);
            }
            None => {}
        }
    }
    let mut exceptions = Vec::new();
    for table in tables {
        let Value::Table(entries) = table.item.value else {
            let what = format!("[volume] has a key `{}` outside a volume's table", shown::text(&table.key));
            reading.mistake(&table.key_place, what, "write it under a line like [volume.\"volume-1\"]");
            continue;
        };
        let section = reading.section("volume.NAME", entries, false);
        match Pattern::new(&table.key) {
            Ok(pattern) => exceptions.push(exception(&section, pattern)),
            Err(error) => reading.mistake(
                &table.key_place,
                format!("[volume.\"{}\"] is no pattern: {error}", shown::text(&table.key)),
                "write a volume's name, or a pattern like \"volume-*\"",
            ),
        }
    }
    exceptions
}

fn exception(section: &Section<'_>, pattern: Pattern) -> VolumeException {
    let count = |key: &'static str| section.number(key, 0, 100_000);
    VolumeException {
        pattern,
        skip: section.boolean("skip"),
        max_volume: section.hours("max_volume_hours", 168),
        max_volume_size: section.parsed("max_volume_size", BYTES_RIGHT, |text| parse_bytes(text).filter(|b| *b > 0)),
        snapshot_max_size: section.parsed("snapshot_max_size", SIZE_RIGHT, parse_snapshot_size),
        level: level(section),
        exclude: exclude_list(section),
        backups_retention_days: section.number("backups_retention_days", 1, YEARS_100),
        keep_last: count("keep_last"),
        keep_daily: count("keep_daily"),
        keep_weekly: count("keep_weekly"),
        keep_monthly: count("keep_monthly"),
        keep_yearly: count("keep_yearly"),
        gone_days: section.number("gone_days", 1, YEARS_100),
        sudden_change: section.boolean("sudden_change"),
        before_snapshot: commands(section, "before_snapshot"),
        after_snapshot: commands(section, "after_snapshot"),
        hook_timeout: section.number("hook_timeout_seconds", 1, 86_400).map(|n| Duration::from_secs(u64::from(n))),
        expect: section.list("expect", Expectation::new),
    }
}
