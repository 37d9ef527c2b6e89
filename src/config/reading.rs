//! Takes a config apart key by key: looks each key up in the environment and the file, checks its kind and range, and
//! gathers every mistake rather than stopping at the first.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Place, nearest};
use crate::shown;

/// What every name of ours in the environment begins with.
pub(super) const ENVIRONMENT_PREFIX: &str = "VOLBAK_";

const NOT_TOML: &str = "not TOML: ";

/// What hooks are given in their environment. Never taken for keys, so that a hook may run volbak itself.
pub const HOOK_ENVIRONMENT: [&str; 5] =
    ["VOLBAK_VOLUME", "VOLBAK_GROUP", "VOLBAK_SNAPSHOT", "VOLBAK_PHASE", "VOLBAK_OUTCOME"];

/// How log lines are written; the command line reads it. Never taken for a key.
pub const LOG_VARIABLE: &str = "VOLBAK_LOG";

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(Option<i64>),
    Float(f64),
    Boolean(bool),
    Date,
    List(Vec<Item>),
    Table(Vec<Entry>),
    /// From the environment, where everything is text: the key's own kind decides how it is read.
    Environment(String),
}

/// A value and where it is.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A key of a table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) item: Item,
}

/// The whole reading: what was given, what was asked for, and what was wrong.
pub(super) struct Reading {
    environment: BTreeMap<String, String>,
    mistakes: RefCell<Vec<Mistake>>,
    /// Every section and key that was asked for: all that there are, once all sections are read.
    known: RefCell<BTreeSet<(String, &'static str)>>,
    /// The tables of the top level.
    tables: RefCell<BTreeSet<&'static str>>,
    /// What the file holds, to be judged against `known` at the end.
    written: RefCell<Vec<(String, String, Place)>>,
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
                Err(_) => reading.mistake(&Place::Environment(name.to_owned()), "not UTF-8", "use UTF-8"),
            }
        }
        reading
    }

    pub(super) fn mistake(&self, place: &Place, what: impl Into<String>, right: impl Into<String>) {
        self.mistakes.borrow_mut().push(Mistake { place: place.clone(), what: what.into(), right: right.into() });
    }

    /// The file's top-level table. What is not TOML is a mistake, and the rest is read all the same.
    pub(super) fn parse(&self, text: &str) -> Vec<Entry> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::of(text);
        for error in errors {
            let place = error.span().map_or(Place::Nowhere, |span| lines.place(span.start));
            self.mistake(&place, format!("{NOT_TOML}{}", error.message()), "");
        }
        entries(table.get_ref(), &|offset| lines.place(offset))
    }

    /// A list or table written as TOML in an environment variable.
    pub(super) fn parse_environment(&self, name: &str, text: &str) -> Option<Item> {
        let (value, errors) = DeValue::parse_recoverable(text);
        let place = Place::Environment(name.to_owned());
        if let Some(error) = errors.first() {
            self.mistake(&place, format!("not a TOML value: {}", error.message()), "");
            return None;
        }
        Some(item(&value, &|_| place.clone()))
    }

    /// The variable that stands for this key, when it is set.
    pub(super) fn environment(&self, section: &str, key: &str) -> Option<Item> {
        let name = environment_name(section, key);
        let text = self.environment.get(&name)?.clone();
        self.used_environment.borrow_mut().insert(name.clone());
        Some(Item { place: Place::Environment(name), value: Value::Environment(text) })
    }

    /// A table's view for reading its keys.
    pub(super) fn section(&self, name: &str, entries: Vec<Entry>, takes_environment: bool) -> Section<'_> {
        let mut written = self.written.borrow_mut();
        for entry in &entries {
            written.push((name.to_owned(), entry.key.clone(), entry.key_place.clone()));
        }
        drop(written);
        Section { reading: self, name: name.to_owned(), entries, takes_environment }
    }

    /// Judges what was written and never asked for, and gives all mistakes in the order of the file.
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
            // Other programs' names may begin like ours; what looks like a key that is misspelt is a mistake.
            if HOOK_ENVIRONMENT.contains(&name.as_str()) || (near.is_none() && !name.contains("__")) {
                continue;
            }
            let right = near.map_or_else(String::new, |near| format!("did you mean `{ENVIRONMENT_PREFIX}{near}`?"));
            self.mistake(&Place::Environment(name.clone()), "no key of the config is called so", right);
        }
        drop(known);
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by(|a, b| a.place.cmp(&b.place));
        // What is not TOML reads as nothing; that this nothing is also of the wrong kind helps nobody.
        let not_toml: BTreeSet<Place> =
            mistakes.iter().filter(|m| m.what.starts_with(NOT_TOML)).map(|m| m.place.clone()).collect();
        mistakes.retain(|m| m.what.starts_with(NOT_TOML) || !not_toml.contains(&m.place));
        mistakes.dedup();
        mistakes
    }

    /// Every section and key that was asked for so far.
    #[cfg(test)]
    pub(super) fn known(&self) -> Vec<(String, &'static str)> {
        self.known.borrow().iter().cloned().collect()
    }
}

/// `VOLBAK_BACKUP_DESTINATION` for a key at top level, `VOLBAK_MAIL__SMTP_HOST` for one in a table.
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
    // The documented script's variables, and those of the environment, are in capitals.
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

/// Where each line of a text begins.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.starts[line - 1]..offset.min(self.text.len())).unwrap_or_default();
        Place::File { line, column: before.chars().count() + 1 }
    }
}

/// A table's keys in the order of the text.
fn entries(table: &DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Vec<Entry> {
    let mut in_order: Vec<_> = table.iter().collect();
    in_order.sort_by_key(|(key, _)| key.span().start);
    in_order
        .into_iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_place: place(key.span().start),
            item: item(value, place),
        })
        .collect()
}

fn item(value: &Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> Place) -> Item {
    let read = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(is) => Value::Boolean(*is),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(list) => Value::List(list.iter().map(|value| item(value, place)).collect()),
        DeValue::Table(table) => Value::Table(entries(table, place)),
    };
    Item { place: place(value.span().start), value: read }
}

/// One table while its keys are read. Each method asks for one key: the environment is looked at first, then the
/// file; a value of the wrong kind is a mistake and reads as absent.
pub(super) struct Section<'r> {
    pub(super) reading: &'r Reading,
    pub(super) name: String,
    entries: Vec<Entry>,
    takes_environment: bool,
}

impl Section<'_> {
    /// The key's value as it was written.
    pub(super) fn item(&self, key: &'static str) -> Option<Item> {
        self.reading.known.borrow_mut().insert((self.name.clone(), key));
        let from_environment = if self.takes_environment { self.reading.environment(&self.name, key) } else { None };
        from_environment.or_else(|| self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.item.clone()))
    }

    /// Where the key was written, for a mistake that shows only later.
    pub(super) fn place(&self, key: &'static str) -> Place {
        self.item(key).map_or(Place::Nowhere, |item| item.place)
    }

    /// Hours, in whole or broken numbers.
    pub(super) fn hours(&self, key: &'static str, highest: u32) -> Option<Duration> {
        let item = self.item(key)?;
        let hours = match &item.value {
            Value::Integer(Some(number)) => i32::try_from(*number).ok().map(f64::from),
            Value::Float(number) => Some(*number),
            Value::Environment(text) => text.trim().parse().ok(),
            _ => None,
        };
        hours
            .filter(|hours| *hours > 0.0 && *hours <= f64::from(highest))
            .map(|hours| Duration::from_secs_f64(hours * 3600.0))
            .or_else(|| {
                self.wrong(key, &item, &format!("write hours, more than 0 and up to {highest}, like {key} = 5.5"))
            })
    }

    fn wrong<T>(&self, key: &str, item: &Item, right: &str) -> Option<T> {
        // Somebody may have put the password where its file's name belongs.
        let written = if key.contains("password") { "what is written".to_owned() } else { shown(&item.value) };
        self.reading.mistake(&item.place, format!("`{key}` cannot be {written}"), right);
        None
    }

    pub(super) fn text(&self, key: &'static str, example: &str) -> Option<String> {
        let item = self.item(key)?;
        match &item.value {
            Value::Text(text) | Value::Environment(text) if !text.trim().is_empty() => Some(text.clone()),
            _ => self.wrong(key, &item, &format!("write text, like {key} = \"{example}\"")),
        }
    }

    pub(super) fn parsed<T>(&self, key: &'static str, right: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let item = self.item(key)?;
        let read = match &item.value {
            Value::Text(text) | Value::Environment(text) => parse(text),
            Value::Integer(Some(number)) => parse(&number.to_string()),
            _ => None,
        };
        read.or_else(|| self.wrong(key, &item, right))
    }

    pub(super) fn path(&self, key: &'static str, example: &str) -> Option<std::path::PathBuf> {
        let right = format!("write an absolute path, like {key} = \"{example}\"");
        self.parsed(key, &right, |text| text.starts_with('/').then(|| text.into()))
    }

    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let item = self.item(key)?;
        match &item.value {
            Value::Boolean(is) => Some(*is),
            Value::Environment(text) if text == "true" => Some(true),
            Value::Environment(text) if text == "false" => Some(false),
            _ => self.wrong(key, &item, &format!("write {key} = true or {key} = false, without quotes")),
        }
    }

    pub(super) fn number(&self, key: &'static str, lowest: i64, highest: i64) -> Option<u32> {
        let item = self.item(key)?;
        let number = match &item.value {
            Value::Integer(number) => *number,
            Value::Environment(text) => text.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| (lowest..=highest).contains(number))
            .and_then(|number| u32::try_from(number).ok())
            .or_else(|| {
                self.wrong(key, &item, &format!("write a whole number from {lowest} to {highest}, without quotes"))
            })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let item = self.item(key)?;
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let (Value::Text(text) | Value::Environment(text)) = &item.value else {
            return self.wrong(key, &item, &format!("write one of {}", words.join(", ")));
        };
        let found = choices.iter().find(|(word, _)| word == text).map(|(_, choice)| *choice);
        found.or_else(|| {
            let near = nearest(text, choices.iter().map(|(word, _)| *word));
            let meant = near.map_or_else(String::new, |near| format!("did you mean \"{near}\"? "));
            self.wrong(key, &item, &format!("{meant}it is one of {}", words.join(", ")))
        })
    }

    /// The items of a list; a single one may stand without brackets, and the environment may part them by commas.
    pub(super) fn items(&self, key: &'static str) -> Option<Vec<Item>> {
        let item = self.item(key)?;
        match item.value {
            Value::List(items) => Some(items),
            Value::Environment(text) if text.trim_start().starts_with('[') => {
                let name = environment_name(&self.name, key);
                match self.reading.parse_environment(&name, text.trim())?.value {
                    Value::List(items) => Some(items),
                    _ => None,
                }
            }
            Value::Environment(text) => Some(
                text.split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| Item { place: item.place.clone(), value: Value::Text(part.to_owned()) })
                    .collect(),
            ),
            Value::Text(_) => Some(vec![item]),
            _ => self.wrong(key, &item, &format!("write a list, like {key} = [\"one\", \"two\"]")),
        }
    }

    /// A list of texts, each read by `parse`, whose error says what would be right.
    pub(super) fn list<T>(&self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let items = self.items(key)?;
        let mut list = Vec::new();
        for item in &items {
            let Value::Text(text) = &item.value else {
                self.wrong::<()>(key, item, "each of its items is text in quotes");
                continue;
            };
            match parse(text) {
                Ok(value) => list.push(value),
                Err(right) => {
                    self.wrong::<()>(key, item, &right);
                }
            }
        }
        Some(list)
    }

    /// The keys of a table inside this one. No variable stands for a whole table.
    pub(super) fn table(&self, key: &'static str) -> Vec<Entry> {
        self.reading.tables.borrow_mut().insert(key);
        match self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.item.clone()) {
            None => Vec::new(),
            Some(Item { value: Value::Table(entries), .. }) => entries,
            Some(item) => {
                self.wrong::<()>(key, &item, &format!("it is a table: write its keys under a line [{key}]"));
                Vec::new()
            }
        }
    }
}

/// A value as a mistake shows it: short, and nothing that could be a secret's neighbour.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Environment(text) if text.trim().is_empty() => "empty".to_owned(),
        Value::Text(text) | Value::Environment(text) => {
            let short: String = text.chars().take(40).collect();
            format!("\"{}{}\"", short.escape_debug(), if short.len() < text.len() { "…" } else { "" })
        }
        Value::Integer(Some(number)) => number.to_string(),
        Value::Integer(None) => "so large a number".to_owned(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(is) => is.to_string(),
        Value::Date => "a date".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}
