//! The README's examples are real: each ```console block with a `<!-- tested -->` line before it is run here, all of
//! them in order in one empty directory, and what they print is compared with what the README says they print.
//!
//! A block has command lines, which begin with `$ ` (and go on after a `\` at the end), each followed by its standard
//! output. Numbers, dates and UUIDs differ from day to day and from machine to machine, as does the space that lines
//! them up: both sides are compared without. A line with `…` alone stands for any number of lines.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::Path;
use std::process::Command;

#[derive(Debug, PartialEq)]
struct Example {
    command: String,
    output: Vec<String>,
}

#[test]
fn the_readme_shows_what_happens() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&readme).expect("there is a README.md");
    let examples = tested_examples(&readme);
    assert!(!examples.is_empty(), "the README has no block with `<!-- tested -->` before it");

    let dir = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_volbak")).parent().unwrap();
    let path = format!("{}:{}:/usr/sbin:/sbin", binaries.display(), std::env::var("PATH").unwrap());
    for example in &examples {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &example.command])
            .current_dir(&dir)
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
            "$ {}\nThe README says:\n{}\nIt prints:\n{}",
            example.command,
            example.output.join("\n"),
            printed.join("\n")
        );
    }
}

#[test]
fn examples_are_found_and_compared() {
    let readme = "# Title\n```console\n$ rm -rf /\n```\ntext\n<!-- tested -->\n```console\n$ one \\\n  two\nout 1\n\n$ three\n```\n";
    let expected = [("one \\\n  two", vec!["out 1".to_owned(), String::new()]), ("three", vec![])]
        .map(|(command, output)| Example { command: command.to_owned(), output });
    assert_eq!(tested_examples(readme), expected);

    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&lines("a_20_11_2026.tar.gz   1.2 MiB"), &lines("a_01_02_2027.tar.gz 950 KiB")));
    assert!(matches(
        &lines("p1 0fc63daf-8483-4772-8e79-3d69d8477de4"),
        &lines("p1 21686148-6449-6e6f-744e-656564454649")
    ));
    assert!(!matches(&lines("1 partition"), &lines("1 region")));
    assert!(!matches(&lines("a\nb"), &lines("a")));
    assert!(matches(&lines("a\n…\nd"), &lines("a\nb\nc\nd")));
    assert!(matches(&lines("a\n…"), &lines("a")));
    assert!(!matches(&lines("…\nd"), &lines("a\nb")));
}

fn tested_examples(readme: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let (mut marked, mut inside, mut goes_on) = (false, false, false);
    for line in readme.lines() {
        if !inside {
            inside = marked && line.trim() == "```console";
            marked = line.trim() == "<!-- tested -->";
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

fn matches(expected: &[String], printed: &[String]) -> bool {
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

/// The line with one space between words, `#` for each number with its unit, and `X` for UUIDs and digests.
fn without_figures(line: &str) -> String {
    const UNITS: [&str; 12] = ["B", "KiB", "MiB", "GiB", "TiB", "K", "M", "G", "s", "ms", "B/s", "MiB/s"];
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_hex = bare.len() >= 8 && bare.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if is_hex {
            words.push("X".to_owned());
        } else if UNITS.contains(&bare) && words.last().is_some_and(|last| last.ends_with('#')) {
            // 1.2 MiB on one machine is 950 KiB on another.
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
