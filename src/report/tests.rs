//! The documented sample, and every variant that a real night brings.

use chrono::{DateTime, Duration, Utc};

use super::{Abort, Dump, GoneReport, Outcome, Past, ReportError, RunReport, RunVerdict, Style, Usage, VolumeReport};
use crate::events::{Problem, Severity};

/// The documented text, its total's minutes taken modulo 60.
const SAMPLE: &str = "\
Backup Start Time - 07/10 at 01:00:01
Current retention - 7 days

The backup volume is mounted. Proceed...
Removing old backups...  : /BACKUPS/EBS-VOL/volume-00000019/volume-00000019_28_09_2011.tar.gz
     /BACKUPS/EBS-VOL/volume-00000019 - 0 h 1 m and 21 seconds. Size - 3,5G

The backup volume is mounted. Proceed...
Removing old backups...  : /BACKUPS/EBS-VOL/volume-0000001a/volume-0000001a_28_09_2011.tar.gz
     /BACKUPS/EBS-VOL/volume-0000001a - 0 h 4 m and 15 seconds. Size - 6,9G
---------------------------------------
Total backups size - 267G - Used space : 35%
Total execution time - 1 h 15 m and 35 seconds
";

const GIB: u64 = 1 << 30;

fn volume(name: &str, duration_seconds: u64, directory_bytes: u64) -> VolumeReport {
    let directory = format!("/BACKUPS/EBS-VOL/{name}");
    VolumeReport {
        removed: vec![format!("{directory}/{name}_28_09_2011.tar.gz")],
        outcome: Outcome::BackedUp,
        duration_seconds,
        directory_bytes,
        archive_bytes: Some(directory_bytes / 9),
        entries: Some(1402),
        manifest: Some(format!("{directory}/{name}_07_10_2011.manifest.json")),
        snapshot_peak_percent: Some(12.4),
        ..VolumeReport::not_started(name.to_owned(), directory)
    }
}

fn sample() -> RunReport {
    RunReport {
        duration_seconds: 75 * 60 + 35,
        retention_days: 7,
        destination: "/BACKUPS/EBS-VOL".to_owned(),
        usage: Some(Usage { backups_bytes: 267 * GIB, used_bytes: 350, available_bytes: 650, full_in_days: None }),
        volumes: vec![volume("volume-00000019", 81, 7 * GIB / 2), volume("volume-0000001a", 255, 69 * GIB / 10)],
        ..RunReport::begun("stor1".to_owned(), "2011-10-07T01:00:01+02:00".parse().unwrap())
    }
}

fn text(report: &RunReport) -> String {
    report.text(Style::default())
}

fn history(sizes: &[u64]) -> Vec<Past> {
    let first: DateTime<Utc> = "2011-09-01T23:00:01Z".parse().unwrap();
    let night = |at: usize| first + Duration::days(i64::try_from(at).unwrap());
    sizes
        .iter()
        .enumerate()
        .map(|(at, bytes)| Past { taken_at: night(at), archive_bytes: *bytes, duration_seconds: 80 + at as u64 % 7 })
        .collect()
}

#[test]
fn the_documented_sample() {
    let report = sample();
    assert_eq!(text(&report), SAMPLE);
    assert_eq!(report.subject(), "volbak stor1: 2 of 2 volumes backed up in 1 h 15 m");
    assert_eq!(report.verdict(), RunVerdict::Good);
}

#[test]
fn the_separator_is_an_option() {
    let dots = sample().text(Style { decimal_separator: '.' });
    assert_eq!(dots, SAMPLE.replace("3,5G", "3.5G").replace("6,9G", "6.9G"));
}

#[test]
fn several_removed_ones_are_a_line_each_and_none_says_so() {
    let mut report = sample();
    report.volumes[0].removed.push("/BACKUPS/EBS-VOL/volume-00000019/volume-00000019_27_09_2011.tar.gz".to_owned());
    report.volumes[1].removed.clear();
    let text = text(&report);
    assert!(text.contains(
        "Removing old backups...  : /BACKUPS/EBS-VOL/volume-00000019/volume-00000019_28_09_2011.tar.gz\n     \
         /BACKUPS/EBS-VOL/volume-00000019/volume-00000019_27_09_2011.tar.gz\n     /BACKUPS/EBS-VOL/volume-00000019 - 0 h"
    ));
    assert!(
        text.contains("Proceed...\nNot any old backups to remove...\n     /BACKUPS/EBS-VOL/volume-0000001a - 0 h 4 m")
    );
}

#[test]
fn a_volume_that_failed_says_where_and_why() {
    let mut report = sample();
    report.volumes[1].outcome = Outcome::Failed("snapshot overflowed: 100% of 10G used".to_owned());
    report.volumes[1].removed.clear();
    assert!(text(&report).contains(
        "\nNot any old backups to remove...\n     /BACKUPS/EBS-VOL/volume-0000001a - FAILED after 0 h 4 m and 15 \
         seconds. snapshot overflowed: 100% of 10G used\n\nVolumes to look at: 1 of 2...\n  - volume-0000001a: failed, \
         snapshot overflowed: 100% of 10G used\n-----"
    ));
    assert_eq!(report.subject(), "volbak stor1: FAILED 1 of 2 volumes");
    assert_eq!(report.verdict(), RunVerdict::Failed);
}

#[test]
fn problems_are_shown_worst_first_and_ten_at_most() {
    let mut report = sample();
    let problem = |severity, number| Problem::new(severity, format!("p1/file{number}"), "unreadable");
    report.volumes[0].problems = (0..11).map(|number| problem(Severity::Warning, number)).collect();
    report.volumes[0].problems.push(problem(Severity::Notice, 98));
    report.volumes[0].problems.push(problem(Severity::Error, 99));
    let text = text(&report);
    let lines: Vec<&str> = text.lines().skip_while(|line| !line.contains("Size - 3,5G")).skip(1).take(12).collect();
    assert_eq!(lines[0], "       p1/file99: unreadable");
    assert_eq!(lines[1], "       p1/file0: unreadable");
    assert_eq!(lines[9], "       p1/file8: unreadable");
    assert_eq!(
        lines[10],
        "       and 2 more (see /BACKUPS/EBS-VOL/volume-00000019/volume-00000019_07_10_2011.manifest.json)"
    );
    assert_eq!(lines[11], "");
    assert_eq!(report.subject(), "volbak stor1: PROBLEMS, 2 of 2 volumes backed up in 1 h 15 m");
    report.volumes[0].problems.truncate(10);
    assert!(!super::text::text(&report, Style::default()).contains("more (see"));
    report.volumes[0].problems = vec![problem(Severity::Notice, 0)];
    assert_eq!(super::text::text(&report, Style::default()), SAMPLE, "a notice changes nothing");
    assert_eq!(report.verdict(), RunVerdict::Good);
}

#[test]
fn volumes_to_look_at_precede_the_totals_worst_first() {
    let mut report = sample();
    let template = report.volumes[0].clone();
    let problem = |severity, what: &str| Problem::new(severity, "p1/etc/x", what);
    report.volumes = (0..40).map(|at| VolumeReport { name: format!("vol-{at}"), ..template.clone() }).collect();
    report.volumes[3].problems = vec![problem(Severity::Notice, "a socket"), problem(Severity::Warning, "odd")];
    report.volumes[5].problems = vec![problem(Severity::Warning, "odd"), problem(Severity::Error, "unreadable")];
    report.volumes[7].outcome = Outcome::Failed("no room\nleft".to_owned());
    report.volumes[9].dump = Dump::Failed("ssh: refused".to_owned());
    report.volumes[11].problems = vec![problem(Severity::Notice, "a socket")];
    let text = text(&report);
    assert!(
        text.contains(
            "\n\nVolumes to look at: 4 of 40...\n  - vol-7: failed, no room\\nleft\n  - vol-5: 1 error, 1 warning: \
             p1/etc/x: unreadable\n  - vol-9: its dump failed, ssh: refused\n  - vol-3: 1 warning: p1/etc/x: odd\n-----"
        ),
        "{text}"
    );
    // The documented lines are all there, and only they look like it.
    let blocks = text.split("\nVolumes to look at").next().unwrap();
    assert_eq!(blocks.lines().filter(|line| line.starts_with("     /BACKUPS")).count(), 40);
    let list = text.split("\nVolumes to look at").nth(1).unwrap().split("-----").next().unwrap();
    assert!(list.lines().skip(1).all(|line| line.starts_with("  - ")), "{list}");
    let html = report.render(Style::default()).html;
    let at = |name: &str| html.find(&format!("<b>{name}</b>")).unwrap();
    assert!(at("vol-7") < at("vol-5") && at("vol-5") < at("vol-9") && at("vol-9") < at("vol-3"));
    assert!(at("vol-3") < at("vol-0") && at("vol-0") < at("vol-1") && at("vol-11") < at("vol-12"));
    for volume in &mut report.volumes {
        volume.outcome = Outcome::Failed("x".to_owned());
    }
    assert!(super::text::text(&report, Style::default()).contains("  - and 20 more\n-----"));
}

#[test]
fn the_html_says_what_needs_somebody_and_what_changed() {
    let mut report = sample();
    report.needs = vec!["a: it has no backup at all".to_owned()];
    report.changes = vec!["b: it is new & <b>".to_owned()];
    report.volumes[0].first_failure = Some("a lock".to_owned());
    let html = report.render(Style::default()).html;
    let (needs, changes) = (html.find("What needs you").unwrap(), html.find("Changed since the last run").unwrap());
    assert!(needs < html.find("<b>volume-00000019</b>").unwrap() && needs < changes, "{html}");
    assert!(html.contains("<li>b: it is new &amp; &lt;b&gt;</li>") && html.contains(": a lock</li>"), "{html}");
    assert!(!sample().render(Style::default()).html.contains("What needs you"));
}

#[test]
fn the_html_names_host_year_and_units() {
    let mut report = sample();
    report.volumes[0].archive_bytes = Some(512);
    let html = report.render(Style::default()).html;
    for shown in ["stor1</td>", "2011-10-07 01:00:01 +02:00", "267 GiB", "3,5 GiB in all", ">512 B"] {
        assert!(html.contains(shown), "{shown} is not in\n{html}");
    }
}

#[test]
fn what_was_proven_is_listed_by_day() {
    let mut report = sample();
    report.volumes.extend((0..30).map(|number| volume(&format!("many-{number}"), 1, 1)));
    let proof = |day: u32, level| {
        Some(super::Verification { at: format!("2011-10-{day:02}T12:00:00Z").parse().unwrap(), level })
    };
    report.volumes[0].last_proof = proof(1, super::CheckLevel::RestoreTest);
    report.volumes[1].last_proof = proof(5, super::CheckLevel::Boot);
    for volume in &mut report.volumes[3..] {
        volume.last_proof = proof(5, super::CheckLevel::RestoreTest);
    }
    let text = text(&report);
    let (documented, lists) = text.split_once("\n\nLast proven...\n").unwrap();
    assert!(documented.ends_with("Total execution time - 1 h 15 m and 35 seconds"), "{text}");
    let lines: Vec<&str> = lists.lines().collect();
    assert_eq!(lines[0], "  - booted on 05/10/2011: volume-0000001a");
    assert!(lines[1].starts_with("  - restore-test on 05/10/2011: many-1, many-2, "), "{text}");
    assert!(lines[1].ends_with(", many-20 and 9 more"), "{text}");
    assert_eq!(lines[2..], ["  - restore-test on 01/10/2011: volume-00000019", "  - never: 1 volume"]);
}

#[test]
fn a_destination_that_is_not_there() {
    let mut report = sample();
    report.aborted = Some(Abort::NotMounted);
    report.usage = None;
    report.duration_seconds = 0;
    report.volumes.clear();
    assert_eq!(
        text(&report),
        "Backup Start Time - 07/10 at 01:00:01\nCurrent retention - 7 days\n\nThe backup volume is not mounted. The \
         backup has been aborted...\n---------------------------------------\nTotal backups size - unknown - Used \
         space : unknown\nTotal execution time - 0 h 0 m and 0 seconds\n"
    );
    assert_eq!(report.subject(), "volbak stor1: FAILED, the backup volume is not mounted");
}

#[test]
fn a_destination_that_goes_in_the_middle() {
    let mut report = sample();
    report.aborted = Some(Abort::NotMounted);
    report.volumes[1].outcome = Outcome::NotStarted("the destination was lost".to_owned());
    let text = text(&report);
    assert!(text.contains("Size - 3,5G\n\nThe backup volume is not mounted. The backup has been aborted...\n-----"));
    assert!(!text.contains("volume-0000001a"));
    assert_eq!(report.subject(), "volbak stor1: FAILED 1 of 2 volumes, the backup volume is not mounted");
}

#[test]
fn a_volume_that_the_deadline_kept_from_starting() {
    let mut report = sample();
    report.volumes[1] = VolumeReport { duration_seconds: 0, removed: Vec::new(), ..report.volumes[1].clone() };
    report.volumes[1].outcome = Outcome::NotStarted("max_run_hours is over".to_owned());
    assert!(text(&report).contains(
        "3,5G\n\n     /BACKUPS/EBS-VOL/volume-0000001a - FAILED after 0 h 0 m and 0 seconds. not started: \
         max_run_hours is over\n\nVolumes to look at: 1 of 2...\n  - volume-0000001a: not started, max_run_hours is \
         over\n-----"
    ));
}

#[test]
fn dumps_that_are_disabled_or_failed() {
    let mut report = sample();
    report.volumes[0].dump = Dump::Disabled;
    report.volumes[1].dump = Dump::Failed("shop-db: ssh: connection refused".to_owned());
    let text = text(&report);
    assert!(text.contains("Proceed...\nThe mysqldumps are disabled...\nRemoving old"));
    assert!(text.contains("Proceed...\nThe mysqldump failed... shop-db: ssh: connection refused\nRemoving old"));
    assert_eq!(report.verdict(), RunVerdict::Problems);
    report.volumes[1].dump = Dump::Done;
    assert_eq!(report.verdict(), RunVerdict::Good);
}

#[test]
fn gone_volumes_and_problems_of_the_run_come_before_the_totals() {
    let mut report = sample();
    report.gone.push(GoneReport {
        name: "volume-3".to_owned(),
        directory: "/BACKUPS/EBS-VOL/volume-3".to_owned(),
        backups: 4,
        directory_bytes: 7 * GIB / 2,
        kept_until: "2012-01-05".parse().ok(),
        removed: Vec::new(),
    });
    report.problems.push(Problem::new(Severity::Warning, "retention", "12 of all 20 backups would be removed"));
    assert!(text(&report).contains(
        "6,9G\n\nThe volume volume-3 is gone, its backups are kept until 05/01/2012...\nNot any old backups to \
         remove...\n     /BACKUPS/EBS-VOL/volume-3 - 4 backups. Size - 3,5G\n\nProblems of the whole run...\n       \
         retention: 12 of all 20 backups would be removed\n-----"
    ));
    assert_eq!(report.verdict(), RunVerdict::Problems);
}

#[test]
fn a_shrinking_or_empty_archive_is_a_warning() {
    let mut one = volume("volume-1", 81, GIB);
    one.history = history(&[100, 90, 4000, 110]);
    one.archive_bytes = Some(50);
    assert_eq!(one.shrink_warning(None), None, "half of the median of 90 100 110 4000");
    let until = one.history[1].taken_at;
    assert_eq!(one.shrink_warning(Some(until)), None, "of those that are a measure there are too few");
    one.archive_bytes = Some(49);
    let warning = one.shrink_warning(None).unwrap();
    assert_eq!(warning.severity, Severity::Warning);
    assert_eq!(warning.what, "the new archive has 49 B, less than half of the median of the last 4 (100 B)");
    one.history.truncate(2);
    assert_eq!(one.shrink_warning(None), None, "two earlier ones are too few");
    one.entries = Some(0);
    assert_eq!(one.shrink_warning(None).unwrap().what, "the new backup is empty");
    one.outcome = Outcome::Failed("x".to_owned());
    assert_eq!(one.shrink_warning(None), None);
}

#[test]
fn hostile_names_stay_on_their_line_and_out_of_the_markup() {
    let mut report = sample();
    let evil = "<script>alert('x')</script>\nTotal backups size - 0\u{202e}\"";
    report.volumes[0].problems = vec![Problem::new(Severity::Error, evil, evil)];
    report.volumes[0].name = evil.to_owned();
    report.volumes[0].directory = evil.to_owned();
    report.volumes[0].removed = vec![evil.to_owned()];
    report.volumes[1].outcome = Outcome::Failed(evil.to_owned());
    report.host = evil.to_owned();
    let rendered = report.render(Style::default());
    assert_eq!(rendered.text.lines().filter(|line| line.starts_with("Total backups size")).count(), 1);
    assert_eq!(rendered.subject.lines().count(), 1);
    assert!(!rendered.html.contains("<script") && !rendered.html.contains('\u{202e}'));
    assert!(!rendered.html.contains("alert('"));
}

#[test]
fn the_html_fetches_nothing_and_stays_small_enough_for_mail() {
    let mut report = sample();
    let sizes: Vec<u64> = (0..30).map(|at| 400_000_000 + at * 1_000_000).collect();
    for volume in &mut report.volumes {
        volume.history = history(&sizes);
    }
    let html = report.render(Style::default()).html;
    for fetched in ["http:", "https:", "src=", "url(", "@import", "<link", "<img"] {
        assert!(!html.contains(fetched), "{fetched}");
    }
    assert_eq!(html.matches("border-bottom:").count(), 2 * 2 * 30);
    let one = report.volumes[0].clone();
    report.volumes = (0..60).map(|_| one.clone()).collect();
    report.volumes[7].problems = vec![Problem::new(Severity::Error, "p1", "x")];
    let html = report.render(Style::default()).html;
    assert!(html.len() < 102_000, "{} bytes", html.len());
    assert_eq!(html.matches("border-bottom:").count(), 2 * 30, "only where somebody should look");
}

#[test]
fn it_comes_back_from_its_json() {
    let mut report = sample();
    report.volumes[0].outcome = Outcome::Failed("x".to_owned());
    report.volumes[1].dump = Dump::Failed("y".to_owned());
    report.aborted = Some(Abort::Other("SIGTERM".to_owned()));
    let json = report.to_json().unwrap();
    assert_eq!(RunReport::from_json(json.as_bytes()).unwrap(), report);
    assert!(json.contains("\"started\": \"2011-10-07T01:00:01+02:00\""));
    let newer = json.replace("\"format_version\": 1", "\"format_version\": 2, \"volumes\": 7");
    assert!(matches!(RunReport::from_json(newer.as_bytes()), Err(ReportError::TooNew { found: 2 })));
    assert!(matches!(RunReport::from_json(&json.as_bytes()[..json.len() / 2]), Err(ReportError::Damaged(_))));
}

#[test]
fn a_partial_backup_is_called_so() {
    let mut report = sample();
    let volume = &mut report.volumes[0];
    volume.problems = vec![Problem::new(Severity::Error, "p1/etc/passwd", "input/output error")];
    volume.whole = Some(false);
    let rendered = report.render(Style::default());
    let line = "  - volume-00000019: partial, 1 error: p1/etc/passwd: input/output error\n";
    assert!(rendered.text.contains(line), "{}", rendered.text);
    assert!(rendered.html.contains("partial: not all of it is backed up"), "{}", rendered.html);
    report.volumes[0].whole = Some(true);
    report.volumes[0].problems[0].severity = Severity::Warning;
    assert!(report.render(Style::default()).html.contains("backed up whole, problems"));
}

#[test]
fn the_report_says_which_backups_are_encrypted() {
    let mut report = sample();
    report.volumes[0].encrypted = Some(false);
    assert_eq!(text(&report), SAMPLE, "nothing is");
    report.volumes[1].encrypted = Some(true);
    let some = "1 of 2 new backups; plain: volume-00000019";
    assert_eq!(text(&report), format!("{SAMPLE}\nEncrypted - {some}\n"));
    assert!(report.render(Style::default()).html.contains(some));
    report.volumes[0].encrypted = Some(true);
    assert!(text(&report).ends_with("\nEncrypted - all 2 new backups\n"));
}

#[test]
fn figures_for_prometheus() {
    let mut report = sample();
    report.volumes[1].outcome = Outcome::Failed("x".to_owned());
    report.volumes[1].archive_bytes = None;
    report.volumes[1].history = history(&[5, 6]);
    report.volumes[1].name = "a\"b\\c\nd".to_owned();
    let mut standing = super::Standing::of(&report);
    standing.volumes.get_mut("volume-00000019").unwrap().worth = Some(super::VolumeWorth {
        newest_whole: Some(false),
        newest_encrypted: Some(true),
        last_whole: Some("2011-10-05T23:00:01Z".parse().unwrap()),
        last_whole_age_seconds: Some(86_400),
        last_verification: Some(super::Verification {
            at: "2011-10-01T23:00:01Z".parse().unwrap(),
            level: super::CheckLevel::Full,
        }),
        last_proof: Some(super::Verification {
            at: "2011-10-01T22:00:01Z".parse().unwrap(),
            level: super::CheckLevel::Boot,
        }),
        bad: 1,
        pinned: 2,
    });
    let metrics = report.metrics(&standing, None);
    for line in [
        "# TYPE volbak_run_verdict gauge",
        "volbak_run_start_timestamp_seconds 1317942001",
        "volbak_run_duration_seconds 4535",
        "volbak_run_verdict 2",
        "volbak_destination_backups_bytes 286689067008",
        "volbak_volume_verdict{volume=\"volume-00000019\"} 0",
        "volbak_volume_verdict{volume=\"a\\\"b\\\\c\\nd\"} 2",
        "volbak_volume_last_success_timestamp_seconds{volume=\"volume-00000019\"} 1317942001",
        "volbak_volume_last_success_timestamp_seconds{volume=\"a\\\"b\\\\c\\nd\"} 1315004401",
        "volbak_volume_snapshot_peak_percent{volume=\"volume-00000019\"} 12.4",
        "volbak_volume_newest_backup_whole{volume=\"volume-00000019\"} 0",
        "volbak_volume_newest_backup_encrypted{volume=\"volume-00000019\"} 1",
        "volbak_volume_last_whole_backup_timestamp_seconds{volume=\"volume-00000019\"} 1317855601",
        "volbak_volume_last_whole_backup_age_seconds{volume=\"volume-00000019\"} 86400",
        "volbak_volume_last_verification_timestamp_seconds{volume=\"volume-00000019\"} 1317510001",
        "volbak_volume_last_verification_level{volume=\"volume-00000019\"} 2",
        "volbak_volume_last_proof_timestamp_seconds{volume=\"volume-00000019\"} 1317506401",
        "volbak_volume_last_proof_level{volume=\"volume-00000019\"} 4",
        "volbak_volume_bad_backups{volume=\"volume-00000019\"} 1",
        "volbak_volume_pinned_backups{volume=\"volume-00000019\"} 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert_eq!(metrics.matches("volbak_volume_archive_bytes{").count(), 1, "no value is no line");
}

fn with_everything(text: &str) -> RunReport {
    let mut report = sample();
    let text = text.to_owned();
    let problem = |severity| Problem::new(severity, text.clone(), text.clone());
    report.host = text.clone();
    report.destination = text.clone();
    report.aborted = Some(Abort::Other(text.clone()));
    report.problems = vec![problem(Severity::Error)];
    report.cloud = vec![text.clone()];
    report.gone = vec![GoneReport {
        name: text.clone(),
        directory: text.clone(),
        backups: 1,
        directory_bytes: 1,
        kept_until: None,
        removed: vec![text.clone()],
    }];
    report.volumes[0].problems = (0..12).map(|_| problem(Severity::Warning)).collect();
    report.volumes[0].dump = Dump::Failed(text.clone());
    report.volumes[1].outcome = Outcome::Failed(text.clone());
    for volume in &mut report.volumes {
        volume.name.clone_from(&text);
        volume.directory.clone_from(&text);
        volume.removed = vec![text.clone(), text.clone()];
        volume.manifest = Some(text.clone());
    }
    report
}

proptest::proptest! {
    #[test]
    fn no_text_changes_the_shape(text in "(?s).{0,40}", style in proptest::bool::ANY) {
        let style = Style { decimal_separator: if style { ',' } else { '.' } };
        let (plain, odd) = (with_everything("x").render(style), with_everything(&text).render(style));
        proptest::prop_assert_eq!(plain.text.lines().count(), odd.text.lines().count());
        proptest::prop_assert_eq!(odd.subject.lines().count(), 1);
        for markup in ["<", ">", "\""] {
            proptest::prop_assert_eq!(plain.html.matches(markup).count(), odd.html.matches(markup).count());
        }
    }
}
