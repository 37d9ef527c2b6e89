//! Sets are kept and retired as one.

use std::collections::BTreeMap;

use super::{BackupFacts, Health, Now, Plan, Reason, is_in_the_future};

/// A member of a set: the indices of its plan and decision, and its facts.
type Member<'a> = (usize, usize, &'a BackupFacts);

/// Changes the plans of several sources, each with its backups: a backup is removed only if all members of its set that
/// are there are, and the newest whole set of each group stays, unless a newer whole one has all of its volumes: a group may be
/// renamed, and that of an instance has the name that its tenant gives it.
pub(crate) fn keep_sets(plans: &mut [Plan], backups: &[&[BackupFacts]], now: Now) {
    let mut sets: BTreeMap<&str, Vec<Member<'_>>> = BTreeMap::new();
    for (at, (plan, backups)) in plans.iter().zip(backups).enumerate() {
        let by_id: BTreeMap<&str, &BackupFacts> = backups.iter().map(|backup| (backup.id.as_str(), backup)).collect();
        for (place, decision) in plan.decisions.iter().enumerate() {
            if let Some(facts) = by_id.get(decision.id.as_str())
                && let Some(set) = &facts.set
            {
                sets.entry(&set.id).or_default().push((at, place, facts));
            }
        }
    }
    let mut newest: BTreeMap<&str, &Vec<Member<'_>>> = BTreeMap::new();
    for members in sets.values().filter(|members| is_whole(members, plans, now)) {
        let Some(group) = group_of(members) else { continue };
        let last = newest.entry(group).or_insert(members);
        if taken_at(members) > taken_at(last) {
            *last = members;
        }
    }
    let is_covered =
        |set: &[Member<'_>]| newest.values().any(|other| taken_at(other) > taken_at(set) && has_all(other, set));
    let last_whole: Vec<(usize, usize)> = newest
        .values()
        .filter(|members| !is_covered(members))
        .flat_map(|members| members.iter().map(|(at, place, _)| (*at, *place)))
        .collect();
    for (at, place) in last_whole {
        let Some(decision) = plans.get_mut(at).and_then(|plan| plan.decisions.get_mut(place)) else { continue };
        // All of its volumes may be gone for good.
        if decision.remove && !decision.reasons.iter().any(|reason| matches!(reason, Reason::GoneLongEnough { .. })) {
            decision.remove = false;
            decision.reasons = vec![Reason::LastWholeSet];
        }
    }
    for members in sets.values() {
        let kept = members.iter().find_map(|(at, place, _)| {
            let plan = plans.get(*at)?;
            (!plan.decisions.get(*place)?.remove).then(|| plan.source.clone())
        });
        let Some(with) = kept else { continue };
        for (at, place, _) in members {
            let Some(decision) = plans.get_mut(*at).and_then(|plan| plan.decisions.get_mut(*place)) else { continue };
            if decision.remove {
                decision.remove = false;
                decision.reasons = vec![Reason::SetKept { with: with.clone() }];
            }
        }
    }
}

fn group_of<'a>(members: &[Member<'a>]) -> Option<&'a str> {
    members.first().and_then(|(_, _, facts)| facts.set.as_ref()).map(|set| set.group.as_str())
}

/// Whether one set has the volumes of another.
fn has_all(set: &[Member<'_>], other: &[Member<'_>]) -> bool {
    other.iter().all(|(at, ..)| set.iter().any(|(own, ..)| own == at))
}

fn taken_at(members: &[Member<'_>]) -> Option<chrono::DateTime<chrono::Utc>> {
    members.iter().map(|(_, _, facts)| facts.taken_at).max()
}

/// Whether each of its members is there, whole, and not known to be bad.
fn is_whole(members: &[Member<'_>], plans: &[Plan], now: Now) -> bool {
    let Some(set) = members.first().and_then(|(_, _, facts)| facts.set.as_ref()) else { return false };
    set.members.iter().all(|name| {
        members.iter().any(|(at, _, facts)| {
            plans.get(*at).is_some_and(|plan| plan.source == *name)
                && facts.whole
                && facts.health != Health::Bad
                && !is_in_the_future(facts, now)
        })
    })
}
