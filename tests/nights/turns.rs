//! Promise: a night that has not the time for all says what is not backed up in time, and the next one begins with it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::testkit::stand_in::{Did, Host};

/// The report of the last night.
fn report(host: &Host) -> Value {
    let newest = |directory: &str| {
        let entries = fs::read_dir(host.at(directory)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "json")).max().unwrap()
    };
    serde_json::from_slice(&fs::read(newest("backups/.volbak/reports")).unwrap()).unwrap()
}

/// The volumes that the last night came to, and those that it did not.
fn outcomes(host: &Host) -> Vec<(String, bool)> {
    let report = report(host);
    let volumes = report["volumes"].as_array().unwrap().iter();
    volumes
        .map(|volume| {
            let name = volume["name"].as_str().unwrap().to_owned();
            (name, volume["outcome"].to_string().contains("not_started"))
        })
        .collect()
}

fn three_volumes(more: &str) -> Host {
    let host = Host::new(more);
    for name in ["volume-1", "volume-2", "volume-3"] {
        host.add_ext4(name);
    }
    host
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A run in a time zone whose clocks show this time of the same day as UTC's, in seconds since midnight: a later one has a later
/// date, whatever the time is.
fn run_at(host: &Host, second_of_day: u64, arguments: &[&str]) -> Did {
    let now = seconds_since_1970() % 86_400;
    let (sign, apart) = if now >= second_of_day { ('+', now - second_of_day) } else { ('-', second_of_day - now) };
    let zone = format!("TST{sign}{:02}:{:02}:{:02}", apart / 3600, apart / 60 % 60, apart % 60);
    let mut program = host.program(arguments);
    program.env("TZ", zone).arg("--config").arg(host.at("volbak.toml")).output().unwrap().into()
}

const SIX: u64 = 6 * 3600;
const NOON: u64 = 12 * 3600;

#[test]
fn a_volume_that_is_cut_off_each_night_is_not_the_first_each_night() {
    let slow =
        "max_run_hours = 0.003\n[volume.volume-1]\nmax_volume_hours = 0.003\nbefore_snapshot = ['/bin/sleep', '600']\n";
    let host = three_volumes(slow);
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 1, "{did:?}");
    assert!(did.stdout.contains("the run reached its limit of 10 s (max_run_hours)"), "{did:?}");
    let first = [("volume-1", false), ("volume-2", true), ("volume-3", true)];
    assert_eq!(outcomes(&host), first.map(|(name, is_left)| (name.to_owned(), is_left)));
    // By its last backup it would be the first again: it has none.
    host.verb(&["run"]);
    let names: Vec<String> = outcomes(&host).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["volume-2", "volume-3", "volume-1"]);
}

#[test]
fn no_volume_begins_after_the_window_and_the_others_are_the_first_of_the_next_night() {
    // The first volume begins in the window, however long a busy machine takes for that, and waits until it is over.
    let begin = |host: &Host, seconds: u64| {
        let over = seconds_since_1970() + seconds + 2;
        let wait = format!("while [ $(date +%s) -lt {over} ]; do sleep 0.1; done");
        let hook =
            format!("start_before = '06:00'\n[volume.volume-1]\nbefore_snapshot = ['/bin/sh', '-c', '{wait}']\n");
        host.write_config("volbak.toml", &hook);
        run_at(host, SIX - seconds, &["run", "--json"])
    };
    let begun = [5, 20, 80].into_iter().find_map(|seconds| {
        let host = three_volumes("");
        let did = begin(&host, seconds);
        (!did.stderr.contains("FAILED 3 of 3")).then_some((host, did))
    });
    let (host, did) = begun.expect("the first volume began in the window");
    assert_eq!(did.status, 1, "{did:?}");
    assert!(did.stderr.trim_end().ends_with(": FAILED 2 of 3 volumes, 2 not backed up in time"), "{did:?}");
    let printed: Value = serde_json::from_str(&did.stdout).unwrap();
    for (at, late) in [(0, None), (1, Some(true)), (2, Some(true))] {
        let volume = &printed["report"]["volumes"][at];
        assert_eq!(volume.get("out_of_time").and_then(Value::as_bool), late, "{volume}");
    }
    let why = "not backed up in time: no volume is begun after 06:00 (start_before)";
    assert_eq!(printed["report"]["volumes"][1]["outcome"]["not_started"], why);
    let shown = host.verb(&["report"]).stdout;
    assert_eq!(shown.matches(&format!("not started: {why}")).count(), 2, "{shown}");
    let status = host.verb(&["status"]);
    assert!(status.status == 2 && status.stdout.contains("volume-3 was not started in its last run"), "{status:?}");
    assert!(status.stdout.contains(why), "{status:?}");
    // The next night has time for all.
    let did = run_at(&host, NOON, &["run"]);
    assert_eq!(did.status, 0, "{did:?}");
    let next = [("volume-2", false), ("volume-3", false), ("volume-1", false)];
    assert_eq!(outcomes(&host), next.map(|(name, is_left)| (name.to_owned(), is_left)));
}

#[test]
fn a_run_outside_the_window_begins_nothing_unless_volumes_are_named() {
    let host = three_volumes("start_after = '22:00'\nstart_before = '06:00'\n");
    let did = run_at(&host, NOON, &["run"]);
    assert!(did.status == 1 && did.stderr.contains("FAILED 3 of 3 volumes, 3 not backed up in time"), "{did:?}");
    assert!(did.stderr.contains("volumes are begun from 22:00 to 06:00 alone (start_after, start_before)"), "{did:?}");
    assert!(report(&host)["aborted"].is_null());
    assert_eq!(run_at(&host, NOON, &["run", "--only", "volume-2"]).status, 0);
    assert_eq!(run_at(&host, SIX - 3600, &["run"]).status, 0);
    let wrong = "start_after = '22:00'\n";
    host.write_config("volbak.toml", wrong);
    let did = host.volbak(&["config", "check", "--config", host.at("volbak.toml").to_str().unwrap()]);
    assert!(did.status == 2 && did.stderr.contains("`start_after` has no `start_before`"), "{did:?}");
    host.write_config("volbak.toml", "start_before = '6 am'\n");
    let did = host.volbak(&["config", "check", "--config", host.at("volbak.toml").to_str().unwrap()]);
    assert!(did.status == 2 && did.stderr.contains("write a time of day, like start_before = \"05:30\""), "{did:?}");
}
