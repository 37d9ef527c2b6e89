//! Plans the restarts: each instance that ran before the outage is restarted once.

use chrono::{DateTime, Utc};

use super::draft::Draft;
use super::plan::{Action, Finding, Step};
use super::seen::{EVACUATE, REBOOT, START, named_instance, task};
use crate::cloud::Instance;

/// Nova's power state of a running instance.
const RUNNING: i64 = 1;
/// Nova's names of the actions after which an instance runs.
const SWITCHED_ON: [&str; 5] = ["create", START, REBOOT, "resume", "unpause"];
/// Nova's names of the actions after which it does not run, each with the status that it then has.
const SWITCHED_OFF: [(&str, &str); 3] = [("stop", "SHUTOFF"), ("pause", "PAUSED"), ("suspend", "SUSPENDED")];

/// Plans the restarts.
pub(super) fn restarts(draft: &mut Draft<'_>) {
    let (seen, only) = (draft.seen, draft.wish.instance);
    for instance in seen.map.instances.iter().filter(|instance| only.is_none_or(|only| only == instance.id)) {
        let name = named_instance(instance);
        match verdict(draft, instance) {
            Verdict::Restart(why) => draft.steps.push(Step { action: Action::Restart { instance: name }, why }),
            Verdict::Right(None) => draft.instances_right.push(instance.id.clone()),
            Verdict::Right(Some(what)) => {
                draft.instances_right.push(instance.id.clone());
                draft.notes.push(Finding { volume: None, instance: Some(name), what });
            }
            Verdict::Unclear(what) => draft.unclear.push(Finding { volume: None, instance: Some(name), what }),
        }
    }
    missing(draft);
}

enum Verdict {
    Restart(String),
    /// With a remark.
    Right(Option<String>),
    Unclear(String),
}

fn verdict(draft: &Draft<'_>, instance: &Instance) -> Verdict {
    if instance.status == "SOFT_DELETED" {
        return Verdict::Right(Some("it was deleted, and Nova keeps it for a while: it is not restarted".to_owned()));
    }
    let wish = draft.wish;
    let actions = draft.seen.actions_of(&instance.id);
    if wish.past.restarts.get(&instance.id).is_some_and(|restart| restart.was_seen(actions)) {
        return match (instance.status.as_str(), task(instance)) {
            ("ERROR", _) => {
                Verdict::Unclear("it was restarted, and its status is ERROR: `openstack server show`".to_owned())
            }
            (_, Some(_)) => Verdict::Right(Some("its restart is under way".to_owned())),
            _ => Verdict::Right(None),
        };
    }
    let before = wish.saved.and_then(|map| map.instances.iter().find(|one| one.id == instance.id));
    let status = before.map_or(instance.status.as_str(), |before| before.status.as_str());
    let ran = matches!(status, "ACTIVE" | "REBOOT" | "HARD_REBOOT" | "PASSWORD");
    let switched = switched(draft, instance, before.is_some());
    if let Some((at, action)) = switched
        && SWITCHED_OFF.contains(&(action, instance.status.as_str()))
    {
        let at = at.format("%Y-%m-%d %H:%M:%S");
        let what = format!("the action {action} at {at} UTC, before the outage, switched it off: it is not restarted");
        return Verdict::Right(ran.then_some(what));
    }
    let was_off = SWITCHED_OFF.iter().any(|(_, off)| *off == status);
    let was_switched_on = was_off && switched.is_some_and(|(_, action)| SWITCHED_ON.contains(&action));
    if !ran && !was_switched_on {
        let what = if status == "SHUTOFF" {
            return Verdict::Right(None);
        } else if before.is_some() {
            format!("it was {status} before: it is not restarted")
        } else if status == "ERROR" {
            return Verdict::Unclear(
                "its status is ERROR, and there is no saved map that says whether it ran: `openstack server show`, then \
                 `openstack server reboot --hard` if it is to run"
                    .to_owned(),
            );
        } else {
            format!("it is {status}: it is not restarted")
        };
        return Verdict::Right(Some(what));
    }
    if !matches!(
        instance.status.as_str(),
        "ACTIVE" | "SHUTOFF" | "ERROR" | "REBOOT" | "HARD_REBOOT" | "PAUSED" | "SUSPENDED"
    ) {
        return Verdict::Unclear(format!("it ran before, and is {} now: a reboot does not fit that", instance.status));
    }
    // Without the time of the outage nothing is done; the plan is only shown.
    let since = wish.outage.unwrap_or(DateTime::<Utc>::MAX_UTC);
    if let Some(at) = draft.seen.since(&instance.id, &[REBOOT, START, EVACUATE], since) {
        let at = at.format("%Y-%m-%d %H:%M:%S");
        let is_running = instance.power_state == Some(RUNNING) && instance.status == "ACTIVE";
        return match task(instance) {
            Some(task) => Verdict::Right(Some(format!(
                "it was restarted at {at} UTC, after the outage, and Nova is still working on it ({task})"
            ))),
            None if is_running => {
                Verdict::Right(Some(format!("it was restarted at {at} UTC, after the outage, and runs")))
            }
            None => Verdict::Unclear(format!(
                "it was restarted at {at} UTC, after the outage, and does not run (status {}, power state {}). If the outage \
                 was later: --outage; else look at `openstack console log show`",
                instance.status,
                instance.power_state.map_or_else(|| "unknown".to_owned(), |state| state.to_string())
            )),
        };
    }
    if draft.held_back.contains(&instance.id) {
        return Verdict::Unclear("it is restarted when its volumes are settled, which are named here, too".to_owned());
    }
    let mut why = match (instance.status.as_str(), instance.power_state) {
        ("ACTIVE", Some(RUNNING)) => "it ran before the outage, and was not restarted since".to_owned(),
        ("ACTIVE", state) => format!(
            "it does not run, although it is ACTIVE: power state {}",
            state.map_or_else(|| "unknown".to_owned(), |state| state.to_string())
        ),
        (status, _) => format!("it ran before the outage, and is {status}"),
    };
    if let Some(task) = task(instance) {
        why.push_str(&format!("; Nova has to finish its task ({task}) first"));
    }
    Verdict::Restart(why)
}

/// The last action before the outage that switched the instance on or off: since the saved map, or ever if that does not have it.
fn switched<'a>(draft: &'a Draft<'_>, instance: &Instance, is_in_map: bool) -> Option<(DateTime<Utc>, &'a str)> {
    let map = draft.wish.saved.filter(|_| is_in_map).map(|map| map.taken_at);
    let since = map.unwrap_or(DateTime::<Utc>::MIN_UTC);
    let kinds: Vec<&str> = SWITCHED_ON.into_iter().chain(SWITCHED_OFF.map(|(action, _)| action)).collect();
    draft.seen.newest(&instance.id, &kinds, since, draft.wish.outage?)
}

/// Instances of the saved map that Nova does not have.
fn missing(draft: &mut Draft<'_>) {
    let (Some(saved), only) = (draft.wish.saved, draft.wish.instance) else { return };
    for before in saved.instances.iter().filter(|before| only.is_none_or(|only| only == before.id)) {
        if draft.instances.contains_key(before.id.as_str()) {
            continue;
        }
        let what = "it is in the saved map, and Nova does not have it: deleted since, or lost".to_owned();
        draft.notes.push(Finding { volume: None, instance: Some(named_instance(before)), what });
    }
}

/// Plans the reboots by ssh, of instances that have volumes and an address.
pub(super) fn inside(draft: &mut Draft<'_>) {
    let (seen, only) = (draft.seen, draft.wish.instance);
    for instance in seen.map.instances.iter().filter(|instance| only.is_none_or(|only| only == instance.id)) {
        // Those whose volumes came after their start: they may hang at boot, or lack a mount.
        let is_due = draft
            .steps
            .iter()
            .any(|step| matches!(&step.action, Action::Attach { instance: other, .. } if other.id == instance.id))
            || draft.wish.past.attached.contains(&instance.id);
        if !is_due || draft.wish.past.inside.contains(&instance.id) {
            continue;
        }
        let name = named_instance(instance);
        match instance.addresses.values().flatten().next() {
            Some(address) => draft.steps.push(Step {
                action: Action::RebootInside { instance: name, address: address.clone() },
                why: "volumes were attached after its restart".to_owned(),
            }),
            None => draft.unclear.push(Finding {
                volume: None,
                instance: Some(name),
                what:
                    "volumes were attached after its restart, and it has no address for ssh: reboot it from its console"
                        .to_owned(),
            }),
        }
    }
}
