//! Examples in documents: blocks of command lines, which begin with `$ ` (and go on after a `\` at the end), each followed
//! by its standard output. Numbers, dates and UUIDs differ from day to day and from machine to machine, as does the space
//! that lines them up: both sides are compared without. A line with `…` alone stands for any number of lines.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::wait::day_that_lasts;

#[derive(Debug, PartialEq)]
pub struct Example {
    pub command: String,
    pub output: Vec<String>,
}

/// Runs examples one after the other in a directory, and compares what they print.
pub fn run(examples: &[Example], directory: &Path) {
    let binaries = Path::new(env!("CARGO_BIN_EXE_volbak")).parent().unwrap();
    let path = format!("{}:{}:/usr/sbin:/sbin", binaries.display(), std::env::var("PATH").unwrap());
    for example in examples {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &example.command])
            .current_dir(directory)
            .env("PATH", &path)
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "$ {}\n{printed}{said}{}", example.command, output.status);
        let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
        assert!(
            matches(&example.output, &printed),
            "$ {}\nThe document says:\n{}\nIt prints:\n{}",
            example.command,
            example.output.join("\n"),
            printed.join("\n")
        );
    }
}

/// The examples of each block that has this line before it.
pub fn tested_examples(readme: &str, mark: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let (mut marked, mut inside, mut goes_on) = (false, false, false);
    for line in readme.lines() {
        if !inside {
            inside = marked && line.trim() == "```console";
            marked = line.trim() == mark;
        } else if line.trim() == "```" {
            inside = false;
        } else if goes_on {
            let command = &mut examples.last_mut().unwrap().command;
            command.push('\n');
            command.push_str(line);
            goes_on = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ") {
            examples.push(Example { command: command.to_owned(), output: Vec::new() });
            goes_on = line.ends_with('\\');
        } else {
            examples.last_mut().expect("a block begins with a command").output.push(line.to_owned());
        }
    }
    examples
}

/// Whether this is what was to be printed, figures aside.
pub fn matches(expected: &[String], printed: &[String]) -> bool {
    // Empty lines at the end only set an example apart from the next one.
    let end = expected.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
    matches_lines(&expected[..end], printed)
}

fn matches_lines(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.iter().all(|line| line.trim().is_empty()),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=printed.len()).any(|skipped| matches_lines(rest, &printed[skipped..]))
        }
        Some((first, rest)) => printed.split_first().is_some_and(|(line, others)| {
            without_figures(first) == without_figures(line) && matches_lines(rest, others)
        }),
    }
}

/// The line with one space between words, `#` for each number with its unit and each month, and `X` for UUIDs and digests.
fn without_figures(line: &str) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const UNITS: [&str; 12] = ["B", "KiB", "MiB", "GiB", "TiB", "K", "M", "G", "s", "ms", "B/s", "MiB/s"];
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_hex = bare.len() >= 8 && bare.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if is_hex {
            words.push("X".to_owned());
        } else if UNITS.contains(&bare) && words.last().is_some_and(|last| last.ends_with('#')) {
            // 1.2 MiB on one machine is 950 KiB on another.
        } else if MONTHS.contains(&word) {
            words.push("#".to_owned());
        } else {
            let mut masked = String::new();
            for c in word.chars() {
                let part_of_number = c.is_ascii_digit() || ((c == '.' || c == ',') && masked.ends_with('#'));
                if !part_of_number {
                    masked.push(c);
                } else if !masked.ends_with('#') {
                    masked.push('#');
                }
            }
            words.push(masked);
        }
    }
    words.join(" ")
}

/// The blocks of docs/runbook.md with this mark, with places and dates put in.
pub fn runbook(mark: &str, places: &[(&str, &str)]) -> Vec<Example> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbook.md");
    // A block in a list is set in as the list is.
    let text: String = fs::read_to_string(path).unwrap().lines().map(|line| unindented(line) + "\n").collect();
    day_that_lasts();
    let today = chrono::Local::now();
    let dates = [("20_11_2026", today.format("%d_%m_%Y").to_string()), ("2026-11-20", today.format("%F").to_string())];
    let put_in = |text: &str| {
        let text = dates.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        places.iter().fold(text, |text, (from, to)| text.replace(from, to))
    };
    let examples: Vec<Example> = tested_examples(&text, mark)
        .into_iter()
        .map(|example| Example {
            command: put_in(&example.command),
            output: example.output.iter().map(|line| put_in(line)).collect(),
        })
        .collect();
    assert!(!examples.is_empty(), "the runbook has no block with `{mark}` before it");
    examples
}

fn unindented(line: &str) -> String {
    line.strip_prefix("   ").unwrap_or(line).to_owned()
}
