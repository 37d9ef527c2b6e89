//! Volumes that belong together: their snapshots are taken right after each other, before any of them is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::night::Night;
use super::passing::source_may_be_free;
use super::select::SelectedVolume;
use crate::config::{HookOptions, VolumeGroup};
use crate::events::{Observer, Problem, Severity};
use crate::manifest::SetRecord;
use crate::run::backup::AroundFreeze;
use crate::run::backup::freeze_limit::{FreezeEnd, LimitedFreeze};
use crate::run::backup::taken::{Relay, TakenSet, TakenSnapshot};
use crate::run::guest_agent::{AgentError, GuestAgent};
use crate::run::hooks;
use crate::shown;
use crate::source::{self, SnapshotGuard, Source, SourceError};

/// The volumes of a night that belong together.
#[derive(Debug)]
pub(super) struct Together {
    pub(super) group: VolumeGroup,
    /// The names of all its volumes, with those that are missing.
    pub(super) members: Vec<String>,
}

/// The groups of a night.
#[derive(Debug, Default)]
pub(super) struct Sets(Vec<Together>);

/// A set whose snapshots are taken. Dropping it removes the snapshots that no backup took over.
pub(super) struct OpenSet {
    /// By LVM UUID.
    snapshots: BTreeMap<String, Arc<TakenSnapshot>>,
    /// The members without a snapshot, by name.
    missing: BTreeMap<String, Lack>,
}

/// Why a member has no snapshot.
#[derive(Clone, Debug)]
struct Lack {
    why: String,
    may_pass: bool,
}

impl Lack {
    fn for_good(why: impl Into<String>) -> Self {
        Self { why: why.into(), may_pass: false }
    }

    fn of(error: &SourceError) -> Self {
        Self { why: crate::error::with_causes(error), may_pass: source_may_be_free(error) }
    }
}

impl OpenSet {
    /// Whether a member has no snapshot for a reason that may pass: the set may lack less if it is taken again.
    pub(super) fn may_be_better_later(&self) -> bool {
        self.missing.values().any(|lack| lack.may_pass)
    }

    /// Why the set is taken again, for the report of this member.
    pub(super) fn why_again(&self, name: &str) -> String {
        let others = || {
            let lack = self.missing.iter().find(|(_, lack)| lack.may_pass);
            lack.map_or_else(String::new, |(name, lack)| format!("no snapshot of {name}: {}", lack.why))
        };
        let own = self.missing.get(name).map(|lack| lack.why.clone());
        own.unwrap_or_else(|| format!("the snapshots of its group were released, to take all again: {}", others()))
    }

    pub(super) fn snapshot_of(&mut self, candidate: &SelectedVolume) -> Option<Arc<TakenSnapshot>> {
        self.snapshots.remove(&candidate.facts.uuid)
    }
}

impl Sets {
    /// The group of this volume.
    pub(super) fn of(&self, candidate: &SelectedVolume) -> Option<usize> {
        self.0.iter().position(|one| one.group.has(&candidate.facts.vg, &candidate.facts.lv))
    }

    pub(super) fn get(&self, at: usize) -> Option<&Together> {
        self.0.get(at)
    }

    /// Moves the members of each group behind its first.
    pub(super) fn put_together(&self, chosen: &mut [SelectedVolume]) {
        let groups: Vec<Option<usize>> = chosen.iter().map(|one| self.of(one)).collect();
        let first = |group: usize| groups.iter().position(|other| *other == Some(group));
        let turns: BTreeMap<String, usize> = chosen
            .iter()
            .enumerate()
            .map(|(at, one)| (one.facts.uuid.clone(), groups.get(at).copied().flatten().and_then(first).unwrap_or(at)))
            .collect();
        chosen.sort_by_key(|one| turns.get(&one.facts.uuid).copied());
    }
}

impl Night<'_> {
    /// The groups of this night. One of which a single member was asked for by name is no group tonight.
    pub(super) fn sets(&self, chosen: &[SelectedVolume]) -> Sets {
        let mut sets = Vec::new();
        for group in &self.config.groups {
            let found: Vec<&SelectedVolume> =
                chosen.iter().filter(|one| group.has(&one.facts.vg, &one.facts.lv)).collect();
            if found.is_empty() {
                continue;
            }
            if !self.is_whole() && found.len() < group.volumes.len() {
                let what = "only some of its volumes were named: they are backed up one by one, not as a set";
                self.tell(Severity::Notice, &format!("group {}", group.name), what);
                continue;
            }
            let members = group.volumes.iter().map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).collect();
            sets.push(Together { group: group.clone(), members });
        }
        Sets(sets)
    }

    /// Takes the snapshots of these members, between what comes before and after them.
    pub(super) fn take_set(&self, together: &Together, members: &[&SelectedVolume]) -> OpenSet {
        let group = &together.group;
        let location = format!("group {}", group.name);
        let started_at = self.world.clock.now();
        let mut missing: BTreeMap<String, Lack> = together
            .members
            .iter()
            .filter(|name| !members.iter().any(|one| one.facts.lv == **name))
            .map(|name| (name.clone(), Lack::for_good("no such volume is backed up")))
            .collect();
        let mut ready = Vec::new();
        for member in members {
            match self.look_again(member) {
                Ok(Some((facts, None))) => ready.push((*member, facts)),
                Ok(Some((_, Some(why)))) => drop(missing.insert(member.facts.lv.clone(), Lack::for_good(why))),
                Ok(None) => {
                    drop(missing.insert(member.facts.lv.clone(), Lack::for_good("it was deleted or renamed")));
                }
                Err(error) => drop(missing.insert(member.facts.lv.clone(), Lack::of(&error))),
            }
        }
        let arounds = self.arounds(group, ready.iter().map(|(_, facts)| facts));
        let agent = self.agent(group, &location);
        let is_around = !arounds.is_empty() || agent.is_some();
        // The instance is frozen last, and thawed first.
        let of_agent = agent.iter().map(|agent| Arc::clone(agent) as Arc<dyn AroundFreeze>);
        let mut freeze = LimitedFreeze::of(of_agent.chain(arounds.iter().cloned()).collect());
        let mut failed_before = None;
        // Frozen from here on. Each of these commands has its own time limit.
        for around in &arounds {
            if let Err(error) = around.before() {
                failed_before = Some(error.to_string());
                break;
            }
        }
        if let Some(agent) = agent.as_ref().filter(|_| failed_before.is_none())
            && let Err(error) = agent.before()
        {
            let what = format!("the instance is not quiesced, and its volumes are backed up as they are: {error}");
            self.tell(Severity::Warning, &location, what);
        }
        if is_around
            && failed_before.is_none()
            && let Err(error) = freeze.limit_to(group.freeze_limit)
        {
            failed_before = Some(format!("no thread could be started: {error}"));
        }
        let began = Instant::now();
        let mut frozen = Vec::new();
        for (member, facts) in ready {
            let name = facts.lv.clone();
            let relay = Arc::new(Relay::new(Arc::clone(self.collector) as Arc<dyn Observer>));
            let guard = if let Some(why) = &failed_before {
                Err(Lack::for_good(format!("before the snapshot: {why}")))
            } else if self.world.cancel.is_cancelled() {
                Err(Lack::for_good("the run was stopped"))
            } else {
                let context = source::Context {
                    commands: Arc::clone(&self.world.commands),
                    observer: Arc::clone(&relay) as Arc<dyn Observer>,
                    clock: Arc::clone(&self.world.clock),
                };
                let options = self.config.for_volume(&facts.vg, &facts.lv).snapshot;
                Source::of_volume(facts)
                    .and_then(|source| source::freeze(&source, &options, &context))
                    .map_err(|error| Lack::of(&error))
            };
            if let Err(lack) = &guard {
                missing.insert(name, lack.clone());
            }
            frozen.push((member.facts.uuid.clone(), guard.map_err(|lack| lack.why), relay));
        }
        let spread = began.elapsed();
        let names: Vec<String> = frozen
            .iter()
            .filter_map(|(_, guard, _)| guard.as_ref().ok().map(SnapshotGuard::name).map(str::to_owned))
            .collect();
        let FreezeEnd { failures, is_late } = freeze.end(Some(&names.join(" ")), missing.is_empty());
        if is_late {
            let what = format!(
                "the snapshots took more than {} s (freeze_limit_seconds): what comes after them ran before the last was \
                 there, and the set is not quiesced",
                group.freeze_limit.as_secs()
            );
            self.tell(Severity::Warning, &location, what);
        }
        for failure in &failures {
            self.tell(Severity::Warning, &location, format!("after the snapshots: {failure}"));
        }
        let taken = names.len();
        let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        self.tell(Severity::Notice, &location, format!("{taken} snapshots were taken within {spread_ms} ms"));
        let set = Arc::new(TakenSet {
            started_at,
            record: SetRecord {
                group: group.name.clone(),
                id: format!("{}@{}", group.name, started_at.format("%Y%m%dT%H%M%S%.6fZ")),
                members: together.members.clone(),
                spread_ms,
                quiesced: is_around
                    && failed_before.is_none()
                    && failures.is_empty()
                    && !is_late
                    && agent.is_none_or(|agent| agent.is_frozen()),
                missing: missing.iter().map(|(name, lack)| (name.clone(), lack.why.clone())).collect(),
            },
        });
        let snapshots = frozen
            .into_iter()
            .map(|(uuid, guard, relay)| (uuid, Arc::new(TakenSnapshot::new(Arc::clone(&set), guard, relay))))
            .collect();
        OpenSet { snapshots, missing }
    }

    /// Reports the members without a snapshot.
    pub(super) fn tell_missing(&self, together: &Together, open: &OpenSet) {
        let location = format!("group {}", together.group.name);
        for (name, lack) in &open.missing {
            let what = format!("the set is partial: no snapshot of {name}: {}", lack.why);
            self.tell(Severity::Warning, &location, what);
        }
    }

    /// The guest agent of the group's instance, if it is to be quiesced and runs on this host.
    fn agent(&self, group: &VolumeGroup, location: &str) -> Option<Arc<GuestAgent>> {
        let instance = group.instance.as_ref()?;
        let found = GuestAgent::find(&instance.id, &self.world.cancel)
            .and_then(|agent| agent.check_volumes(&instance.volumes).map(|()| agent));
        match found {
            Ok(agent) => Some(Arc::new(agent)),
            Err(why @ (AgentError::Volumes(_) | AgentError::OtherVolumes(_))) => {
                self.tell(Severity::Warning, location, format!("the instance is not quiesced: {why}"));
                None
            }
            Err(why) => {
                let host = instance.host.as_deref().map_or_else(|| "unknown".to_owned(), shown::text);
                let what = format!("the instance is not quiesced: {why}; its compute host in Nova is {host}");
                self.tell(Severity::Notice, location, what);
                None
            }
        }
    }

    /// What runs around the snapshots: the group's own commands, once, or else those of each member.
    fn arounds<'f>(
        &self,
        group: &VolumeGroup,
        facts: impl Iterator<Item = &'f source::LvFacts>,
    ) -> Vec<Arc<dyn AroundFreeze>> {
        let cancel = &self.world.cancel;
        if group.before_snapshot.is_empty() && group.after_snapshot.is_empty() {
            let of = |facts: &source::LvFacts| {
                let hooks = self.config.for_volume(&facts.vg, &facts.lv).hooks;
                hooks::around(&hooks, &facts.vg, &facts.lv, cancel)
            };
            return facts.filter_map(of).collect();
        }
        let facts: Vec<&source::LvFacts> = facts.collect();
        let mut vgs: Vec<&str> = facts.iter().map(|facts| facts.vg.as_str()).collect();
        vgs.dedup();
        let lvs: Vec<&str> = facts.iter().map(|facts| facts.lv.as_str()).collect();
        let options = HookOptions {
            before_snapshot: group.before_snapshot.clone(),
            after_snapshot: group.after_snapshot.clone(),
            timeout: group.hook_timeout.unwrap_or(self.config.hooks.timeout),
            freeze_limit: group.freeze_limit,
        };
        hooks::around(&options, &vgs.join(" "), &lvs.join(" "), cancel).into_iter().collect()
    }

    /// Reports a member without a whole backup, after the last of the set.
    pub(super) fn tell_set(&self, together: &Together, reports: &[crate::report::VolumeReport]) {
        let location = format!("group {}", together.group.name);
        let of = |name: &String| reports.iter().find(|report| report.name == *name);
        let lacking = |name: &&String| of(name).is_none_or(|report| report.whole != Some(true));
        let lacking: Vec<&str> = together.members.iter().filter(lacking).map(String::as_str).collect();
        if !lacking.is_empty() {
            let what = format!("the set is partial: it has no whole backup of {}", lacking.join(", "));
            self.collector.on_event(&crate::events::Event::Problem(Problem::new(Severity::Warning, location, what)));
        }
    }
}
