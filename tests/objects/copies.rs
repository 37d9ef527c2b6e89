//! Promise: a copy in an object store is complete or not listed, has names of its own, and is made once; copies go between stores
//! and directories in each direction.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use volbak::objects::{Limits, ObjectAddress, ObjectClient};

use crate::storing::Storing;
use crate::testkit::guest::{quoted, sh};
use crate::testkit::stand_in::Did;
use crate::testkit::wait::wait_until;
use crate::verbs::{Place, disk};

/// A place whose backups are in `host-1`, and one that sees the copies in `second`, with the config of the first.
pub(crate) struct Pair {
    pub(crate) place: Place,
    pub(crate) second: Place,
    to: String,
}

impl Pair {
    pub(crate) fn new(place: Place, more: &str) -> Self {
        place.configure(more);
        let address = place.client.address();
        let to = format!("{}{}/second", address.scheme.text(), address.bucket);
        let address = ObjectAddress::parse(&to).unwrap();
        let client = ObjectClient::new(address, place.client.settings().clone(), Limits::default()).unwrap();
        let second = Place::new(client);
        if place.host.at("keys").exists() {
            fs::copy(place.host.at("keys"), second.host.at("keys")).unwrap();
        }
        second.configure("");
        Self { place, second, to }
    }

    /// Copies everything from there; the JSON report.
    pub(crate) fn copy(&self, from: &str) -> Value {
        let did = self.try_to_copy(from);
        assert_eq!(did.status, 0, "{did:?}");
        serde_json::from_str(&did.stdout).unwrap()
    }

    pub(crate) fn try_to_copy(&self, from: &str) -> Did {
        self.place.verb(&["copy", "--all", "--from", from, "--to", &self.to, "--json"])
    }

    pub(crate) fn outcomes(report: &Value) -> Vec<&str> {
        report["backups"].as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap()).collect()
    }
}

/// Two backups in a directory.
pub(crate) fn directory(place: &Place) -> (PathBuf, String) {
    let image = disk(&place.host, "vol", 9);
    let from = place.host.at("local");
    fs::create_dir(&from).unwrap();
    for _ in 0..2 {
        place.good(&["snapshot", &image, "--to", from.to_str().unwrap()]);
    }
    let text = from.to_str().unwrap().to_owned();
    (from, text)
}

fn copies_of_a_directory(place: Place) {
    let pair = Pair::new(place, "");
    let (from, text) = directory(&pair.place);
    assert_eq!(Pair::outcomes(&pair.copy(&text)), ["copied", "copied"]);
    let copies = pair.second.whole_backups("vol");
    assert_eq!(copies.len(), 2, "{copies:?}");
    let stems: BTreeSet<String> = fs::read_dir(from.join("vol"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".manifest.json").map(str::to_owned))
        .collect();
    for copy in &copies {
        // NAME_DATE_HHMMSS_RUN, which the manifest and the checksum name.
        assert_eq!(copy.split('_').count(), 6, "{copy}");
        let object = |suffix: &str| {
            let key = pair.second.client.address().key(&format!("vol/{copy}{suffix}"));
            String::from_utf8(pair.second.client.get(&key, 1 << 20).unwrap().unwrap()).unwrap()
        };
        let manifest: Value = serde_json::from_str(&object(".manifest.json")).unwrap();
        assert_eq!(manifest["stem"], copy.as_str());
        assert!(stems.contains(manifest["copied_from"]["stem"].as_str().unwrap()), "{manifest:#}");
        assert!(object(".checksum").trim_end().ends_with(&format!("{copy}.tar.gz")), "{}", object(".checksum"));
    }
    // What is there is not copied again.
    let names = pair.second.names("vol");
    assert_eq!(Pair::outcomes(&pair.copy(&text)), ["present", "present"]);
    assert_eq!(pair.second.names("vol"), names);
    pair.second.good(&["verify", "--all", "--level", "restore-test"]);
    assert_eq!(pair.second.good(&["cat", "vol:hostname"]), "vol\n");
    // Back to the directory: it has them, and a new directory gets them with their names.
    let back = pair.second.good(&["copy", "--all", "--to", &text]);
    assert!(back.contains("2 there already"), "{back}");
    let other = pair.place.host.at("other");
    fs::create_dir(&other).unwrap();
    pair.second.good(&["copy", "--all", "--to", other.to_str().unwrap()]);
    assert!(copies.iter().all(|copy| other.join("vol").join(format!("{copy}.tar.gz")).exists()));
    pair.place.good(&["verify", "--all", "--destination", other.to_str().unwrap()]);
    // From that copy of a copy, nothing is new.
    assert_eq!(Pair::outcomes(&pair.copy(other.to_str().unwrap())), ["present", "present"]);
}

/// A checksum file that its manifest knows nothing of is no part of a backup.
#[test]
fn a_checksum_that_somebody_added_is_left_out() {
    let server = Storing::start();
    let pair = Pair::new(Place::in_process(&server, ""), "enable_checksum = false\n");
    let (from, text) = directory(&pair.place);
    sh(&format!(
        "cd {}/vol; for archive in *.tar.gz; do sha1sum $archive >${{archive%.tar.gz}}.checksum; done",
        quoted(&from)
    ));
    assert_eq!(Pair::outcomes(&pair.copy(&text)), ["copied", "copied"]);
    assert!(pair.second.names("vol").iter().all(|name| !name.ends_with(".checksum")));
    pair.second.good(&["verify", "--all"]);
    assert_eq!(Pair::outcomes(&pair.copy(&text)), ["present", "present"]);
    // In a directory, where the copy has the name of the source, too.
    let other = pair.place.host.at("other");
    fs::create_dir(&other).unwrap();
    pair.place.good(&["copy", "--all", "--from", &text, "--to", other.to_str().unwrap()]);
    assert!(
        fs::read_dir(other.join("vol")).unwrap().all(|file| file.unwrap().path().extension().unwrap() != "checksum")
    );
    pair.place.good(&["verify", "--all", "--destination", other.to_str().unwrap()]);
}

/// The checksum of a bad backup stays wrong in its copy, which has a name of its own nevertheless.
#[test]
fn a_bad_backup_with_another_checksum_is_copied_under_its_own_name() {
    let server = Storing::start();
    let pair = Pair::new(Place::in_process(&server, ""), "");
    let (from, text) = directory(&pair.place);
    sh(&format!("cd {}/vol; for file in *.checksum; do echo >>$file; done", quoted(&from)));
    assert_eq!(pair.place.verb(&["verify", "--all", "--destination", &text]).status, 1);
    let did = pair.place.verb(&["copy", "--all", "--include-bad", "--from", &text, "--to", &pair.to, "--json"]);
    assert_eq!(did.status, 0, "{did:?}");
    assert_eq!(Pair::outcomes(&serde_json::from_str(&did.stdout).unwrap()), ["copied", "copied"]);
    let listed = pair.second.verb(&["list"]).stdout;
    assert!(listed.matches("full: BAD").count() == 2 && !listed.contains("DAMAGED"), "{listed}");
    assert_eq!(pair.second.verb(&["verify", "--all"]).status, 1);
}

#[test]
fn a_directory_is_copied_to_a_store_once() {
    let server = Storing::start();
    copies_of_a_directory(Place::in_process(&server, ""));
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn a_directory_is_copied_to_a_real_store_once() {
    copies_of_a_directory(Place::real("copies", ""));
}

#[test]
fn a_store_is_copied_to_a_store_after_each_night() {
    let server = Storing::start();
    let pair = Pair::new(Place::in_process(&server, ""), "[copy]\nto = 's3://backups/second'\n");
    pair.place.host.add_ext4("volume-1");
    for night in 1..=2 {
        pair.place.good(&["run"]);
        assert_eq!(pair.second.whole_backups("volume-1").len(), night);
    }
    let report = pair.copy("s3://backups/host-1");
    assert_eq!(Pair::outcomes(&report), ["present", "present"]);
    pair.second.good(&["verify", "--all"]);
    let inside = pair.place.verb(&["copy", "--all", "--to", "s3://backups/host-1/inside"]);
    assert!(inside.status == 2 && inside.stderr.contains("lies inside"), "{inside:?}");
}

#[test]
fn an_interrupted_copy_into_a_store_says_that_it_starts_again() {
    let server = Storing::start();
    let pair = Pair::new(Place::in_process(&server, ""), "");
    let (_, text) = directory(&pair.place);
    let slow = ["copy", "--all", "--from", &text, "--to", &pair.to, "--read-rate", "2M", "-q"];
    let mut command = pair.place.host.program(&slow);
    command.arg("--config").arg(pair.place.host.at("volbak.toml"));
    let copying = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the copy writes", || !pair.second.names("vol").is_empty());
    kill_process(Pid::from_child(&copying), Signal::INT).unwrap();
    let output = copying.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted; the next copy starts this backup again"), "{said}");
    let whole = pair.second.whole_backups("vol").len();
    assert!(whole < 2, "{said}");
    let report = pair.copy(&text);
    let copied: Vec<_> =
        report["backups"].as_array().unwrap().iter().filter(|one| one["outcome"] == "copied").collect();
    assert!(copied.len() == 2 - whole && copied.iter().all(|one| one["kept_bytes"] == 0), "{report}");
}

#[test]
fn a_copy_that_is_killed_is_complete_or_not_listed_and_the_next_one_goes_on() {
    let server = Storing::start();
    let pair = Pair::new(Place::in_process(&server, ""), "");
    let (_, text) = directory(&pair.place);
    let mut killed = 0;
    for moment in 0..12 {
        let begin = || pair.place.begin(&["copy", "--all", "--from", &text, "--to", &pair.to]);
        killed += u64::from(server.kill_at(4 + moment * 3, moment % 3 != 1, begin));
        let whole = pair.second.whole_backups("vol").len();
        let listed = pair.second.verb(&["list", "--json"]);
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
        let listed = listed["backups"].as_array().unwrap();
        assert!(listed.iter().all(|one| one["state"]["state"] == "complete"), "moment {moment}: {listed:#?}");
        assert_eq!(listed.len(), whole, "moment {moment}");
        assert!(whole <= 2, "moment {moment}: {:?}", pair.second.names("vol"));
    }
    assert!(killed > 4, "{killed} of 12 were killed in time");
    let report = pair.copy(&text);
    assert_eq!(Pair::outcomes(&report).len(), 2);
    assert_eq!(pair.second.whole_backups("vol").len(), 2);
    assert_eq!(pair.second.client.uploads("").unwrap(), []);
    // Remains of killed copies go when no other copy can still publish them.
    server.age(Duration::from_secs(3 * 3600));
    pair.second.good(&["snapshot", pair.place.host.at("vol.img").to_str().unwrap()]);
    let whole = pair.second.whole_backups("vol");
    for name in pair.second.names("vol") {
        assert!(whole.iter().any(|stem| name.starts_with(stem.as_str())), "{name} is left");
    }
}
