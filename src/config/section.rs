//! One table of the config during reading.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::mistake::{Location, nearest};
use super::reading::{Reading, environment_name};
use super::written::{Entry, Item, Value, shown};

/// One table during reading. Each method requests one key, from the environment first, then from the file. A value
/// of the wrong type is a mistake and reads as absent.
pub(super) struct Section<'r> {
    pub(super) reading: &'r Reading,
    pub(super) name: String,
    entries: Vec<Entry>,
    takes_environment: bool,
}

impl<'r> Section<'r> {
    /// The table `name` with these keys. `takes_environment`: environment variables override them.
    pub(super) fn new(reading: &'r Reading, name: &str, entries: Vec<Entry>, takes_environment: bool) -> Self {
        reading.note_written(name, &entries);
        Self { reading, name: name.to_owned(), entries, takes_environment }
    }

    /// The key's value as written.
    pub(super) fn item(&self, key: &'static str) -> Option<Item> {
        self.reading.note_asked(&self.name, key);
        let from_environment = if self.takes_environment { self.reading.environment(&self.name, key) } else { None };
        from_environment.or_else(|| self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.item.clone()))
    }

    /// The key's place, for a mistake found later.
    pub(super) fn place(&self, key: &'static str) -> Location {
        self.item(key).map_or(Location::Nowhere, |item| item.place)
    }

    /// Hours as a whole or decimal number.
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
        // The value may be the password itself instead of its file's name.
        let is_secret = key.contains("password") || key == "url" || key == "body";
        let written = if is_secret { "what is written".to_owned() } else { shown(&item.value) };
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

    pub(super) fn path(&self, key: &'static str, example: &str) -> Option<PathBuf> {
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

    /// One of several words.
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

    /// The items of a list. A single item needs no brackets; in the environment commas separate items.
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

    /// A list of strings, each parsed by `parse`, whose error states the correction.
    pub(super) fn list<T, E: fmt::Display>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
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
                    self.wrong::<()>(key, item, &right.to_string());
                }
            }
        }
        Some(list)
    }

    /// Whether the key, or the table of that name, is in the file.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// The keys of a table inside this one. No variable overrides a whole table.
    pub(super) fn table(&self, key: &'static str) -> Vec<Entry> {
        self.reading.note_table(key);
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
