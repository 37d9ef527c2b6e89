//! The judgement, and what a forged state can do to the forms.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

use super::{FleetLimits, FleetView, FoundHost, HostState, Light, VolumeState};
use crate::report::facts::{RunVerdict, Usage};
use crate::report::stored::FORMAT_VERSION;
use crate::report::verification::{CheckLevel, Verification};

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn ago(hours: i64) -> DateTime<Utc> {
    now() - TimeDelta::hours(hours)
}

fn volume(name: &str) -> VolumeState {
    VolumeState {
        name: name.to_owned(),
        verdict: RunVerdict::Good,
        last_good: Some(ago(5)),
        verified: Some(Verification { at: ago(50), level: CheckLevel::Full }),
        proof: None,
        encrypted: None,
        archive_bytes: Some(1 << 30),
        backups_bytes: 9 << 30,
        bad: 0,
        problems: 0,
        first_problem: None,
        trend: vec![1, 2, 3],
    }
}

fn state(host: &str, volumes: Vec<VolumeState>) -> HostState {
    HostState {
        format_version: FORMAT_VERSION,
        volbak_version: "0".to_owned(),
        host: host.to_owned(),
        at: ago(4),
        last_run: Some(ago(5)),
        duration_seconds: 3600,
        verdict: RunVerdict::Good,
        aborted: None,
        destination: "/backups".to_owned(),
        usage: Some(Usage {
            backups_bytes: 9 << 30,
            used_bytes: 10 << 30,
            available_bytes: 1 << 30,
            full_in_days: None,
        }),
        copy: None,
        problems: 0,
        first_problem: None,
        volumes,
        more_volumes: 0,
    }
}

fn found(state: HostState) -> FoundHost {
    found_at("/mnt/fleet", &state.host.clone(), Ok(state))
}

fn found_at(root: &str, name: &str, state: Result<HostState, String>) -> FoundHost {
    FoundHost { name: name.to_owned(), place: Path::new(root).join(name), state }
}

fn view(found: Vec<FoundHost>, expected: &[&str], proof_days: u32) -> FleetView {
    let expected: Vec<String> = expected.iter().map(|name| (*name).to_owned()).collect();
    FleetView::new(found, &expected, FleetLimits { max_age_hours: 36, proof_days }, now())
}

#[test]
fn silent_hosts_come_first_then_what_is_overdue() {
    let late = HostState { last_run: Some(ago(36)), ..state("late", vec![volume("a")]) };
    let old = VolumeState { last_good: Some(ago(40)), ..volume("old") };
    let partial = VolumeState { problems: 1, first_problem: Some("p1: damaged".to_owned()), ..volume("partial") };
    let all = vec![
        found(state("fine", vec![volume("a"), volume("b")])),
        found(state("overdue", vec![volume("a"), old])),
        found(state("problems", vec![partial])),
        found(late),
        found_at("/mnt/fleet", "unreadable", Err("cut off".to_owned())),
    ];
    let judged = view(all, &["fine", "overdue", "problems", "late", "missing", "unreadable"], 0);
    let order: Vec<(&str, Light)> = judged.hosts.iter().map(|host| (host.name.as_str(), host.light)).collect();
    let expected = [
        ("late", Light::Silent),
        ("missing", Light::Silent),
        ("unreadable", Light::Silent),
        ("overdue", Light::Red),
        ("problems", Light::Amber),
        ("fine", Light::Green),
    ];
    assert_eq!(order, expected);
    assert!(judged.is_overdue);
    assert_eq!(judged.hosts[3].volumes[0].state.name, "old", "the volume that is overdue comes first");
}

#[test]
fn without_a_list_all_hosts_are_expected_and_with_one_a_stranger_is_told() {
    let well = || vec![found(state("a", vec![volume("v")]))];
    assert_eq!(view(well(), &[], 0).hosts[0].light, Light::Green);
    assert!(!view(well(), &[], 0).is_overdue);
    let judged = view(well(), &["b"], 0);
    assert_eq!((judged.hosts[0].name.as_str(), judged.hosts[0].light), ("b", Light::Silent));
    assert_eq!((judged.hosts[1].name.as_str(), judged.hosts[1].light), ("a", Light::Amber));
}

#[test]
fn of_a_host_with_states_in_several_places_the_worst_counts() {
    let well = || state("a", vec![volume("v")]);
    let silent = HostState { last_run: Some(ago(48)), at: ago(47), ..well() };
    let both = |one: HostState, other: HostState| {
        view(vec![found_at("/mnt/own", "a", Ok(one)), found_at("/mnt/other", "a", Ok(other))], &["a"], 0)
    };
    // Whoever writes to the other place cannot hide that the host is silent, whichever root is named first.
    for judged in [both(silent.clone(), well()), both(well(), silent.clone())] {
        assert_eq!((judged.hosts.len(), judged.hosts[0].light), (1, Light::Silent));
        let told = judged.hosts[0].reasons.join("; ");
        assert!(
            told.contains("silent: its last run") && told.contains("/mnt/own/a (") && told.contains("/mnt/other/a ("),
            "{told}"
        );
    }
    let later = HostState { at: ago(3), ..well() };
    let judged = both(well(), later);
    assert_eq!(judged.hosts[0].light, Light::Green);
    assert!(judged.hosts[0].reasons[0].contains("/mnt/own/a (ok), /mnt/other/a (ok)"), "{:?}", judged.hosts[0].reasons);
    // A run leaves one state in its destination and in the directory of [fleet].
    assert!(both(well(), well()).hosts[0].reasons.is_empty());
    let unreadable = found_at("/mnt/own", "a", Err("cut off".to_owned()));
    let judged = view(vec![found_at("/mnt/other", "a", Ok(well())), unreadable], &["a"], 0);
    assert_eq!(judged.hosts[0].light, Light::Silent);
}

#[test]
fn a_proof_is_a_full_verification_and_grows_old() {
    let with = |verified| VolumeState { verified, ..volume("v") };
    let light = |verified, days| view(vec![found(state("a", vec![with(verified)]))], &[], days).hosts[0].light;
    let at = |hours, level| Some(Verification { at: ago(hours), level });
    assert_eq!(light(None, 0), Light::Green);
    assert_eq!(light(None, 7), Light::Red);
    assert_eq!(light(at(24 * 6, CheckLevel::Full), 7), Light::Green);
    assert_eq!(light(at(24 * 7, CheckLevel::Full), 7), Light::Red);
    assert_eq!(light(at(1, CheckLevel::Quick), 7), Light::Red);
    assert_eq!(light(at(-48, CheckLevel::Full), 7), Light::Red, "dated in the future");
}

#[test]
fn a_date_in_the_future_is_no_good_backup() {
    let ahead = VolumeState { last_good: Some(ago(-48)), ..volume("v") };
    assert_eq!(view(vec![found(state("a", vec![ahead]))], &[], 0).hosts[0].light, Light::Red);
    let forged = HostState { last_run: Some(DateTime::<Utc>::MAX_UTC), ..state("a", Vec::new()) };
    assert_eq!(view(vec![found(forged)], &[], 0).hosts[0].light, Light::Red);
    let never = HostState { last_run: Some(DateTime::<Utc>::MIN_UTC), ..state("a", Vec::new()) };
    assert_eq!(view(vec![found(never)], &[], 0).hosts[0].light, Light::Silent);
}

#[test]
fn no_form_holds_markup_or_control_characters_of_a_state() {
    let evil = "\"><script>alert(1)</script>\u{1b}[2J\n# TYPE x";
    let text = || evil.to_owned();
    let bad = VolumeState { name: text(), problems: u64::MAX, first_problem: Some(text()), ..volume("v") };
    let mut forged = state("h", vec![bad.clone(), bad]);
    forged.volumes[0].trend = vec![u64::MAX; 1000];
    forged.volumes[0].backups_bytes = u64::MAX;
    forged.destination = text();
    forged.usage =
        Some(Usage { backups_bytes: u64::MAX, used_bytes: u64::MAX, available_bytes: u64::MAX, full_in_days: None });
    forged.aborted = Some("x".repeat(1 << 20));
    let read = HostState::from_json(forged.to_json().unwrap().as_bytes()).unwrap();
    assert!(read.aborted.as_ref().unwrap().len() < 400 && read.volumes[0].trend.len() == 14);
    let judged = view(vec![found_at("/mnt/fleet", evil, Ok(read))], &["h"], 1);
    let page = judged.html();
    assert!(!page.contains("<script") && !page.contains('\u{1b}') && page.len() < 20_000, "{}", page.len());
    assert!(!judged.text().contains('\u{1b}'));
    let metrics = judged.metrics();
    assert!(metrics.lines().all(|line| line.starts_with("# ") || line.starts_with("volbak_fleet_")), "{metrics}");
    assert_eq!(metrics.matches("\nvolbak_fleet_volume_light{").count(), 1, "no series twice");
}

/// Bytes of a state changed, removed and repeated, and its numbers replaced by extreme ones.
#[test]
fn a_mutated_state_is_an_error_or_a_view() {
    let json = state("a", vec![volume("v"), volume("w")]).to_json().unwrap();
    let mut seed = 11_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let extreme = ["18446744073709551615", "-1", "1e999", "null", "[]", "\"+262142-12-31T23:59:59Z\"", "{}"];
    let mut read = 0;
    for case in 0..2000 {
        let mut bytes = json.clone().into_bytes();
        match random(3) {
            0 => {
                let at = random(bytes.len());
                bytes[at] = u8::try_from(random(256)).unwrap();
            }
            1 => {
                let (at, len) = (random(bytes.len()), random(40));
                let end = (at + len).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                // The value behind some colon, up to the next comma.
                let colons: Vec<usize> = json.match_indices(':').map(|(at, _)| at + 1).collect();
                let at = colons[random(colons.len())];
                let end = json[at..].find([',', '}']).map_or(json.len(), |len| at + len);
                bytes.splice(at..end, extreme[random(extreme.len())].bytes());
            }
        }
        if let Ok(state) = HostState::from_json(&bytes) {
            read += 1;
            let judged = view(vec![found_at("/mnt/fleet", "a", Ok(state))], &["a", "b"], 7);
            let forms = [judged.html(), judged.text(), judged.metrics(), serde_json::to_string(&judged).unwrap()];
            assert!(forms.iter().all(|form| !form.is_empty()), "{case}");
        }
    }
    assert!((100..2000).contains(&read), "{read}");
}

#[test]
fn a_state_is_read_back_as_it_was() {
    let written = state("a", vec![volume("v"), VolumeState { last_good: None, verified: None, ..volume("w") }]);
    assert_eq!(HostState::from_json(written.to_json().unwrap().as_bytes()).unwrap(), written);
    for wrong in ["", "{}", "[", "null", &"[".repeat(100_000)] {
        HostState::from_json(wrong.as_bytes()).unwrap_err();
    }
    let json = written.to_json().unwrap();
    for cut in 0..json.len() {
        assert!(HostState::from_json(&json.as_bytes()[..cut]).is_err(), "{cut}");
    }
}
