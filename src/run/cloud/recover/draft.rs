//! A plan in the making.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Action, Finding, Named, Step};
use super::seen::{Seen, Wish, named_instance, named_volume};
use crate::cloud::{CloudVolume, Instance};

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

    pub(super) fn step(&mut self, action: Action, why: impl Into<String>) {
        self.steps.push(Step { action, why: why.into() });
    }

    pub(super) fn unclear(&mut self, volume: &CloudVolume, instance: Option<&str>, what: String) {
        let instance = instance.map(|id| self.named(id));
        self.unclear.push(Finding { volume: Some(named_volume(volume)), instance, what });
    }
}
