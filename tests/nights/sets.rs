//! Sets of volumes: the commands after the snapshots run whatever happens, a member that overflows leaves the others whole, and
//! the verbs take a set by its name. A second attempt never mixes two moments.

use std::fs;
use std::process::{Child, Stdio};

use chrono::Utc;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::testkit::guest::backups::{archives, manifest};
use crate::testkit::stand_in::{Did, Host};
use crate::testkit::wait::wait_until;

/// A host whose group `db` has two volumes. Its commands write into `hooks`.
fn host(more: &str) -> Host {
    let host = Host::new("");
    let hooks = host.at("hooks");
    let says = |word: &str| format!("['/bin/sh', '-c', 'echo {word} >>{}']", hooks.display());
    host.write_config(
        "volbak.toml",
        &format!(
            "[group.db]\nvolumes = ['volume-1', 'volume-2']\nbefore_snapshot = {}\nafter_snapshot = {}\n{more}",
            says("freeze"),
            says("thaw")
        ),
    );
    for volume in ["volume-1", "volume-2"] {
        host.add_ext4(volume);
    }
    host
}

fn hooks(host: &Host) -> String {
    fs::read_to_string(host.at("hooks")).unwrap_or_default()
}

/// A run whose snapshot of volume-2 is under way, and does not end before the file `slow-volume-2` goes.
fn run_that_waits(host: &Host) -> Child {
    that_waits(host, &["run"])
}

fn that_waits(host: &Host, arguments: &[&str]) -> Child {
    fs::write(host.at("state/slow-volume-2"), "").unwrap();
    let mut run = host.program(arguments);
    run.arg("--config").arg(host.at("volbak.toml")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = run.spawn().unwrap();
    wait_until("the second snapshot is being taken", || host.at("state/waiting-volume-2").exists());
    run
}

fn end(host: &Host, run: Child) -> Did {
    fs::remove_file(host.at("state/slow-volume-2")).unwrap();
    run.wait_with_output().unwrap().into()
}

#[test]
fn a_signal_while_the_snapshots_are_taken_thaws() {
    let host = host("");
    let run = run_that_waits(&host);
    assert_eq!(hooks(&host), "freeze\n");
    kill_process(Pid::from_child(&run), Signal::TERM).unwrap();
    let did = end(&host, run);
    assert_eq!(hooks(&host), "freeze\nthaw\n", "{did:?}");
    assert!(did.status != 0 && archives(&host.at("backups")).is_empty(), "{did:?}");
    assert!(
        !fs::read_dir(host.at("state"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().ends_with(".snapshot") })
    );
}

#[test]
fn a_freeze_for_one_volume_ends_at_its_limit_too() {
    let host = host("");
    let says = |word: &str| format!("['/bin/sh', '-c', 'echo {word} >>{}']", host.at("hooks").display());
    let (freeze, thaw) = (says("freeze"), says("thaw"));
    let hooks_of_all =
        format!("[hooks]\nbefore_snapshot = {freeze}\nafter_snapshot = {thaw}\nfreeze_limit_seconds = 1\n");
    host.write_config("volbak.toml", &hooks_of_all);
    let image = host.at("exported.img");
    for verb in [
        &["run", "--only", "volume-2"][..],
        &["snapshot", "volume-2"],
        &["export", "volume-2", "--to", image.to_str().unwrap()],
    ] {
        let run = that_waits(&host, verb);
        wait_until("the command after the snapshot ran", || hooks(&host) == "freeze\nthaw\n");
        let did = end(&host, run);
        assert_eq!(hooks(&host), "freeze\nthaw\n", "once");
        let said = format!("{}{}", did.stdout, did.stderr);
        assert!(said.contains("the snapshot took more than 1 s (freeze_limit_seconds)"), "{verb:?}: {did:?}");
        assert_eq!(did.status, 3, "{verb:?}: {did:?}");
        fs::remove_file(host.at("hooks")).unwrap();
        fs::remove_file(host.at("state/waiting-volume-2")).unwrap();
    }
    assert_eq!(archives(&host.at("backups")).len(), 2);
    assert!(image.exists());
}

#[test]
fn a_freeze_ends_at_its_limit_though_a_snapshot_hangs() {
    let host = host("freeze_limit_seconds = 1\n");
    let run = run_that_waits(&host);
    wait_until("the commands after the snapshots ran", || hooks(&host) == "freeze\nthaw\n");
    let did = end(&host, run);
    assert_eq!(hooks(&host), "freeze\nthaw\n", "once");
    assert!(did.stdout.contains("the snapshots took more than 1 s (freeze_limit_seconds)"), "{did:?}");
    let all = archives(&host.at("backups"));
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|one| manifest(one)["set"]["quiesced"] == false));
}

#[test]
fn a_member_whose_snapshot_overflows_while_it_waits_makes_the_set_partial() {
    let host = host("");
    assert_eq!(host.verb(&["run"]).status, 0);
    assert_eq!(host.verb(&["verify", "db"]).status, 0);
    fs::write(host.at("state/full-volume-2"), "").unwrap();
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 1, "{did:?}");
    assert!(did.stdout.contains("the set is partial: it has no whole backup of volume-2"), "{did:?}");
    assert_eq!(archives(&host.at("backups")).len(), 3);
    let listed = host.verb(&["list", "db"]).stdout;
    let first = listed.lines().next().unwrap();
    assert!(first.starts_with("db@") && first.ends_with("  whole"), "{listed}");
    assert!(listed.contains("lacking: volume-2 has no backup in it"), "{listed}");
    // By its name alone the group is the set that is whole.
    let did = host.verb(&["restore", "db", "--to", host.at("out").to_str().unwrap()]);
    assert_eq!(did.status, 0, "{did:?}");
    for volume in ["volume-1", "volume-2"] {
        assert!(host.at("out").join(volume).join("file7").exists());
    }
}

#[test]
fn the_verbs_take_a_set() {
    let host = host("");
    host.verb(&["run"]);
    let listed = host.verb(&["list", "db"]).stdout;
    let set = listed.lines().next().unwrap().split(' ').next().unwrap().to_owned();
    let did = host.verb(&["verify", &set]);
    assert!(did.status == 0 && did.stdout.matches(": good, ").count() == 2, "{did:?}");
    let did = host.verb(&["browse", &set, "file7"]);
    assert_eq!(did.status, 0, "{did:?}");
    let paths: Vec<&str> = did.stdout.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert!(paths.len() == 2 && paths[0].starts_with("volume-1@") && paths[1].ends_with(":file7"), "{did:?}");
    // What it prints is what `cat` takes.
    assert!(host.verb(&["cat", paths[1]]).stdout.starts_with("volume-2 7\n"));
    assert_ne!(host.verb(&["browse", &set, "nothing"]).status, 0);
    let json = host.verb(&["browse", "db", "--json"]).stdout;
    assert!(json.lines().all(|line| line.contains("\"backup\":\"volume-")), "{json}");
    let did = host.verb(&["protect", &set]);
    assert!(did.status == 0 && did.stdout.matches(" is protected").count() == 2, "{did:?}");
    let forecast = host.verb(&["prune", "--dry-run", &set]).stdout;
    assert_eq!(forecast.matches("protected").count(), 2, "{forecast}");
    assert_eq!(host.verb(&["prune", "--dry-run", "volume-1"]).stdout.lines().count(), 1);
    assert!(host.verb(&["prune", "--dry-run", "volume-9"]).stdout.contains("there are no backups of these names"));
    let did = host.verb(&["unprotect", &set]);
    assert_eq!(did.stdout.matches("no longer protected").count(), 2, "{did:?}");
    let member = paths[0].split(':').next().unwrap();
    // In the second of the first set it would be no longer named by that second alone.
    let first_second = set.rsplit('_').next().unwrap();
    wait_until("the second of the first set is over", || Utc::now().format("%H%M%S").to_string() != first_second);
    assert_eq!(host.verb(&["run"]).status, 0);
    let did = host.verb(&["remove", member]);
    assert!(did.status == 1 && did.stderr.contains("of the same set of the group db would stay"), "{did:?}");
    let did = host.verb(&["remove", "db"]);
    assert!(did.status == 2 && did.stderr.contains("names no date"), "{did:?}");
    let did = host.verb(&["remove", &set]);
    assert!(did.status == 1 && did.stderr.contains("the last that was verified"), "{did:?}");
    assert_eq!(host.verb(&["verify", "db"]).status, 0);
    let did = host.verb(&["remove", &set]);
    assert!(did.status == 0 && did.stdout.matches(" is removed, ").count() == 2, "{did:?}");
    assert_eq!(archives(&host.at("backups")).len(), 2);
}

const LOCKED: &str = "Can't get lock for vg0";

/// A host whose group meets a lock when the snapshot of its second member is taken, until the command `is_free` succeeds before
/// the snapshots. A third volume belongs to no group.
fn host_with_a_lock(is_free: impl Fn(&Host) -> String, pause: u32) -> Host {
    let host = host("");
    host.add_ext4("volume-3");
    let lock = host.at("state/broken-volume-2");
    fs::write(&lock, LOCKED).unwrap();
    let hooks = host.at("hooks");
    let (lock, hooks, is_free) = (lock.display(), hooks.display(), is_free(&host));
    host.write_config(
        "volbak.toml",
        &format!(
            "retry_pause_seconds = {pause}\n[group.db]\nvolumes = ['volume-1', 'volume-2']\n\
             before_snapshot = ['/bin/sh', '-c', 'if {is_free}; then rm -f {lock}; fi; echo freeze >>{hooks}']\n\
             after_snapshot = ['/bin/sh', '-c', 'echo thaw >>{hooks}']\n"
        ),
    );
    host
}

fn volumes(did: &Did) -> Vec<Value> {
    let report: Value = serde_json::from_str(&did.stdout).unwrap_or_else(|error| panic!("{error}: {did:?}"));
    report["report"]["volumes"].as_array().unwrap().clone()
}

fn snapshots(host: &Host) -> usize {
    let state = fs::read_dir(host.at("state")).unwrap();
    state.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".snapshot")).count()
}

/// The sets of all backups.
fn sets(host: &Host) -> Vec<Value> {
    archives(&host.at("backups")).iter().map(|one| manifest(one)["set"].clone()).filter(|set| !set.is_null()).collect()
}

#[test]
fn a_set_that_met_a_lock_is_taken_again_as_a_whole() {
    let host = host_with_a_lock(|host| format!("[ -e {} ]", host.at("hooks").display()), 0);
    let did = host.verb(&["run", "--json"]);
    assert_eq!(did.status, 0, "{did:?}");
    assert_eq!(hooks(&host), "freeze\nthaw\nfreeze\nthaw\n", "{did:?}");
    assert_eq!(did.stderr.matches("it failed, and is tried again later in this run: ").count(), 2, "{did:?}");
    let volumes = volumes(&did);
    let names: Vec<&Value> = volumes.iter().map(|volume| &volume["name"]).collect();
    assert_eq!(names, ["volume-1", "volume-2", "volume-3"]);
    for volume in &volumes[..2] {
        assert_eq!(volume["outcome"], "backed_up", "{volume}");
        assert!(volume["first_failure"].as_str().unwrap().contains(LOCKED), "{volume}");
    }
    assert!(volumes[2]["first_failure"].is_null());
    // Nothing was read of the snapshots that were taken first.
    let sets = sets(&host);
    assert!(sets.len() == 2 && sets[0] == sets[1], "{sets:?}");
    let missing = sets[0].get("missing").and_then(Value::as_object);
    assert!(missing.is_none_or(serde_json::Map::is_empty), "{sets:?}");
    assert_eq!(snapshots(&host), 0);
    let text = host.verb(&["report"]).stdout;
    assert!(
        text.contains("\nTried twice...\n  - volume-1: at first it failed, ") && !text.contains("partial"),
        "{text}"
    );
    assert!(host.verb(&["list", "db"]).stdout.lines().next().unwrap().ends_with("  whole"));
}

#[test]
fn a_set_that_met_a_lock_has_its_backup_before_the_time_for_the_run_is_over() {
    let host = host_with_a_lock(|host| format!("[ -e {} ]", host.at("hooks").display()), 0);
    let config = fs::read_to_string(host.at("volbak.toml")).unwrap();
    // The volume behind the set takes all the time that it gets, unless the set has its backups.
    let both = host.at("backups/volume-[12]/*.manifest.json");
    let slow = format!(
        "[volume.volume-3]\nbefore_snapshot = ['/bin/sh', '-c', 'until [ $(ls {} | wc -l) = 2 ]; do sleep 0.1; done']\n",
        both.display()
    );
    let limit = "max_run_hours = 0.04\nretry_pause_seconds";
    fs::write(host.at("volbak.toml"), config.replace("retry_pause_seconds", limit) + &slow).unwrap();
    let did = host.verb(&["run", "--json"]);
    assert_eq!(did.status, 0, "{did:?}");
    assert!(volumes(&did).iter().all(|volume| volume["outcome"] == "backed_up"), "{did:?}");
}

#[test]
fn a_set_that_meets_a_lock_twice_is_partial() {
    let host = host_with_a_lock(|_| "false".to_owned(), 0);
    let did = host.verb(&["run", "--json"]);
    assert_eq!(did.status, 1, "{did:?}");
    assert_eq!(hooks(&host), "freeze\nthaw\nfreeze\nthaw\n", "{did:?}");
    assert_eq!(did.stderr.matches("the set is partial: no snapshot of volume-2: ").count(), 1, "{did:?}");
    assert_eq!(did.stderr.matches("volume-2: FAILED: ").count(), 1, "{did:?}");
    let volumes = volumes(&did);
    assert!(volumes[0]["outcome"] == "backed_up" && volumes[2]["outcome"] == "backed_up", "{volumes:?}");
    assert!(volumes[1]["outcome"]["failed"].as_str().unwrap().contains(LOCKED), "{volumes:?}");
    assert_eq!((sets(&host).len(), snapshots(&host)), (1, 0));
}

#[test]
fn a_signal_before_the_second_attempt_of_a_set_leaves_the_first_failures() {
    let host = host_with_a_lock(|_| "false".to_owned(), 3600);
    let mut run = host.program(&["run", "--json"]);
    run.arg("--config").arg(host.at("volbak.toml")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = run.spawn().unwrap();
    wait_until("the other volume is backed up", || archives(&host.at("backups")).len() == 1);
    kill_process(Pid::from_child(&run), Signal::TERM).unwrap();
    let did: Did = run.wait_with_output().unwrap().into();
    assert_eq!(did.status, 1, "{did:?}");
    let volumes = volumes(&did);
    let failed = |at: usize| volumes[at]["outcome"]["failed"].as_str().unwrap_or_else(|| panic!("{volumes:?}"));
    assert!(failed(0).contains("to take all again: no snapshot of volume-2") && failed(1).contains(LOCKED));
    assert_eq!((hooks(&host).as_str(), snapshots(&host)), ("freeze\nthaw\n", 0), "{did:?}");
}

#[test]
fn a_member_that_could_not_be_read_is_read_again_from_its_snapshot() {
    let host = host("");
    let config = fs::read_to_string(host.at("volbak.toml")).unwrap();
    let (head, group) = config.split_once("[group.db]").unwrap();
    fs::write(host.at("volbak.toml"), format!("{head}retry_pause_seconds = 0\n[group.db]{group}")).unwrap();
    // LVM does not answer the check after volume-1 was read, until the snapshot of volume-2 is removed.
    let unknown = host.at("state/unknown-volume-1");
    fs::write(&unknown, LOCKED).unwrap();
    fs::write(host.at("state/frees-volume-2"), unknown.to_str().unwrap()).unwrap();
    let did = host.verb(&["run", "--json"]);
    assert_eq!(did.status, 0, "{did:?}");
    assert_eq!(hooks(&host), "freeze\nthaw\n", "no other snapshot is taken");
    let volumes = volumes(&did);
    assert!(volumes[0]["first_failure"].as_str().unwrap().contains(LOCKED), "{volumes:?}");
    assert!(volumes.iter().all(|volume| volume["outcome"] == "backed_up"), "{volumes:?}");
    let sets = sets(&host);
    assert!(sets.len() == 2 && sets[0] == sets[1], "{sets:?}");
    assert_eq!(snapshots(&host), 0);
    assert_eq!(host.verb(&["verify", "db"]).status, 0);
}
