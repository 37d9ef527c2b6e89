//! Sets of volumes: the commands after the snapshots run whatever happens, a member that overflows leaves the others whole, and
//! the verbs take a set by its name.

use std::fs;
use std::process::{Child, Stdio};

use chrono::Utc;
use rustix::process::{Pid, Signal, kill_process};

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
    fs::write(host.at("state/slow-volume-2"), "").unwrap();
    let mut run = host.program(&["run"]);
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
