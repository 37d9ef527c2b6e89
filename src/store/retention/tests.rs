//! Usual nights, failing nights, and invariants for any list of backups.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, NaiveDate, NaiveTime, Utc};
use proptest::prelude::{Strategy, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::{
    BackupFacts, Health, Now, Occasion, Plan, Policy, Reason, Refusal, SetFacts, brake, gone_kept_until, keep_sets,
    plan,
};

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn one_o_clock(date: NaiveDate) -> DateTime<Utc> {
    date.and_time(NaiveTime::from_hms_opt(1, 0, 0).unwrap()).and_utc()
}

fn backup(date: &str) -> BackupFacts {
    let local_date = day(date);
    BackupFacts { size_bytes: 10, ..BackupFacts::new(date.to_owned(), one_o_clock(local_date), local_date) }
}

fn nights(first: &str, count: i64) -> Vec<BackupFacts> {
    (0..count).map(|night| backup(&(day(first) + Duration::days(night)).to_string())).collect()
}

fn at(date: &str) -> Now {
    Now { utc: one_o_clock(day(date)) + Duration::minutes(20), local_date: day(date) }
}

fn removed(backups: &[BackupFacts], policy: &Policy, now: Now, occasion: Occasion<'_>) -> Vec<String> {
    plan("volume-1", backups, policy, now, occasion).removals().map(str::to_owned).collect()
}

#[test]
fn older_than_seven_days_means_the_eighth_day() {
    let backups = nights("2011-09-28", 10);
    let gone = removed(&backups, &Policy::days(7), at("2011-10-07"), Occasion::Published("2011-10-07"));
    assert_eq!(gone, ["2011-09-28", "2011-09-29"]);
}

#[test]
fn each_night_removes_one_once_the_window_is_full() {
    let mut kept: Vec<BackupFacts> = Vec::new();
    let mut counts = Vec::new();
    for night in nights("2026-11-01", 20) {
        kept.push(night.clone());
        let now = at(&night.id);
        let gone = removed(&kept, &Policy::days(7), now, Occasion::Published(&night.id));
        kept.retain(|backup| !gone.contains(&backup.id));
        counts.push(gone.len());
    }
    assert_eq!(counts[..8], [0; 8]);
    assert_eq!(counts[8..], [1; 12]);
    assert_eq!(kept.len(), 8);
}

#[test]
fn the_last_whole_backup_outlives_any_number_of_partial_ones() {
    let mut backups = nights("2026-11-01", 20);
    for backup in &mut backups[4..] {
        backup.whole = false;
    }
    let now = at("2026-11-20");
    let gone = removed(&backups, &Policy::days(3), now, Occasion::Published("2026-11-20"));
    assert!(!gone.contains(&"2026-11-04".to_owned()));
    assert!(gone.contains(&"2026-11-03".to_owned()) && gone.contains(&"2026-11-05".to_owned()));
    // A verified partial backup does not replace a verified whole one.
    backups[2].health = Health::Good;
    backups[9].health = Health::Good;
    let gone = removed(&backups, &Policy::days(3), now, Occasion::Published("2026-11-20"));
    for stays in ["2026-11-03", "2026-11-04", "2026-11-10"] {
        assert!(!gone.contains(&stays.to_owned()), "{stays}");
    }
}

#[test]
fn calendar_rules_choose_whole_backups_first() {
    let mut backups = nights("2026-09-01", 81);
    for backup in &mut backups {
        // Only the 10th of each month is whole.
        backup.whole = backup.id.ends_with("-10");
    }
    let policy = Policy { keep_monthly: 3, keep_last: 2, ..Policy::days(1) };
    let gone = removed(&backups, &policy, at("2026-11-20"), Occasion::Published("2026-11-20"));
    let kept: Vec<&str> = backups.iter().map(|b| b.id.as_str()).filter(|id| !gone.iter().any(|g| g == id)).collect();
    assert_eq!(kept, ["2026-09-10", "2026-10-10", "2026-11-10", "2026-11-19", "2026-11-20"]);
}

#[test]
fn what_is_pinned_stays() {
    let mut backups = nights("2026-11-01", 20);
    backups[3].pinned = true;
    let gone = removed(&backups, &Policy::days(3), at("2026-11-20"), Occasion::Published("2026-11-20"));
    assert!(!gone.contains(&"2026-11-04".to_owned()) && gone.contains(&"2026-11-03".to_owned()));
}

#[test]
fn the_last_good_ones_of_each_volume_stay_for_gone_days() {
    let of = |uuid: &str, health, whole, backup: BackupFacts| BackupFacts {
        volume: Some(uuid.to_owned()),
        health,
        whole,
        ..backup
    };
    // Two hosts by turns until one is lost; the last of its backups is bad, and the one before that partial.
    let mut backups: Vec<BackupFacts> = (1..=10)
        .flat_map(|number| {
            let mut a = of("a", Health::Unverified, number != 9, backup(&format!("2026-08-{number:02}")));
            a.id = format!("a{number}");
            let mut b = of("b", Health::Unverified, true, a.clone());
            (b.id, b.taken_at) = (format!("b{number}"), b.taken_at + Duration::hours(1));
            [a, b]
        })
        .collect();
    backups[18].health = Health::Bad;
    backups.extend(nights("2026-08-11", 100).into_iter().map(|one| of("b", Health::Unverified, true, one)));
    let left_at = |date: &str| -> Vec<String> {
        let there: Vec<BackupFacts> = backups.iter().filter(|one| one.local_date <= day(date)).cloned().collect();
        let plan = plan("v", &there, &Policy::days(7), at(date), Occasion::Published(date));
        let kept = plan.decisions.into_iter().filter(|decision| !decision.remove).map(|decision| decision.id);
        kept.filter(|id| id.starts_with('a')).collect()
    };
    assert_eq!(left_at("2026-08-30"), ["a8", "a9"]);
    // Kept until the newest of them is older than 90 days.
    assert_eq!(left_at("2026-11-07"), ["a8", "a9"]);
    assert_eq!(left_at("2026-11-08"), [""; 0]);
}

#[test]
fn a_week_of_failures_removes_nothing() {
    let backups = nights("2026-11-01", 8);
    let plan = plan("volume-1", &backups, &Policy::days(7), at("2026-11-20"), Occasion::NothingNew);
    assert_eq!(plan.removals().count(), 0);
    assert_eq!(plan.refusals, [Refusal::NothingNew]);
    assert_eq!(plan.decisions[0].reasons, [Reason::OnHold { age_days: 19 }]);
}

#[test]
fn a_new_backup_that_is_bad_or_missing_removes_nothing() {
    let mut backups = nights("2026-11-01", 12);
    let now = at("2026-11-12");
    let wrong = plan("v", &backups, &Policy::days(7), now, Occasion::Published("2026-11-1"));
    assert_eq!(wrong.refusals, [Refusal::NewOneNotThere { id: "2026-11-1".to_owned() }]);
    backups[11].health = Health::Bad;
    let bad = plan("v", &backups, &Policy::days(7), now, Occasion::Published("2026-11-12"));
    assert_eq!(bad.refusals, [Refusal::NewOneIsBad { id: "2026-11-12".to_owned() }]);
    assert_eq!(wrong.removals().count() + bad.removals().count(), 0);
}

#[test]
fn a_backup_that_may_be_bad_stops_removals() {
    let mut backups = nights("2026-11-01", 30);
    backups[20].health = Health::Unknown;
    for occasion in [Occasion::Published("2026-11-30"), Occasion::Gone, Occasion::Forecast] {
        let plan = plan("v", &backups, &Policy::days(7), at("2027-11-30"), occasion);
        assert_eq!(plan.refusals, [Refusal::HealthUnknown { id: "2026-11-21".to_owned() }]);
        assert_eq!(plan.removals().count(), 0);
    }
}

#[test]
fn bad_ones_do_not_count_as_the_last_good_one() {
    let mut backups = nights("2026-11-01", 3);
    backups.extend(nights("2026-11-18", 3));
    for bad in [3, 4] {
        backups[bad].health = Health::Bad;
    }
    let plan = plan("v", &backups, &Policy::days(1), at("2026-11-20"), Occasion::Published("2026-11-20"));
    let gone: Vec<&str> = plan.removals().collect();
    assert_eq!(gone, ["2026-11-01", "2026-11-02", "2026-11-18"], "the third is the last good one before tonight's");
    assert_eq!(plan.decisions[2].reasons, [Reason::LastBeforeTheNewOne]);
}

#[test]
fn the_last_verified_one_stays_whatever_its_age() {
    let mut backups = nights("2026-10-01", 50);
    backups[0].health = Health::Good;
    let plan = plan("v", &backups, &Policy::days(7), at("2026-11-19"), Occasion::Published("2026-11-19"));
    assert!(!plan.decisions[0].remove);
    assert_eq!(plan.decisions[0].reasons, [Reason::LastVerified]);
    assert!(plan.decisions[1].remove);
}

#[test]
fn days_weeks_months_and_years_keep_the_newest_of_each() {
    let backups = nights("2024-01-01", 1000);
    let last = backups.last().unwrap().id.clone();
    assert_eq!(last, "2026-09-26");
    let policy = Policy { keep_daily: 3, keep_weekly: 3, keep_monthly: 3, keep_yearly: 5, ..Policy::days(1) };
    let plan = plan("v", &backups, &policy, at(&last), Occasion::Published(&last));
    let kept: Vec<&str> = plan.decisions.iter().filter(|d| !d.remove).map(|d| d.id.as_str()).collect();
    assert_eq!(
        kept,
        [
            "2024-12-31",
            "2025-12-31",
            "2026-07-31",
            "2026-08-31",
            "2026-09-13",
            "2026-09-20",
            "2026-09-24",
            "2026-09-25",
            "2026-09-26",
        ]
    );
    assert_eq!(plan.decisions[365].reasons, [Reason::KeepYearly { keep: 5 }]);
}

#[test]
fn weeks_do_not_end_with_the_year() {
    // 2026-12-31 and 2027-01-01 lie in one ISO week; 2024-01-01 and 2024-12-30 both lie in a week 1.
    let backups: Vec<BackupFacts> =
        ["2024-01-01", "2024-12-30", "2026-12-20", "2026-12-31", "2027-01-01", "2027-01-10"].map(backup).into();
    let kept = |keep_weekly: u32| {
        let policy = Policy { keep_weekly, ..Policy::days(1) };
        let gone = removed(&backups, &policy, at("2027-01-10"), Occasion::Published("2027-01-10"));
        backups.iter().filter(|b| !gone.contains(&b.id)).map(|b| b.id.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(kept(3), ["2026-12-20", "2027-01-01", "2027-01-10"]);
    assert_eq!(kept(5), ["2024-01-01", "2024-12-30", "2026-12-20", "2027-01-01", "2027-01-10"]);
}

#[test]
fn bad_ones_do_not_take_the_place_of_good_ones() {
    let mut backups = nights("2026-10-01", 10);
    for bad in &mut backups[5..] {
        bad.health = Health::Bad;
    }
    backups.push(backup("2026-11-20"));
    let policy = Policy { keep_last: 3, keep_daily: 4, ..Policy::days(7) };
    let gone = removed(&backups, &policy, at("2026-11-20"), Occasion::Published("2026-11-20"));
    let left: Vec<&str> =
        backups.iter().map(|b| b.id.as_str()).filter(|id| !gone.contains(&(*id).to_owned())).collect();
    assert_eq!(left, ["2026-10-03", "2026-10-04", "2026-10-05", "2026-11-20"]);
}

#[test]
fn a_clock_far_ahead_trips_the_brake_and_even_by_force_leaves_two() {
    let mut backups = nights("2026-11-01", 8);
    backups.push(backup("2036-11-09"));
    let policy = Policy::days(7);
    let plan = plan("v", &backups, &policy, at("2036-11-09"), Occasion::Published("2036-11-09"));
    let Refusal::Gap { days, .. } = plan.refusals[0] else { panic!("{:?}", plan.refusals) };
    assert_eq!(days, 3654);
    let kept: Vec<&str> = plan.decisions.iter().filter(|d| !d.remove).map(|d| d.id.as_str()).collect();
    assert_eq!(kept, ["2026-11-08", "2036-11-09"]);
    assert_eq!(brake(&[plan]), Some(Refusal::TooMany { removed: 7, all: 9 }));
}

#[test]
fn the_forecast_trips_the_brake_before_the_run() {
    let backups = nights("2026-11-01", 8);
    let ahead = plan("v", &backups, &Policy::days(7), at("2036-11-09"), Occasion::Forecast);
    assert_eq!(brake(&[ahead]), Some(Refusal::TooMany { removed: 7, all: 8 }));
    let as_ever = plan("v", &backups, &Policy::days(7), at("2026-11-09"), Occasion::Forecast);
    assert_eq!(as_ever.removals().collect::<Vec<_>>(), ["2026-11-01"]);
    assert_eq!(brake(&[as_ever]), None);
}

#[test]
fn the_forecast_is_what_the_night_then_does() {
    let mut backups = nights("2026-10-01", 30);
    let policy = Policy { keep_last: 3, keep_weekly: 4, ..Policy::days(2) };
    let now = at("2026-10-31");
    let forecast = removed(&backups, &policy, now, Occasion::Forecast);
    backups.push(backup("2026-10-31"));
    assert_eq!(forecast, removed(&backups, &policy, now, Occasion::Published("2026-10-31")));
}

#[test]
fn exactly_half_is_allowed() {
    let backups = nights("2026-11-01", 2);
    let plan = plan("v", &backups, &Policy::days(1), at("2026-11-03"), Occasion::Forecast);
    assert_eq!(plan.removals().count(), 1);
    assert_eq!(brake(&[plan]), None);
}

#[test]
fn a_clock_set_back_keeps_what_is_then_in_the_future() {
    let mut backups = nights("2026-11-01", 8);
    backups.insert(0, backup("1970-01-01"));
    let plan = plan("v", &backups, &Policy::days(7), at("1970-01-01"), Occasion::Published("1970-01-01"));
    assert_eq!(plan.removals().count(), 0);
    assert_eq!(plan.refusals.len(), 8);
    assert!(plan.refusals.iter().all(|refusal| matches!(refusal, Refusal::InTheFuture { .. })));
}

#[test]
fn one_from_the_future_does_not_pass_for_the_last_good_one() {
    let mut backups = nights("2026-11-01", 3);
    backups.push(backup("2036-01-01"));
    let policy = Policy { keep_last: 1, ..Policy::days(7) };
    let plan = plan("v", &backups, &policy, at("2026-12-31"), Occasion::NothingNew);
    assert_eq!(plan.decisions[2].reasons[0], Reason::KeepLast { keep: 1 });
    assert!(plan.decisions[2].reasons.contains(&Reason::LastGood));
}

#[test]
fn a_gone_volume_has_its_own_longer_time_and_keeps_its_last() {
    let mut backups = nights("2026-01-01", 10);
    backups[0].protected = true;
    let policy = Policy { keep_yearly: 3, ..Policy::days(7) };
    let early = plan("v", &backups, &policy, at("2026-04-10"), Occasion::Gone);
    assert_eq!(early.removals().count(), 0);
    assert_eq!(early.refusals, [Refusal::Gone { left_days: 1, backups: 10 }]);
    assert_eq!(gone_kept_until(&backups, &policy, at("2026-04-10")), Some(day("2026-04-10")));
    assert_eq!(gone_kept_until(&backups, &policy, at("2026-04-11")), None);
    let late = plan("v", &backups, &policy, at("2026-04-11"), Occasion::Gone);
    assert_eq!(late.removals().count(), 8, "all but the protected and the last");
    assert!(late.refusals.is_empty());
    let all = Policy { remove_last_of_gone: true, ..policy };
    assert_eq!(removed(&backups, &all, at("2026-04-11"), Occasion::Gone).len(), 9);
}

#[test]
fn a_group_that_is_off_for_a_night_costs_no_yearly_backup() {
    let backups: Vec<BackupFacts> = ["2023-12-31", "2024-12-31", "2025-12-31", "2026-11-19"].map(backup).into();
    let policy = Policy { keep_yearly: 5, ..Policy::days(7) };
    assert!(removed(&backups, &policy, at("2026-11-20"), Occasion::Gone).is_empty());
}

#[test]
fn what_was_just_made_stays_though_another_is_newer() {
    // The clock was ahead once, or is behind now.
    let backups: Vec<BackupFacts> = ["2026-07-06", "2026-11-19"].map(backup).into();
    let plan = plan("v", &backups, &Policy::days(1), at("2026-11-20"), Occasion::Published("2026-07-06"));
    assert_eq!(plan.removals().count(), 0);
    assert_eq!(plan.decisions[0].reasons, [Reason::JustMade]);
}

#[test]
fn two_backups_of_one_name_stop_everything() {
    let mut backups = nights("2026-11-01", 12);
    backups[1].id = backups[0].id.clone();
    let plan = plan("v", &backups, &Policy::days(7), at("2026-11-12"), Occasion::Published("2026-11-12"));
    assert_eq!(plan.removals().count(), 0);
    assert!(matches!(plan.refusals[..], [Refusal::SameIdTwice { .. }]));
}

#[test]
fn what_is_locked_is_kept_until_the_lock_ends() {
    let now = at("2026-11-12");
    let mut backups = nights("2026-11-01", 12);
    backups[0].locked_until = Some(now.utc + Duration::seconds(1));
    backups[1].locked_until = Some(now.utc);
    let plan = plan("v", &backups, &Policy::days(7), now, Occasion::Forecast);
    let (locked, ended) = (&plan.decisions[0], &plan.decisions[1]);
    assert!(!locked.remove && ended.remove);
    assert!(locked.reasons[0].to_string().starts_with("locked in its store until 2026-11-12"), "{:?}", locked.reasons);
}

#[test]
fn the_reasons_read_as_sentences() {
    let plan = plan("v", &nights("2026-11-01", 12), &Policy::days(7), at("2026-11-12"), Occasion::Forecast);
    assert_eq!(plan.decisions[0].reasons[0].to_string(), "11 days old, more than 7 days");
    assert_eq!(plan.decisions[10].reasons[0].to_string(), "1 day old, kept for 7 days");
    assert_eq!(plan.freed_bytes(), 40);
}

fn any_backups() -> impl Strategy<Value = Vec<BackupFacts>> {
    let one = (-900_i64..30, 0_i64..86_400, 0_u8..4, prop::bool::weighted(0.1), prop::bool::weighted(0.6));
    prop::collection::vec(one, 0..40).prop_map(|list| {
        let epoch = day("2026-11-20");
        list.into_iter()
            .enumerate()
            .map(|(number, (offset, second, health, protected, whole))| {
                let local_date = epoch + Duration::days(offset);
                BackupFacts {
                    id: format!("{local_date}_{number}"),
                    taken_at: local_date.and_time(NaiveTime::MIN).and_utc() + Duration::seconds(second),
                    local_date,
                    health: [Health::Good, Health::Unverified, Health::Unverified, Health::Bad][usize::from(health)],
                    whole,
                    protected,
                    pinned: number % 17 == 16,
                    locked_until: None,
                    size_bytes: 1,
                    set: None,
                    volume: Some(format!("uuid-{}", number % 3)).filter(|_| number % 5 > 0),
                }
            })
            .collect()
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (1_u32..60, 0_u32..5, 0_u32..9, 0_u32..6, 0_u32..6, 0_u32..4, 0_u32..200).prop_map(
        |(retention_days, keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly, more)| Policy {
            retention_days,
            keep_last,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            gone_days: retention_days + more,
            remove_last_of_gone: false,
        },
    )
}

fn any_occasion(backups: &[BackupFacts], which: u8) -> Occasion<'_> {
    match (which, backups.first()) {
        (0, Some(new)) => Occasion::Published(&new.id),
        (1, _) => Occasion::Gone,
        (2, _) => Occasion::NothingNew,
        _ => Occasion::Forecast,
    }
}

fn set(number: u64) -> SetFacts {
    let members = ["a", "b", "c"].map(str::to_owned).to_vec();
    SetFacts { group: "db".to_owned(), id: format!("db@{number}"), members }
}

/// How many shelves have a member of each set, by the night's number; only backups that pass `wanted` count.
fn sets_in(shelves: &[Vec<BackupFacts>; 3], wanted: impl Fn(&BackupFacts) -> bool) -> BTreeMap<u64, u32> {
    let mut members = BTreeMap::new();
    for one in shelves.iter().flatten().filter(|one| wanted(one)) {
        let Some(set) = &one.set else { continue };
        *members.entry(set.id.strip_prefix("db@").unwrap().parse().unwrap()).or_default() += 1;
    }
    members
}

#[test]
fn a_group_that_gets_another_name_each_night_keeps_one_set() {
    let named = |night: u64, name: &str, members: &[&str]| BackupFacts {
        set: Some(SetFacts {
            group: name.to_owned(),
            id: format!("{name}@{night}"),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
        }),
        ..backup(&format!("2026-08-{night:02}"))
    };
    // After twenty nights: what is there of two volumes, of which `last` are the members of the last sets.
    let left = |last: &[&str]| {
        let (mut a, mut b): (Vec<BackupFacts>, Vec<BackupFacts>) = (Vec::new(), Vec::new());
        for night in 1..=20 {
            let members = if night > 10 { last } else { &["a", "b"] };
            let new = named(night, &format!("web-{night}"), members);
            for (shelf, name) in [(&mut a, "a"), (&mut b, "b")] {
                shelf.push(if members.contains(&name) {
                    new.clone()
                } else {
                    BackupFacts { set: None, ..new.clone() }
                });
            }
            let of = |name: &str, shelf: &[BackupFacts]| {
                plan(name, shelf, &Policy::days(1), at(&format!("2026-08-{night:02}")), Occasion::Published(&new.id))
            };
            let mut plans = vec![of("a", &a), of("b", &b)];
            keep_sets(&mut plans, &[&a, &b], at(&format!("2026-08-{night:02}")));
            for (shelf, plan) in [&mut a, &mut b].into_iter().zip(&plans) {
                shelf.retain(|one| plan.removals().all(|gone| gone != one.id));
            }
        }
        [a, b].map(|shelf| shelf.iter().map(|one| one.id.clone()).collect::<Vec<_>>())
    };
    let renamed = left(&["a", "b"]);
    assert!(renamed.iter().all(|shelf| shelf.len() <= 2), "{renamed:?}");
    // A set that has fewer volumes does not take the place of one that has more.
    let smaller = left(&["a"]);
    assert!(smaller.iter().all(|shelf| shelf.iter().any(|id| id.contains("08-10"))), "{smaller:?}");
}

/// Three volumes over 120 nights: members fail, are partial, bad, protected, or backed up alone. After each night, no set
/// has lost a part of what it had, the newest whole set is there, and what no rule keeps goes.
#[test]
fn sets_stay_and_go_as_a_whole() {
    for seed in 1_u64..=150 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let policy = Policy {
            keep_weekly: u32::try_from(random(4)).unwrap(),
            ..Policy::days(1 + u32::try_from(random(9)).unwrap())
        };
        let mut shelves: [Vec<BackupFacts>; 3] = [Vec::new(), Vec::new(), Vec::new()];
        let first = day("2026-01-01");
        let mut removed_in_all = 0;
        for night in 0..120_u64 {
            let date = first + Duration::days(i64::try_from(night).unwrap());
            let now = at(&date.to_string());
            let with_set = random(10) != 0;
            let mut new = [None, None, None];
            for (shelf, new) in shelves.iter_mut().zip(&mut new) {
                if random(12) == 0 {
                    continue;
                }
                let one = BackupFacts {
                    whole: random(10) != 0,
                    protected: random(60) == 0,
                    set: with_set.then(|| set(night)),
                    ..backup(&date.to_string())
                };
                *new = Some(one.id.clone());
                shelf.push(one);
            }
            for shelf in &mut shelves {
                for one in shelf.iter_mut() {
                    if random(200) == 0 {
                        one.health = Health::Bad;
                    }
                }
            }
            let before = shelves.clone();
            let of = |shelf: &Vec<BackupFacts>, name: &str, new: &Option<String>| {
                let occasion = new.as_deref().map_or(Occasion::NothingNew, Occasion::Published);
                plan(name, shelf, &policy, now, occasion)
            };
            let names = ["a", "b", "c"];
            let mut plans: Vec<Plan> =
                names.iter().enumerate().map(|(at, name)| of(&shelves[at], name, &new[at])).collect();
            let alone = plans.clone();
            keep_sets(&mut plans, &[&before[0], &before[1], &before[2]], now);
            for (at, shelf) in shelves.iter_mut().enumerate() {
                let gone: Vec<&str> = plans[at].removals().collect();
                assert!(gone.iter().all(|id| alone[at].removals().any(|other| other == *id)), "seed {seed}");
                removed_in_all += gone.len();
                shelf.retain(|one| !gone.contains(&one.id.as_str()));
            }
            let there = sets_in(&before, |_| true);
            let left = sets_in(&shelves, |_| true);
            for (number, members) in &there {
                let members_left = left.get(number).unwrap_or(&0);
                assert!(
                    [0, *members].contains(members_left),
                    "seed {seed}, night {night}: a part of set {number} went"
                );
            }
            let good = sets_in(&before, |one| one.whole && one.health != Health::Bad);
            if let Some((newest, _)) = good.iter().rev().find(|(_, members)| **members == 3) {
                assert_eq!(left.get(newest), Some(&3), "seed {seed}, night {night}: set {newest} went");
            }
        }
        assert!(removed_in_all > 0, "seed {seed}: nothing was ever removed");
    }
}

proptest! {
    #[test]
    fn what_must_never_go(backups in any_backups(), policy in any_policy(), which in 0_u8..4) {
        let now = at("2026-11-20");
        let occasion = any_occasion(&backups, which);
        let plan = plan("v", &backups, &policy, now, occasion);
        prop_assert_eq!(plan.decisions.len(), backups.len());
        let gone: Vec<&str> = plan.removals().collect();
        let believed = || backups.iter().filter(|b| b.taken_at <= now.utc + Duration::hours(1));
        let newest = |good: fn(&&&BackupFacts) -> bool| {
            believed().filter(|b| good(&b)).max_by_key(|b| (b.taken_at, b.id.clone())).map(|b| b.id.as_str())
        };
        if let Some(id) = newest(|b| b.health != Health::Bad) {
            prop_assert!(!gone.contains(&id));
        }
        if let Some(id) = newest(|b| b.health == Health::Good) {
            prop_assert!(!gone.contains(&id));
        }
        if let Some(id) = newest(|b| b.health != Health::Bad && b.whole) {
            prop_assert!(!gone.contains(&id));
        }
        if let Some(id) = newest(|b| b.health == Health::Good && b.whole) {
            prop_assert!(!gone.contains(&id));
        }
        for backup in &backups {
            let age = now.local_date.signed_duration_since(backup.local_date).num_days();
            let must_stay = backup.protected || backup.pinned || backup.taken_at > now.utc + Duration::hours(1)
                || age <= i64::from(policy.retention_days) || occasion == Occasion::NothingNew;
            prop_assert!(!(must_stay && gone.contains(&backup.id.as_str())), "{:?}", backup);
        }
        for decision in &plan.decisions {
            prop_assert!(!decision.reasons.is_empty());
        }
        let good_left = believed().filter(|b| b.health != Health::Bad && !gone.contains(&b.id.as_str())).count();
        let good = believed().filter(|b| b.health != Health::Bad).count();
        if let Occasion::Published(_) = occasion {
            prop_assert!(good_left >= good.min(2));
        }
    }

    #[test]
    fn keeping_more_never_removes_more(backups in any_backups(), policy in any_policy(), which in 0_u8..4, knob in 0_u8..7) {
        let now = at("2026-11-20");
        let occasion = any_occasion(&backups, which);
        let mut more = policy;
        *match knob {
            0 => &mut more.retention_days,
            1 => &mut more.keep_last,
            2 => &mut more.keep_daily,
            3 => &mut more.keep_weekly,
            4 => &mut more.keep_monthly,
            5 => &mut more.keep_yearly,
            _ => &mut more.gone_days,
        } += 1;
        let gone = removed(&backups, &policy, now, occasion);
        for id in removed(&backups, &more, now, occasion) {
            prop_assert!(gone.contains(&id));
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(backups in any_backups(), policy in any_policy()) {
        let now = at("2026-11-20");
        let mut reversed = backups.clone();
        reversed.reverse();
        prop_assert_eq!(
            plan("v", &backups, &policy, now, Occasion::Forecast),
            plan("v", &reversed, &policy, now, Occasion::Forecast)
        );
    }

    #[test]
    fn what_stays_stays_when_planned_again(backups in any_backups(), policy in any_policy()) {
        let now = at("2026-11-20");
        let gone = removed(&backups, &policy, now, Occasion::Forecast);
        let left: Vec<BackupFacts> = backups.into_iter().filter(|b| !gone.contains(&b.id)).collect();
        prop_assert!(removed(&left, &policy, now, Occasion::Forecast).is_empty());
    }
}
