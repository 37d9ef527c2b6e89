//! Promise: `status` and the metrics say how each volume stands, after whichever night.

use std::fs;

use crate::testkit::stand_in::Host;

fn metrics(host: &Host) -> String {
    fs::read_to_string(host.at("volbak.prom")).unwrap()
}

fn with_metrics() -> Host {
    let host = Host::new("");
    host.write_config("volbak.toml", &format!("[report]\nmetrics_file = '{}'\n", host.at("volbak.prom").display()));
    host
}

fn value(metrics: &str, series: &str) -> i64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).parse().unwrap()
}

const SUCCESS_1: &str = "volbak_volume_last_success_timestamp_seconds{volume=\"volume-1\"}";

/// Its snapshot was made and watched: that it was full, or not, is what says why a backup failed.
#[test]
fn a_volume_that_failed_has_the_fill_of_its_snapshot() {
    const PEAK: &str = "volbak_volume_snapshot_peak_percent{volume=\"volume-1\"}";
    let host = with_metrics();
    host.add_ext4("volume-1");
    let config = fs::read_to_string(host.at("volbak.toml")).unwrap();
    fs::write(host.at("volbak.toml"), format!("{config}[volume.volume-1]\nmax_volume_size = '1K'\n")).unwrap();
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 1, "{}", did.stderr);
    assert_eq!(value(&metrics(&host), PEAK), 1, "as the stand-in for lvs has it");
    // Without a snapshot there is none.
    host.set_broken("volume-1", true);
    assert_eq!(host.verb(&["run"]).status, 1);
    assert!(!metrics(&host).contains(PEAK), "{}", metrics(&host));
}

#[test]
fn a_run_for_one_volume_forgets_nothing_of_the_others() {
    let host = with_metrics();
    host.add_ext4("volume-1");
    host.add_ext4("volume-2");
    assert_eq!(host.verb(&["run"]).status, 0);
    assert_eq!(host.verb(&["status"]).status, 0);
    let first = value(&metrics(&host), SUCCESS_1);
    host.set_broken("volume-1", true);
    assert_eq!(host.verb(&["run"]).status, 1);
    assert_eq!(host.verb(&["run", "--only", "volume-2"]).status, 0);
    let status = host.verb(&["status"]);
    assert!(status.status == 2 && status.stdout.contains("volume-1 failed in its last run"), "{status:?}");
    let after = metrics(&host);
    assert_eq!(value(&after, "volbak_volume_verdict{volume=\"volume-1\"}"), 2);
    assert_eq!(value(&after, "volbak_volume_verdict{volume=\"volume-2\"}"), 0);
    assert_eq!(value(&after, "volbak_run_verdict"), 0, "the last run");
    assert_eq!(value(&after, "volbak_whole_run_verdict"), 2);
    assert_eq!(value(&after, SUCCESS_1), first, "its own last success");
    // The reports may go: what is known of the volumes stays.
    fs::remove_dir_all(host.at("backups/.volbak/reports")).unwrap();
    assert_eq!(host.verb(&["status"]).status, 2);
    host.set_broken("volume-1", false);
    assert_eq!(host.verb(&["run", "--only", "volume-1"]).status, 0);
    let status = host.verb(&["status"]);
    assert_eq!(status.status, 0, "{status:?}");
    assert!(value(&metrics(&host), SUCCESS_1) >= first);
}

#[test]
fn what_the_backups_are_worth_is_in_metrics_and_status() {
    let host = with_metrics();
    host.add_ext4("volume-1");
    assert_eq!(host.verb(&["run"]).status, 0);
    let of = |name: &str| format!("volbak_volume_{name}{{volume=\"volume-1\"}}");
    let figures = metrics(&host);
    assert_eq!(value(&figures, &of("newest_backup_whole")), 1);
    assert_eq!(value(&figures, &of("last_verification_level")), 0);
    assert!(!figures.contains(&of("last_verification_timestamp_seconds")), "{figures}");
    assert_eq!(host.verb(&["verify", "volume-1"]).status, 0);
    assert_eq!(host.verb(&["verify", "volume-1", "--quick"]).status, 0);
    // A newer backup that is bad: the older one is the last whole one.
    let whole = value(&figures, &of("last_whole_backup_timestamp_seconds"));
    assert_eq!(host.verb(&["run", "--only", "volume-1"]).status, 0);
    let newest = fs::read_dir(host.at("backups/volume-1")).unwrap().map(|entry| entry.unwrap().path());
    let newest = newest.filter(|path| path.extension().is_some_and(|it| it == "gz")).max().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    bytes[40] ^= 1;
    fs::write(&newest, bytes).unwrap();
    assert_eq!(host.verb(&["verify", newest.to_str().unwrap()]).status, 1);
    let status = host.verb(&["status"]);
    for word in ["WORTH", "whole", "1 bad", " full"] {
        assert!(status.stdout.contains(word), "{word}: {status:?}");
    }
    let json: serde_json::Value = serde_json::from_str(&host.verb(&["status", "--json"]).stdout).unwrap();
    let volume = &json["volumes"][0];
    assert_eq!((&volume["bad"], &volume["pinned"], &volume["whole"]), (&1.into(), &0.into(), &true.into()));
    assert_eq!(volume["last_verification"]["level"], "full");
    host.add_ext4("volume-2");
    assert_eq!(host.verb(&["run", "--only", "volume-2"]).status, 0);
    let figures = metrics(&host);
    assert_eq!(value(&figures, &of("bad_backups")), 1);
    assert_eq!(value(&figures, &of("last_verification_level")), 2);
    assert_eq!(value(&figures, &of("last_whole_backup_timestamp_seconds")), whole);
}

#[test]
fn a_change_that_was_accepted_is_no_problem_of_the_last_run_any_more() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    for _ in 0..2 {
        assert_eq!(host.verb(&["run"]).status, 0);
    }
    host.zeros("volume-1");
    assert_eq!(host.verb(&["run"]).status, 3);
    let before = host.verb(&["status", "--json"]).stdout;
    assert!(before.contains("volume-1 had") && before.contains("volbak accept volume-1"), "{before}");
    let accepted = host.verb(&["accept", "volume-1"]);
    assert_eq!(accepted.status, 0, "{accepted:?}");
    let after = host.verb(&["status"]);
    assert!(!after.stdout.contains("sudden change") && !after.stdout.contains("volbak accept"), "{after:?}");
    // A new one is told again.
    host.ext4("volume-1");
    host.verb(&["run"]);
    host.verb(&["run"]);
    host.zeros("volume-1");
    host.verb(&["run"]);
    let again = host.verb(&["status"]).stdout;
    assert!(again.contains("volbak accept volume-1"), "{again}");
}

#[test]
fn a_run_by_another_config_changes_nothing_for_this_one() {
    let host = Host::new("include = ['gold-*']\n");
    host.write_config("silver.toml", "include = ['silver-*']\n");
    host.add_ext4("gold-1");
    host.add_ext4("silver-1");
    host.set_broken("gold-1", true);
    assert_eq!(host.verb(&["run"]).status, 1);
    let silver = host.at("silver.toml");
    let other = |verb: &str| host.volbak(&[verb, "--config", silver.to_str().unwrap()]);
    assert_eq!(other("run").status, 0);
    assert_eq!(other("status").status, 0, "{:?}", other("status"));
    let status = host.verb(&["status"]);
    assert!(status.status == 2 && status.stdout.contains("gold-1"), "{status:?}");
}

#[test]
fn a_volume_that_is_gone_is_no_alarm() {
    let host = with_metrics();
    host.add_ext4("volume-1");
    host.add_ext4("volume-2");
    assert_eq!(host.verb(&["run"]).status, 0);
    host.set_broken("volume-2", true);
    assert_eq!(host.verb(&["run"]).status, 1);
    host.remove("volume-2");
    assert_eq!(host.verb(&["run"]).status, 0);
    let status = host.verb(&["status"]);
    assert!(status.status == 0 && status.stdout.contains("volume-2 (gone)"), "{status:?}");
    assert!(!metrics(&host).contains("volume-2"), "{}", metrics(&host));
    // One that never had a backup is not remembered either.
    host.add_ext4("volume-3");
    host.set_broken("volume-3", true);
    assert_eq!(host.verb(&["run"]).status, 1);
    host.remove("volume-3");
    assert_eq!(host.verb(&["run"]).status, 0);
    assert_eq!(host.verb(&["status"]).status, 0);
}

#[test]
fn while_the_destination_is_away_no_series_ends() {
    let host = with_metrics();
    host.add_ext4("volume-1");
    assert_eq!(host.verb(&["run"]).status, 0);
    let before = value(&metrics(&host), SUCCESS_1);
    fs::rename(host.at("backups"), host.at("away")).unwrap();
    assert_eq!(host.verb(&["run"]).status, 1);
    assert_eq!(value(&metrics(&host), SUCCESS_1), before);
    assert_eq!(value(&metrics(&host), "volbak_run_verdict"), 2);
    assert_eq!(metrics(&host).matches("# TYPE volbak_volume_verdict").count(), 1);
    fs::rename(host.at("away"), host.at("backups")).unwrap();
    assert_eq!(host.verb(&["run"]).status, 0);
}

#[test]
fn a_damaged_record_is_told_and_begins_anew() {
    let host = with_metrics();
    host.add_ext4("volume-1");
    assert_eq!(host.verb(&["run"]).status, 0);
    let record = host.at("backups/.volbak/standing.json");
    let good = fs::read(&record).unwrap();
    for bad in [&good[..good.len() / 2], b"", b"{\"format_version\": 99}"] {
        fs::write(&record, bad).unwrap();
        let status = host.verb(&["status"]);
        assert!(status.status == 1 && status.stdout.contains("damaged"), "{status:?}");
        assert_eq!(host.verb(&["-q", "run"]).status, 3);
        assert_eq!(host.verb(&["run"]).status, 0);
        assert_eq!(host.verb(&["status"]).status, 0);
    }
    // A destination of a volbak that kept no record has what its last report says.
    host.set_broken("volume-1", true);
    assert_eq!(host.verb(&["run"]).status, 1);
    fs::remove_file(&record).unwrap();
    assert_eq!(host.verb(&["status"]).status, 2);
}

#[test]
fn nagios_gets_performance_data_and_the_forecast_comes_from_past_nights() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    assert_eq!(host.verb(&["run"]).status, 0);
    let plain = host.verb(&["status"]).stdout;
    let text = host.verb(&["status", "--nagios"]).stdout;
    let (first, rest) = text.split_once('\n').unwrap();
    let (said, data) = first.split_once(" | ").unwrap_or_else(|| panic!("no data: {text}"));
    assert_eq!((said, Some(rest)), (plain.lines().next().unwrap(), plain.split_once('\n').map(|(_, rest)| rest)));
    for part in ["'volume-1_age'=", "s;108000;194400;0", "'volume-1_size'=", "'run_time'=", "'used'="] {
        assert!(data.contains(part), "{part}: {data}");
    }
    let forecast = |host: &Host| -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(&host.verb(&["status", "--json"]).stdout).unwrap()["room"].clone()
    };
    let room = forecast(&host);
    assert!(room["full_in_days"].is_null() && room["used_bytes"].as_u64() > Some(0), "{room}");
    // The report of tonight again, with the figures of eight nights: each took a hundredth of what is left.
    let reports = host.at("backups/.volbak/reports");
    let name = std::fs::read_dir(&reports).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(reports.join(&name)).unwrap()).unwrap();
    let started: chrono::DateTime<chrono::FixedOffset> = report["started"].as_str().unwrap().parse().unwrap();
    let available = room["available_bytes"].as_u64().unwrap();
    let write_night = |ago: u32, used_bytes: u64| {
        let mut report = report.clone();
        let at = started - chrono::Duration::days(i64::from(ago));
        report["started"] = at.to_rfc3339().into();
        report["usage"]["used_bytes"] = used_bytes.into();
        std::fs::write(reports.join(at.format("%Y-%m-%d_%H%M%S.json").to_string()), report.to_string()).unwrap();
    };
    for ago in 0..8_u32 {
        write_night(ago, available - available / 100 * u64::from(ago));
    }
    let days = forecast(&host)["full_in_days"].as_u64();
    assert!(days.is_some_and(|days| (90..=110).contains(&days)), "{days:?}");
    // One of a night whose clock was wrong changes neither the forecast nor which run was the last.
    let shown = host.verb(&["report"]).stdout;
    let future = reports.join("2099-01-01_010000.json");
    let of_2099 =
        std::fs::read_to_string(reports.join(&name)).unwrap().replace(&started.format("%Y-").to_string(), "2099-");
    std::fs::write(&future, of_2099).unwrap();
    let days = forecast(&host)["full_in_days"].as_u64();
    assert!(days.is_some_and(|days| (90..=110).contains(&days)), "{days:?}");
    assert_eq!(host.verb(&["report"]).stdout, shown);
    assert!(host.verb(&["report", "--json", "--date", "2099-01-01"]).stdout.contains("2099"));
    // The report, its HTML and the metrics of the next run have it, too, from what is used now.
    let used = room["used_bytes"].as_u64().unwrap();
    for ago in 0..8_u32 {
        write_night(ago, used - used / 20 * u64::from(ago));
    }
    host.write_config("volbak.toml", &format!("[report]\nmetrics_file = '{}'\n", host.at("volbak.prom").display()));
    assert_eq!(host.verb(&["run"]).status, 0);
    let days = value(&metrics(&host), "volbak_destination_full_in_days");
    let expected = i64::try_from(available / (used / 20)).unwrap();
    assert!((expected / 2..=expected * 2 + 1).contains(&days), "{days}, about {expected}");
    let html = host.at("report.html");
    assert_eq!(host.verb(&["report", "--html", html.to_str().unwrap()]).status, 0);
    assert!(std::fs::read_to_string(&html).unwrap().contains(&format!("it is full in {days} days")));
    // In a directory like /tmp, another user may have made a link of that name.
    let victim = host.at("victim");
    std::fs::write(&victim, "kept").unwrap();
    std::fs::remove_file(&html).unwrap();
    std::os::unix::fs::symlink(&victim, &html).unwrap();
    assert_eq!(host.verb(&["report", "--html", html.to_str().unwrap()]).status, 0);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
}

#[test]
fn what_is_found_bad_while_a_night_runs_is_not_the_last_good_one_at_its_end() {
    let config =
        "backups_retention_days = 2\n[volume.volume-1]\nbackups_retention_days = 20\n[retention]\ngone_days = 3\n";
    let host = Host::new(config);
    host.add_ext4("volume-1");
    host.add_ext4("volume-2");
    for night in 1..4 {
        let did = host.verb_at(&format!("2026-11-{night:02} 02:00:00"), &["run"]);
        assert_eq!(did.status, 0, "{did:?}");
    }
    host.remove("volume-2");
    let archive = host.at("backups/volume-2/volume-2_03_11_2026.tar.gz");
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let verify = format!(
        "{} verify volume-2@2026-11-03 --config {}; test $? = 1",
        env!("CARGO_BIN_EXE_volbak"),
        host.at("volbak.toml").display()
    );
    host.write_config("volbak.toml", &format!("{config}[hooks]\nbefore_snapshot = ['/bin/sh', '-c', '{verify}']\n"));
    let night = host.verb_at("2026-11-09 02:00:00", &["run"]);
    assert_ne!(night.status, 1, "{night:?}");
    let listed = host.verb_at("2026-11-09 02:00:00", &["list", "volume-2"]).stdout;
    let is_there = |day: u32| listed.contains(&format!("volume-2_{day:02}_11_2026"));
    assert_eq!([is_there(1), is_there(2), is_there(3)], [false, true, false], "{listed}{night:?}");
}
