//! Promise: help is where it is looked for: `help` with topics, and manual pages.

use std::fs;
use std::process::Command;

use crate::testkit::guest::{quoted, sh};

fn volbak() -> Command {
    Command::new(env!("CARGO_BIN_EXE_volbak"))
}

fn help(words: &[&str]) -> (i32, String, String) {
    let output = volbak().arg("help").args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_knows_verbs_and_topics() {
    let (status, text, _) = help(&[]);
    assert!(status == 0 && text.contains("Usage: volbak") && text.contains("volbak help retention"), "{text}");
    let (status, text, _) = help(&["config", "check"]);
    assert!(status == 0 && text.contains("Usage: volbak config check"), "{text}");
    let (status, text, _) = help(&["retention"]);
    assert!(status == 0 && text.contains("`volbak run` removes old backups"), "{text}");
    // A verb and a topic.
    let (status, text, _) = help(&["restore"]);
    assert!(status == 0 && text.contains("Usage: volbak restore") && text.contains("Restoring files\n"), "{text}");
    let (status, text, _) = help(&["exit-status"]);
    assert!(status == 0 && text.contains("4 another run holds the lock") && text.contains("| SIGTERM"), "{text}");
    let (status, _, why) = help(&["nonsense"]);
    assert!(
        status == 2 && why.contains("no verb and no topic is named \"nonsense\"") && why.contains("exit-status"),
        "{why}"
    );
}

/// One of several options that was not given: the message has all of them.
#[test]
fn what_is_missing_is_named_in_all_its_forms() {
    for (verb, ways) in [
        ("restore vol-1", "<--to <DIR>|--to-device <DEV>|--to-image <FILE>|--to-volume [<NAME|ID>]>"),
        ("verify", "<BACKUP|--all|--sample <N>|--older-than <DAYS>>"),
        ("copy", "<BACKUP|--all>"),
        ("import disk.qcow2", "<--to-device <DEV>|--to-image <FILE>>"),
        ("prune", "<--dry-run|--apply>"),
        ("remap /srv", "--uid OLD:NEW or --gid OLD:NEW"),
    ] {
        let output = volbak().args(verb.split(' ')).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(ways), "{verb}: {said}");
    }
}

#[test]
fn the_version_says_what_the_program_is_made_of() {
    let output = volbak().args(["--version", "--verbose"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], concat!("volbak ", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("features: cli, encryption,"), "{text}");
    assert_eq!(lines[3], "formats: manifest 1 to 6, index 1 to 4");
    for library in ["age", "blake3", "fuser", "libdeflater", "rustls", "zstd"] {
        let version =
            lines[4].split(", ").find_map(|named| named.trim_start_matches("libraries: ").strip_prefix(library));
        assert!(version.is_some_and(|version| version.split('.').count() >= 3), "{library}: {text}");
    }
    let short = volbak().arg("--version").output().unwrap().stdout;
    assert_eq!(String::from_utf8(short).unwrap(), concat!("volbak ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn manual_pages_have_each_verb_and_each_key_and_man_can_read_them() {
    let dir = tempfile::tempdir().unwrap();
    assert!(volbak().arg("man").arg(dir.path()).status().unwrap().success());
    let (_, text, _) = help(&[]);
    let verbs = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<&str> = verbs
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(verbs.len() > 20, "{verbs:?}");
    for verb in verbs {
        let page = fs::read_to_string(dir.path().join(format!("volbak-{verb}.1"))).unwrap_or_default();
        assert!(page.contains(".SH SYNOPSIS"), "{verb}");
    }
    let example = String::from_utf8(volbak().args(["config", "init"]).output().unwrap().stdout).unwrap();
    let page = dir.path().join("volbak.toml.5");
    // Formatted, so that each key is a word of its own, and what groff warns about is seen.
    let warnings = dir.path().join("warnings");
    let man = "MANWIDTH=120 man --warnings -E UTF-8 -l";
    let shown = sh(&format!("{man} {} 2>{} | col -b", quoted(&page), quoted(&warnings)));
    assert_eq!(fs::read_to_string(&warnings).unwrap(), "");
    for key in
        ["start_before", "jobs", "backups_retention_days", "spool_max_mails", "keep_yearly", "freeze_limit_seconds"]
    {
        assert!(example.contains(key) && shown.contains(key), "{key}: {shown}");
    }
    assert!(shown.contains("DESCRIPTION") && shown.contains("[mail]"), "{shown}");
}
