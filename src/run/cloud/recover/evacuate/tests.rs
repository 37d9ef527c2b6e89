//! The plan of an evacuation, and what stops it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::TimeDelta;

use super::plan::{EvacuationPlan, decide};
use crate::cloud::Instance;
use crate::run::cloud::recover::journal::{Earlier, Line};
use crate::run::cloud::recover::seen::{Asked, COMPUTE_BINARY, EVACUATE, Seen, SeenAction};
use crate::run::cloud::recover::tests::{instance, outage, pair, seen, service, volume};

const LOST: &str = "compute-1";

/// `compute-1` is down.
fn lost(instances: Vec<Instance>) -> Seen {
    let mut seen = seen(vec![volume("v", "in-use", vec![pair("a", Some(("x", "attached")), Some("x"))])], instances);
    for one in seen.services.iter_mut().filter(|one| one.host == LOST) {
        one.is_up = false;
    }
    seen
}

fn planned(seen: &Seen, asked: &Asked) -> EvacuationPlan {
    decide(seen, LOST, None, false, asked, &|lv| Some(format!("{lv}_28_11_2026")))
}

fn ids(plan: &EvacuationPlan) -> Vec<&str> {
    plan.instances.iter().map(|one| one.id.as_str()).collect()
}

#[test]
fn what_is_on_the_lost_host_and_has_no_disk_there_is_evacuated() {
    let elsewhere = Instance { host: Some("compute-2".to_owned()), ..instance("other", "ACTIVE", 1) };
    let nowhere = Instance { host: None, ..instance("nowhere", "SHELVED_OFFLOADED", 4) };
    let seen = lost(vec![
        instance("c", "ERROR", 0),
        elsewhere,
        nowhere,
        instance("b", "SHUTOFF", 4),
        Instance { local_disks: vec!["root".to_owned(), "swap".to_owned()], ..instance("a", "ACTIVE", 1) },
        Instance { task_state: Some("rebooting_hard".to_owned()), ..instance("busy", "HARD_REBOOT", 1) },
        instance("paused", "PAUSED", 3),
    ]);
    let plan = planned(&seen, &Asked::new());
    assert!(plan.stops.is_empty() && plan.force_down, "{plan:?}");
    assert_eq!(ids(&plan), ["b", "c"]);
    let kept: BTreeMap<&str, &str> = plan.kept.iter().map(|one| (one.instance.id.as_str(), one.why.as_str())).collect();
    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), ["a", "busy", "paused"]);
    assert!(kept["a"].contains("its root and swap disk lies on the lost host"), "{kept:?}");
    assert!(kept["busy"].contains("rebooting_hard") && kept["paused"].contains("PAUSED"), "{kept:?}");
    // With the backup from which its volume comes back.
    assert_eq!(plan.kept[0].volumes[0].backup.as_deref(), Some("volume-v_28_11_2026"));
    let shared = decide(&seen, LOST, None, true, &Asked::new(), &|_| None);
    assert_eq!(ids(&shared), ["a", "b", "c"]);
}

#[test]
fn nothing_is_evacuated_from_a_host_that_is_up_or_to_one_that_is_not() {
    let stops = |change: &dyn Fn(&mut Seen), host: &str, to: Option<&str>| {
        let mut seen = lost(vec![instance("b", "ACTIVE", 1)]);
        change(&mut seen);
        decide(&seen, host, to, false, &Asked::new(), &|_| None).stops.join("; ")
    };
    assert_eq!(stops(&|_| {}, LOST, Some("compute-2")), "");
    let all_up = |seen: &mut Seen| seen.services.iter_mut().for_each(|one| one.is_up = true);
    assert!(stops(&all_up, LOST, None).contains("is up: its instances may run"));
    assert!(stops(&|_| {}, "compute-9", None).contains("it has: compute-1, compute-2"));
    // The lost host is no place to go to, nor is one that Nova does not have, or that is disabled.
    for to in [LOST, "compute-9"] {
        assert!(stops(&|_| {}, LOST, Some(to)).contains("cannot take instances"), "{to}");
    }
    let disabled = |seen: &mut Seen| {
        seen.services.iter_mut().filter(|one| one.host == "compute-2").for_each(|one| one.is_enabled = false);
    };
    assert!(stops(&disabled, LOST, None).contains("no other compute host is up and enabled"));
    assert!(stops(&disabled, LOST, Some("compute-2")).contains("cannot take instances"));
    // Neither does Nova evacuate while its conductor is down.
    let conductor = |seen: &mut Seen| {
        seen.services.push(service("Nova", "nova-conductor", "controller"));
        seen.services.last_mut().unwrap().is_up = false;
    };
    assert!(stops(&conductor, LOST, None).contains("nova-conductor on controller is not up"));
}

#[test]
fn an_instance_that_was_asked_for_is_waited_for_and_not_asked_for_again() {
    let known = BTreeSet::from(["req-1".to_owned()]);
    let asked = Asked::from([("b".to_owned(), (known, outage()))]);
    let action = |request: &str| SeenAction { action: EVACUATE.to_owned(), request: request.to_owned(), began: None };
    let with = |status: &str, requests: &[&str]| {
        let mut seen = lost(vec![instance("b", status, 0)]);
        seen.actions.insert("b".to_owned(), requests.iter().map(|request| action(request)).collect());
        planned(&seen, &asked)
    };
    assert_eq!(ids(&with("REBUILD", &["req-2", "req-1"])), ["b"], "Nova is at it");
    for status in ["ERROR", "ACTIVE", "SHUTOFF"] {
        let given_up = with(status, &["req-2", "req-1"]);
        assert!(ids(&given_up).is_empty() && given_up.kept[0].why.contains("gave it up"), "{given_up:?}");
    }
    // What the journal announced, and Nova does not have.
    assert_eq!(ids(&with("ERROR", &["req-1"])), ["b"]);
    // The service is forced down once.
    let mut seen = lost(Vec::new());
    seen.services.iter_mut().filter(|one| one.binary == COMPUTE_BINARY).for_each(|one| one.is_forced_down = true);
    assert!(!planned(&seen, &asked).force_down);
}

#[test]
fn an_instance_that_came_back_to_a_host_that_is_lost_again_is_asked_for_again() {
    let asked_for =
        |instance: &str| Line::Evacuate { instance: instance.to_owned(), at: outage(), known: BTreeSet::new() };
    let lines = vec![asked_for("a"), asked_for("b"), Line::Evacuated { instance: "a".to_owned(), at: outage() }];
    let mut earlier = Earlier::default();
    earlier.lines = lines;
    assert_eq!(super::asked(&earlier).keys().collect::<Vec<_>>(), ["b"]);
    // A journal that nobody wrote to for long may be of another loss.
    let hours = |hours| super::too_old(&earlier, Path::new("/journal"), outage() + TimeDelta::hours(hours));
    assert!(hours(23).is_none() && hours(25).unwrap().contains("--journal"));
}
