//! Manual pages: one for each verb, from the arguments, and volbak.toml(5), from the example of the config.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::roff::{Roff, bold, roman};
use volbak::config::Config;

use super::args::Cli;

/// Marks a line of the example that shows no default.
const EXAMPLE: &str = "# an example";

/// Writes all pages into this directory.
pub(crate) fn write(directory: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory).with_context(|| directory.display().to_string())?;
    let path = directory.join("volbak.toml.5");
    std::fs::write(&path, config_page(Config::example())).with_context(|| path.display().to_string())
}

/// A line of the example.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Empty,
    Text(&'a str),
    /// The line of a table: `[mail]`.
    Table(&'a str),
    /// A key with its value.
    Key {
        key: &'a str,
        value: &'a str,
        is_example: bool,
    },
}

fn line(line: &str) -> Line<'_> {
    let is_comment = line.starts_with('#');
    let bare = line.strip_prefix('#').unwrap_or(line).trim();
    let (code, is_example) = match bare.strip_suffix(EXAMPLE) {
        Some(code) => (code.trim_end(), true),
        None => (bare, false),
    };
    if bare.is_empty() {
        return if is_comment { Line::Text("") } else { Line::Empty };
    }
    if code.starts_with('[') && code.ends_with(']') {
        return Line::Table(code);
    }
    let is_key =
        |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match code.split_once(" = ") {
        Some((key, value)) if is_key(key) => Line::Key { key, value, is_example },
        _ => Line::Text(bare),
    }
}

/// The page, in the language of man.
fn config_page(example: &str) -> String {
    let mut roff = Roff::new();
    let program = format!("volbak {}", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["VOLBAK.TOML", "5", "", &program, ""]);
    roff.control("SH", ["NAME"]).text([roman("volbak.toml - configuration of volbak")]);
    roff.control("SH", ["DESCRIPTION"]);
    let mut text: Vec<&str> = Vec::new();
    let mut keys: Vec<(&str, &str, bool)> = Vec::new();
    for read in example.lines().map(line) {
        match read {
            Line::Key { key, value, is_example } => {
                keys.push((key, value, is_example));
                continue;
            }
            // A key without a text of its own belongs to the text before it.
            _ if !keys.is_empty() => entry(&mut roff, &mut text, &mut keys),
            _ => {}
        }
        match read {
            Line::Text(more) => text.push(more),
            Line::Empty => paragraph(&mut roff, &mut text),
            Line::Table(name) => {
                roff.control("SH", [name]);
                paragraph(&mut roff, &mut text);
            }
            Line::Key { .. } => {}
        }
    }
    if keys.is_empty() {
        paragraph(&mut roff, &mut text);
    } else {
        entry(&mut roff, &mut text, &mut keys);
    }
    roff.control("SH", ["SEE ALSO"]).text([bold("volbak"), roman("(1), "), bold("volbak-config"), roman("(1)")]);
    roff.render()
}

fn paragraph(roff: &mut Roff, text: &mut Vec<&str>) {
    if !text.is_empty() {
        roff.control("PP", []).text([roman(text.join(" "))]);
        text.clear();
    }
}

/// Keys, and the text about them.
fn entry(roff: &mut Roff, text: &mut Vec<&str>, keys: &mut Vec<(&str, &str, bool)>) {
    for (at, (key, value, is_example)) in keys.drain(..).enumerate() {
        roff.control(if at == 0 { "TP" } else { "TQ" }, []);
        let about = if is_example { "for example " } else { "" };
        roff.text([bold(key), roman(format!(" = {about}{value}"))]);
    }
    roff.text([roman(if text.is_empty() { "See above.".to_owned() } else { text.join(" ") })]);
    text.clear();
}

#[cfg(test)]
mod tests {
    use volbak::config::Config;

    use super::{Line, config_page, line};

    #[test]
    fn lines_of_the_example_are_told_apart() {
        assert_eq!(line("# keep_last = 0"), Line::Key { key: "keep_last", value: "0", is_example: false });
        let nice = Line::Key { key: "nice", value: "10", is_example: true };
        assert_eq!(line("# nice = 10  # an example"), nice);
        assert_eq!(line("# [volume.\"volume-0000001a\"]  # an example"), Line::Table("[volume.\"volume-0000001a\"]"));
        assert_eq!(line("[mail]"), Line::Table("[mail]"));
        assert_eq!(
            line("# Sizes are printed as 3,5G or as 3.5G."),
            Line::Text("Sizes are printed as 3,5G or as 3.5G.")
        );
        assert_eq!((line(""), line("#")), (Line::Empty, Line::Text("")));
    }

    #[test]
    fn each_key_has_its_entry_and_no_text_is_lost() {
        let page = config_page(Config::example()).replace("\\-", "-").replace("\\&", "");
        let words =
            |text: &str| text.split_whitespace().filter(|word| word.len() > 12).map(str::to_owned).collect::<Vec<_>>();
        let page_words = words(&page);
        for read in Config::example().lines() {
            match line(read) {
                Line::Key { key, .. } => assert!(page.contains(&format!("\\fB{key}\\fR = ")), "{key}"),
                Line::Text(text) if !text.contains('\\') => {
                    for word in words(text) {
                        assert!(page_words.contains(&word), "{word}");
                    }
                }
                _ => {}
            }
        }
    }
}
