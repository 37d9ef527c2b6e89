//! The tables of the config: keys, types and ranges. Keys that are not set have the table's `Default`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::expect::Expectation;
use super::kinds::{
    YEARS_100, address, bytes, commands, exclude_list, ionice, level, minutes, patterns, rate, seconds, snapshot_size,
    volume_groups,
};
use super::mistake::{Location, Mistake};
use super::options::{ArchiveOptions, ChangeLimits, HookOptions, RecheckOptions, ReportOptions};
use super::pattern::Pattern;
use super::reading::Reading;
use super::section::Section;
use super::volume::VolumeException;
use super::whole::Config;
use super::written::{Entry, Item, Value};
use super::{copy, dumps, encryption, fleet, group, mail, notify, openstack, rehearse, store, window};
use crate::archive::kind::{BackupMode, Compression};
use crate::report::{CheckLevel, Style};
use crate::shown;
use crate::source::FreezeOptions;
use crate::store::is_in_object_store;
use crate::store::retention::Policy;
use crate::store::shared::ArchiveLayout;

/// Reads everything. Missing and invalid values read as defaults; the config is valid only without mistakes.
pub(super) fn read(text: &str, environment: impl IntoIterator<Item = (OsString, OsString)>) -> (Config, Vec<Mistake>) {
    let reading = Reading::new(environment);
    let config = all(&reading, text);
    (config, reading.finish())
}

/// Reads every table, which requests every valid key.
pub(super) fn all(reading: &Reading, text: &str) -> Config {
    config(reading, reading.parse(text))
}

fn config(reading: &Reading, entries: Vec<Entry>) -> Config {
    let top = Section::new(reading, "", entries, true);
    let table = |name: &'static str| Section::new(reading, name, top.table(name), true);
    let usual = Config::default();

    let right = "write an absolute path, like backup_destination = \"/BACKUPS/EBS-VOL\", s3://BUCKET/PREFIX or swift://CONTAINER/PREFIX";
    let destination = top.parsed("backup_destination", right, |text| {
        (text.starts_with('/') || is_in_object_store(Path::new(text))).then(|| PathBuf::from(text))
    });
    if destination.is_none() && top.place("backup_destination") == Location::Nowhere {
        reading.mistake(
            &Location::Nowhere,
            "`backup_destination` is not set",
            "name the directory for the backups, like backup_destination = \"/BACKUPS/EBS-VOL\"",
        );
    }
    let enable_mysql_dump = top.boolean("enable_mysql_dump").unwrap_or(usual.enable_mysql_dump);
    let enable_mail_notification = top.boolean("enable_mail_notification").unwrap_or(usual.enable_mail_notification);
    let email_recipient = top.list("email_recipient", address).unwrap_or(usual.email_recipient);
    let nobody_is_named = top.items("email_recipient").is_none_or(|items| items.is_empty());
    if enable_mail_notification && nobody_is_named {
        reading.mistake(
            &top.place("enable_mail_notification"),
            "mail is switched on, but has no recipients",
            "add email_recipient = [\"admin@example.com\"]",
        );
    }
    let include = patterns(&top, "include").unwrap_or(usual.include);
    let is_empty = |key: &'static str| top.items(key).is_some_and(|items| items.is_empty());
    if is_empty("include") {
        reading.mistake(
            &top.place("include"),
            "`include` is empty: nothing would be backed up",
            "write [\"*\"] for all",
        );
    }
    let retention = retention(&top, &table("retention"));
    let (change, finds_sudden_changes) = change(&table("sudden_change"), usual.finds_sudden_changes);
    let hook_table = table("hooks");
    let (encryption, encrypted) = encryption::read(&table("encryption"));
    let archive_table = table("archive");
    let archive = ArchiveOptions { encryption: encrypted, ..archive(&archive_table) };
    let (store, volumes) = (store::read(&table("store")), volumes(reading, &top));
    if archive.layout == ArchiveLayout::Shared && destination.as_deref().is_some_and(is_in_object_store) {
        let has_images = volumes.iter().any(|volume| volume.mode == Some(BackupMode::Image));
        let others = [
            (store.lock.is_some(), "`lock` in [store]"),
            (archive.encryption.is_some(), "encryption"),
            (has_images, "`mode = \"image\"`"),
        ];
        for (_, with) in others.into_iter().filter(|(is_set, _)| *is_set) {
            reading.mistake(
                &archive_table.place("layout"),
                format!("`layout = \"shared\"` does not work together with {with} in an object store"),
                "write layout = \"plain\"",
            );
        }
    }
    Config {
        backup_destination: destination.unwrap_or(usual.backup_destination),
        enable_checksum: top.boolean("enable_checksum").unwrap_or(usual.enable_checksum),
        enable_mysql_dump,
        enable_lvmsnapshots: top.boolean("enable_lvmsnapshots").unwrap_or(usual.enable_lvmsnapshots),
        enable_mail_notification,
        lvm_test_mode: top.boolean("lvm_test_mode").unwrap_or(usual.lvm_test_mode),
        volume_groups: volume_groups(&top).unwrap_or(usual.volume_groups),
        changeable: None,
        volume_groups_by_default: top.place("volume_groups") == Location::Nowhere,
        include,
        exclude: patterns(&top, "exclude").unwrap_or(usual.exclude),
        require_mount: top.boolean("require_mount").unwrap_or(usual.require_mount),
        max_run: top.hours("max_run_hours", 168),
        jobs: count(&top, "jobs", 64).unwrap_or(usual.jobs),
        jobs_per_group: count(&top, "jobs_per_group", 64).unwrap_or(usual.jobs_per_group),
        retry_pause: top
            .number("retry_pause_seconds", 0, 3600)
            .map_or(usual.retry_pause, |seconds| Duration::from_secs(u64::from(seconds))),
        window: window::read(&top),
        max_volume: top.hours("max_volume_hours", 168),
        max_volume_size: bytes(&top, "max_volume_size"),
        nice: top.number("nice", 0, 19),
        ionice: ionice(&top, "ionice"),
        read_rate_limit: rate(&top, "read_rate_limit"),
        snapshot: snapshot(&top, &table("snapshot")),
        archive,
        encryption,
        finds_sudden_changes,
        change,
        report: report(&table("report")),
        mail: mail::read(&table("mail"), enable_mail_notification),
        dumps: dumps::read(&table("dumps"), enable_mysql_dump, retention.retention_days),
        after_run: commands(&hook_table, "after_run").unwrap_or_default(),
        hooks: hooks(&hook_table),
        notify: notify::read(&top),
        copy: copy::read(&table("copy"), top.has("copy")),
        fleet: fleet::read(&table("fleet")),
        openstack: openstack::read(&table("openstack"), top.has("openstack")),
        store,
        verify: verify(&table("verify")),
        rehearse: rehearse::read(&table("rehearse")),
        groups: group::read(reading, &top),
        volumes,
        retention,
        email_recipient,
    }
}

fn count(section: &Section<'_>, key: &'static str, highest: i64) -> Option<usize> {
    section.number(key, 1, highest).and_then(|count| usize::try_from(count).ok())
}

fn snapshot(top: &Section<'_>, section: &Section<'_>) -> FreezeOptions {
    let usual = FreezeOptions::default();
    FreezeOptions {
        snapshot_size: snapshot_size(top, "snapshot_max_size").unwrap_or(usual.snapshot_size),
        extend: section.boolean("extend").unwrap_or(usual.extend),
        ..usual
    }
}

fn archive(section: &Section<'_>) -> ArchiveOptions {
    let usual = ArchiveOptions::default();
    let days = section.number("full_read_every_days", 0, YEARS_100);
    ArchiveOptions {
        encryption: None,
        level: level(section).unwrap_or(usual.level),
        format: format(section).unwrap_or(usual.format),
        threads: section.number("threads", 1, 1024),
        exclude: exclude_list(section).unwrap_or(usual.exclude),
        scratch: section.path("scratch", "/var/tmp"),
        by_kernel: section.choice("reader", &[("auto", false), ("kernel", true)]).unwrap_or(usual.by_kernel),
        read_only_snapshots: section.boolean("read_only_snapshots").unwrap_or(usual.read_only_snapshots),
        full_read_every_days: days.unwrap_or(usual.full_read_every_days),
        share_blocks: section.boolean("share_blocks").unwrap_or(usual.share_blocks),
        layout: section
            .choice("layout", &[("plain", ArchiveLayout::Plain), ("shared", ArchiveLayout::Shared)])
            .unwrap_or(usual.layout),
    }
}

fn format(section: &Section<'_>) -> Option<Compression> {
    section.choice("format", &Compression::ALL.map(|compression| (compression.format(), compression)))
}

fn retention(top: &Section<'_>, section: &Section<'_>) -> Policy {
    let days = top.number("backups_retention_days", 1, YEARS_100);
    let usual = days.map_or_else(Policy::default, Policy::days);
    let days = usual.retention_days;
    let count = |key: &'static str, usual: u32| section.number(key, 0, 100_000).unwrap_or(usual);
    let gone_days = section.number("gone_days", 1, YEARS_100);
    if gone_days.is_some_and(|gone_days| gone_days < days) {
        section.reading.mistake(
            &section.place("gone_days"),
            format!("`gone_days` is below `backups_retention_days` ({days})"),
            "backups of a volume that is gone are kept longer than others, not shorter",
        );
    }
    Policy {
        retention_days: days,
        keep_last: count("keep_last", usual.keep_last),
        keep_daily: count("keep_daily", usual.keep_daily),
        keep_weekly: count("keep_weekly", usual.keep_weekly),
        keep_monthly: count("keep_monthly", usual.keep_monthly),
        keep_yearly: count("keep_yearly", usual.keep_yearly),
        gone_days: gone_days.unwrap_or(usual.gone_days),
        remove_last_of_gone: section.boolean("remove_last_of_gone").unwrap_or(usual.remove_last_of_gone),
    }
}

fn change(section: &Section<'_>, is_usual: bool) -> (ChangeLimits, bool) {
    let usual = ChangeLimits::default();
    let is_on = section.boolean("enabled").unwrap_or(is_usual);
    let limits = ChangeLimits {
        below_percent: section.number("below_percent", 1, 99).unwrap_or(usual.below_percent),
        changed_percent: section.number("changed_percent", 1, 100).unwrap_or(usual.changed_percent),
        min_entries: section.number("min_entries", 1, 1_000_000).map_or(usual.min_entries, u64::from),
    };
    (limits, is_on)
}

fn report(section: &Section<'_>) -> ReportOptions {
    let usual = ReportOptions::default();
    let separator = section.choice("decimal_separator", &[(",", ','), (".", '.')]);
    ReportOptions {
        style: separator.map_or(usual.style, |decimal_separator| Style { decimal_separator }),
        keep_days: section.number("keep_days", 1, YEARS_100).unwrap_or(usual.keep_days),
        metrics_file: section.path("metrics_file", "/var/lib/prometheus/node-exporter/volbak.prom"),
    }
}

fn hooks(section: &Section<'_>) -> HookOptions {
    let usual = HookOptions::default();
    HookOptions {
        before_snapshot: commands(section, "before_snapshot").unwrap_or(usual.before_snapshot),
        after_snapshot: commands(section, "after_snapshot").unwrap_or(usual.after_snapshot),
        timeout: seconds(section, "timeout_seconds", 86_400).unwrap_or(usual.timeout),
        freeze_limit: seconds(section, "freeze_limit_seconds", 3600).unwrap_or(usual.freeze_limit),
    }
}

fn verify(section: &Section<'_>) -> RecheckOptions {
    let usual = RecheckOptions::default();
    let level =
        section.choice("level", &[("quick", CheckLevel::Quick), ("full", CheckLevel::Full)]).unwrap_or(usual.level);
    let second_opinion = section.boolean("second_opinion").unwrap_or(usual.second_opinion);
    if second_opinion && level == CheckLevel::Quick {
        let what = "a quick check does not read the archive, so there is no second opinion on it";
        section.reading.mistake(&section.place("second_opinion"), what, "write level = \"full\"");
    }
    RecheckOptions {
        enabled: section.boolean("enabled").unwrap_or(usual.enabled),
        level,
        second_opinion,
        share_percent: section.number("share_percent", 1, 100).unwrap_or(usual.share_percent),
        time_budget: minutes(section, "time_budget_minutes", 10_080).unwrap_or(usual.time_budget),
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
        let section = Section::new(reading, "volume.NAME", entries, false);
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
        mode: section.choice("mode", &[("files", BackupMode::Files), ("image", BackupMode::Image)]),
        skip: section.boolean("skip"),
        max_volume: section.hours("max_volume_hours", 168),
        max_volume_size: bytes(section, "max_volume_size"),
        snapshot_max_size: snapshot_size(section, "snapshot_max_size"),
        level: level(section),
        format: format(section),
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
        hook_timeout: seconds(section, "hook_timeout_seconds", 86_400),
        freeze_limit: seconds(section, "freeze_limit_seconds", 3600),
        expect: section.list("expect", Expectation::new),
    }
}
