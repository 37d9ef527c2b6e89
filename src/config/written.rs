//! Keys and values as written, with their places.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Location;

/// A value as written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(Option<i64>),
    Float(f64),
    Boolean(bool),
    Date,
    List(Vec<Item>),
    Table(Vec<Entry>),
    /// From the environment, as text: the key's type decides how it is parsed.
    Environment(String),
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) place: Location,
    pub(super) value: Value,
}

/// A key of a table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Location,
    pub(super) item: Item,
}

/// The offset of each line.
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    pub(super) fn place(&self, offset: usize) -> Location {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.starts[line - 1]..offset.min(self.text.len())).unwrap_or_default();
        Location::File { line, column: before.chars().count() + 1 }
    }
}

/// A table's keys in the order of the text.
pub(super) fn entries(table: &DeTable<'_>, place: &dyn Fn(usize) -> Location) -> Vec<Entry> {
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

pub(super) fn item(value: &Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> Location) -> Item {
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

/// A value for a message about a mistake: short, and without nested values, which could be secrets.
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
