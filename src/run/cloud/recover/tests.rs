//! The planner: each row of the documented table, and thousands of states that no table has.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::decide::decide;
use super::error::RecoverError;
use super::journal::{self, Header, Journal, Line};
use super::plan::{Action, Plan};
use super::seen::{COMPUTE_BINARY, Past, REBOOT, Restarted, Seen, SeenAction, SeenService, Wish};
use crate::cloud::{Attached, CinderSide, CloudMap, CloudVolume, FORMAT, Instance, NovaSide};

pub(super) fn outage() -> DateTime<Utc> {
    "2026-11-28T22:00:00Z".parse().unwrap()
}

pub(super) fn pair(instance: &str, cinder: Option<(&str, &str)>, nova: Option<&str>) -> Attached {
    Attached {
        instance: Some(instance.to_owned()),
        cinder: cinder.map(|(id, status)| CinderSide {
            attachment: Some(id.to_owned()),
            status: Some(status.to_owned()),
            ..CinderSide::default()
        }),
        nova: nova.map(|id| NovaSide {
            attachment: Some(id.to_owned()),
            device: Some("/dev/vdb".to_owned()),
            ..NovaSide::default()
        }),
        ..Attached::default()
    }
}

pub(super) fn volume(id: &str, status: &str, attachments: Vec<Attached>) -> CloudVolume {
    let lv = format!("volume-{id}");
    CloudVolume { id: id.to_owned(), lv, status: status.to_owned(), attachments, ..CloudVolume::default() }
}

pub(super) fn instance(id: &str, status: &str, power: i64) -> Instance {
    Instance {
        id: id.to_owned(),
        status: status.to_owned(),
        host: Some("compute-1".to_owned()),
        power_state: Some(power),
        root_device: Some("/dev/vda".to_owned()),
        ..Instance::default()
    }
}

pub(super) fn service(of: &'static str, binary: &str, host: &str) -> SeenService {
    SeenService {
        of,
        binary: binary.to_owned(),
        host: host.to_owned(),
        id: None,
        is_up: true,
        is_enabled: true,
        is_forced_down: false,
    }
}

pub(super) fn seen(volumes: Vec<CloudVolume>, instances: Vec<Instance>) -> Seen {
    let map = CloudMap {
        format: FORMAT,
        taken_at: outage(),
        cloud: "test".to_owned(),
        region: None,
        knows_attachment_ids: true,
        volumes,
        instances,
        doubts: Vec::new(),
    };
    let services = vec![
        service("Cinder", "cinder-volume", "storage-1@lvm"),
        service("Nova", COMPUTE_BINARY, "compute-1"),
        service("Nova", COMPUTE_BINARY, "compute-2"),
    ];
    Seen { map, services, actions: BTreeMap::new() }
}

fn planned(seen: &Seen, saved: Option<&CloudMap>, past: &Past, from_map: bool) -> Plan {
    decide(seen, &Wish { instance: None, outage: Some(outage()), saved, from_map, past, inside: false })
}

/// The steps in short, without the restarts.
fn short(plan: &Plan) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::KeepAttached { volume } => format!("keep {}", volume.id),
        Action::DeleteAttachment { volume, attachment, .. } => format!("delete {} {attachment}", volume.id),
        Action::Release { volume, .. } => format!("release {}", volume.id),
        Action::FreeWedge { volume, .. } => format!("free {}", volume.id),
        Action::Attach { volume, instance, .. } => format!("attach {} {}", volume.id, instance.id),
        Action::Restart { .. } => String::new(),
        Action::RebootInside { instance, .. } => format!("inside {}", instance.id),
    };
    plan.steps.iter().map(|step| name(&step.action)).filter(|name| !name.is_empty()).collect()
}

#[test]
fn each_row_of_the_table_is_done_as_documented() {
    let rows = [
        ("in-use", vec![pair("s", Some(("a", "attached")), Some("a"))], vec![], 0),
        ("detaching", vec![pair("s", Some(("a", "attached")), Some("a"))], vec!["keep v"], 0),
        ("available", vec![pair("s", Some(("a", "attached")), Some("a"))], vec!["keep v"], 0),
        ("reserved", vec![pair("s", Some(("a", "reserved")), None)], vec!["delete v a"], 0),
        ("in-use", vec![pair("s", Some(("a", "attached")), None)], vec!["delete v a"], 0),
        ("in-use", vec![pair("gone", Some(("a", "attached")), None)], vec!["delete v a"], 0),
        ("attaching", vec![pair("s", Some(("a", "attaching")), Some("a"))], vec!["release v"], 0),
        ("reserved", vec![pair("s", Some(("a", "reserved")), Some("a"))], vec!["release v"], 0),
        ("available", vec![pair("s", None, Some("a"))], vec!["free v", "attach v s"], 0),
        // Not in the table: named, and not done.
        ("in-use", vec![pair("s", None, Some("a"))], vec![], 1),
        ("in-use", vec![pair("s", Some(("a", "attached")), Some("b"))], vec![], 1),
        ("in-use", vec![pair("s", Some(("a", "attached")), None), pair("t", None, Some("b"))], vec![], 1),
        ("detaching", vec![], vec![], 1),
        ("in-use", vec![], vec![], 1),
        ("error", vec![pair("s", Some(("a", "attached")), Some("a"))], vec![], 1),
    ];
    for (status, attachments, steps, unclear) in rows {
        let case = format!("{status} {attachments:?}");
        let seen = seen(
            vec![volume("v", status, attachments)],
            vec![instance("s", "SHUTOFF", 4), instance("t", "SHUTOFF", 4)],
        );
        let plan = planned(&seen, None, &Past::default(), false);
        assert_eq!(short(&plan), steps, "{case}");
        let of_volumes = plan.unclear.iter().filter(|finding| finding.volume.is_some()).count();
        assert_eq!(of_volumes, unclear, "{case}: {:?}", plan.unclear);
        assert!(plan.stops.is_empty(), "{case}: {:?}", plan.stops);
        assert_eq!(Plan::from_bytes(&plan.to_bytes()).unwrap(), plan);
    }
}

/// What an instance that is on no host has reserved is as it should be; what is being made is not stale.
#[test]
fn attachments_that_are_reserved_for_good_or_in_the_making_are_not_released() {
    let reserved = || vec![volume("v", "reserved", vec![pair("s", Some(("a", "reserved")), Some("a"))])];
    for status in ["SHELVED_OFFLOADED", "SOFT_DELETED"] {
        let mut saved = seen(reserved(), vec![instance("s", "ACTIVE", 1)]).map;
        saved.volumes[0].attachments[0].cinder.as_mut().unwrap().status = Some("attached".to_owned());
        for from_map in [false, true] {
            let plan =
                planned(&seen(reserved(), vec![instance("s", status, 4)]), Some(&saved), &Past::default(), from_map);
            assert_eq!((short(&plan), &plan.volumes_right), (vec![], &vec!["v".to_owned()]), "{status}: {plan:?}");
            assert!(plan.unclear.iter().all(|finding| finding.volume.is_none()), "{status}: {plan:?}");
            // It lost the volume: nothing can be attached to it in the way of this recovery.
            let lost = seen(vec![volume("v", "available", vec![])], vec![instance("s", status, 4)]);
            let plan = planned(&lost, Some(&saved), &Past::default(), from_map);
            assert_eq!(short(&plan), Vec::<String>::new(), "{status}: {plan:?}");
        }
        let wedge =
            seen(vec![volume("v", "available", vec![pair("s", None, Some("a"))])], vec![instance("s", status, 4)]);
        let plan = planned(&wedge, None, &Past::default(), false);
        assert_eq!(short(&plan), Vec::<String>::new(), "{status}: {plan:?}");
    }
    let mut attaching = seen(reserved(), vec![instance("s", "ACTIVE", 1)]);
    attaching.map.taken_at += chrono::TimeDelta::hours(2);
    let began = Some(attaching.map.taken_at - chrono::TimeDelta::minutes(2));
    let action = SeenAction { action: "attach_volume".to_owned(), request: "r".to_owned(), began };
    attaching.actions.insert("s".to_owned(), vec![action]);
    let mut working = instance("s", "ACTIVE", 1);
    working.task_state = Some("unshelving".to_owned());
    for busy in [attaching.clone(), seen(reserved(), vec![instance("s", "BUILD", 0)]), seen(reserved(), vec![working])]
    {
        let plan = planned(&busy, None, &Past::default(), false);
        assert!(plan.steps.is_empty() && plan.unclear.iter().any(|one| one.what.contains("Nova is busy")), "{plan:?}");
    }
    // Long ago, or asked for by this recovery: stale.
    attaching.map.taken_at += chrono::TimeDelta::hours(1);
    assert_eq!(short(&planned(&attaching, None, &Past::default(), false)), ["release v"]);
    let mut past = Past::default();
    past.wanted.insert(("v".to_owned(), "s".to_owned()), None);
    attaching.map.taken_at -= chrono::TimeDelta::hours(1);
    assert_eq!(short(&planned(&attaching, None, &past, false)), ["release v", "attach v s"]);
    // Begun before the outage, with which it ended.
    attaching.map.taken_at = outage() + chrono::TimeDelta::minutes(2);
    attaching.actions.get_mut("s").unwrap()[0].began = Some(outage() - chrono::TimeDelta::minutes(1));
    assert_eq!(short(&planned(&attaching, None, &Past::default(), false)), ["release v"]);
}

#[test]
fn what_is_attached_to_an_instance_of_a_cell_that_is_down_is_not_touched() {
    let volumes = vec![volume("v", "in-use", vec![pair("s", Some(("a", "attached")), None)])];
    let plan = planned(&seen(volumes, vec![instance("s", "UNKNOWN", 0)]), None, &Past::default(), true);
    assert_eq!(short(&plan), Vec::<String>::new());
    assert!(plan.steps.is_empty() && plan.unclear.iter().any(|finding| finding.what.contains("try again")), "{plan:?}");
}

#[test]
fn the_wedge_on_a_root_volume_is_named_with_its_commands_and_not_touched() {
    let mut wedge = pair("s", None, Some("a"));
    wedge.nova.as_mut().unwrap().device = Some("/dev/vda".to_owned());
    let plan = planned(
        &seen(vec![volume("v", "available", vec![wedge])], vec![instance("s", "ACTIVE", 1)]),
        None,
        &Past::default(),
        false,
    );
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    let text = plan.text();
    assert!(text.contains("nova-manage volume_attachment refresh s v CONNECTOR.json"), "{text}");
    assert!(text.contains("it is restarted when its volumes are settled"), "{text}");
    // The same of an attachment that was never completed: Nova would refuse to detach it.
    let mut half = pair("s", Some(("a", "reserved")), Some("a"));
    half.nova.as_mut().unwrap().device = Some("/dev/vda".to_owned());
    let state = seen(vec![volume("v", "reserved", vec![half])], vec![instance("s", "ACTIVE", 1)]);
    let plan = planned(&state, None, &Past::default(), false);
    assert!(plan.steps.is_empty() && plan.text().contains("nova-manage volume_attachment refresh s v"), "{plan:?}");
    // Without the device of the root, a bootable volume is taken for one.
    let mut unknown = instance("s", "ACTIVE", 1);
    unknown.root_device = None;
    let mut bootable = volume("v", "available", vec![pair("s", None, Some("a"))]);
    bootable.bootable = true;
    let plan = planned(&seen(vec![bootable], vec![unknown]), None, &Past::default(), false);
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
}

#[test]
fn a_service_that_is_down_stops_everything_unless_nothing_needs_it() {
    let mut state = seen(vec![], vec![instance("s", "ACTIVE", 1)]);
    state.services[1].is_up = false;
    let plan = planned(&state, None, &Past::default(), false);
    assert!(plan.stops.iter().any(|stop| stop.contains("nova-compute on compute-1 is not up")), "{:?}", plan.stops);
    state.services[1].is_up = true;
    state.services[2].is_up = false;
    assert_eq!(planned(&state, None, &Past::default(), false).stops.len(), 1);
    // Taken out of use, and without instances.
    state.services[2].is_forced_down = true;
    assert!(planned(&state, None, &Past::default(), false).stops.is_empty());
    state.services.clear();
    assert_eq!(planned(&state, None, &Past::default(), false).stops.len(), 2);
}

#[test]
fn each_instance_that_ran_is_restarted_once() {
    let action = |request: &str, at: &str| SeenAction {
        action: REBOOT.to_owned(),
        request: request.to_owned(),
        began: Some(at.parse().unwrap()),
    };
    let restarts = |seen: &Seen, past: &Past| {
        let plan = planned(seen, None, past, false);
        (plan.steps.len(), plan.unclear.len())
    };
    let mut state = seen(vec![], vec![instance("s", "ACTIVE", 0)]);
    assert_eq!(restarts(&state, &Past::default()), (1, 0));
    state.actions.insert("s".to_owned(), vec![action("r1", "2026-11-28T21:59:59Z")]);
    assert_eq!(restarts(&state, &Past::default()), (1, 0));
    state.actions.insert("s".to_owned(), vec![action("r2", "2026-11-28T22:00:00Z")]);
    // After the outage, and it does not run: a second reboot would be a guess.
    assert_eq!(restarts(&state, &Past::default()), (0, 1));
    state.map.instances[0].power_state = Some(1);
    assert_eq!(restarts(&state, &Past::default()), (0, 0));
    // The journal, without regard to clocks: the reboot that it asked for is one that was not there before.
    let mut past = Past::default();
    let known = BTreeSet::from(["r1".to_owned()]);
    past.restarts.insert("s".to_owned(), Restarted { known, is_done: false, at: None });
    state.actions.insert("s".to_owned(), vec![action("r1", "2026-11-28T21:00:00Z")]);
    assert_eq!(restarts(&state, &past), (1, 0));
    state
        .actions
        .insert("s".to_owned(), vec![action("r9", "2026-11-28T21:00:00Z"), action("r1", "2026-11-28T21:00:00Z")]);
    assert_eq!(restarts(&state, &past), (0, 0));
    for (status, steps) in [("SHUTOFF", 0), ("PAUSED", 0), ("SHELVED_OFFLOADED", 0), ("BUILD", 0)] {
        let state = seen(vec![], vec![instance("s", status, 4)]);
        assert_eq!(restarts(&state, &Past::default()).0, steps, "{status}");
    }
    // It ran by the saved map.
    let saved = seen(vec![], vec![instance("s", "ACTIVE", 1)]).map;
    for status in ["SHUTOFF", "ERROR", "ACTIVE"] {
        let plan = planned(&seen(vec![], vec![instance("s", status, 4)]), Some(&saved), &Past::default(), false);
        assert_eq!(plan.steps.len(), 1, "{status}");
    }
}

#[test]
fn what_was_switched_off_before_the_outage_stays_off_and_what_was_switched_on_is_restarted() {
    let saved = |status: &str| {
        let mut map = seen(vec![], vec![instance("s", status, 1)]).map;
        map.taken_at = "2026-11-28T02:00:00Z".parse().unwrap();
        map
    };
    let restarts = |before: Option<&str>, now: &str, actions: &[(&str, &str)]| {
        let mut state = seen(vec![], vec![instance("s", now, 4)]);
        let action = |(action, at): &(&str, &str)| SeenAction {
            action: (*action).to_owned(),
            request: format!("{action} {at}"),
            began: Some(format!("2026-11-28T{at}:00Z").parse().unwrap()),
        };
        state.actions.insert("s".to_owned(), actions.iter().map(action).collect());
        let plan = planned(&state, before.map(saved).as_ref(), &Past::default(), false);
        assert!(plan.unclear.is_empty(), "{plan:?}");
        plan.steps.len()
    };
    // Its owner stopped it after the map was saved.
    assert_eq!(restarts(Some("ACTIVE"), "SHUTOFF", &[("stop", "10:00")]), 0);
    assert_eq!(restarts(Some("ACTIVE"), "PAUSED", &[("pause", "10:00")]), 0);
    assert_eq!(restarts(Some("ACTIVE"), "SHUTOFF", &[("start", "11:00"), ("stop", "10:00")]), 1);
    // Before the map, which knows better, or after the outage, as for the wedge on a root volume.
    assert_eq!(restarts(Some("ACTIVE"), "SHUTOFF", &[("stop", "01:00")]), 1);
    assert_eq!(restarts(Some("ACTIVE"), "SHUTOFF", &[("stop", "23:00")]), 1);
    // It was off in the map, or is not in it, and Nova found it off after the outage.
    assert_eq!(restarts(Some("SHUTOFF"), "SHUTOFF", &[("start", "10:00")]), 1);
    assert_eq!(restarts(None, "SHUTOFF", &[("create", "10:00")]), 1);
    assert_eq!(restarts(None, "SHUTOFF", &[("stop", "11:00"), ("create", "10:00")]), 0);
    // It was started after the outage, or evacuated from a host that was lost.
    for action in ["start", "evacuate"] {
        let mut state = seen(vec![], vec![instance("s", "ACTIVE", 1)]);
        let started = SeenAction { action: action.to_owned(), request: "r".to_owned(), began: Some(outage()) };
        state.actions.insert("s".to_owned(), vec![started]);
        let plan = planned(&state, Some(&saved("ACTIVE")), &Past::default(), false);
        assert!(plan.steps.is_empty() && plan.notes.len() == 1, "{action}: {plan:?}");
    }
}

#[test]
fn the_saved_map_says_where_a_lost_volume_belongs() {
    let both = || vec![pair("s", Some(("a", "attached")), Some("a"))];
    let saved = seen(vec![volume("v", "in-use", both())], vec![instance("s", "SHUTOFF", 4)]).map;
    let mut state =
        seen(vec![volume("v", "available", vec![])], vec![instance("s", "SHUTOFF", 4), instance("t", "SHUTOFF", 4)]);
    assert_eq!(short(&planned(&state, Some(&saved), &Past::default(), false)), ["attach v s"]);
    // Detached through the API since: it stays so, unless the map is to decide.
    let detached = SeenAction { action: "detach_volume".to_owned(), request: "r".to_owned(), began: Some(outage()) };
    state.actions.insert("s".to_owned(), vec![detached]);
    let plan = planned(&state, Some(&saved), &Past::default(), false);
    assert!(plan.steps.is_empty() && plan.notes.len() == 1, "{plan:?}");
    assert_eq!(short(&planned(&state, Some(&saved), &Past::default(), true)), ["attach v s"]);
    // An earlier call of this recovery detached it.
    let wanted = BTreeMap::from([(("v".to_owned(), "s".to_owned()), None)]);
    let past = Past { wanted, ..Past::default() };
    assert_eq!(short(&planned(&state, None, &past, false)), ["attach v s"]);
    // Elsewhere by now.
    state.map.volumes = vec![volume("v", "in-use", vec![pair("t", Some(("b", "attached")), Some("b"))])];
    for (from_map, unclear) in [(false, 0), (true, 1)] {
        let plan = planned(&state, Some(&saved), &Past::default(), from_map);
        assert!(plan.steps.is_empty() && plan.unclear.len() == unclear, "{plan:?}");
    }
    // Gone.
    state.map.volumes.clear();
    let plan = planned(&state, Some(&saved), &Past::default(), true);
    assert!(plan.text().contains("volbak list volume-v"), "{}", plan.text());
}

#[test]
fn a_wedge_that_an_earlier_call_began_to_free_is_gone_on_with() {
    let past = Past { freeing: BTreeSet::from([("v".to_owned(), "s".to_owned())]), ..Past::default() };
    let state =
        |status: &str, one: Attached| seen(vec![volume("v", status, vec![one])], vec![instance("s", "SHUTOFF", 4)]);
    for (status, cinder) in [("attaching", "attaching"), ("in-use", "attached"), ("detaching", "attached")] {
        let state = state(status, pair("s", Some(("new", cinder)), Some("old")));
        assert_eq!(short(&planned(&state, None, &past, false)), ["free v", "attach v s"], "{status}");
        assert!(planned(&state, None, &Past::default(), false).steps.is_empty());
    }
    let mut wanted = past.clone();
    wanted.wanted.insert(("v".to_owned(), "s".to_owned()), None);
    let state = state("detaching", pair("s", Some(("new", "attached")), None));
    assert_eq!(short(&planned(&state, None, &wanted, false)), ["delete v new", "attach v s"]);
}

/// A small generator of its own: the same states each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

const INSTANCES: [&str; 4] = ["s0", "s1", "s2", "s3"];

fn any_state(dice: &mut Dice) -> Seen {
    let volumes = (0..dice.roll(6))
        .map(|n| {
            let statuses = ["available", "in-use", "detaching", "attaching", "reserved", "error", "maintenance"];
            let mut left = INSTANCES.to_vec();
            let attachments = (0..[0, 1, 1, 1, 2][usize::try_from(dice.roll(5)).unwrap()])
                .map(|m| {
                    let at = usize::try_from(dice.roll(left.len() as u64)).unwrap();
                    let of = left.remove(at);
                    let status = dice.one(&["attached", "attached", "attached", "reserved", "attaching", "detaching"]);
                    let (own, other) = (format!("a{n}{m}"), format!("b{n}{m}"));
                    let nova = [None, Some(own.as_str()), Some(own.as_str()), Some(other.as_str())]
                        [usize::try_from(dice.roll(4)).unwrap()];
                    let cinder = (nova.is_none() || dice.roll(4) > 0).then_some((own.as_str(), status));
                    let mut one = pair(of, cinder, nova);
                    if dice.roll(8) == 0
                        && let Some(nova) = &mut one.nova
                    {
                        nova.device = Some("/dev/vda".to_owned());
                    }
                    if dice.roll(20) == 0 && one.nova.is_none() {
                        one.instance = None;
                    }
                    one
                })
                .collect();
            let mut volume = volume(&format!("v{n}"), dice.one(&statuses), attachments);
            volume.multiattach = volume.attachments.len() > 1;
            volume
        })
        .collect();
    let instances = INSTANCES
        .iter()
        .filter_map(|id| {
            if dice.roll(8) == 0 {
                return None;
            }
            let mut one = instance(id, dice.one(&["ACTIVE", "ACTIVE", "SHUTOFF", "ERROR", "PAUSED", "BUILD"]), 0);
            one.power_state = [Some(0), Some(1), Some(4), None][usize::try_from(dice.roll(4)).unwrap()];
            one.task_state = (dice.roll(6) == 0).then(|| "rebooting_hard".to_owned());
            Some(one)
        })
        .collect();
    let mut state = seen(volumes, instances);
    for id in INSTANCES {
        for n in 0..dice.roll(3) {
            let at = outage() + chrono::TimeDelta::hours(1 - i64::try_from(dice.roll(3)).unwrap());
            let action = dice.one(&[REBOOT, "detach_volume", "attach_volume"]).to_owned();
            let request = format!("{id}-{n}");
            state.actions.entry(id.to_owned()).or_default().push(SeenAction { action, request, began: Some(at) });
        }
    }
    state
}

/// What the cloud does with a step that it accepts.
fn carry_out(state: &mut Seen, action: &Action) {
    if let Action::Restart { instance } = action {
        let one = state.map.instances.iter_mut().find(|one| one.id == instance.id).unwrap();
        (one.status, one.power_state, one.task_state) = ("ACTIVE".to_owned(), Some(1), None);
        let began = Some(outage() + chrono::TimeDelta::hours(2));
        let made = SeenAction { action: REBOOT.to_owned(), request: "made".to_owned(), began };
        state.actions.entry(instance.id.clone()).or_default().push(made);
        return;
    }
    let volume =
        state.map.volumes.iter_mut().find(|one| Some(&one.id) == action.volume().map(|volume| &volume.id)).unwrap();
    match action {
        Action::KeepAttached { .. } => {
            assert!(volume.attachments.iter().all(|one| one.cinder.is_some() && one.nova.is_some()), "{volume:?}");
            volume.status = "in-use".to_owned();
        }
        Action::DeleteAttachment { attachment, .. } => {
            // Whatever Nova maps of this volume, it maps with an attachment of Cinder: no wedge comes of it.
            assert!(volume.attachments.iter().all(|one| one.nova.is_none() || one.cinder.is_some()), "{volume:?}");
            let at = volume
                .attachments
                .iter()
                .position(|one| one.cinder.as_ref().and_then(|cinder| cinder.attachment.as_ref()) == Some(attachment));
            let gone = volume.attachments.remove(at.unwrap());
            assert!(gone.nova.is_none(), "{gone:?}");
        }
        Action::Release { instance, .. } | Action::FreeWedge { instance, .. } => {
            volume.attachments.retain(|one| one.instance.as_ref() != Some(&instance.id));
        }
        Action::Attach { instance, .. } => {
            assert!(volume.attachments.iter().all(|one| one.instance.as_ref() != Some(&instance.id)), "{volume:?}");
            assert!(volume.attachments.is_empty() || volume.multiattach, "{volume:?}");
            assert!(["available", "in-use"].contains(&volume.status.as_str()), "{volume:?}");
            volume.attachments.push(pair(&instance.id, Some(("n", "attached")), Some("n")));
        }
        Action::Restart { .. } | Action::RebootInside { .. } => {}
    }
    let whole = volume.attachments.iter().filter(|one| one.cinder.is_some()).count();
    let half = |one: &Attached| {
        one.cinder
            .as_ref()
            .is_some_and(|cinder| ["reserved", "attaching"].map(Some).contains(&cinder.status.as_deref()))
    };
    if !volume.attachments.iter().any(half) {
        volume.status = if whole > 0 { "in-use" } else { "available" }.to_owned();
    }
}

#[test]
fn of_thousands_of_states_no_step_is_dangerous_and_a_second_plan_is_empty() {
    let mut steps = 0;
    for seed in 1..=6_000_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut state = any_state(&mut dice);
        let saved = (dice.roll(2) == 0).then(|| any_state(&mut dice).map);
        let from_map = saved.is_some() && dice.roll(2) == 0;
        let plan = planned(&state, saved.as_ref(), &Past::default(), from_map);
        // The order in which the cloud lists things changes nothing.
        let mut shuffled = state.clone();
        shuffled.map.volumes.reverse();
        shuffled.map.instances.reverse();
        let mut other = planned(&shuffled, saved.as_ref(), &Past::default(), from_map);
        other.instances_right.sort();
        let mut sorted = plan.clone();
        sorted.instances_right.sort();
        assert_eq!(sorted, other, "seed {seed}");
        let restarted: Vec<_> =
            plan.steps.iter().filter(|step| matches!(step.action, Action::Restart { .. })).collect();
        for step in &restarted {
            let id = &step.action.instance().unwrap().id;
            let since = state.actions_of(id).iter().any(|one| one.action == REBOOT && one.began >= Some(outage()));
            assert!(!since, "seed {seed}: {id} was rebooted since");
        }
        assert_eq!(restarted.iter().map(|step| &step.action).collect::<BTreeSet<_>>().len(), restarted.len());
        for step in &plan.steps {
            steps += 1;
            carry_out(&mut state, &step.action);
        }
        let again = planned(&state, saved.as_ref(), &Past::default(), from_map);
        // What was held back until its volumes are settled may follow; what was done is never done again.
        for step in &again.steps {
            assert!(
                !plan.steps.iter().any(|done| done.action == step.action),
                "seed {seed}: again {:?}\nfirst {:#?}",
                step,
                plan.steps
            );
        }
    }
    assert!(steps > 6_000, "{steps}");
}

#[test]
fn a_call_that_left_findings_was_not_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let header = Header::new("recovery".to_owned(), "cloud".to_owned(), outage());
    let is_cut_off = || journal::read(&path, &header).unwrap().is_cut_off();
    assert!(!is_cut_off(), "there was no call");
    let mut journal = Journal::open(&path, &header).unwrap();
    assert!(is_cut_off());
    journal.note_end(&RecoverError::Cancelled, outage());
    assert!(is_cut_off(), "by a signal");
    journal.note_end(&RecoverError::NoCloud, outage());
    assert!(!is_cut_off() && !journal.earlier().is_complete());
    journal.write(Line::Evacuated { instance: "web".to_owned(), at: outage() }).unwrap();
    assert!(is_cut_off());
    journal.write(Line::Complete { at: outage() }).unwrap();
    assert!(!is_cut_off() && journal.earlier().is_complete());
}
