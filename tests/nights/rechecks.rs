//! Promise: a night verifies older backups as the config asks.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::testkit::stand_in::Host;

#[test]
fn a_night_verifies_older_backups_with_a_second_opinion_when_asked_to() {
    let host = Host::new("[verify]\nenabled = true\nshare_percent = 100\nsecond_opinion = true\n");
    host.add_ext4("volume-1");
    host.zeros("volume-zero");
    host.add("volume-zero");
    let did = host.verb(&["-q", "run"]);
    assert!(!did.stderr.contains("BAD"), "{did:?}");
    for (name, asked) in [("volume-1", true), ("volume-zero", false)] {
        let mut files = fs::read_dir(host.at("backups").join(name)).unwrap().map(|entry| entry.unwrap().path());
        let record = files.find(|path| path.to_string_lossy().ends_with(".verified.json")).unwrap();
        let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        let result = &record["results"][0];
        assert_eq!((&result["level"], &result["verdict"]), (&"full".into(), &"good".into()), "{record}");
        assert_eq!(result["second_opinion"]["asked"].as_u64().unwrap() > 0, asked, "{record}");
    }
}

/// The files of a volume in the destination whose names have this end.
fn files(host: &Host, name: &str, suffix: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(host.at("backups").join(name)).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect()
}

#[test]
fn one_backup_without_a_result_takes_no_turn_of_the_others() {
    let host = Host::new("[verify]\nenabled = true\nshare_percent = 1\n");
    host.add_ext4("volume-1");
    host.add_ext4("volume-2");
    let configured = fs::read_to_string(host.at("volbak.toml")).unwrap();
    fs::write(host.at("volbak.toml"), configured.replace("enabled = true", "enabled = false")).unwrap();
    assert_eq!(host.verb(&["run"]).status, 0);
    fs::write(host.at("volbak.toml"), configured).unwrap();
    // A newer volbak wrote this one: it is not replaced, and its backup is the first whenever one is due.
    let manifest = files(&host, "volume-1", ".manifest.json").remove(0);
    let record = manifest.to_str().unwrap().replace(".manifest.json", ".verified.json");
    fs::write(&record, "{\"format\": 9}").unwrap();
    for night in 0..2 {
        let did = host.verb(&["run"]);
        assert!(did.status == 3 && did.stderr.contains("could not be stored"), "{did:?}");
        assert_eq!(files(&host, "volume-2", ".verified.json").len(), 1, "{night}: {did:?}");
    }
    assert_eq!(fs::read_to_string(&record).unwrap(), "{\"format\": 9}");
}
