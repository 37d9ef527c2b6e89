//! Each run leaves the state of its host, `volbak fleet` judges all of them, and `[copy]` brings the night to a second place.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::testkit::guest::sh_output;
use crate::testkit::schema::compare;
use crate::testkit::stand_in::{Did, Host};

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fleet(host: &Host, more: &[&str]) -> Did {
    host.volbak(&[&["fleet", host.at("shared").to_str().unwrap(), "--json"], more].concat())
}

fn json(did: &Did) -> serde_json::Value {
    let view = serde_json::from_str(&did.stdout).unwrap_or_else(|_| panic!("{did:?}"));
    compare(&view, "fleet");
    view
}

/// A host with one volume, which copies to `second` and shares its state in `shared`.
fn host(more: &str) -> Host {
    let host = Host::new("");
    for name in ["second", "shared"] {
        fs::create_dir(host.at(name)).unwrap();
    }
    host.write_config(
        "volbak.toml",
        &format!(
            "include = ['*']\n[copy]\nto = '{}'\nrequire_mount = false\n{more}\n[fleet]\ndirectory = '{}'\n",
            host.at("second").display(),
            host.at("shared").display()
        ),
    );
    host.add_ext4("volume-1");
    host
}

#[test]
fn a_night_leaves_its_state_and_a_copy() {
    let host = host("");
    let night = host.verb(&["run"]);
    assert_eq!(night.status, 0, "{night:?}");
    assert!(night.stdout.contains("\nCopies in ") && night.stdout.contains(" - 1 backup - "), "{}", night.stdout);
    for name in names(&host.at("backups/volume-1")) {
        let (first, second) = (host.at("backups/volume-1").join(&name), host.at("second/volume-1").join(&name));
        assert!(fs::read(first).unwrap() == fs::read(second).unwrap(), "{name}");
    }
    let listed = host.volbak(&["verify", "volume-1", "--destination", host.at("second").to_str().unwrap()]);
    assert_eq!(listed.status, 0, "{listed:?}");
    // Both places have the state, and both are read.
    let judged = fleet(&host, &[]);
    assert_eq!(judged.status, 0, "{judged:?}");
    let hosts = &json(&judged)["hosts"];
    assert_eq!(
        (hosts[0]["light"].as_str(), hosts[0]["volumes"][0]["name"].as_str()),
        (Some("green"), Some("volume-1"))
    );
    let name = hosts[0]["name"].as_str().unwrap().to_owned();
    let in_destination = host.volbak(&["fleet", host.at("backups").to_str().unwrap()]);
    assert!(in_destination.status == 0 && in_destination.stdout.contains(&name), "{in_destination:?}");
    // An expected host of which nothing is heard, and one whose backup is overdue.
    fs::write(host.at("hosts"), format!("{name}\nmissing # another one\n")).unwrap();
    let list = host.at("hosts");
    let judged = fleet(&host, &["--hosts", list.to_str().unwrap()]);
    let hosts = json(&judged)["hosts"].clone();
    assert_eq!((judged.status, hosts[0]["name"].as_str()), (3, Some("missing")));
    assert_eq!(hosts[0]["light"], "silent");
    let judged = fleet(&host, &["--proof-days", "1"]);
    assert_eq!((judged.status, json(&judged)["hosts"][0]["light"].as_str()), (3, Some("red")), "never verified");
    assert_eq!(host.verb(&["verify", "--all"]).status, 0);
    assert_eq!(host.verb(&["run"]).status, 0);
    assert_eq!(fleet(&host, &["--proof-days", "1"]).status, 0);
    // Two runs of one second leave two states.
    let states = names(&host.at("shared").join(&name));
    assert_eq!(states.len(), 2, "{states:?}");
    assert!(states.iter().all(|state| state.len() == "2026-11-20_010000_00_0123456789ab.json".len()), "{states:?}");
    // Both places are named: the states are the same. A state that says better things of the host hides nothing.
    let both = |more: &[&str]| {
        let (own, other) = (host.at("backups"), host.at("shared"));
        host.volbak(&[&["fleet", own.to_str().unwrap(), other.to_str().unwrap()], more].concat())
    };
    let judged = both(&[]);
    assert!(judged.status == 0 && !judged.stdout.contains("several places"), "{judged:?}");
    let newest = host.at("shared").join(&name).join(states.last().unwrap());
    let state = fs::read_to_string(&newest).unwrap();
    fs::write(&newest, state.replace("\"verdict\":\"good\"", "\"verdict\":\"failed\"")).unwrap();
    let judged = both(&["--json"]);
    let reasons = json(&judged)["hosts"][0]["reasons"].to_string();
    assert!(judged.status == 3 && reasons.contains("/backups/") && reasons.contains("/shared/"), "{judged:?}");
    fs::write(&newest, state).unwrap();
    // The page, and the metrics, which promtool reads.
    let (page, metrics) = (host.at("page.html"), host.at("fleet.prom"));
    let written = fleet(&host, &["--html", page.to_str().unwrap(), "--prometheus", metrics.to_str().unwrap()]);
    assert_eq!(written.status, 0, "{written:?}");
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("volume-1") && !text.contains("<script"), "{text}");
    let metrics = Stdio::from(fs::File::open(&metrics).unwrap());
    let checked = promtool().args(["check", "metrics"]).stdin(metrics).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn what_the_second_place_removed_stays_removed() {
    let host = host("");
    assert_eq!(host.verb(&["run"]).status, 0);
    assert_eq!(host.verb(&["run"]).status, 0);
    let second = host.at("second/volume-1");
    let stems = |directory: &Path| -> Vec<String> {
        names(directory).into_iter().filter(|name| name.ends_with(".manifest.json")).collect()
    };
    assert_eq!(stems(&second).len(), 2);
    let oldest = stems(&second)[0].replace(".manifest.json", "");
    for name in names(&second).into_iter().filter(|name| name.starts_with(&format!("{oldest}."))) {
        fs::remove_file(second.join(name)).unwrap();
    }
    assert_eq!(host.verb(&["run"]).status, 0);
    assert_eq!(stems(&second).len(), 2, "the new one came, the old one did not");
    assert!(!stems(&second).contains(&format!("{oldest}.manifest.json")));
}

#[test]
fn a_copy_that_fails_loses_no_night_and_is_told() {
    let host = host("");
    fs::remove_dir(host.at("second")).unwrap();
    let night = host.verb(&["run"]);
    assert_eq!(night.status, 3, "{night:?}");
    assert!(night.stdout.contains("copy: nothing was copied") && night.stdout.contains("1 failed"), "{}", night.stdout);
    assert!(host.verb(&["list"]).stdout.contains(" whole "));
    assert!(!host.at("second").exists());
    let status = host.verb(&["status"]);
    assert!(status.status == 1 && status.stdout.contains("copy"), "{status:?}");
    let judged = fleet(&host, &[]);
    assert_eq!((judged.status, json(&judged)["hosts"][0]["light"].as_str()), (0, Some("amber")));
    // A mount point on which nothing is mounted.
    fs::create_dir(host.at("second")).unwrap();
    let config = fs::read_to_string(host.at("volbak.toml")).unwrap();
    fs::write(
        host.at("volbak.toml"),
        config.replace("[copy]", "[copy]\nrequire_mount = true").replacen("\nrequire_mount = false\n\n", "\n", 1),
    )
    .unwrap();
    let night = host.verb(&["run"]);
    if !sh_output(&format!("findmnt -n --target {} -o TARGET | grep -qx /", host.at("second").display()))
        .status
        .success()
    {
        return; // the temporary directory is a mount of its own
    }
    assert!(night.status == 3 && night.stdout.contains("not mounted"), "{night:?}");
    assert_eq!(names(&host.at("second")), [""; 0]);
}

/// The dates of the backups of `volume-1` in this directory.
fn dates(directory: &Path) -> Vec<String> {
    let names = names(&directory.join("volume-1")).into_iter();
    names.filter_map(|name| Some(name.strip_suffix(".manifest.json")?.strip_prefix("volume-1_")?.to_owned())).collect()
}

#[test]
fn a_copy_dated_in_the_future_ends_no_copies() {
    let host = host("");
    assert_eq!(host.verb_at("2027-11-20 02:00:00", &["run"]).status, 0);
    let night = host.verb_at("2026-11-21 02:00:00", &["run"]);
    assert_eq!(dates(&host.at("second")), ["20_11_2027", "21_11_2026"], "{night:?}");
    let said = format!("the copy in {} is dated 2027-11-20, in the future", host.at("second").display());
    assert!(night.status == 3 && night.stdout.contains(&said), "{night:?}");
    // Removed there, the copy of an earlier night stays removed.
    host.verb_at("2026-11-22 02:00:00", &["run"]);
    for name in names(&host.at("second/volume-1")).iter().filter(|name| name.contains("21_11_2026")) {
        fs::remove_file(host.at("second/volume-1").join(name)).unwrap();
    }
    host.verb_at("2026-11-23 02:00:00", &["run"]);
    assert_eq!(dates(&host.at("second")), ["20_11_2027", "22_11_2026", "23_11_2026"]);
    let all = host.verb_at("2026-11-23 03:00:00", &["copy", "--all"]);
    assert!(all.status == 0 && all.stderr.contains(&said), "{all:?}");
    assert_eq!(dates(&host.at("second")), dates(&host.at("backups")));
}

#[test]
fn a_copy_that_failed_is_tried_again_after_newer_ones() {
    let host = host("");
    // Another program's archive is in its place.
    let foreign = host.at("second/volume-1/volume-1_20_11_2026.tar.gz");
    fs::create_dir(host.at("second/volume-1")).unwrap();
    fs::write(&foreign, "x").unwrap();
    let night = host.verb_at("2026-11-20 02:00:00", &["run"]);
    assert!(night.status == 3 && night.stdout.contains("1 failed"), "{night:?}");
    let night = host.verb_at("2026-11-21 02:00:00", &["run"]);
    assert!(night.status == 3 && night.stdout.contains("1 failed"), "{night:?}");
    assert_eq!(dates(&host.at("second")), ["21_11_2026"]);
    // Known to be bad, it waits.
    let archive = host.at("backups/volume-1/volume-1_20_11_2026.tar.gz");
    let good = fs::read(&archive).unwrap();
    let mut bad = good.clone();
    bad[40] ^= 1;
    fs::write(&archive, bad).unwrap();
    let verify = ["verify", "volume-1@20_11_2026"];
    assert_eq!(host.verb_at("2026-11-21 03:00:00", &verify).status, 1);
    fs::remove_file(&foreign).unwrap();
    host.verb_at("2026-11-22 02:00:00", &["run"]);
    assert_eq!(dates(&host.at("second")), ["21_11_2026", "22_11_2026"]);
    fs::write(&archive, good).unwrap();
    assert_eq!(host.verb_at("2026-11-22 03:00:00", &verify).status, 0);
    let night = host.verb_at("2026-11-23 02:00:00", &["run"]);
    assert_eq!(night.status, 0, "{night:?}");
    assert_eq!(dates(&host.at("second")), dates(&host.at("backups")));
    // Once made, it is not made again.
    for name in names(&host.at("second/volume-1")).iter().filter(|name| name.contains("20_11_2026")) {
        fs::remove_file(host.at("second/volume-1").join(name)).unwrap();
    }
    assert_eq!(host.verb_at("2026-11-24 02:00:00", &["run"]).status, 0);
    assert_eq!(dates(&host.at("second")), ["21_11_2026", "22_11_2026", "23_11_2026", "24_11_2026"]);
}

#[test]
fn only_the_volumes_that_are_named_are_copied() {
    let host = host("volumes = ['volume-2']");
    host.add_ext4("volume-2");
    assert_eq!(host.verb(&["run"]).status, 0);
    assert_eq!(names(&host.at("second")), [".volbak", "volume-2"]);
    let copied = host.verb(&["copy", "volume-1", "-q"]);
    assert_eq!(copied.status, 0, "{copied:?}");
    assert_eq!(names(&host.at("second")), [".volbak", "volume-1", "volume-2"]);
}

/// promtool(1), of the Debian package prometheus.
fn promtool() -> Command {
    let is_there = Command::new("promtool").arg("--version").output().is_ok();
    assert!(is_there, "promtool is missing: `scripts/packages test` installs it");
    Command::new("promtool")
}

#[test]
fn the_alerts_and_the_dashboard_name_metrics_that_are_there() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let rules = packaging.join("prometheus-rules.yml");
    let checked = promtool().args(["check", "rules"]).arg(&rules).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let dashboard = fs::read_to_string(packaging.join("grafana-dashboard.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
    let sources: String = ["src/report/metrics.rs", "src/report/fleet/metrics.rs"]
        .map(|path| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap())
        .concat();
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    for text in [fs::read_to_string(&rules).unwrap(), dashboard] {
        for (at, _) in text.match_indices("volbak_") {
            let name: String = text[at..].chars().take_while(|c| is_name(*c)).collect();
            let short = name.trim_start_matches("volbak_fleet_host_").trim_start_matches("volbak_fleet_volume_");
            let is_there = sources.contains(&format!("\"{name}\"")) || sources.contains(&format!("\"{short}\""));
            assert!(is_there || name.ends_with('_'), "{name}");
        }
    }
}
