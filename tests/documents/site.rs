//! Promise: docs/ is a site that has every page, and no link in it leads nowhere. (mdbook is not needed for this check.)

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The pages in these folders of the repository.
fn pages(folders: &[&str]) -> Vec<PathBuf> {
    let of = |folder: &&str| fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = folders.iter().flat_map(of).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages
}

/// The targets of a page's links, outside code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code || line.starts_with("    ") {
            continue;
        }
        // Every second piece between backticks is code.
        for prose in line.split('`').step_by(2) {
            for part in prose.split("](").skip(1) {
                links.extend(part.split_once(')').map(|(target, _)| target.to_owned()));
            }
        }
    }
    links
}

/// The name by which a link reaches a heading, as mdbook and GitHub make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// What is wrong with the links of these pages.
fn dead_links(pages: &[PathBuf]) -> Vec<String> {
    let mut dead = Vec::new();
    for page in pages {
        for link in links(&fs::read_to_string(page).unwrap()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, place) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { page.clone() } else { plain(&page.parent().unwrap().join(path)) };
            if !target.exists() {
                dead.push(format!("{}: {link} is not there", page.display()));
            } else if !place.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                if !headings.any(|line| anchor(line.trim_start_matches('#')) == place) {
                    dead.push(format!("{}: {link}: there is no such heading", page.display()));
                }
            }
        }
    }
    dead
}

#[test]
fn every_page_is_in_the_site_and_no_link_is_dead() {
    let made = Command::new(root().join("scripts/site")).arg("--summary").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let summary = String::from_utf8(made.stdout).unwrap();
    let listed: Vec<PathBuf> =
        links(&summary.replace("  - [", "- [")).iter().map(|link| root().join("docs").join(link)).collect();
    let listed_once: BTreeSet<&PathBuf> = listed.iter().collect();
    assert_eq!(listed_once.len(), listed.len(), "a page is listed twice: {summary}");
    let all = pages(&["docs", "docs/decisions"]);
    let missing: Vec<&PathBuf> =
        all.iter().filter(|page| !listed_once.contains(page) && !page.ends_with("SUMMARY.md")).collect();
    assert!(missing.is_empty(), "add these pages to docs/SUMMARY.md: {missing:?}");

    let mut linking = all;
    linking.extend(pages(&["."]));
    let dead = dead_links(&linking);
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn a_dead_link_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.md");
    let text = "# One title, two\n[a](other.md) [b](#one-title-two) [c](#three)\n`[d](code.md)`\n```\n[e](code.md)\n```\n[f](https://example.com/x)\n";
    fs::write(&page, text).unwrap();
    let dead = dead_links(&[page]);
    assert_eq!(dead.len(), 2, "{dead:?}");
    assert!(dead[0].contains("other.md is not there") && dead[1].contains("#three"), "{dead:?}");
}
