//! Data flows one way through the modules, and each step knows only the steps before it. This test reads the
//! `crate::` paths in `src/` and holds them against the table; whoever wants a new arrow changes the table, in review.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What every module may use.
const COMMON: &[&str] = &["units", "outside", "owner", "error", "events", "shown"];

/// Each module, in the order in which data flows, with what it may use besides itself and [`COMMON`].
const MAY_USE: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("outside", &[]),
    ("owner", &[]),
    ("shown", &[]),
    ("events", &[]),
    ("log", &[]),
    ("config", &[]),
    ("source", &["config"]),
    ("layout", &["source"]),
    ("reader", &["source", "layout"]),
    ("archive", &["layout", "reader"]),
    ("store", &["archive"]),
    ("report", &["store"]),
    ("mail", &["report"]),
    // Wraps each module's own error.
    ("error", &["config", "source", "layout", "reader", "archive", "store", "report", "mail"]),
    // The only place that wires modules together.
    ("run", &["config", "source", "layout", "reader", "archive", "store", "report", "mail"]),
];

/// The files of the binary: they use the library from outside, as any other program does.
const BINARY: &[&str] = &["main", "cli"];

#[test]
fn modules_use_only_what_comes_before_them() {
    let mut wrong = Vec::new();
    for (path, module, code) in sources() {
        if module == "lib" || BINARY.contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{path}: the module `{module}` is not in the table"));
            continue;
        };
        for used in crate_paths(&code) {
            let known = MAY_USE.iter().any(|(name, _)| *name == used);
            if known && used != module && !COMMON.contains(&used.as_str()) && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{path}: `{module}` uses `{used}`, which it may not know"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn imports_name_what_they_import() {
    let mut wrong = Vec::new();
    for (path, _, code) in sources() {
        for statement in code.split(';').filter_map(|part| part.rsplit_once("use ")) {
            let imported = statement.1;
            if imported.contains("::*") || imported.contains("{*") || imported.contains(", *") {
                wrong.push(format!("{path}: `use {}`", imported.trim()));
            }
        }
        // A module of tests, which comes last, is one level deeper than its file.
        let code = code.split("#[cfg(test)]").next().unwrap();
        let depth = path.trim_end_matches("/mod.rs").matches('/').count();
        if code.contains(&"super::".repeat(depth)) {
            wrong.push(format!("{path}: `super::` up to the crate's root: say `crate::…`"));
        }
    }
    assert!(wrong.is_empty(), "imports that hide where a name comes from:\n{}\n", wrong.join("\n"));
}

#[test]
fn paths_are_found_in_each_form_that_rust_has() {
    let code = without_comments(
        "use crate::units::Lba; // crate::comment\n\
         /// [`crate::documented`]\n\
         use crate::{\n    layout::{self, gpt::{Header, Entry}},\n    reader,\n};\n\
         pub(crate) fn f() -> crate::archive::Member { xcrate::no() }",
    );
    let found: Vec<String> = crate_paths(&code).into_iter().collect();
    assert_eq!(found, ["archive", "layout", "reader", "units"]);
}

/// Each file below `src/` with the top-level module that it belongs to and its code without comments.
fn sources() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(!files.is_empty());
    files
        .into_iter()
        .map(|file| {
            let relative = file.strip_prefix(&root).unwrap();
            let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
            let code = without_comments(&fs::read_to_string(&file).unwrap());
            (format!("src/{}", relative.display()), first.trim_end_matches(".rs").to_owned(), code)
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

fn without_comments(code: &str) -> String {
    code.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The first name of each path that begins with `crate::`, also inside the braces of one `use`.
fn crate_paths(code: &str) -> BTreeSet<String> {
    const START: &str = "crate::";
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    for (position, _) in code.match_indices(START) {
        if code[..position].ends_with(is_name) {
            continue;
        }
        let rest = &code[position + START.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(rest.chars().take_while(|&c| is_name(c)).collect());
            continue;
        };
        let (mut depth, mut expect_name) = (0_u32, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expect_name = true,
                _ if expect_name && is_name(c) => {
                    found.insert(group[at..].chars().take_while(|&c| is_name(c)).collect());
                    expect_name = false;
                }
                _ => {}
            }
        }
    }
    found
}
