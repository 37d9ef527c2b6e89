//! Reads a config key by key: looks up each key in the environment and the file, checks type and range, and
//! collects all mistakes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use toml::de::{DeTable, DeValue};

use super::mistake::{Location, Mistake, nearest};
use super::written::{Entry, Item, Lines, Value, entries, item};
use crate::shown;

/// The prefix of volbak's environment variables.
pub(super) const ENVIRONMENT_PREFIX: &str = "VOLBAK_";

const NOT_TOML: &str = "not TOML: ";

/// Environment variables set for hooks. Ignored as keys, so that a hook may run volbak itself.
pub const HOOK_ENVIRONMENT: [&str; 7] = [
    "VOLBAK_VOLUME",
    "VOLBAK_GROUP",
    "VOLBAK_SNAPSHOT",
    "VOLBAK_PHASE",
    "VOLBAK_OUTCOME",
    "VOLBAK_REPORT",
    "VOLBAK_SUBJECT",
];

/// The format of log lines, read by the command line. Ignored as a key.
pub const LOG_VARIABLE: &str = "VOLBAK_LOG";

/// The state of reading: the input, the keys requested, and the mistakes.
pub(super) struct Reading {
    environment: BTreeMap<String, String>,
    mistakes: RefCell<Vec<Mistake>>,
    /// Every section and key requested: all valid ones, once all sections are read.
    known: RefCell<BTreeSet<(String, &'static str)>>,
    /// The top-level tables.
    tables: RefCell<BTreeSet<&'static str>>,
    /// The keys in the file, compared with `known` at the end.
    written: RefCell<Vec<(String, String, Location)>>,
    used_environment: RefCell<BTreeSet<String>>,
}

impl Reading {
    pub(super) fn new(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut reading = Self {
            environment: BTreeMap::new(),
            mistakes: RefCell::default(),
            known: RefCell::default(),
            tables: RefCell::default(),
            written: RefCell::default(),
            used_environment: RefCell::default(),
        };
        for (name, value) in environment {
            let is_ours = |name: &&str| name.starts_with(ENVIRONMENT_PREFIX) && *name != LOG_VARIABLE;
            let Some(name) = name.to_str().filter(is_ours) else { continue };
            match value.into_string() {
                Ok(value) => {
                    reading.environment.insert(name.to_owned(), value);
                }
                Err(_) => reading.mistake(&Location::Environment(name.to_owned()), "not UTF-8", "use UTF-8"),
            }
        }
        reading
    }

    pub(super) fn mistake(&self, place: &Location, what: impl Into<String>, right: impl Into<String>) {
        self.mistakes.borrow_mut().push(Mistake { place: place.clone(), what: what.into(), right: right.into() });
    }

    /// The file's top-level table. Invalid TOML is a mistake, and the rest is still read.
    pub(super) fn parse(&self, text: &str) -> Vec<Entry> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::of(text);
        for error in errors {
            let place = error.span().map_or(Location::Nowhere, |span| lines.place(span.start));
            self.mistake(&place, format!("{NOT_TOML}{}", error.message()), "");
        }
        entries(table.get_ref(), &|offset| lines.place(offset))
    }

    /// A list or table written as TOML in an environment variable.
    pub(super) fn parse_environment(&self, name: &str, text: &str) -> Option<Item> {
        let (value, errors) = DeValue::parse_recoverable(text);
        let place = Location::Environment(name.to_owned());
        if let Some(error) = errors.first() {
            self.mistake(&place, format!("not a TOML value: {}", error.message()), "");
            return None;
        }
        Some(item(&value, &|_| place.clone()))
    }

    /// The variable for this key, if it is set.
    pub(super) fn environment(&self, section: &str, key: &str) -> Option<Item> {
        let name = environment_name(section, key);
        let text = self.environment.get(&name)?.clone();
        self.used_environment.borrow_mut().insert(name.clone());
        Some(Item { place: Location::Environment(name), value: Value::Environment(text) })
    }

    /// Records the keys of a table in the file.
    pub(super) fn note_written(&self, section: &str, entries: &[Entry]) {
        let keys = entries.iter().map(|entry| (section.to_owned(), entry.key.clone(), entry.key_place.clone()));
        self.written.borrow_mut().extend(keys);
    }

    /// Records a valid key.
    pub(super) fn note_asked(&self, section: &str, key: &'static str) {
        self.known.borrow_mut().insert((section.to_owned(), key));
    }

    /// Records a valid top-level table.
    pub(super) fn note_table(&self, key: &'static str) {
        self.tables.borrow_mut().insert(key);
    }

    /// Reports unknown keys, and returns all mistakes in the order of the file.
    pub(super) fn finish(self) -> Vec<Mistake> {
        let known = self.known.borrow();
        for (section, key, place) in self.written.borrow().iter() {
            let is_table = section.is_empty() && self.tables.borrow().contains(key.as_str());
            if !is_table && !known.iter().any(|(s, k)| s == section && k == key) {
                let (what, right) = about_unknown(&known, &self.tables.borrow(), section, key);
                self.mistake(place, what, right);
            }
        }
        let names: Vec<String> = known.iter().map(|(section, key)| environment_name(section, key)).collect();
        for name in self.environment.keys().filter(|name| !self.used_environment.borrow().contains(*name)) {
            let bare = name.trim_start_matches(ENVIRONMENT_PREFIX);
            let near = nearest(bare, names.iter().map(|known| known.trim_start_matches(ENVIRONMENT_PREFIX)));
            // Other programs' variables may have the same prefix; only what resembles a key is a mistake.
            if HOOK_ENVIRONMENT.contains(&name.as_str()) || (near.is_none() && !name.contains("__")) {
                continue;
            }
            let right = near.map_or_else(String::new, |near| format!("did you mean `{ENVIRONMENT_PREFIX}{near}`?"));
            self.mistake(&Location::Environment(name.clone()), "the config has no such key", right);
        }
        drop(known);
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by(|a, b| a.place.cmp(&b.place));
        // Invalid TOML reads as absent; a second mistake about its type would not help.
        let not_toml: BTreeSet<Location> =
            mistakes.iter().filter(|m| m.what.starts_with(NOT_TOML)).map(|m| m.place.clone()).collect();
        mistakes.retain(|m| m.what.starts_with(NOT_TOML) || !not_toml.contains(&m.place));
        mistakes.dedup();
        mistakes
    }

    /// Every section and key requested so far.
    #[cfg(test)]
    pub(super) fn known(&self) -> Vec<(String, &'static str)> {
        self.known.borrow().iter().cloned().collect()
    }
}

/// `VOLBAK_BACKUP_DESTINATION` for a top-level key, `VOLBAK_MAIL__SMTP_HOST` for one in a table.
pub(super) fn environment_name(section: &str, key: &str) -> String {
    let name = if section.is_empty() { key.to_owned() } else { format!("{section}__{key}") };
    format!("{ENVIRONMENT_PREFIX}{}", name.to_ascii_uppercase())
}

fn about_unknown(
    known: &BTreeSet<(String, &'static str)>,
    tables: &BTreeSet<&'static str>,
    section: &str,
    key: &str,
) -> (String, String) {
    let shown = |section: &str| if section.is_empty() { "the top level".to_owned() } else { format!("[{section}]") };
    if key == "password" {
        return (
            "a password is never written into the config".to_owned(),
            "put it into a file that only root can read and name that with `password_file`, or set it in the \
             environment as VOLBAK_MAIL__PASSWORD"
                .to_owned(),
        );
    }
    let what = format!("unknown key `{}` in {}", shown::text(key), shown(section));
    let mut here: Vec<&str> = known.iter().filter(|(s, _)| s == section).map(|(_, key)| *key).collect();
    if section.is_empty() {
        here.extend(tables);
    }
    // The documented script's variables and environment variables are in capitals.
    let small = key.to_ascii_lowercase();
    let exact = here.iter().copied().find(|known| *known == small);
    if let Some(near) = exact.or_else(|| nearest(&small, here.iter().copied())) {
        return (what, format!("did you mean `{near}`?"));
    }
    if let Some((other, known)) = known.iter().find(|(other, known)| other != section && *known == small) {
        let name = if *known == key { "it".to_owned() } else { format!("it is `{known}`, and") };
        return (what, format!("{name} belongs in {}", shown(other)));
    }
    (what, format!("known here: {}", here.join(", ")))
}
