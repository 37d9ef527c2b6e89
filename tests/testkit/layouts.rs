//! Looking at disks as the tests of layouts do: what is found, within its limits, and compared with what is expected.

pub mod invariants;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use volbak::events::Severity;
use volbak::layout::{Handling, Layout, detect};
use volbak::outside::{BlockRead, FileBlocks};

/// The processor time that looking at one disk may take.
pub const LIMIT: Duration = Duration::from_secs(5);

pub fn blocks_of(path: &Path) -> FileBlocks {
    let file = File::open(path).expect("there");
    let len = file.metadata().expect("a file").len();
    FileBlocks::new(file, len)
}

/// Detects within the time limit, and checks what must hold on every disk.
pub fn detected(name: &str, blocks: &dyn BlockRead) -> Layout {
    let started = invariants::processor_time();
    let layout = detect(blocks, name, None).expect("the first sector can be read");
    let took = invariants::processor_time().saturating_sub(started);
    assert!(took < LIMIT, "{name}: took {took:?}");
    invariants::check(name, &layout, blocks.len_bytes());
    layout
}

/// A layout as the cases write it.
pub fn summary(layout: &Layout) -> Vec<String> {
    let line = |region: &volbak::layout::Region| {
        let handling = match region.handling {
            Handling::Files => "files",
            Handling::RawImage => "raw",
            Handling::MetadataOnly => "facts",
            Handling::Container => "container",
        };
        let kind = format!("{:?}", region.holds.kind).to_lowercase();
        let holds = region.holds.fs.clone().unwrap_or(kind);
        format!("{} {handling} {holds}", region.name)
    };
    layout.regions.iter().map(line).collect()
}

/// Compares regions and problems with what a case expects; an error is a text for a person.
pub fn compare(layout: &Layout, regions: &[&str], problems: &[&str]) -> Result<(), String> {
    let found = summary(layout);
    let mut wrong = String::new();
    if found != regions {
        wrong += &format!("regions are\n  {}\nand should be\n  {}\n", found.join("\n  "), regions.join("\n  "));
    }
    let mut said: Vec<String> = layout
        .problems
        .iter()
        .filter(|problem| problem.severity != Severity::Notice)
        .map(|problem| {
            let letter = if problem.severity == Severity::Error { 'E' } else { 'W' };
            format!("{letter} {} {}", problem.location, problem.what)
        })
        .collect();
    for expected in problems {
        let (severity_and_place, text) = split_problem(expected);
        let fits = |said: &String| said.starts_with(&severity_and_place) && said.contains(text);
        match said.iter().position(fits) {
            Some(at) => drop(said.remove(at)),
            None => wrong += &format!("not said: {expected}\n"),
        }
    }
    for unexpected in said {
        wrong += &format!("said, and not expected: {unexpected}\n");
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn split_problem(expected: &str) -> (String, &str) {
    let mut words = expected.splitn(3, ' ');
    let severity = words.next().unwrap_or_default();
    let place = words.next().unwrap_or_default();
    (format!("{severity} {place} "), words.next().unwrap_or_default())
}
