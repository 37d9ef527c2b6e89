//! Promise: a night that went wrong is heard of: by mail, on standard error, in the metrics, whatever else fails.

use std::fs;

use crate::testkit::guest::program;
use crate::testkit::stand_in::Host;

const MAIL: &str = "enable_mail_notification = true\nemail_recipient = ['admin@example.com']\n[mail]\n\
                    transport = 'sendmail'\n";

fn with_mail(host: &Host, sendmail: &str) {
    program(&host.at("sendmail"), sendmail);
    let more = format!(
        "{MAIL}sendmail_program = '{}'\nspool_dir = '{}'\n[report]\nmetrics_file = '{}'\n",
        host.at("sendmail").display(),
        host.at("spool").display(),
        host.at("volbak.prom").display()
    );
    host.write_config("volbak.toml", &more);
}

#[test]
fn a_good_night_says_one_line_and_a_quiet_one_nothing() {
    let host = Host::new("");
    with_mail(&host, "cat >/dev/null");
    host.add_ext4("volume-1");
    let did = host.verb(&["--quiet", "run"]);
    assert_eq!((did.status, did.stdout.as_str(), did.stderr.as_str()), (0, "", ""));
    let did = host.verb(&["run"]);
    let last = did.stderr.lines().last().unwrap();
    assert!(did.status == 0 && last.starts_with("volbak ") && last.contains("1 of 1 volume backed up"), "{did:?}");
}

#[test]
fn a_run_that_is_cut_off_is_critical_until_the_next_one() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    assert_eq!(host.verb(&["run"]).status, 0);
    assert_eq!(host.verb(&["status"]).status, 0);
    // As a loss of power would: the process has no chance to do anything.
    program(&host.at("power-cut"), "kill -9 $PPID");
    host.write_config("volbak.toml", &format!("[hooks]\nbefore_snapshot = ['{}']\n", host.at("power-cut").display()));
    assert_eq!(host.verb(&["run"]).status, -1);
    let did = host.verb(&["status"]);
    assert!(did.status == 2 && did.stdout.contains(" was cut off: its process ended without a report"), "{did:?}");
    host.write_config("volbak.toml", "");
    // An error of usage ends a run, and cuts none off.
    assert_eq!(host.verb(&["run", "--only", "volume-9"]).status, 2);
    assert_eq!(host.verb(&["run"]).status, 0);
    let did = host.verb(&["status"]);
    assert!(did.status == 0 && !did.stdout.contains("cut off"), "{did:?}");
}

/// The run, too, and not the volume alone: the subject of the mail and the last line say what ended it.
#[test]
fn a_signal_during_the_last_volume_aborts_the_run() {
    let host = Host::new("");
    with_mail(&host, &format!("cat >{}", host.at("mailed").display()));
    host.add_ext4("volume-1");
    host.add_ext4("volume-2");
    program(&host.at("stop"), "kill -TERM $PPID");
    let config = fs::read_to_string(host.at("volbak.toml")).unwrap();
    let hook = format!("[volume.volume-2]\nbefore_snapshot = ['{}']\n", host.at("stop").display());
    fs::write(host.at("volbak.toml"), config + &hook).unwrap();
    let did = host.verb(&["run"]);
    let summary = "FAILED 1 of 2 volumes, aborted: stopped by a signal";
    assert!(did.status == 1 && did.stderr.lines().any(|line| line.ends_with(summary)), "{did:?}");
    let mailed = fs::read_to_string(host.at("mailed")).unwrap();
    assert!(mailed.contains(&format!(": {summary}")), "{mailed}");
}

#[test]
fn a_volume_that_failed_is_told_on_standard_error_although_the_mail_was_sent() {
    let host = Host::new("");
    with_mail(&host, &format!("cat >{}", host.at("mailed").display()));
    host.add_ext4("volume-1");
    host.add_ext4("volume-2");
    host.set_broken("volume-2", true);
    let did = host.verb(&["--quiet", "run"]);
    assert_eq!((did.status, did.stdout.as_str()), (1, ""), "{did:?}");
    assert!(fs::read_to_string(host.at("mailed")).unwrap().contains("FAILED 1 of 2 volumes"));
    let lines: Vec<&str> = did.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{did:?}");
    assert!(lines[0].starts_with("vg0/volume-2: FAILED: ") && lines[0].contains("insufficient free space"), "{did:?}");
    assert!(lines[1].ends_with(": FAILED 1 of 2 volumes"), "{did:?}");
    assert!(fs::read_to_string(host.at("volbak.prom")).unwrap().contains("volbak_run_verdict 2\n"));
    assert_eq!(host.verb(&["status"]).status, 2);
}

#[test]
fn a_lost_destination_is_told_while_the_mail_is_down_too() {
    let host = Host::new("");
    with_mail(&host, "echo the relay is away >&2; exit 75");
    host.add_ext4("volume-1");
    fs::remove_dir(host.at("backups")).unwrap();
    let did = host.verb(&["--quiet", "run"]);
    assert_eq!(did.status, 1, "{did:?}");
    assert!(did.stderr.contains("the relay is away"), "{did:?}");
    assert!(did.stderr.lines().last().unwrap().ends_with(": FAILED, the backup volume is not mounted"), "{did:?}");
    assert!(fs::read_to_string(host.at("volbak.prom")).unwrap().contains("volbak_run_verdict 2\n"));
    assert_eq!(host.verb(&["status"]).status, 3, "a monitoring system's UNKNOWN");
    let asked = host.verb(&["status", "--json"]);
    assert_eq!(asked.status, 3, "{asked:?}");
    let json: serde_json::Value = serde_json::from_str(&asked.stdout).unwrap();
    assert_eq!((&json["level"], &json["reasons"][0]["level"]), (&"UNKNOWN".into(), &"UNKNOWN".into()), "{json}");
}

#[test]
fn lvm_that_lists_nothing_fails_the_run_and_says_why() {
    let host = Host::new("");
    with_mail(&host, "cat >/dev/null");
    fs::write(host.at("state/no-lvs"), "").unwrap();
    let did = host.verb(&["-q", "run"]);
    assert_eq!(did.status, 1);
    assert!(did.stderr.lines().last().unwrap().contains("the metadata cannot be read"), "{did:?}");
    let status = host.verb(&["status"]);
    assert!(status.status == 2 && status.stdout.contains("the metadata cannot be read"), "{status:?}");
}

#[test]
fn what_cannot_be_kept_or_measured_is_told_each_by_itself() {
    let host = Host::new("");
    with_mail(&host, &format!("cat >{}", host.at("mailed").display()));
    host.add_ext4("volume-1");
    // A file in the directories' places: neither the report nor the figures can be written.
    fs::create_dir(host.at("backups/.volbak")).unwrap();
    fs::write(host.at("backups/.volbak/reports"), "").unwrap();
    fs::create_dir(host.at("volbak.prom")).unwrap();
    let did = host.verb(&["-q", "run"]);
    assert_eq!(did.status, 3, "{did:?}");
    assert!(did.stderr.contains("report: it could not be stored") && did.stderr.contains("volbak.prom"), "{did:?}");
    assert!(did.stderr.lines().last().unwrap().contains("PROBLEMS, 1 of 1"), "{did:?}");
    assert!(fs::read_to_string(host.at("mailed")).unwrap().contains("it could not be stored"));
}

#[test]
fn a_closed_standard_output_takes_nothing_from_the_rest() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let config = host.at("volbak.toml");
    let output = host.program(&["run", "--config", config.to_str().unwrap()]).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("not shown") && said.contains("1 of 1 volume backed up"), "{said}");
    assert!(host.verb(&["report"]).stdout.contains("volume-1 - "));
}

#[test]
fn a_report_ends_with_what_needs_somebody_and_what_changed() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    host.add_ext4("volume-2");
    let did = host.verb(&["run"]);
    assert!(
        did.status == 0 && !did.stdout.contains("Changed since") && !did.stdout.contains("What needs you"),
        "{did:?}"
    );
    host.set_broken("volume-2", true);
    host.add_ext4("volume-3");
    let did = host.verb(&["run"]);
    let end = did.stdout.split_once("Total execution time").unwrap().1.split_once('\n').unwrap().1.to_owned();
    let expected = "\nWhat needs you...\n  - volume-2: its last backup is 0 h old\n\nChanged since the last run...\n  \
                    - volume-2: it failed, and did not in its last run\n  - volume-3: it is new\n";
    assert_eq!(end, expected);
    host.set_broken("volume-2", false);
    host.remove("volume-3");
    let did = host.verb(&["run"]);
    assert!(!did.stdout.contains("What needs you"), "{did:?}");
    let changed =
        "Changed since the last run...\n  - volume-2: it is backed up again\n  - volume-3: it is gone from the host\n";
    assert!(did.stdout.ends_with(changed), "{did:?}");
    let json: serde_json::Value = serde_json::from_str(&host.verb(&["report", "--json"]).stdout).unwrap();
    assert_eq!(json["report"]["changes"][0], "volume-2: it is backed up again", "{json}");
}
