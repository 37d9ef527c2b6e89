//! Makes the plan, as a pure function of the observed state. States that the documented table lacks become findings, never
//! steps.

use std::collections::BTreeSet;

use super::draft::Draft;
use super::plan::{Action, FORMAT, Named, Plan, Step};
use super::restarts::{inside, restarts};
use super::seen::{COMPUTE_BINARY, Seen, Wish, named_instance};

/// Makes the plan.
pub(crate) fn decide(seen: &Seen, wish: &Wish<'_>) -> Plan {
    let instances = seen.map.instances.iter().map(|instance| (instance.id.as_str(), instance)).collect();
    let mut draft = Draft {
        seen,
        wish,
        instances,
        steps: Vec::new(),
        unclear: Vec::new(),
        notes: Vec::new(),
        volumes_right: Vec::new(),
        instances_right: Vec::new(),
        held_back: BTreeSet::new(),
    };
    let stops = stops(&draft);
    let wanted = draft.wanted();
    for volume in &seen.map.volumes {
        draft.volume(volume, &wanted);
    }
    draft.gone_volumes(&wanted);
    restarts(&mut draft);
    if wish.inside {
        inside(&mut draft);
    }
    let Draft { mut steps, mut unclear, mut notes, mut volumes_right, instances_right, .. } = draft;
    steps.sort_by(|one, other| {
        let key = |step: &Step| {
            let by_instance = match &step.action {
                Action::Attach { instance, device, .. } => Some((instance.id.clone(), device.clone())),
                _ => None,
            };
            (step.action.phase(), by_instance)
        };
        key(one).cmp(&key(other)).then_with(|| one.action.cmp(&other.action))
    });
    unclear.sort();
    unclear.dedup();
    notes.sort();
    notes.dedup();
    volumes_right.sort();
    Plan {
        format: FORMAT,
        cloud: seen.map.cloud.clone(),
        instance: wish.instance.map(|id| {
            seen.instance(id).map_or_else(|| Named { id: id.to_owned(), name: String::new() }, named_instance)
        }),
        outage: wish.outage,
        saved_map: wish.saved.map(|map| map.taken_at),
        from_map: wish.from_map,
        stops,
        steps,
        unclear,
        notes,
        volumes_right,
        instances_right,
    }
}

/// The reasons for which nothing may be done.
fn stops(draft: &Draft<'_>) -> Vec<String> {
    let mut stops = Vec::new();
    let hosts: BTreeSet<&str> = draft
        .instances
        .values()
        .filter(|instance| draft.is_in_scope(&instance.id))
        .filter_map(|instance| instance.host.as_deref())
        .collect();
    for service in draft.seen.services.iter().filter(|service| !service.is_up) {
        let is_compute = service.binary == COMPUTE_BINARY;
        let is_needed = is_compute && hosts.contains(service.host.as_str());
        // A service that an administrator took out of use, and that has no instances, is not needed.
        if (!service.is_enabled || service.is_forced_down) && !is_needed {
            continue;
        }
        let next = if is_compute {
            format!("start it; if the host is lost: `volbak cloud evacuate {}`", service.host)
        } else {
            "start it, or disable it if it is not used any more".to_owned()
        };
        stops.push(format!("{}'s service {} on {} is not up: {next}", service.of, service.binary, service.host));
    }
    for of in ["Cinder", "Nova"] {
        if !draft.seen.services.iter().any(|service| service.of == of) {
            stops.push(format!("{of} lists no services: whether it is up is not known"));
        }
    }
    if draft.wish.outage.is_none() {
        let what = "when the outage was is not known, as there is no saved map: name it with --outage, so that no instance is \
                    restarted twice";
        stops.push(what.to_owned());
    }
    if let Some(id) = draft.wish.instance
        && !draft.instances.contains_key(id)
    {
        stops.push(format!("Nova has no instance {id}"));
    }
    stops.sort();
    stops
}
