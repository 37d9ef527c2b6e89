//! What a program that embeds volbak can name is listed in `docs/public-api.txt`, so that a change of it is seen in review.
//! The list comes from rustdoc's JSON: what `cargo doc` shows, and nothing that is `#[doc(hidden)]`.
//!
//!     VOLBAK_UPDATE=1 cargo test --test documents public_api::      writes the list anew

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn what_is_public_is_what_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let api = Api::of(&documented(root));
    let unnamed: Vec<_> = api.mentioned.iter().filter(|(id, _)| !api.named.contains(*id)).map(|(_, at)| at).collect();
    assert!(
        unnamed.is_empty(),
        "types that public items have in their signatures and that no program can name: {unnamed:#?}"
    );
    let mut list = api.items.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    list.push('\n');
    let path = root.join("docs/public-api.txt");
    if std::env::var_os("VOLBAK_UPDATE").is_some() {
        fs::write(&path, &list).unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap();
    let (is, was): (BTreeSet<&str>, BTreeSet<&str>) = (list.lines().collect(), listed.lines().collect());
    let (new, gone): (Vec<_>, Vec<_>) = (is.difference(&was).collect(), was.difference(&is).collect());
    assert!(new.is_empty() && gone.is_empty(), "docs/public-api.txt: new {new:#?}, gone {gone:#?}");
}

#[test]
fn the_examples_work() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name).display().to_string();
    fs::create_dir(at("backups")).unwrap();
    fs::create_dir(at("tree")).unwrap();
    fs::write(at("tree/hello"), "hello\n").unwrap();
    let made = Command::new("mke2fs").args(["-q", "-t", "ext4", "-d", &at("tree"), &at("disk.img"), "4M"]).status();
    assert!(made.unwrap().success());
    let said = example("back_up_image", &[&at("disk.img"), &at("backups")]);
    assert!(said.contains("Good, 2 entries"), "{said}");
    assert!(example("list_and_read", &[&at("backups")]).contains("  disk_"));
    assert!(example("list_and_read", &[&at("backups"), "disk"]).ends_with("  hello\n"));
    assert_eq!(example("list_and_read", &[&at("backups"), "disk", "hello"]), "hello\n");
    assert_eq!(example("check_all", &[&at("backups")]), "0 of 1 backups are not whole\n");
    // Beside it is the record of the verification, which is JSON, too.
    let mut files = fs::read_dir(at("backups/disk")).unwrap().map(|entry| entry.unwrap().path());
    let manifest = files.find(|path| path.display().to_string().ends_with(".manifest.json"));
    fs::write(manifest.unwrap(), "{}").unwrap();
    assert!(example("check_all", &[&at("backups")]).ends_with("\n1 of 1 backups are not whole\n"));
    assert_eq!(example("own_filesystem", &[&at("own.tar.gz"), &at("own.index")]), "2 files archived\n");
    let tar = Command::new("tar").args(["-xzOf", &at("own.tar.gz"), "./hello"]).output().unwrap();
    assert_eq!(tar.stdout, b"hello\n", "{tar:?}");
}

/// The cargo that built this test. It finds rustc and rustdoc beside it, also where they are not in `PATH`.
fn cargo() -> Command {
    let beside = Path::new(env!("CARGO")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.env("PATH", std::env::join_paths([beside].into_iter().chain(std::env::split_paths(&path))).unwrap());
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo
}

fn example(name: &str, arguments: &[&str]) -> String {
    let output = cargo().args(["run", "--locked", "-q", "--example", name, "--"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// rustdoc's JSON of the library with all features.
fn documented(root: &Path) -> Value {
    let output = cargo()
        .args(["rustdoc", "--locked", "--lib", "-q", "--", "--cap-lints", "allow"])
        .env("RUSTDOC", root.join("scripts/rustdoc-json"))
        .env_remove("RUSTDOCFLAGS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    serde_json::from_slice(&fs::read(target.join("doc/volbak.json")).unwrap()).unwrap()
}

#[derive(Default)]
struct Api {
    /// `kind path`, without fields and variants.
    items: BTreeSet<String>,
    /// The types that a path leads to.
    named: BTreeSet<String>,
    /// The types of this crate that signatures mention, and where.
    mentioned: BTreeMap<String, String>,
}

impl Api {
    fn of(json: &Value) -> Self {
        let mut api = Self::default();
        let root = json["root"].to_string();
        api.add(json, &root, "volbak");
        api
    }

    fn add(&mut self, json: &Value, id: &str, path: &str) {
        let item = &json["index"][id];
        if is_hidden(item) {
            return;
        }
        let Some((kind, inner)) = item["inner"].as_object().and_then(|inner| inner.iter().next()) else { return };
        match kind.as_str() {
            "module" => {
                if path != "volbak" {
                    self.items.insert(format!("mod {path}"));
                }
                for child in ids(&inner["items"]) {
                    let name = json["index"][&child]["name"].as_str().unwrap_or_default().to_owned();
                    self.add(json, &child, &format!("{path}::{name}"));
                }
            }
            "use" => {
                let name = inner["name"].as_str().unwrap_or_default();
                let path = format!("{}{name}", path.trim_end_matches(|c| c != ':'));
                if inner["id"].is_number() {
                    self.add(json, &inner["id"].to_string(), &path);
                }
            }
            "struct" | "enum" | "trait" | "type_alias" | "constant" | "function" => {
                self.items.insert(format!("{kind} {path}"));
                self.named.insert(id.to_owned());
                self.mention(json, inner, path);
                for of_impl in ids(&inner["impls"]) {
                    let of_impl = &json["index"][&of_impl]["inner"]["impl"];
                    if of_impl["trait"].is_null() {
                        self.members(json, &of_impl["items"], path);
                    }
                }
                for list in ["items", "variants"] {
                    self.members(json, &inner[list], path);
                }
                for list in [&inner["kind"]["plain"]["fields"], &inner["kind"]["tuple"]] {
                    self.members(json, list, path);
                }
            }
            _ => {}
        }
    }

    /// Methods, associated items, fields and variants of a type. Only the first two are items of their own in the list.
    fn members(&mut self, json: &Value, list: &Value, path: &str) {
        for id in ids(list) {
            let item = &json["index"][&id];
            if is_hidden(item) {
                continue;
            }
            let name = item["name"].as_str().unwrap_or_default();
            let Some((kind, inner)) = item["inner"].as_object().and_then(|inner| inner.iter().next()) else { continue };
            self.mention(json, inner, &format!("{path}::{name}"));
            match kind.as_str() {
                "function" | "assoc_const" | "assoc_type" => {
                    self.items.insert(format!("{kind} {path}::{name}"));
                }
                "variant" => {
                    self.members(json, &inner["kind"]["tuple"], &format!("{path}::{name}"));
                    self.members(json, &inner["kind"]["struct"]["fields"], &format!("{path}::{name}"));
                }
                _ => {}
            }
        }
    }

    /// Notes each type of this crate in a signature or a field's type.
    fn mention(&mut self, json: &Value, value: &Value, at: &str) {
        match value {
            Value::Object(map) => {
                if let Some(path) = map.get("resolved_path") {
                    let id = path["id"].to_string();
                    if json["paths"][&id]["crate_id"] == 0 {
                        let name = path["path"].as_str().unwrap_or_default();
                        self.mentioned.entry(id).or_insert_with(|| format!("{name} in {at}"));
                    }
                }
                map.values().for_each(|value| self.mention(json, value, at));
            }
            Value::Array(list) => list.iter().for_each(|value| self.mention(json, value, at)),
            _ => {}
        }
    }
}

fn is_hidden(item: &Value) -> bool {
    item["attrs"].to_string().contains("hidden")
}

fn ids(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter(|id| !id.is_null()).map(ToString::to_string).collect()
}
