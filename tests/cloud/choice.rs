//! What the cloud decides about a night: `select`, `volbak:retention`, and which volumes are gone.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::map::{Answers, cloud, clouds_yaml, recorded};
use crate::real::{CLOUD, clients, json as rows, openstack, remove_all, wait};
use crate::testkit::stand_in::{Did, Host};

const DATA_1: &str = "volume-ec20e4b2-6eca-4ccf-9d1c-9d8275246906";
const SAME: &str = "volume-7b73f2e9-d498-4e04-90f9-75fe2222396c";
const BOOTABLE: &str = "volume-69ddfd2a-18a6-4763-9c0e-3800f7f38031";
const OPT_OUT: &str = "volume-3c681419-0ba3-446a-934b-b1d95a9dc0ed";
/// No volume of the recorded cloud.
const UNKNOWN: &str = "volume-00000000-0000-4000-8000-000000000000";

/// Changes the list of volumes.
fn edit(answers: &Mutex<Answers>, change: impl Fn(&mut Vec<Value>)) {
    for (key, answer) in answers.lock().unwrap().iter_mut().filter(|(key, _)| key == "volumes") {
        let mut value: Value = serde_json::from_str(answer).unwrap();
        change(value["volumes"].as_array_mut().unwrap_or_else(|| panic!("{key}")));
        *answer = value.to_string();
    }
}

fn set_metadata(answers: &Mutex<Answers>, lv: &str, metadata: &Value) {
    edit(answers, |volumes| {
        for volume in volumes.iter_mut().filter(|volume| lv.ends_with(volume["id"].as_str().unwrap())) {
            volume["metadata"] = metadata.clone();
        }
    });
}

pub(crate) fn config(host: &Host, url: &str, more: &str) {
    let clouds = clouds_yaml(&host.at(""), url);
    let table = format!("[openstack]\ncloud = 'test'\nclouds_file = '{clouds}'\nhost = 'storage-1'\n");
    host.write_config("volbak.toml", &format!("{table}{more}\n"));
}

/// The volumes that got a backup from this run, by the report in JSON.
fn backed_up(host: &Host) -> Vec<String> {
    let folder = host.at("backups/.volbak/reports");
    let mut reports: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    reports.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    reports.sort_by_key(|path| path.metadata().unwrap().modified().unwrap());
    let report: Value = serde_json::from_str(&fs::read_to_string(reports.pop().unwrap()).unwrap()).unwrap();
    let volumes = report["volumes"].as_array().unwrap();
    let mut names: Vec<String> = volumes
        .iter()
        .filter(|volume| volume["outcome"] == "backed_up")
        .map(|volume| volume["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn sorted<const N: usize>(names: [&str; N]) -> Vec<String> {
    let mut names = names.map(str::to_owned).to_vec();
    names.sort();
    names
}

/// What the report says below its documented part.
pub(crate) fn decided(did: &Did) -> &str {
    did.stdout.split("Decided by the cloud...\n").nth(1).unwrap_or_else(|| panic!("{did:?}"))
}

/// For how many days the newest backup of a volume is kept, as `prune` says.
fn days(host: &Host, lv: &str) -> String {
    let forecast = host.verb(&["prune", "--dry-run"]).stdout;
    let line = forecast.lines().find(|line| line.contains(&format!("{lv}/"))).unwrap_or_else(|| panic!("{forecast}"));
    line.split("old, kept for ").nth(1).unwrap_or(line).split(' ').next().unwrap().to_owned()
}

#[test]
fn the_map_of_the_run_decides_or_the_saved_one_or_the_patterns_alone() {
    let answers = Arc::new(Mutex::new(recorded()));
    let server = cloud(&answers);
    let host = Host::new("");
    let select = "select = ['attached=yes', 'project=adm*']";
    config(&host, &server.url, select);
    for name in [DATA_1, SAME, BOOTABLE, OPT_OUT, UNKNOWN] {
        host.add_ext4(name);
    }
    let did = host.verb(&["run"]);
    assert_eq!(backed_up(&host), sorted([DATA_1, UNKNOWN]), "{did:?}");
    let said = decided(&did);
    assert!(said.contains("select, by the map of this run: 3 of 5 volumes are left out"), "{said}");
    assert!(said.contains(&format!("vg0/{SAME}: `select` asks for \"attached=yes\"")), "{said}");
    assert!(said.contains(&format!("vg0/{OPT_OUT}: its metadata say volbak=no")), "{said}");
    // Those that are left out are meant to have no backup.
    let bare = did.stdout.lines().find(|line| line.contains("that have no backup")).unwrap();
    assert!(!bare.contains(SAME) && !bare.contains(OPT_OUT) && bare.contains("data-2"), "{bare}");
    let did = host.verb(&["run", "--dry-run"]);
    assert!(did.stdout.contains(&format!("would leave out vg0/{BOOTABLE}: `select` asks for")), "{did:?}");
    assert!(did.stdout.contains("`select` in [openstack] goes by a saved map, 0 h old"), "{did:?}");
    assert!(host.verb(&["doctor"]).stdout.contains("2 to back up"));
    // A volume that is named is backed up.
    host.verb(&["run", "--only", SAME]);
    assert_eq!(backed_up(&host), sorted([SAME]));

    // The cloud is down: the saved map decides.
    config(&host, "http://127.0.0.1:1", select);
    let did = host.verb(&["run"]);
    assert_eq!(backed_up(&host), sorted([DATA_1, UNKNOWN]), "{did:?}");
    assert!(decided(&did).contains("select, by a saved map, 0 h old: 3 of 5"), "{did:?}");
    // No saved map, or a damaged one: all that the patterns select.
    let maps = host.at("backups/.volbak/cloud");
    for map in fs::read_dir(&maps).unwrap() {
        fs::write(map.unwrap().path(), "{").unwrap();
    }
    let did = host.verb(&["run"]);
    assert_eq!(backed_up(&host), sorted([DATA_1, SAME, BOOTABLE, OPT_OUT, UNKNOWN]), "{did:?}");
    assert!(decided(&did).contains("select is not applied, by no map"), "{did:?}");
    fs::remove_dir_all(&maps).unwrap();
    let did = host.verb(&["run", "--dry-run"]);
    assert!(
        did.stdout.contains("goes by no map: there is no saved one") && !did.stdout.contains("leave out"),
        "{did:?}"
    );
}

#[test]
fn a_retention_in_the_metadata_holds_within_the_limits() {
    let answers = Arc::new(Mutex::new(recorded()));
    let server = cloud(&answers);
    let host = Host::new("");
    let asks = [(DATA_1, "30"), (SAME, "4000"), (BOOTABLE, "for ever"), (OPT_OUT, "2d")];
    for (lv, days) in asks {
        set_metadata(&answers, lv, &json!({ "volbak:retention": days }));
        host.add_ext4(lv);
    }
    let limits = format!("retention_limits = '7-90'\n[volume.'{OPT_OUT}']\nbackups_retention_days = 3");
    config(&host, &server.url, &limits);
    let did = host.verb(&["run"]);
    let said = decided(&did);
    assert!(said.contains(&format!("{SAME} asks for a retention of 4000 days, and has 90")), "{said}");
    assert!(!said.contains(DATA_1), "{said}");
    assert!(did.stdout.contains(&format!("{BOOTABLE}: its metadata say volbak:retention=for ever")), "{did:?}");
    let all = |host: &Host| [DATA_1, SAME, BOOTABLE, OPT_OUT].map(|lv| days(host, lv));
    // The config's own table of a volume takes precedence.
    assert_eq!(all(&host), ["30", "90", "7", "3"]);
    // A volume that is deleted keeps what it asked for: the newest backup has it.
    edit(&answers, |volumes| volumes.retain(|volume| !DATA_1.ends_with(volume["id"].as_str().unwrap())));
    host.verb(&["run"]);
    assert_eq!(days(&host, DATA_1), "30");
    // Without limits it is not heeded.
    config(&host, &server.url, "");
    assert_eq!(all(&host), ["7", "7", "7", "7"]);
}

#[test]
fn only_a_volume_that_is_not_here_and_that_cinder_does_not_have_here_is_gone() {
    let answers = Arc::new(Mutex::new(recorded()));
    let server = cloud(&answers);
    let host = Host::new("");
    config(&host, &server.url, "");
    for name in [DATA_1, SAME, BOOTABLE] {
        host.add_ext4(name);
    }
    host.verb(&["run"]);
    let gone = |did: &Did, lv: &str| {
        did.stdout.contains(&format!("The volume {lv} is gone")) || {
            let report = host.verb(&["status", "--json"]).stdout;
            let status: Value = serde_json::from_str(&report).unwrap();
            status["volumes"].as_array().unwrap().iter().any(|one| one["name"] == lv && one["gone"] == true)
        }
    };
    // Cinder has it, and its volume group is not active.
    host.remove(DATA_1);
    let did = host.verb(&["run"]);
    assert!(!gone(&did, DATA_1), "{did:?}");
    let what =
        format!("Cinder has these volumes on this host, and they are no logical volumes here: {DATA_1}; their backups");
    assert!(did.stdout.contains(&what), "{did:?}");
    // An empty list says nothing about the volumes.
    let before = answers.lock().unwrap().clone();
    edit(&answers, Vec::clear);
    let did = host.verb(&["run"]);
    assert!(gone(&did, DATA_1) && !gone(&did, SAME), "{did:?}");
    assert!(!did.stdout.contains("no longer knows"), "{did:?}");
    // Nor does the list of a user who is no administrator.
    *answers.lock().unwrap() = before.clone();
    edit(&answers, |volumes| {
        volumes.retain(|volume| SAME.ends_with(volume["id"].as_str().unwrap()));
        volumes[0].as_object_mut().unwrap().remove("os-vol-host-attr:host");
    });
    let did = host.verb(&["run"]);
    assert!(!did.stdout.contains("no longer knows"), "{did:?}");
    // Deleted in Cinder: gone, and the logical volume that stayed is named, and backed up.
    *answers.lock().unwrap() = before;
    edit(&answers, |volumes| {
        volumes.retain(|volume| ![DATA_1, SAME].iter().any(|lv| lv.ends_with(volume["id"].as_str().unwrap())));
    });
    host.verb(&["run"]);
    let did = host.verb(&["run"]);
    assert!(gone(&did, DATA_1) && !gone(&did, SAME), "{did:?}");
    assert!(did.stdout.contains(&format!("logical volumes that Cinder no longer knows: {SAME}; they are")), "{did:?}");
    assert_eq!(backed_up(&host), sorted([SAME, BOOTABLE]));
    // A cloud that is down makes nothing gone.
    config(&host, "http://127.0.0.1:1", "");
    let did = host.verb(&["run"]);
    assert!(!gone(&did, SAME) && !gone(&did, BOOTABLE) && !did.stdout.contains("no longer knows"), "{did:?}");
}

#[test]
fn what_tenants_write_changes_no_line_and_leaves_nothing_else_out() {
    const HOSTILE: &str = "<b>x</b>\u{1b}[31m\nvolume-0: whole\r\u{202e}\u{7}../../etc/passwd@today";
    let answers = Arc::new(Mutex::new(recorded()));
    edit(&answers, |volumes| {
        for (at, volume) in volumes.iter_mut().enumerate() {
            volume["name"] = HOSTILE.into();
            volume["volume_type"] = HOSTILE.into();
            volume["metadata"] = json!({ "volbak:retention": HOSTILE, HOSTILE: HOSTILE, "n": at.to_string() });
        }
    });
    // The project's name is not known tonight: nothing is left out for that.
    answers.lock().unwrap().retain(|(key, _)| key != "projects");
    for (key, answer) in answers.lock().unwrap().iter_mut().filter(|(key, _)| key == "servers") {
        let mut value: Value = serde_json::from_str(answer).unwrap();
        for server in value["servers"].as_array_mut().unwrap_or_else(|| panic!("{key}")) {
            server["name"] = HOSTILE.into();
        }
        *answer = value.to_string();
    }
    let server = cloud(&answers);
    let host = Host::new("");
    for name in [BOOTABLE, OPT_OUT] {
        host.add_ext4(name);
    }
    let more = "select = ['project=shop']\nretention_limits = '7-90'\ngroup_by_instance = true";
    config(&host, &server.url, more);
    let did = host.verb(&["run"]);
    assert_eq!(backed_up(&host), sorted([BOOTABLE, OPT_OUT]), "{did:?}");
    let page = host.at("page.html");
    let shown = host.verb(&["report", "--html", page.to_str().unwrap()]);
    assert_eq!(shown.status, 0, "{shown:?}");
    assert!(!fs::read_to_string(&page).unwrap().contains("<b>x"));
    for verb in [&["report"][..], &["list"], &["status"], &["cloud", "map"], &["run", "--dry-run"], &["doctor"]] {
        let did = host.verb(verb);
        for text in [&did.stdout, &did.stderr] {
            let is_wrong = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(is_wrong) && !text.contains("\nvolume-0"), "{verb:?}: {text:?}");
        }
    }
}

#[test]
#[ignore = "needs scripts/test-cloud"]
fn the_metadata_of_real_volumes_decide_about_a_night() {
    let _cloud = CLOUD.lock().unwrap_or_else(PoisonError::into_inner);
    let volumes = [
        ("sel-gold", "--property tier=gold"),
        ("sel-no", "--property tier=gold --property volbak=no"),
        ("sel-plain", "--property tier=silver"),
        ("sel-long", "--property tier=gold --property volbak:retention=30"),
        ("sel-over", "--property tier=gold --property volbak:retention=4000"),
    ];
    clients(&volumes.map(|(name, properties)| format!("volume create --size 1 {properties} {name}")));
    let list = || rows(&["volume", "list", "--all-projects", "--long"]);
    wait("the volumes are there", || {
        list().as_array().unwrap().iter().filter(|row| row["Status"] == "available").count() == volumes.len()
    });
    let lvs: BTreeMap<String, String> = list()
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["Name"].as_str().unwrap().to_owned(), format!("volume-{}", row["ID"].as_str().unwrap())))
        .collect();
    let lv = |name: &str| lvs[name].as_str();
    let host = Host::new("");
    let clouds = std::env::var("CLOUD_DIR").expect("scripts/test-cloud sets it");
    let table = format!("[openstack]\ncloud = 'admin'\nclouds_file = '{clouds}/clouds.yaml'\nhost = 'storage-1'\n");
    host.write_config("volbak.toml", &format!("{table}select = ['metadata.tier=gold']\nretention_limits = '7-90'\n"));
    for lv in lvs.values() {
        host.add_ext4(lv);
    }
    let did = host.verb(&["run"]);
    assert_eq!(backed_up(&host), sorted([lv("sel-gold"), lv("sel-long"), lv("sel-over")]), "{did:?}");
    assert!(
        decided(&did).contains(&format!("{} asks for a retention of 4000 days, and has 90", lv("sel-over"))),
        "{did:?}"
    );
    assert_eq!(["sel-gold", "sel-long", "sel-over"].map(|name| days(&host, lv(name))), ["7", "30", "90"]);

    // Both clients have the same metadata of each volume.
    let map: Value = serde_json::from_str(&host.verb(&["cloud", "map", "--json"]).stdout).unwrap();
    for theirs in list().as_array().unwrap() {
        let ours = map["volumes"].as_array().unwrap().iter().find(|ours| ours["id"] == theirs["ID"]).unwrap();
        assert_eq!(ours["metadata"], theirs["Properties"]);
        assert_eq!((&ours["name"], &ours["status"]), (&theirs["Name"], &theirs["Status"]));
    }
    assert_eq!(map["volumes"].as_array().unwrap().len(), volumes.len());

    // What the owner changes counts in the next run.
    openstack(&["volume", "set", "--property", "volbak=no", "sel-gold"]);
    openstack(&["volume", "unset", "--property", "volbak", "sel-no"]);
    openstack(&["volume", "set", "--property", "volbak:retention=60", "sel-long"]);
    let did = host.verb(&["run"]);
    assert_eq!(backed_up(&host), sorted([lv("sel-no"), lv("sel-long"), lv("sel-over")]), "{did:?}");
    assert_eq!(days(&host, lv("sel-long")), "60");
    remove_all();
}
