//! Promise: what a list of thousands of backups and one file of one of them take is a few requests; and what spares the
//! others is never believed without the store's own word.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};
use serde_json::Value;

use crate::storing::Storing;
use crate::testkit::guest::timed;
use crate::verbs::{Place, disk, next_second, sealed};

const CATALOGUES: &str = "host-1/.volbak/catalogue/";
const VOLUMES: usize = 30;
/// As many nights as a host has backups of after years.
const NIGHTS: usize = 100;

/// Backups of so many nights: copies of one, each with a manifest of its own, and verified.
fn many_backups(server: &Storing, place: &Place, nights: usize) {
    let image = disk(&place.host, "vol", 1);
    place.good(&["snapshot", &image]);
    place.good(&["verify", "--all", "--quick"]);
    let stem = place.whole_backups("vol").pop_first().unwrap();
    let of_one = format!("host-1/vol/{stem}");
    let manifest = String::from_utf8(server.get(&format!("{of_one}.manifest.json"))).unwrap();
    let facts: Value = serde_json::from_str(&manifest).unwrap();
    let seal = facts["self_sha256"].as_str().unwrap();
    let record = server.keys(&format!("{of_one}.verified.json~")).pop().unwrap();
    for volume in 0..VOLUMES {
        for night in 0..nights {
            let name = format!("many-{volume:02}");
            let new = format!("{name}_01_01_2026_{:06}_{night:012x}", night * 7 % 60 + night / 60 * 100);
            let renamed = manifest.replace(&format!("\"{stem}\""), &format!("\"{new}\""));
            let renamed = renamed.replace("\"name\": \"vol\"", &format!("\"name\": \"{name}\""));
            let key = format!("host-1/{name}/{new}");
            server.put(&format!("{key}.manifest.json"), sealed(&renamed, seal).as_bytes());
            server.link(&record, &record.replace(&of_one, &key));
            for suffix in [".tar.gz", ".checksum", ".index"] {
                server.link(&format!("{of_one}{suffix}"), &format!("{key}{suffix}"));
            }
        }
    }
    // It writes the catalogue of what it finds.
    place.good(&["snapshot", &image]);
}

fn forget(place: &Place) {
    fs::remove_dir_all(place.host.at("cache")).unwrap();
}

/// All backups are listed as they are.
fn assert_listed(place: &Place, nights: usize) {
    let listed = place.listed();
    assert_eq!(listed.len(), VOLUMES * nights + 2);
    assert!(listed.iter().all(|one| one["state"]["state"] == "complete"), "{:?}", listed[0]);
    let checked = listed.iter().filter(|one| one["checked"]["verdict"] == "good").count();
    assert_eq!(checked, VOLUMES * nights + 1);
}

/// The requests that a verb takes without a cache, its standard output, and the processor's time that it took.
fn cold(server: &Storing, place: &Place, verb: &[&str]) -> (usize, String, Duration) {
    forget(place);
    server.take_requests();
    let (output, took) = timed(place.host.program(verb).arg("--config").arg(place.host.at("volbak.toml")));
    let requests = server.take_requests().len();
    println!("{verb:?}: {requests} requests, {took:?}");
    (requests, String::from_utf8(output.stdout).unwrap(), took)
}

#[test]
fn thousands_of_backups_are_listed_with_few_requests() {
    let server = Storing::start();
    server.list_long_pages();
    let place = Place::in_process(&server, "");
    many_backups(&server, &place, NIGHTS);
    assert_listed(&place, NIGHTS);
    let (requests, said, took) = cold(&server, &place, &["list"]);
    // Five seconds of an optimised program on a machine that does nothing else: docs/stores.md.
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 5 });
    assert!(said.contains("many-29") && requests <= 40 && took < limit, "{requests} requests, {took:?}");
    let (requests, said, _) = cold(&server, &place, &["status", "--json"]);
    assert!(said.contains("many-29") && requests <= 40, "{requests} requests of status");
    let (requests, said, _) = cold(&server, &place, &["list", "many-07"]);
    assert!(said.contains("many-07") && requests <= 12, "{requests} requests for one volume");
    // What was read is kept.
    server.take_requests();
    assert!(place.good(&["list", "many-07"]).contains("many-07"));
    let requests = server.take_requests();
    assert!(requests.len() <= 5 && requests.iter().all(|(what, _)| what.starts_with("GET /backups/?")), "{requests:?}");
}

#[test]
fn whatever_a_catalogue_says_the_backups_are_those_of_the_store() {
    // Without a catalogue, each manifest is a request.
    const FEW: usize = 10;
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    many_backups(&server, &place, FEW);
    let catalogues = server.keys(CATALOGUES);
    let newest = server.get(catalogues.last().unwrap());
    // Torn, or not one at all.
    for bytes in [&newest[..newest.len() / 2], b"", b"\x1f\x8b\x08", &vec![7; 100_000]] {
        for key in &catalogues {
            server.put(key, bytes);
        }
        forget(&place);
        assert_listed(&place, FEW);
    }
    // Stale: a backup is bad by now, and one has another manifest.
    for key in &catalogues {
        server.put(key, &newest);
    }
    let manifest = server.keys("host-1/many-03/").into_iter().find(|key| key.ends_with(".manifest.json")).unwrap();
    let honest = server.get(&manifest);
    server.put(&manifest, b"{}");
    forget(&place);
    let damaged = place.listed().into_iter().filter(|one| one["state"]["state"] == "damaged").count();
    assert_eq!(damaged, 1);
    // Forged: an entry has the key, length and ETag of the manifest that is there, and other bytes.
    let etag = volbak::shown::hex(&Md5::digest(b"{}"));
    let mut forged = GzEncoder::new(Vec::new(), Compression::fast());
    let key = manifest.strip_prefix("host-1/").unwrap();
    writeln!(forged, "volbak catalogue 1\n2 {etag} {key}").unwrap();
    forged.write_all(b"[]").unwrap();
    writeln!(forged, "{} {etag} {key}", honest.len()).unwrap();
    forged.write_all(&honest).unwrap();
    server.put(&format!("{CATALOGUES}9999999999999999_0123456789ab.part.gz"), &forged.finish().unwrap());
    forget(&place);
    let damaged = place.listed().into_iter().filter(|one| one["state"]["state"] == "damaged").count();
    assert_eq!(damaged, 1);
    server.put(&manifest, &honest);
    for key in server.keys(CATALOGUES) {
        server.remove(&key);
    }
    forget(&place);
    assert_listed(&place, FEW);
}

#[test]
fn catalogues_are_never_rewritten_and_only_some_are_kept() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = disk(&place.host, "vol", 1);
    let mut before = Vec::new();
    for _ in 0..10 {
        server.take_requests();
        place.good(&["snapshot", &image]);
        let after = server.keys(CATALOGUES);
        assert_eq!(after.iter().filter(|key| !before.contains(*key)).count(), 1, "{before:?} {after:?}");
        assert!(after.len() <= 8, "{after:?}");
        before = after;
    }
    let full = before.iter().filter(|key| key.ends_with(".full.gz")).count();
    assert_eq!((before.len(), full), (2, 1), "{before:?}");
    // A key that cannot delete writes them, too.
    server.forbid(&["DELETE /"]);
    for _ in 0..9 {
        place.good(&["snapshot", &image]);
    }
    forget(&place);
    server.list_long_pages();
    server.take_requests();
    assert_eq!(place.listed().len(), 19);
    assert!(server.take_requests().len() <= 16);
}

#[test]
fn a_shell_completes_names_without_a_request() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let completed = |words: &[&str]| {
        let config = place.host.at("volbak.toml").display().to_string();
        let line = ["complete-words", "--", "volbak", "restore", "--config", &config];
        let output = Command::new(env!("CARGO_BIN_EXE_volbak")).args(line).args(words).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(completed(&["v"]), "", "nothing is known yet");
    for volume in ["vol", "vol", "vol-2"] {
        next_second();
        place.good(&["snapshot", &disk(&place.host, volume, 1)]);
    }
    server.take_requests();
    assert_eq!(completed(&["v"]), "vol\nvol-2\n");
    let dates = completed(&["vol@"]);
    assert_eq!(dates.lines().count(), 3, "{dates}");
    assert!(server.take_requests().is_empty());
    // What is offered can be used.
    for date in dates.lines() {
        place.good(&["browse", date.trim_end()]);
    }
    forget(&place);
    assert_eq!(completed(&["v"]), "");
    assert!(!place.host.at("cache").exists());
}

#[test]
fn states_and_records_get_new_keys() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    place.host.add_ext4("volume-1");
    place.good(&["run"]);
    place.good(&["verify", "--all", "--quick"]);
    place.good(&["protect", "volume-1"]);
    server.forbid(&["DELETE /"]);
    let start = "host-1/";
    let before: Vec<(String, Vec<u8>)> =
        server.keys(start).into_iter().map(|key| (key.clone(), server.get(&key))).collect();
    place.good(&["verify", "--all"]);
    next_second();
    place.good(&["run"]);
    place.good(&["unprotect", "volume-1"]);
    for (key, bytes) in before {
        // The lease is advice, and no state.
        assert!(key.ends_with("/lock") || server.get(&key) == bytes, "{key} was rewritten");
    }
    let listed = place.listed();
    assert_eq!(listed.iter().filter(|one| one["verified"]["verdict"] == "good").count(), 1, "{listed:#?}");
    let status = place.good(&["status"]);
    assert!(!status.contains("interrupted"), "{status}");
}

/// What a verb reads of a backup, apart from the members of its archive: the requests, and their bytes in all.
fn beside_members(server: &Storing, verb: &dyn Fn()) -> (Vec<String>, usize) {
    server.take_requests();
    verb();
    let requests = server.take_requests();
    println!("{requests:#?}");
    let bytes = requests.iter().map(|(_, bytes)| bytes).sum();
    let is_archive = |what: &String| what.starts_with("GET ") && what.ends_with(".tar.gz?");
    (requests.into_iter().map(|(what, _)| what).filter(|what| !is_archive(what)).collect(), bytes)
}

#[test]
fn one_file_takes_three_requests_and_its_members() {
    let server = Storing::start();
    server.list_long_pages();
    let place = Place::in_process(&server, "");
    // Sent in parts.
    let image = disk(&place.host, "vol", 24);
    place.good(&["snapshot", &image]);
    assert!(
        server.get(server.keys("host-1/vol/").iter().find(|key| key.ends_with(".tar.gz")).unwrap()).len() > 20 << 20
    );
    let cat = || assert_eq!(place.good(&["cat", "vol:hostname"]), "vol\n");
    let out = place.host.at("out");
    let restore = || {
        place.good(&["restore", "vol", "--to", out.to_str().unwrap(), "--path", "f7"]);
        assert_eq!(fs::metadata(out.join("f7")).unwrap().len(), 1 << 20);
        fs::remove_dir_all(&out).unwrap();
    };
    let [what_was_written, after, of_restore] =
        [&cat as &dyn Fn(), &cat, &restore].map(|verb| beside_members(&server, verb));
    for (requests, bytes) in [&what_was_written, &after] {
        assert!(requests.len() == 1 && *bytes < 1 << 20, "{bytes} bytes in {requests:?}");
    }
    // The file itself has one MiB.
    assert!(of_restore.0.len() <= 3 && of_restore.1 < 4 << 20, "{} bytes in {:?}", of_restore.1, of_restore.0);
    forget(&place);
    let (requests, bytes) = beside_members(&server, &cat);
    assert!(requests.len() <= 3 && bytes < 2 << 20, "{bytes} bytes in {requests:?}");
    forget(&place);
    let (requests, bytes) = beside_members(&server, &restore);
    // Of the file itself, and ahead of it, come some MiB.
    assert!(requests.len() <= 3 && bytes < 4 << 20, "{bytes} bytes in {requests:?}");
    // An index that was replaced is not the one that is kept.
    let stem = place.whole_backups("vol").pop_first().unwrap();
    server.put(&format!("host-1/vol/{stem}.index"), b"other");
    let did = place.verb(&["cat", "vol:hostname"]);
    assert!(did.status == 1 && did.stderr.contains("index"), "{did:?}");
}
