//! Data flows one way through the modules, and each step knows only the steps before it. This test reads the
//! `crate::` paths in `src/` and holds them against the table; whoever wants a new arrow changes the table, in review.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What every module may use.
const COMMON: &[&str] = &["units", "digits", "outside", "owner", "error", "events", "shown"];

/// Each module, in the order in which data flows, with what it may use besides itself and [`COMMON`].
const MAY_USE: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("digits", &[]),
    ("outside", &[]),
    ("owner", &[]),
    ("shown", &[]),
    ("events", &[]),
    ("log", &[]),
    ("entry", &[]),
    ("field", &[]),
    ("image", &[]),
    ("source", &["field", "image"]),
    ("http", &[]),
    // A seam: what reads volumes and writes archives does not know it.
    ("openstack", &["http"]),
    // Swift's tokens come from Keystone.
    ("objects", &["http", "openstack"]),
    ("cloud", &[]),
    ("layout", &["field"]),
    ("reader", &["entry", "field"]),
    ("used", &["layout", "field", "reader"]),
    ("writer", &["entry", "field", "reader"]),
    // Knows keys and age files, and no backups.
    ("encryption", &[]),
    ("archive", &["entry", "encryption"]),
    ("manifest", &["source", "layout", "archive", "cloud", "encryption"]),
    ("store", &["manifest", "archive", "objects", "encryption"]),
    ("report", &[]),
    ("mail", &["report"]),
    ("notify", &["report", "http"]),
    // Each option is a type of the module that heeds it.
    ("config", &["source", "archive", "store", "report", "mail", "notify", "encryption"]),
    ("error", &[]),
    // The only place that wires modules together.
    (
        "run",
        &[
            "cloud",
            "openstack",
            "objects",
            "encryption",
            "config",
            "entry",
            "field",
            "image",
            "source",
            "layout",
            "manifest",
            "reader",
            "used",
            "writer",
            "archive",
            "store",
            "report",
            "mail",
            "notify",
        ],
    ),
    // What a program that embeds the library sees.
    ("repository", &["manifest", "source", "store", "run"]),
];

/// The files of the binary: they use the library from outside, as any other program does.
const BINARY: &[&str] = &["main", "cli"];

#[test]
fn modules_use_only_what_comes_before_them() {
    let mut wrong = Vec::new();
    let mut unused: BTreeSet<(&str, &str)> =
        MAY_USE.iter().flat_map(|(module, allowed)| allowed.iter().map(|used| (*module, *used))).collect();
    for (path, module, code) in sources() {
        if module == "lib" || BINARY.contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{path}: the module `{module}` is not in the table"));
            continue;
        };
        for used in crate_paths(&code) {
            unused.retain(|(by, what)| (*by, *what) != (module.as_str(), used.as_str()));
            let known = MAY_USE.iter().any(|(name, _)| *name == used);
            if known && used != module && !COMMON.contains(&used.as_str()) && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{path}: `{module}` uses `{used}`, which it may not know"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(unused.is_empty(), "permitted, and used by nothing: {unused:?}");
}

#[test]
fn no_two_files_import_each_other() {
    let sources = sources();
    let paths: BTreeMap<Vec<String>, &str> =
        sources.iter().map(|(path, _, _)| (module_of(path), path.as_str())).collect();
    let imports: BTreeMap<&str, BTreeSet<&str>> = sources
        .iter()
        .map(|(path, _, code)| {
            let code = code.split("#[cfg(test)]").next().unwrap();
            let found = all_paths(code, &module_of(path)).into_iter().filter_map(|name| {
                (1..=name.len()).rev().find_map(|len| paths.get(&name[..len]).copied()).filter(|used| used != path)
            });
            (path.as_str(), found.collect())
        })
        .collect();
    let reaches = |from: &str, to: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            for used in &imports[file] {
                if *used == to {
                    return true;
                }
                if seen.insert(*used) {
                    next.push(used);
                }
            }
        }
        false
    };
    let circle: Vec<&str> = imports.keys().copied().filter(|file| reaches(file, file)).collect();
    assert!(circle.is_empty(), "files that import each other in a circle: {circle:#?}");
}

/// The module that a file is, as a path from the crate's root.
fn module_of(path: &str) -> Vec<String> {
    let mut names: Vec<String> =
        path.trim_start_matches("src/").trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if names == ["lib"] || names == ["main"] {
        names.clear();
    }
    names
}

/// Each path in `code` that begins with `crate`, `self` or `super`, from the crate's root on; braces are taken apart.
fn all_paths(code: &str, here: &[String]) -> Vec<Vec<String>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for start in ["crate::", "self::", "super::"] {
        for (position, _) in code.match_indices(start) {
            if code[..position].ends_with(|c| is_name(c) || c == ':') {
                continue;
            }
            let mut rest = &code[position..];
            let mut base = here.to_vec();
            loop {
                if let Some(after) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = after;
                } else if let Some(after) = rest.strip_prefix("self::") {
                    rest = after;
                } else if let Some(after) = rest.strip_prefix("crate::") {
                    base.clear();
                    rest = after;
                } else {
                    break;
                }
            }
            take_apart(rest, &base, &mut found);
        }
    }
    found
}

/// Adds each path of a `use` tree that begins at `rest`, below `base`; gives what comes after the tree.
fn take_apart<'a>(rest: &'a str, base: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = base.to_vec();
    let mut rest = rest.trim_start();
    loop {
        if let Some(mut inside) = rest.strip_prefix('{') {
            loop {
                inside = take_apart(inside, &path, found).trim_start();
                match inside.strip_prefix(',') {
                    Some(after) => inside = after,
                    None => return inside.strip_prefix('}').unwrap_or(inside),
                }
            }
        }
        let name: String = rest.chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect();
        rest = &rest[name.len()..];
        if !name.is_empty() && name != "self" {
            path.push(name);
        }
        match rest.strip_prefix("::") {
            Some(after) => rest = after,
            None => break,
        }
    }
    if let Some(renamed) = rest.strip_prefix(" as ") {
        rest = renamed.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    }
    found.push(path);
    rest
}

#[test]
fn files_are_short() {
    const MOST_LINES: usize = 400;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    let is_of_tests =
        |file: &Path| file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests");
    let long: Vec<String> = files
        .iter()
        .map(|file| file.strip_prefix(root).unwrap())
        .filter(|file| !is_of_tests(file))
        .filter_map(|file| {
            let text = fs::read_to_string(root.join(file)).unwrap();
            // A module of tests comes last.
            let lines = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().lines().count();
            (lines > MOST_LINES).then(|| format!("{}: {lines}", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "files of more than {MOST_LINES} lines without their tests:\n{}\n", long.join("\n"));
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
        let depth = path.matches('/').count();
        if code.contains(&"super::".repeat(depth)) {
            wrong.push(format!("{path}: `super::` up to the crate's root: say `crate::…`"));
        }
    }
    assert!(wrong.is_empty(), "imports that hide where a name comes from:\n{}\n", wrong.join("\n"));
}

#[test]
fn every_file_of_tests_is_compiled_into_a_program() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut all = Vec::new();
    collect(&tests, &mut all);
    let is_program = |file: &&PathBuf| {
        let parent = file.parent().unwrap();
        parent == tests || (parent.parent() == Some(&tests) && file.ends_with("main.rs"))
    };
    let mut compiled: BTreeSet<PathBuf> = BTreeSet::new();
    for program in all.iter().filter(is_program) {
        compile(program, program.parent().unwrap(), &mut compiled);
    }
    let forgotten: Vec<&PathBuf> = all.iter().filter(|file| !compiled.contains(*file)).collect();
    assert!(forgotten.is_empty(), "no program has a `mod` line for {forgotten:?}");
    let missing: Vec<&PathBuf> = compiled.iter().filter(|file| !all.contains(file)).collect();
    assert!(missing.is_empty(), "a `mod` line is not understood: {missing:?}");
}

/// Adds a file and all that its `mod` lines name; `beside` is the folder of those files.
fn compile(file: &Path, beside: &Path, compiled: &mut BTreeSet<PathBuf>) {
    if !compiled.insert(file.to_owned()) {
        return;
    }
    let code = without_comments(&fs::read_to_string(file).unwrap_or_default());
    let lines = code.lines().map(str::trim);
    let mut path = None;
    for line in lines {
        if let Some(named) = line.strip_prefix("#[path = \"").and_then(|line| line.strip_suffix("\"]")) {
            path = Some(named);
            continue;
        }
        let name = line.rsplit_once("mod ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
        let Some(name) = name.and_then(|(_, name)| name.strip_suffix(';')) else { continue };
        if let Some(named) = path.take() {
            // Relative to the file's own folder. What is included so has its own files beside it.
            let parts = named.split('/').filter(|part| *part != "..");
            let up = named.split('/').filter(|part| *part == "..").count();
            let folder = file.ancestors().nth(1 + up).unwrap();
            let included = folder.join(parts.collect::<PathBuf>());
            compile(&included, included.parent().unwrap(), compiled);
        } else {
            let (own, folder) = (beside.join(format!("{name}.rs")), beside.join(name));
            let file = if own.exists() { own } else { folder.join("mod.rs") };
            compile(&file, &folder, compiled);
        }
    }
}

#[test]
fn paths_in_documents_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        documents.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    let mut missing = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        // Within backquotes, and with no placeholder in it.
        for named in text.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "tests/", "scripts/", "docs/"].iter().any(|start| named.starts_with(start));
            let plain = named.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-".contains(c));
            if is_path && plain && !root.join(named).exists() {
                missing.push(format!("{}: {named}", document.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert!(missing.is_empty(), "named in a document, and not there:\n{}", missing.join("\n"));
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

#[test]
fn paths_are_resolved_from_where_they_stand() {
    let here = ["a".to_owned(), "b".to_owned()];
    let found = all_paths(
        "use super::{c, d::{E, self}, f as g};\nuse self::h::I;\nfn x() -> crate::y::Z { super::super::v() }",
        &here,
    );
    let found: Vec<String> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["y::Z", "a::b::h::I", "a::c", "a::d::E", "a::d", "a::f", "v"]);
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
