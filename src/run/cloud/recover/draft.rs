//! A plan in the making.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;

use super::plan::{Action, Finding, Named, Step};
use super::seen::{ATTACH, Seen, Wish, named_instance, named_volume, task};
use crate::cloud::{CloudVolume, Instance};

/// Nova's statuses of an instance that is on no compute host, and comes back with its volumes.
const ON_NO_HOST: [&str; 2] = ["SHELVED_OFFLOADED", "SOFT_DELETED"];
/// A compute host may take so long to log in to a volume.
const ATTACHES_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// The steps and findings, before they are sorted.
pub(super) struct Draft<'a> {
    pub(super) seen: &'a Seen,
    pub(super) wish: &'a Wish<'a>,
    pub(super) instances: BTreeMap<&'a str, &'a Instance>,
    pub(super) steps: Vec<Step>,
    pub(super) unclear: Vec<Finding>,
    pub(super) notes: Vec<Finding>,
    pub(super) volumes_right: Vec<String>,
    pub(super) instances_right: Vec<String>,
    /// Instances that wait until a finding is settled.
    pub(super) held_back: BTreeSet<String>,
}

impl Draft<'_> {
    pub(super) fn is_in_scope(&self, instance: &str) -> bool {
        self.wish.instance.is_none_or(|only| only == instance)
    }

    pub(super) fn named(&self, id: &str) -> Named {
        let saved = || self.wish.saved?.instances.iter().find(|instance| instance.id == id);
        let found = self.instances.get(id).copied().or_else(saved);
        found.map_or_else(|| Named { id: id.to_owned(), name: String::new() }, named_instance)
    }

    /// Whether the instance is on no compute host: its attachments are only reserved, as they should be, until it is back.
    pub(super) fn is_on_no_host(&self, instance: &str) -> bool {
        self.instances.get(instance).is_some_and(|found| ON_NO_HOST.contains(&found.status.as_str()))
    }

    /// What Nova is at with an instance, as far as it may concern a volume: what is half made is not stale then. What an earlier
    /// call of this recovery asked for is.
    pub(super) fn work_under_way(&self, volume: &CloudVolume, instance: &str) -> Option<String> {
        let found = self.instances.get(instance)?;
        if self.wish.past.wanted.contains_key(&(volume.id.clone(), instance.to_owned())) {
            return None;
        }
        let task = task(found).filter(|task| *task != "deleting").map(str::to_owned);
        let attaches = || {
            // What was under way at the outage ended with it.
            let since = (self.seen.map.taken_at - ATTACHES_WITHIN).max(self.wish.outage?);
            let began = self.seen.since(instance, &[ATTACH], since)?;
            Some(format!("attaches a volume since {} UTC", began.format("%H:%M:%S")))
        };
        task.or_else(|| (found.status == "BUILD").then(|| "building".to_owned())).or_else(attaches)
    }

    pub(super) fn step(&mut self, action: Action, why: impl Into<String>) {
        self.steps.push(Step { action, why: why.into() });
    }

    pub(super) fn unclear(&mut self, volume: &CloudVolume, instance: Option<&str>, what: String) {
        let instance = instance.map(|id| self.named(id));
        self.unclear.push(Finding { volume: Some(named_volume(volume)), instance, what });
    }
}
