//! Promise: a night verifies older backups as the config asks.

use std::fs;

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
