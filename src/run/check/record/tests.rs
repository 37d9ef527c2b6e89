use chrono::{DateTime, TimeDelta, Utc};

use super::{Health, LevelResult, Record, load};
use crate::run::check::second_opinion::SecondOpinion;
use crate::run::check::{BackupFile, CheckLevel, Finding, Verdict};
use crate::store::Backup;

fn save(files: &Backup, result: LevelResult) -> std::io::Result<Record> {
    super::save(files, Some("ab"), 7, result)
}

fn report(level: CheckLevel, verdict: Verdict, minute: i64) -> LevelResult {
    LevelResult {
        level,
        reached: None,
        verified_at: at(minute),
        verdict,
        found_sha1: None,
        not_checked: Vec::new(),
        findings: Vec::new(),
        findings_total: 0,
        volbak_version: String::new(),
        second_opinion: None,
    }
}

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
}

#[test]
fn a_finding_holds_until_as_much_was_checked_again() {
    let dir = tempfile::tempdir().unwrap();
    let files = Backup::in_directory(dir.path(), "a");
    let health = |report| save(&files, report).unwrap().health();
    let good = |minute, level| Health::Good { last_verified: at(minute), level };
    assert_eq!(health(report(CheckLevel::Full, Verdict::Good, 1)), good(1, CheckLevel::Full));
    assert_eq!(health(report(CheckLevel::Full, Verdict::Bad, 2)), Health::Bad { found_at: at(2) });
    assert_eq!(health(report(CheckLevel::Quick, Verdict::Good, 3)), Health::Bad { found_at: at(2) });
    assert_eq!(health(report(CheckLevel::Full, Verdict::Good, 4)), good(4, CheckLevel::Full));
    assert_eq!(load(&files, Some("ab"), 7).unwrap().results.len(), 2);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_look_that_could_not_check_everything_clears_nothing_and_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = Backup::in_directory(dir.path(), "a");
    let health = |report| save(&files, report).unwrap().health();
    let good = |minute, level| Health::Good { last_verified: at(minute), level };
    // Without a key, or without room for a restore test.
    let only = |reached, report| LevelResult { reached: Some(reached), ..report };
    let as_far = |minute, level, reached| only(reached, report(level, Verdict::GoodAsFarAsChecked, minute));
    assert_eq!(health(as_far(0, CheckLevel::Full, CheckLevel::Quick)), good(0, CheckLevel::Quick));
    assert_eq!(health(report(CheckLevel::Full, Verdict::Good, 1)), good(1, CheckLevel::Full));
    assert_eq!(health(as_far(2, CheckLevel::RestoreTest, CheckLevel::Quick)), good(1, CheckLevel::Full));
    assert_eq!(health(report(CheckLevel::Full, Verdict::Bad, 3)), Health::Bad { found_at: at(3) });
    for level in [CheckLevel::Full, CheckLevel::RestoreTest] {
        assert_eq!(health(as_far(4, level, CheckLevel::Quick)), Health::Bad { found_at: at(3) });
    }
    assert_eq!(health(as_far(5, CheckLevel::RestoreTest, CheckLevel::Full)), good(5, CheckLevel::Full));
    // What is found without a key is cleared without one, but not by a quick check.
    let bad = only(CheckLevel::Quick, report(CheckLevel::Full, Verdict::Bad, 6));
    assert_eq!(health(bad), Health::Bad { found_at: at(6) });
    assert_eq!(health(report(CheckLevel::Quick, Verdict::Good, 7)), Health::Bad { found_at: at(6) });
    assert!(matches!(health(as_far(8, CheckLevel::Full, CheckLevel::Quick)), Health::Good { .. }));
    assert!(load(&files, Some("ab"), 7).unwrap().results.len() < 6);
}

#[test]
fn a_second_opinion_holds_until_there_is_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let files = Backup::in_directory(dir.path(), "a");
    let health = |report| save(&files, report).unwrap().health();
    let good = |minute, level| Health::Good { last_verified: at(minute), level };
    let second = |report| LevelResult { second_opinion: Some(SecondOpinion::default()), ..report };
    assert_eq!(health(second(report(CheckLevel::Full, Verdict::Bad, 1))), Health::Bad { found_at: at(1) });
    assert_eq!(health(report(CheckLevel::Full, Verdict::Good, 2)), Health::Bad { found_at: at(1) });
    assert_eq!(health(report(CheckLevel::RestoreTest, Verdict::Good, 3)), Health::Bad { found_at: at(1) });
    assert_eq!(load(&files, Some("ab"), 7).unwrap().results.len(), 3);
    assert_eq!(health(second(report(CheckLevel::Full, Verdict::Good, 4))), good(3, CheckLevel::RestoreTest));
    assert_eq!(load(&files, Some("ab"), 7).unwrap().results.len(), 2, "one full verification covers the other");
    assert_eq!(health(report(CheckLevel::Full, Verdict::Bad, 5)), Health::Bad { found_at: at(5) });
    assert_eq!(health(second(report(CheckLevel::RestoreTest, Verdict::Good, 6))), good(6, CheckLevel::RestoreTest));
    let results = load(&files, Some("ab"), 7).unwrap().results;
    let kept: Vec<_> = results.iter().map(|result| (result.level, result.second_opinion.is_some())).collect();
    assert_eq!(kept, [(CheckLevel::Full, false), (CheckLevel::Full, true), (CheckLevel::RestoreTest, true)]);
}

#[test]
fn a_record_of_another_archive_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = Backup::in_directory(dir.path(), "a");
    save(&files, report(CheckLevel::Full, Verdict::Bad, 1)).unwrap();
    assert!(load(&files, Some("ab"), 7).is_some());
    assert!(load(&files, Some("cd"), 7).is_none());
    assert!(load(&files, Some("ab"), 8).is_none());
    assert!(load(&files, None, 7).is_none());
    assert_eq!(Record::default().health(), Health::Unverified);
}

#[test]
fn a_record_that_cannot_be_read_is_none_that_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = Backup::in_directory(dir.path(), "a");
    assert!(load(&files, Some("ab"), 7).is_none());
    save(&files, report(CheckLevel::Full, Verdict::Bad, 1)).unwrap();
    let good = std::fs::read(files.record_path()).unwrap();
    let newer = String::from_utf8(good.clone()).unwrap().replace("\"format\": 1", "\"format\": 2");
    for bytes in [b"".as_slice(), b"{}", &good[..good.len() / 2], newer.as_bytes()] {
        std::fs::write(files.record_path(), bytes).unwrap();
        assert_eq!(load(&files, Some("ab"), 7).unwrap().health(), Health::Unknown);
        save(&files, report(CheckLevel::Quick, Verdict::Good, 2)).unwrap_err();
        assert_eq!(std::fs::read(files.record_path()).unwrap(), bytes);
    }
    save(&files, report(CheckLevel::Full, Verdict::Good, 2)).unwrap_err();
    std::fs::write(files.record_path(), "{}").unwrap();
    let health = save(&files, report(CheckLevel::Full, Verdict::Good, 2)).unwrap().health();
    assert_eq!(health, Health::Good { last_verified: at(2), level: CheckLevel::Full });
}

#[test]
fn a_verification_that_could_not_open_the_archive_replaces_none() {
    let dir = tempfile::tempdir().unwrap();
    let files = Backup::in_directory(dir.path(), "a");
    save(&files, report(CheckLevel::Full, Verdict::Bad, 1)).unwrap();
    for (identity, bytes) in [(Some("ab"), 0), (None, 7), (None, 0)] {
        super::save(&files, identity, bytes, report(CheckLevel::Full, Verdict::Bad, 2)).unwrap();
        assert_eq!(load(&files, Some("ab"), 7).unwrap().health(), Health::Bad { found_at: at(1) });
    }
}

#[test]
fn what_is_found_later_counts_whatever_the_clock_said() {
    let dir = tempfile::tempdir().unwrap();
    let files = Backup::in_directory(dir.path(), "a");
    let year = 366 * 24 * 60;
    save(&files, report(CheckLevel::RestoreTest, Verdict::Good, year)).unwrap();
    let found = save(&files, report(CheckLevel::Full, Verdict::Bad, 1)).unwrap();
    assert_eq!(found.health(), Health::Bad { found_at: at(1) });
    assert!(found.last_look(CheckLevel::RestoreTest) < Some(at(1)));
    let cleared = save(&files, report(CheckLevel::RestoreTest, Verdict::Good, 0)).unwrap();
    assert_eq!(cleared.health(), Health::Good { last_verified: at(0), level: CheckLevel::RestoreTest });
}

#[test]
fn long_findings_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let files = Backup::in_directory(dir.path(), "a");
    let long = || Some("\u{e9}".repeat(5000));
    let what = "x".repeat(1024);
    let one = Finding { file: BackupFile::Index, member: None, offset: None, path: long(), what: what.clone() };
    let findings = vec![one; 200];
    let result = LevelResult { findings, findings_total: 200, ..report(CheckLevel::Full, Verdict::Bad, 1) };
    let kept = &save(&files, result).unwrap().results[0];
    assert_eq!((kept.findings.len(), kept.findings_total), (100, 200));
    assert_eq!(kept.findings[99].path.as_ref().map(|path| path.chars().count()), Some(1024));
    assert_eq!(kept.findings[99].what, what);
}
