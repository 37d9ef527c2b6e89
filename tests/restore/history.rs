//! Promise: `find` and `log` say of each version of a file when it appeared and which backups have it, as the volume had it;
//! a backup that could not be searched is named.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use sha2::{Digest, Sha256};
use volbak::shown::hex;

use crate::testkit::guest::backups::{beside, run, run_expecting, snapshot, volbak};
use crate::testkit::guest::{Mounted, quoted, sh, sh_output};
use crate::testkit::proof::Random;
use crate::testkit::wait::{Killed, wait_until};

const NIGHTS: usize = 20;

/// A volume of which backups are made.
struct Nights {
    directory: tempfile::TempDir,
    archives: Vec<PathBuf>,
}

impl Nights {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("b")).unwrap();
        Self { directory, archives: Vec::new() }
    }

    fn dest(&self) -> PathBuf {
        self.directory.path().join("b")
    }

    /// Backs up a filesystem with these files.
    fn night(&mut self, files: &BTreeMap<String, String>) {
        let tree = self.directory.path().join("tree");
        let _ = fs::remove_dir_all(&tree);
        for (path, content) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let image = self.directory.path().join("vol.img");
        let _ = fs::remove_file(&image);
        let id = "11111111-2222-3333-4444-555555555555";
        let (tree, file) = (quoted(&tree), quoted(&image));
        // Only what changes on purpose is another version.
        sh(&format!("find {tree} -exec touch -h -d @1000000000 {{}} +"));
        sh(&format!("mke2fs -q -t ext4 -U {id} -E hash_seed={id} -d {tree} {file} 8M >/dev/null 2>&1"));
        let archive = snapshot(&image, &self.dest(), &["--full"]);
        self.archives.push(archive);
    }

    /// The typed names of the backups, by date.
    fn typed(&self) -> Vec<String> {
        let stem = |archive: &PathBuf| archive.file_name().unwrap().to_str().unwrap().replacen("vol_", "vol@", 1);
        self.archives.iter().map(stem).map(|name| name.replace(".tar.gz", "")).collect()
    }

    fn json(&self, status: i32, verb: &[&str]) -> Value {
        let dest = self.dest();
        let mut arguments = verb.to_vec();
        arguments.extend(["--json", "--destination", dest.to_str().unwrap()]);
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

/// The versions of a path: first backup, last backup, SHA-256.
fn versions(path: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let versions = path["versions"].as_array().unwrap().iter();
    versions.map(|v| (text(&v["first"]["backup"]), text(&v["last"]["backup"]), text(&v["sha256"]))).collect()
}

#[test]
fn the_versions_are_those_that_the_volume_had() {
    let mut random = Random(20);
    let mut nights = Nights::new();
    let mut truth: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for night in 0..NIGHTS {
        // Enough for no night to be a sudden change.
        let mut there: BTreeMap<String, String> =
            (0..20).map(|number| (format!("always/{number}.txt"), "always".to_owned())).collect();
        for number in 0..6 {
            // Three contents: versions come back.
            if random.below(3) > 0 {
                there.insert(format!("d{}/file{number}.txt", number % 2), format!("{}", random.below(3)));
            }
        }
        nights.night(&there);
        for (path, content) in &there {
            let of_path = truth.entry(path.clone()).or_default();
            of_path.resize(night, None);
            of_path.push(Some(hex(&Sha256::digest(content))));
        }
    }
    let typed = nights.typed();
    let mut expected = BTreeMap::new();
    for (path, contents) in &mut truth {
        contents.resize(NIGHTS, None);
        let mut spans: Vec<(String, String, String)> = Vec::new();
        let mut before = None;
        for (name, content) in typed.iter().zip(contents.iter()) {
            match (content, spans.last_mut()) {
                (Some(digest), Some(span)) if before == Some(digest) => span.1.clone_from(name),
                (Some(digest), _) => spans.push((name.clone(), name.clone(), digest.clone())),
                (None, _) => {}
            }
            before = content.as_ref();
        }
        let gone_at = contents.iter().rposition(Option::is_some).unwrap() + 1;
        expected.insert(path.clone(), (spans, typed.get(gone_at).cloned()));
    }
    let found = nights.json(0, &["find", "*.txt"]);
    let volume = &found["volumes"][0];
    assert_eq!((&volume["volume"], volume["searched"].as_u64()), (&Value::from("vol"), Some(NIGHTS as u64)));
    let of_path = |path: &Value| {
        let gone = path["gone"]["backup"].as_str().map(str::to_owned);
        (path["path"].as_str().unwrap().to_owned(), (versions(path), gone))
    };
    let found: BTreeMap<_, _> = volume["paths"].as_array().unwrap().iter().map(of_path).collect();
    for (path, history) in &expected {
        assert_eq!(found.get(path), Some(history), "{path}");
    }
    assert_eq!(found.len(), expected.len());
    // One path, by its log: the same.
    let log = nights.json(0, &["log", "vol:d1/file3.txt"]);
    let (path, history) = of_path(&log["volumes"][0]["paths"][0]);
    assert_eq!((&history, path.as_str()), (&expected["d1/file3.txt"], "d1/file3.txt"));
}

#[test]
fn a_person_reads_when_a_file_came_and_went() {
    let mut nights = Nights::new();
    nights.night(&files(&[("etc/hosts", "a"), ("etc/x.conf", "x")]));
    nights.night(&files(&[("etc/hosts", "b"), ("etc/x.conf", "x")]));
    nights.night(&files(&[("etc/x.conf", "x"), ("new\tline", "n")]));
    let typed = nights.typed();
    let dest = nights.dest();
    let of = |status, arguments: &[&str]| {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--destination", dest.to_str().unwrap()]);
        run_expecting(status, &arguments)
    };
    let found = of(0, &["find", "hosts"]);
    assert!(found.starts_with("vol: 3 backups searched\n"), "{found}");
    let line = format!("{} to {}  gone since {}  etc/hosts", typed[0], typed[1], typed[2]);
    assert!(found.contains("2 versions") && found.contains(&line), "{found}");
    assert!(of(0, &["find", "x.conf"]).contains("still there  etc/x.conf"));
    assert!(of(0, &["find", "-i", "X.CONF"]).contains("etc/x.conf"));
    assert!(of(0, &["find", "new*"]).contains(r"new\x09line"));
    let log = of(0, &["log", "etc/hosts", "--volume", "vol"]);
    let whats: Vec<&str> = log.lines().skip(2).map(|line| line.rsplit("  ").next().unwrap()).collect();
    assert_eq!(whats, ["in the oldest backup searched", "content changed", "gone"], "{log}");
    // What is not there, volumes that are not there, patterns that are none.
    let refused = |status, arguments: &[&str]| {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--destination", dest.to_str().unwrap()]);
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(1, &["find", "nix"]).contains("nothing matches nix in 3 backups"));
    assert!(of(0, &["log", "etc"]).contains("directory"));
    assert!(refused(2, &["find", "a", "--volume", "other"]).contains("has no backups of other"));
    assert!(refused(2, &["find", "a["]).contains("a["));
    // An image backup has no list of files, which is no problem.
    let image = nights.directory.path().join("vol.img");
    run_expecting(0, &["snapshot", "--image", image.to_str().unwrap(), "--to", dest.to_str().unwrap()]);
    let found = nights.json(0, &["find", "x.conf"]);
    assert_eq!((&found["volumes"][0]["searched"], &found["volumes"][0]["images"]), (&Value::from(3), &Value::from(1)));
    assert!(of(0, &["find", "x.conf"]).contains("1 image backup not searched"));
    // A backup whose index was changed is not searched, and that is said.
    damage(&beside(&nights.archives[1], "index"));
    let found = nights.json(3, &["find", "hosts"]);
    let volume = &found["volumes"][0];
    assert_eq!(volume["searched"], 2);
    assert_eq!(volume["not_searched"][0]["backup"], typed[1].as_str());
    assert_eq!(versions(&volume["paths"][0]).len(), 1);
}

/// Its directory is a mount whose process was killed: each look at it is an error.
#[test]
fn a_volume_that_cannot_be_listed_does_not_end_the_search() {
    let mut nights = Nights::new();
    nights.night(&files(&[("etc/hosts", "a")]));
    let (other, broken) = (nights.directory.path().join("other"), nights.dest().join("broken"));
    fs::create_dir(&other).unwrap();
    fs::create_dir(&broken).unwrap();
    let mount = ["mount", "--destination", other.to_str().unwrap(), broken.to_str().unwrap()];
    let served = Killed(volbak(&mount).stderr(Stdio::null()).spawn().unwrap());
    wait_until("it is mounted", || sh_output(&format!("mountpoint -q {}", quoted(&broken))).status.success());
    let mounted = Mounted { point: broken };
    drop(served);
    let found = nights.json(3, &["find", "hosts"]);
    assert_eq!(found["volumes"][0]["not_searched"][0]["backup"], "broken", "{found}");
    assert_eq!(found["volumes"][1]["paths"][0]["path"], "etc/hosts", "{found}");
    mounted.unmount();
}

/// Another path: as a line it stays valid.
fn damage(index: &Path) {
    let text = fs::read_to_string(index).unwrap();
    let changed = text.replacen("etc/hosts", "etc/hoste", 1);
    assert_ne!(text, changed);
    fs::write(index, changed).unwrap();
}
