//! Volumes that belong together, on real LVM: a log and its data lie on two volumes, and are written all the while.
//!
//! Promises: a set restores to a state without a lost commit, while backups of single volumes do not; no snapshot
//! stays; a set that lacks a member is partial, and no older one goes for it.

use std::fs;
use std::process::Output;
use std::thread;

use crate::testkit::guest::backups::{archives, manifest, volbak};
use crate::testkit::guest::lab::{SCRATCH, dest, in_lab, set_up, state, thick_volume};
use crate::testkit::guest::{Mounted, both_outputs, quoted, sh};

const CONFIG: &str = "/run/t/volbak.toml";

fn run(arguments: &[&str]) -> Output {
    volbak(arguments).args(["--config", CONFIG]).output().unwrap()
}

fn expecting(status: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", both_outputs(&output));
    both_outputs(&output)
}

/// The only file of that name below a directory.
fn file_in(directory: &str, name: &str) -> String {
    sh(&format!("find {directory} -type f -name {name}")).trim().to_owned()
}

/// The commit up to which the data have everything, the commits in the log, and whether they fit: the log is cut only
/// after the data have what was in it, and the data are written only after the log.
fn recovered(data: &str, log: &str) -> (u64, bool) {
    let lines = |path: &str| -> Vec<u64> {
        fs::read_to_string(path).unwrap().lines().map(|line| line.parse().unwrap()).collect()
    };
    let (data, log) = (lines(data)[0], lines(log));
    let is_dense = log.windows(2).all(|two| two[1] == two[0] + 1);
    (log[log.len() - 1], is_dense && log[0] <= data + 1 && data <= log[log.len() - 1])
}

#[test]
fn a_set_loses_no_commit() {
    if !in_lab("groups::a_set_loses_no_commit") {
        return;
    }
    set_up();
    let [data, log] = ["volume-data", "volume-log"].map(|name| thick_volume(name, "24M"));
    for volume in [&data, &log] {
        sh(&format!("mkfs.ext4 -q {}", quoted(volume)));
    }
    let before = state();
    let at = |name: &str| std::path::Path::new(SCRATCH).join(name);
    let mounted =
        [Mounted::with_options(&data, &at("data"), "noatime"), Mounted::with_options(&log, &at("log"), "noatime")];
    // The hooks stop the writer, as a database's own commands would, and let it go on.
    sh(&format!(
        "cat >{SCRATCH}/hook <<'END'\n#!/bin/sh\n\
         if [ $VOLBAK_PHASE = before ]; then\n\
         echo \"$VOLBAK_VOLUME\" >>{SCRATCH}/hooks; touch {SCRATCH}/stop\n\
         while [ ! -e {SCRATCH}/stopped ]; do sleep 0.02; done\n\
         else echo \"$VOLBAK_SNAPSHOT\" | wc -w >>{SCRATCH}/hooks; rm {SCRATCH}/stop {SCRATCH}/stopped; fi\nEND\n
         chmod 755 {SCRATCH}/hook
         cat >{SCRATCH}/writer <<'END'\n\
         n=0; echo 0 >{SCRATCH}/data/data; : >{SCRATCH}/log/log\n\
         while [ ! -e {SCRATCH}/end ]; do\n\
         if [ -e {SCRATCH}/stop ]; then\n\
         echo $n >{SCRATCH}/committed; sync; touch {SCRATCH}/stopped\n\
         while [ -e {SCRATCH}/stop ]; do sleep 0.02; done; fi\n\
         n=$((n+1)); echo $n >>{SCRATCH}/log/log\n\
         if [ $((n%10)) = 0 ]; then echo $n >{SCRATCH}/data/data; echo $n >{SCRATCH}/log/log; fi\n\
         done\nEND"
    ));
    let writer = thread::spawn(|| sh(&format!("sh {SCRATCH}/writer")));
    let alone = format!("backup_destination = '{}'\nrequire_mount = false\n", dest().display());
    let hook = format!("before_snapshot = ['{SCRATCH}/hook']\nafter_snapshot = ['{SCRATCH}/hook']\n");
    let group = format!("{alone}[group.db]\nvolumes = ['volume-data', 'volume-log']\n{hook}");

    fs::write(CONFIG, &group).unwrap();
    for round in 0..3 {
        let said = expecting(0, &["run"]);
        assert!(said.contains("2 snapshots were taken within "), "{said}");
        let committed: u64 = fs::read_to_string(at("committed")).unwrap().trim().parse().unwrap();
        let to = format!("{SCRATCH}/set{round}");
        expecting(0, &["restore", "db", "--to", &to]);
        let (last, fits) =
            recovered(&file_in(&format!("{to}/volume-data"), "data"), &file_in(&format!("{to}/volume-log"), "log"));
        assert!(fits && last == committed, "round {round}: {last} of {committed}");
    }
    assert_eq!(fs::read_to_string(at("hooks")).unwrap(), "volume-data volume-log\n2\n".repeat(3));
    let listed = expecting(0, &["list", "db"]);
    assert_eq!(listed.matches("  whole\n").count(), 3, "{listed}");
    let sets: Vec<String> = archives(&dest()).iter().map(|one| manifest(one)["set"]["id"].to_string()).collect();
    assert_eq!(sets.len(), 6);
    assert!(sets.iter().all(|id| sets.iter().filter(|other| *other == id).count() == 2), "{sets:?}");

    // Without the group the same hooks do not help.
    fs::write(CONFIG, format!("{alone}[hooks]\n{hook}")).unwrap();
    expecting(0, &["run"]);
    fs::create_dir(at("alone")).unwrap();
    for volume in ["volume-data", "volume-log"] {
        expecting(0, &["restore", &format!("{volume}@last"), "--to", &format!("{SCRATCH}/alone/{volume}")]);
    }
    let alone = format!("{SCRATCH}/alone");
    let (_, fits) =
        recovered(&file_in(&format!("{alone}/volume-data"), "data"), &file_in(&format!("{alone}/volume-log"), "log"));
    assert!(!fits, "the control is as good as the set");

    // A hook that fails, and a member that is missing.
    fs::write(CONFIG, group.replace("'volume-log'", "'volume-log', 'volume-more'")).unwrap();
    let said = expecting(3, &["run"]);
    assert!(said.contains("the set is partial: no snapshot of volume-more"), "{said}");
    let listed = expecting(0, &["list", "db", "--problems"]);
    assert!(listed.contains("  lacking: volume-more has no backup in it\n"), "{listed}");
    fs::write(
        CONFIG,
        group.replace(&format!("before_snapshot = ['{SCRATCH}/hook']"), "before_snapshot = ['/bin/false']"),
    )
    .unwrap();
    fs::write(at("stop"), "").unwrap();
    fs::write(at("stopped"), "").unwrap();
    let said = expecting(1, &["run"]);
    assert!(said.contains("before the snapshot"), "{said}");
    assert!(!at("stop").exists(), "the hook after the snapshots ran");

    fs::write(at("end"), "").unwrap();
    writer.join().unwrap();
    for one in mounted {
        one.unmount();
    }
    assert_eq!(state(), before, "nothing is left");
}
