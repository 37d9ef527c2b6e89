//! Promise: several volumes are backed up at once, with one reader for each volume group, under common limits, and the report
//! is the same as that of a night that takes one after another. What failed for a passing reason is tried once more.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::testkit::guest::{quoted, sh};
use crate::testkit::stand_in::{Did, Host};
use crate::testkit::tree::noise;
use crate::testkit::wait::wait_until;

fn host(volumes: &[&str], more: &str) -> Host {
    let host = Host::new(more);
    for name in volumes {
        host.add_ext4(name);
    }
    host
}

/// Lets the snapshot of this volume wait until the test removes the file.
fn hold(host: &Host, volume: &str) {
    fs::write(host.at("state").join(format!("slow-{volume}")), "").unwrap();
}

fn let_go(host: &Host, volume: &str) {
    fs::remove_file(host.at("state").join(format!("slow-{volume}"))).unwrap();
}

fn is_waiting(host: &Host, volume: &str) -> bool {
    host.at("state").join(format!("waiting-{volume}")).exists()
}

fn has_backup(host: &Host, volume: &str) -> bool {
    let there = fs::read_dir(host.at("backups").join(volume)).into_iter().flatten().flatten();
    there.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".manifest.json"))
}

fn snapshots(host: &Host) -> usize {
    let states = fs::read_dir(host.at("state")).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.contains("\"origin\""));
    states.filter(|path| path.extension().is_some_and(|extension| extension == "json") && is_one(path)).count()
}

fn began(host: &Host, arguments: &[&str]) -> Child {
    let mut program = host.program(arguments);
    program.arg("--config").arg(host.at("volbak.toml")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> Did {
    child.wait_with_output().unwrap().into()
}

fn names(report: &Value) -> Vec<&str> {
    report["report"]["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect()
}

#[test]
fn two_volumes_of_a_group_are_backed_up_at_once_and_reported_in_order() {
    let host = host(&["volume-1", "volume-2", "volume-3"], "jobs = 2\njobs_per_group = 2\n");
    hold(&host, "volume-1");
    hold(&host, "volume-2");
    let night = began(&host, &["--log", "json", "run", "--json"]);
    wait_until("two snapshots are taken at once", || is_waiting(&host, "volume-1") && is_waiting(&host, "volume-2"));
    let_go(&host, "volume-2");
    // The third takes the place of the second, while the first still waits.
    wait_until("the others are backed up", || has_backup(&host, "volume-2") && has_backup(&host, "volume-3"));
    assert!(!has_backup(&host, "volume-1"));
    let_go(&host, "volume-1");
    let did = ended(night);
    assert_eq!(did.status, 0, "{did:?}");
    let report: Value = serde_json::from_str(&did.stdout).unwrap();
    assert_eq!(names(&report), ["volume-1", "volume-2", "volume-3"]);
    // Each line names its volume, and the last one is the summary.
    let lines: Vec<Value> = did.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let started: Vec<(&str, u64)> = lines
        .iter()
        .filter(|line| line["event"] == "volume_started")
        .map(|line| (line["volume"].as_str().unwrap(), line["number"].as_u64().unwrap()))
        .collect();
    assert_eq!(started.len(), 3, "{started:?}");
    assert!(
        started.contains(&("volume-3", 3)) && started.iter().map(|(_, number)| number).sum::<u64>() == 6,
        "{started:?}"
    );
    for line in lines.iter().filter(|line| line["event"] == "step") {
        let volume = line["volume"].as_str().unwrap_or_else(|| panic!("{line}"));
        assert!(line["message"].as_str().unwrap().starts_with(&format!("vg0/{volume}: ")), "{line}");
    }
    let finished = lines.iter().filter(|line| line["event"] == "volume_finished").count();
    assert_eq!((finished, &lines.last().unwrap()["event"]), (3, &"summary".into()));
    assert_eq!(snapshots(&host), 0);
    for volume in ["volume-1", "volume-2", "volume-3"] {
        let did = host.volbak(&["verify", "--from", host.at("backups").to_str().unwrap(), volume]);
        assert_eq!(did.status, 0, "{did:?}");
    }
}

#[test]
fn a_group_has_one_reader_unless_more_are_asked_for() {
    let host = host(&["volume-1", "volume-2", "volume-3"], "");
    let count =
        format!("grep -l origin {}/*.json | wc -l >>{}", host.at("state").display(), host.at("counts").display());
    host.write_config("volbak.toml", &format!("jobs = 3\n[hooks]\nbefore_snapshot = ['/bin/sh', '-c', '{count}']\n"));
    assert_eq!(host.verb(&["run"]).status, 0);
    let counts = fs::read_to_string(host.at("counts")).unwrap();
    assert_eq!(counts.split_whitespace().collect::<Vec<_>>(), ["0", "0", "0"]);
}

#[test]
fn all_jobs_share_one_read_rate() {
    let host = Host::new("jobs = 2\njobs_per_group = 2\nread_rate_limit = '1M'\n");
    for (seed, name) in [(1, "volume-1"), (2, "volume-2")] {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("noise"), noise(seed, 3_000_000)).unwrap();
        host.zeros(name);
        let image = host.at(&format!("{name}.img"));
        sh(&format!("mke2fs -q -F -t ext4 -d {} {}", quoted(files.path()), quoted(&image)));
        host.add(name);
    }
    let began = Instant::now();
    let did = host.verb(&["--progress", "json", "--quiet", "run"]);
    assert_eq!(did.status, 0, "{did:?}");
    // 6 MB, of which the first second's worth is free. Each by its own limit, they would take two seconds.
    assert!(began.elapsed() > Duration::from_millis(4500), "{:?}", began.elapsed());
    let lines: Vec<Value> = did.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for volume in ["volume-1", "volume-2"] {
        assert!(lines.iter().any(|line| line["volume"] == volume && line["event"] == "progress"), "{lines:?}");
    }
}

#[test]
fn a_signal_ends_all_jobs_and_leaves_no_snapshot() {
    let host = host(&["volume-1", "volume-2", "volume-3"], "jobs = 2\njobs_per_group = 2\n");
    hold(&host, "volume-1");
    hold(&host, "volume-2");
    let mut night = began(&host, &["run", "--json"]);
    wait_until("two snapshots are taken at once", || is_waiting(&host, "volume-1") && is_waiting(&host, "volume-2"));
    kill_process(Pid::from_child(&night), Signal::TERM).unwrap();
    let_go(&host, "volume-1");
    let_go(&host, "volume-2");
    let mut said = String::new();
    night.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let did = ended(night);
    assert_eq!(did.status, 1, "{said}");
    assert!(said.lines().last().unwrap().ends_with("FAILED 3 of 3 volumes, aborted: stopped by a signal"), "{said}");
    let report: Value = serde_json::from_str(&did.stdout).unwrap();
    assert_eq!(names(&report), ["volume-1", "volume-2", "volume-3"]);
    assert!(report["report"]["volumes"][2]["outcome"]["not_started"].is_string(), "{report}");
    assert_eq!(snapshots(&host), 0);
    assert!(!["volume-1", "volume-2", "volume-3"].iter().any(|volume| has_backup(&host, volume)));
}

const LOCKED: &str = "Can't get lock for vg0";

fn lock(host: &Host, volume: &str) {
    fs::write(host.at("state").join(format!("broken-{volume}")), LOCKED).unwrap();
}

#[test]
fn a_volume_that_met_a_lock_is_tried_again_at_the_end() {
    let host = host(&["volume-1", "volume-2"], "");
    lock(&host, "volume-1");
    let free = host.at("state/broken-volume-1");
    let hook =
        format!("retry_pause_seconds = 0\n[volume.volume-2]\nbefore_snapshot = ['/bin/rm', '{}']\n", free.display());
    host.write_config("volbak.toml", &hook);
    let did = host.verb(&["run", "--json"]);
    assert_eq!(did.status, 0, "{did:?}");
    assert!(did.stderr.contains("vg0/volume-1: it failed, and is tried again later in this run: "), "{did:?}");
    assert!(did.stderr.lines().last().unwrap().contains("2 of 2 volumes backed up"), "{did:?}");
    let report: Value = serde_json::from_str(&did.stdout).unwrap();
    assert_eq!(names(&report), ["volume-1", "volume-2"]);
    let [first, second] = [0, 1].map(|at| &report["report"]["volumes"][at]);
    assert!(first["outcome"] == "backed_up" && first["first_failure"].as_str().unwrap().contains(LOCKED), "{first}");
    assert!(second["first_failure"].is_null());
    let text = host.verb(&["report"]).stdout;
    assert!(text.contains("\nTried twice...\n  - volume-1: at first it failed, "), "{text}");
}

#[test]
fn a_lock_that_stays_fails_the_volume_after_two_attempts_and_other_failures_after_one() {
    let host = host(&["volume-1", "volume-2"], "retry_pause_seconds = 0\n");
    lock(&host, "volume-1");
    host.set_broken("volume-2", true);
    let did = host.verb(&["run", "--json"]);
    assert_eq!(did.status, 1, "{did:?}");
    assert_eq!(did.stderr.matches("is tried again later in this run").count(), 1, "{did:?}");
    assert_eq!(did.stderr.matches("volume-1: FAILED: ").count(), 1, "{did:?}");
    assert!(did.stderr.lines().last().unwrap().ends_with("FAILED 2 of 2 volumes"), "{did:?}");
    let report: Value = serde_json::from_str(&did.stdout).unwrap();
    let [first, second] = [0, 1].map(|at| &report["report"]["volumes"][at]);
    assert!(first["outcome"]["failed"].is_string() && first["first_failure"].is_string(), "{first}");
    assert!(second["outcome"]["failed"].is_string() && second["first_failure"].is_null(), "{second}");
}
