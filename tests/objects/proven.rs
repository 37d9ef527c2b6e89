//! Promise: a night verifies and rehearses backups in an object store as in a directory: what it finds is kept beside them.

use std::fs;

use serde_json::Value;

use crate::storing::Storing;
use crate::verbs::{ALL, Place, next_second};

/// The levels at which the backups of a volume were checked, with what was found.
fn found(place: &Place, volume: &str) -> Vec<(String, String)> {
    let names = place.names(volume);
    let records = names.iter().filter(|name| name.contains(".verified.json"));
    let results = records.flat_map(|name| {
        let key = place.client.address().key(&format!("{volume}/{name}"));
        let record: Value = serde_json::from_slice(&place.client.get(&key, ALL).unwrap().unwrap()).unwrap();
        record["results"].as_array().unwrap().clone()
    });
    let word = |result: &Value, name: &str| result[name].as_str().unwrap().to_owned();
    results.map(|result| (word(&result, "level"), word(&result, "verdict"))).collect()
}

fn a_night_proves_what_is_in_the_store(place: &Place, more: &str) {
    let scratch = place.host.at("scratch");
    fs::create_dir_all(&scratch).unwrap();
    let verify = "[verify]\nenabled = true\nlevel = 'full'\nshare_percent = 100\n";
    let rehearse = format!("[rehearse]\nenabled = true\nscratch = '{}'\n", scratch.display());
    place.configure(&format!("{more}\n{verify}{rehearse}"));
    place.host.add_ext4("volume-1");
    place.good(&["run"]);
    let good = |level: &str| (level.to_owned(), "good".to_owned());
    assert_eq!(found(place, "volume-1"), [good("full"), good("restore-test")]);
    assert!(place.good(&["list"]).contains("restore-test"), "{:#?}", place.listed());

    let names = place.names("volume-1");
    let is_data =
        |name: &&String| name.ends_with(".tar.gz") || name.starts_with("segments/2") && !name.contains(".index");
    let archive = names.iter().find(is_data).unwrap_or_else(|| panic!("{names:?}"));
    let key = place.client.address().key(&format!("volume-1/{archive}"));
    let mut bytes = place.client.get(&key, ALL).unwrap().unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    place.client.put(&key, &bytes, false).unwrap();
    next_second();
    let night = place.verb(&["run"]);
    assert!(night.status == 3 && night.stdout.contains("verified, and BAD"), "{night:?}");
    assert!(found(place, "volume-1").contains(&("full".to_owned(), "bad".to_owned())));
}

#[test]
fn a_night_verifies_and_rehearses_in_a_store() {
    let server = Storing::start();
    a_night_proves_what_is_in_the_store(&Place::in_process(&server, ""), "");
    a_night_proves_what_is_in_the_store(&Place::in_prefix(&server, "host-2", ""), "[archive]\nlayout = 'shared'");
}
