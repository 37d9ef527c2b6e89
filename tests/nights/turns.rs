//! Promise: a night that has not the time for all begins with those that waited longest.

use std::fs;

use crate::testkit::stand_in::Host;

/// The volumes that the last night came to, and those that it did not.
fn outcomes(host: &Host) -> Vec<(String, bool)> {
    let newest = |directory: &str| {
        let entries = fs::read_dir(host.at(directory)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "json")).max().unwrap()
    };
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(newest("backups/.volbak/reports")).unwrap()).unwrap();
    let volumes = report["volumes"].as_array().unwrap().iter();
    volumes
        .map(|volume| {
            let name = volume["name"].as_str().unwrap().to_owned();
            (name, volume["outcome"].to_string().contains("not_started"))
        })
        .collect()
}

#[test]
fn a_volume_that_is_cut_off_each_night_is_not_the_first_each_night() {
    let slow =
        "max_run_hours = 0.003\n[volume.volume-1]\nmax_volume_hours = 0.003\nbefore_snapshot = ['/bin/sleep', '600']\n";
    let host = Host::new(slow);
    for name in ["volume-1", "volume-2", "volume-3"] {
        host.add_ext4(name);
    }
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 1, "{did:?}");
    let first = [("volume-1", false), ("volume-2", true), ("volume-3", true)];
    assert_eq!(outcomes(&host), first.map(|(name, is_left)| (name.to_owned(), is_left)));
    // By its last backup it would be the first again: it has none.
    host.verb(&["run"]);
    let names: Vec<String> = outcomes(&host).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["volume-2", "volume-3", "volume-1"]);
}
