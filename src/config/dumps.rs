//! The table `[dumps]` and each `[[dumps.instance]]`.

use super::kinds::{YEARS_100, patterns, seconds};
use super::mistake::Location;
use super::options::{DumpInstance, DumpKind, DumpOptions};
use super::section::Section;
use super::written::{Item, Value};

pub(super) fn read(section: &Section<'_>, is_on: bool, retention_days: u32) -> DumpOptions {
    let mut instances = Vec::new();
    let items = match section.item("instance") {
        Some(Item { place, value: Value::Table(_) }) => {
            let right = "write two brackets, [[dumps.instance]], so that there can be several";
            section.reading.mistake(&place, "`instance` is a single table", right);
            Vec::new()
        }
        _ => section.items("instance").unwrap_or_default(),
    };
    for item in items {
        let Value::Table(entries) = item.value else {
            let right = "write each instance's keys under a line [[dumps.instance]]";
            section.reading.mistake(&item.place, "`instance` is not a table", right);
            continue;
        };
        instances.extend(dump_instance(&Section::new(section.reading, "dumps.instance", entries, false), &item.place));
    }
    if is_on && instances.is_empty() && section.place("instance") == Location::Nowhere {
        section.reading.mistake(
            &Location::Nowhere,
            "`enable_mysql_dump` is on, and no instance is named",
            "add a table [[dumps.instance]] for each database",
        );
    }
    let usual = DumpOptions::default();
    DumpOptions {
        known_hosts: section.path("known_hosts", "/etc/volbak/known_hosts"),
        connect_timeout: seconds(section, "connect_timeout_seconds", 600).unwrap_or(usual.connect_timeout),
        timeout: seconds(section, "timeout_seconds", 604_800).unwrap_or(usual.timeout),
        retention_days: section.number("retention_days", 1, YEARS_100).unwrap_or(retention_days),
        instances,
    }
}

fn dump_instance(section: &Section<'_>, place: &Location) -> Option<DumpInstance> {
    let needed = |key: &'static str, value: Option<String>, example: &str| {
        if value.is_none() && section.place(key) == Location::Nowhere {
            let what = format!("this instance has no `{key}`");
            section.reading.mistake(place, what, format!("add {key} = \"{example}\""));
        }
        value
    };
    // ssh would take a word with a leading dash for an option.
    let word = |key: &'static str, right: &str| {
        section.parsed(key, right, |text| {
            let ok = !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace);
            ok.then(|| text.to_owned())
        })
    };
    let inside = |key: &'static str, right: &str| {
        section.parsed(key, right, |text| (text.starts_with('/') && !text.contains('\0')).then(|| text.to_owned()))
    };
    let host = needed("host", word("host", "write a host's name or address, like \"10.0.0.5\""), "10.0.0.5");
    let volumes = patterns(section, "volumes").unwrap_or_default();
    let kinds = [("mysql", DumpKind::Mysql), ("mariadb", DumpKind::Mariadb), ("postgresql", DumpKind::Postgresql)];
    let name = section.text("name", "shop-db");
    let port = section.number("port", 1, 65_535).and_then(|port| u16::try_from(port).ok()).unwrap_or(22);
    let user = word("user", "write a user's name, like \"backup\"").unwrap_or_else(|| "root".to_owned());
    let key = section.path("key", "/etc/volbak/id_ed25519");
    let kind = section.choice("kind", &kinds).unwrap_or(DumpKind::Mysql);
    let defaults_file = inside("defaults_file", "write an absolute path inside the instance, like \"/root/.my.cnf\"");
    let directory = inside("directory", "write an absolute path inside the instance, like \"/var/backups/mysql\"");
    let host = host?;
    Some(DumpInstance {
        name: name.unwrap_or_else(|| host.clone()),
        host,
        port,
        user,
        key,
        kind,
        defaults_file,
        directory: directory.unwrap_or_else(|| "/var/backups/volbak".to_owned()),
        volumes,
    })
}
