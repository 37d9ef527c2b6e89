//! Nights with a cloud, with one that is down, and with one that never answers.

use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::map::{cloud, clouds_yaml, recorded};
use crate::testkit::guest::backups::manifest;
use crate::testkit::stand_in::Host;
use crate::testkit::wait::day_that_lasts;

const DATA_1: &str = "volume-ec20e4b2-6eca-4ccf-9d1c-9d8275246906";
const SAME: &str = "volume-7b73f2e9-d498-4e04-90f9-75fe2222396c";
const SAME_TOO: &str = "volume-85fd7eac-b59c-4ba1-aeed-5fb1714dfd73";

fn archive(host: &Host, volume: &str) -> std::path::PathBuf {
    let mut found: Vec<_> = fs::read_dir(host.at("backups").join(volume))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".tar.gz"))
        .collect();
    found.sort();
    found.pop().unwrap()
}

#[test]
fn a_night_saves_the_map_and_volumes_are_found_by_their_names() {
    let server = cloud(&Arc::new(Mutex::new(recorded())));
    let host = Host::new("");
    let clouds = clouds_yaml(&host.at(""), &server.url);
    host.write_config(
        "volbak.toml",
        &format!("[openstack]\ncloud = 'test'\nclouds_file = '{clouds}'\nhost = 'storage-1'\n"),
    );
    for name in [DATA_1, SAME, SAME_TOO] {
        host.add_ext4(name);
    }
    let did = host.verb(&["run"]);
    // Six more volumes are on this host, says Cinder, and have no backup.
    assert_eq!(did.status, 3, "{did:?}");
    assert!(did.stdout.contains("volumes that Cinder has on this host, and that have no backup"), "{did:?}");
    assert!(did.stdout.contains("data-2 (web-1)") && !did.stdout.contains(&format!("no backup: {DATA_1}")), "{did:?}");
    let end = did.stdout.split("Total execution time").nth(1).unwrap();
    assert!(
        end.contains("Names in the cloud...\n") && end.contains(&format!("  - {DATA_1}: data-1 (web-1)\n")),
        "{end}"
    );

    let maps: Vec<_> = fs::read_dir(host.at("backups/.volbak/cloud")).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(maps.len(), 1);
    let saved = fs::read_to_string(maps[0].path()).unwrap();
    assert!(!saved.contains("geheim") && !saved.contains("gAAAA"), "{saved}");
    let manifest: Value = manifest(&archive(&host, DATA_1));
    assert_eq!(manifest["cloud"]["volume"]["name"], "data-1");
    assert_eq!(manifest["cloud"]["volume"]["attachments"][0]["instance_name"], "web-1");
    assert!(host.verb(&["list"]).stdout.contains("data-1 (web-1)"));
    let did = host.verb(&["list", "same", "data-1"]);
    assert!(did.status == 0 && [DATA_1, SAME, SAME_TOO].iter().all(|name| did.stdout.contains(name)), "{did:?}");
    assert_eq!(host.verb(&["list", "data-2"]).status, 2);
    assert!(host.verb(&["status"]).stdout.contains(&format!("{DATA_1} [data-1 (web-1)]")));
    assert!(host.verb(&["status", "--json"]).stdout.contains("\"cloud\": \"data-1 (web-1)\""));

    // By display name, by UUID, and not where two are called so.
    for name in ["data-1", &DATA_1["volume-".len()..], "data-1@today"] {
        let target = host.at(&format!("restored-{name}"));
        let did = host.verb(&["restore", name, "--to", target.to_str().unwrap()]);
        assert_eq!(did.status, 0, "{name}: {did:?}");
        assert!(fs::read_dir(&target).unwrap().count() > 0);
    }
    let did = host.verb(&["restore", "same", "--to", host.at("no").to_str().unwrap()]);
    assert!(did.status != 0 && did.stderr.contains(SAME) && did.stderr.contains(SAME_TOO), "{did:?}");
    let did = host.verb(&["snapshot", "data-1"]);
    assert_eq!(did.status, 0, "{did:?}");
    let did = host.verb(&["snapshot", "same"]);
    assert!(did.status != 0 && did.stderr.contains(SAME) && did.stderr.contains(SAME_TOO), "{did:?}");
    // So in the verbs that take a volume and no date.
    for (status, verb) in [(0, &["config", "expect"][..]), (2, &["accept"]), (0, &["prune", "--dry-run"])] {
        let did = host.verb(&[verb, &["data-1"]].concat());
        assert!(did.status == status && (did.stdout + &did.stderr).contains(DATA_1), "{verb:?}");
        let did = host.verb(&[verb, &["same"]].concat());
        assert!(did.status == 2 && did.stderr.contains(SAME) && did.stderr.contains(SAME_TOO), "{verb:?} {did:?}");
    }
    // A volume of the cloud that is not on this host.
    assert!(host.verb(&["snapshot", "data-2"]).stderr.contains("volume-533bff75"));
}

#[test]
fn a_cloud_that_is_down_delays_and_fails_nothing() {
    day_that_lasts();
    let server = cloud(&Arc::new(Mutex::new(recorded())));
    let host = Host::new("");
    let clouds = clouds_yaml(&host.at(""), &server.url);
    let table = |deadline: u32| {
        format!(
            "[openstack]\ncloud = 'test'\nclouds_file = '{clouds}'\nhost = 'storage-1'\ndeadline_seconds = {deadline}\n"
        )
    };
    host.write_config("volbak.toml", &table(30));
    host.add_ext4(DATA_1);
    host.verb(&["run"]);
    // Nothing listens there any more.
    clouds_yaml(&host.at(""), "http://127.0.0.1:1");
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 3, "{did:?}");
    assert!(did.stdout.contains("there is no new map of the cloud, and the backups go on"), "{did:?}");
    // By the map of the night before.
    assert_eq!(manifest(&archive(&host, DATA_1))["cloud"]["volume"]["name"], "data-1");
    let did = host.verb(&["cloud", "map"]);
    assert_eq!(did.status, 0, "{did:?}");
    assert!(did.stdout.contains("data-1") && did.stderr.contains("the cloud could not be asked"), "{did:?}");
    assert!(host.verb(&["cloud", "map", "--date", "today"]).stdout.contains("web-1"));
    assert_eq!(host.verb(&["cloud", "map", "--date", "2001-01-01"]).status, 1);
    // A server that accepts, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    clouds_yaml(&host.at(""), &format!("http://{}", silent.local_addr().unwrap()));
    host.write_config("volbak.toml", &table(2));
    let began = Instant::now();
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 3, "{did:?}");
    assert!(did.stdout.contains("within the 2 s"), "{did:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    for text in [&did.stdout, &did.stderr] {
        assert!(!text.contains("geheim"), "{text}");
    }
}

#[test]
fn without_the_table_no_cloud_is_asked() {
    let server = cloud(&Arc::new(Mutex::new(recorded())));
    let host = Host::new("");
    host.add_ext4(DATA_1);
    let mut command = host.program(&["run", "--config"]);
    command.arg(host.at("volbak.toml")).env("OS_AUTH_URL", &server.url).env("OS_USERNAME", "u").env("OS_PASSWORD", "p");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(server.calls().is_empty() && !host.at("backups/.volbak/cloud").exists());
    assert!(manifest(&archive(&host, DATA_1)).get("cloud").is_none());
    assert!(host.verb(&["cloud", "map"]).stderr.contains("no saved map"));
}
