//! The input of a plan: the observed state of the cloud, and the journal of an earlier call.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::plan::Named;
use crate::cloud::{CloudMap, CloudVolume, Instance};

/// The cloud at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) map: CloudMap,
    pub(crate) services: Vec<SeenService>,
    /// What was done to each instance through the API.
    pub(crate) actions: BTreeMap<String, Vec<SeenAction>>,
}

/// A service of Cinder or Nova.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenService {
    /// `Cinder` or `Nova`.
    pub(crate) of: &'static str,
    /// `nova-compute` and others.
    pub(crate) binary: String,
    pub(crate) host: String,
    /// Nova's number of it.
    pub(crate) id: Option<String>,
    pub(crate) is_up: bool,
    pub(crate) is_enabled: bool,
    pub(crate) is_forced_down: bool,
}

/// The binary of a compute host's service.
pub(crate) const COMPUTE_BINARY: &str = "nova-compute";

/// An action of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenAction {
    pub(crate) action: String,
    pub(crate) request: String,
    pub(crate) began: Option<DateTime<Utc>>,
}

/// A volume and an instance.
pub(crate) type Pair = (String, String);

/// What an earlier call wrote to the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// Volumes that are to be attached, with their device, and that are not known to be.
    pub(crate) wanted: BTreeMap<Pair, Option<String>>,
    /// Wedges that an earlier call began to free.
    pub(crate) freeing: BTreeSet<Pair>,
    /// Restarts by instance: the requests that were known before, and whether the restart was seen to be carried out.
    pub(crate) restarts: BTreeMap<String, Restarted>,
    /// Instances to which volumes were attached.
    pub(crate) attached: BTreeSet<String>,
    /// Instances that were rebooted from inside.
    pub(crate) inside: BTreeSet<String>,
}

/// A restart in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restarted {
    pub(crate) known: BTreeSet<String>,
    pub(crate) is_done: bool,
    /// When it was asked for, by this host's clock.
    pub(crate) at: Option<DateTime<Utc>>,
}

/// The request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    /// One instance alone.
    pub(crate) instance: Option<&'a str>,
    pub(crate) outage: Option<DateTime<Utc>>,
    /// The saved map.
    pub(crate) saved: Option<&'a CloudMap>,
    /// Whether the saved map decides.
    pub(crate) from_map: bool,
    pub(crate) past: &'a Past,
    /// Whether instances are rebooted from inside at the end.
    pub(crate) inside: bool,
}

pub(super) fn named_volume(volume: &CloudVolume) -> Named {
    Named { id: volume.id.clone(), name: volume.name.clone() }
}

pub(super) fn named_instance(instance: &Instance) -> Named {
    Named { id: instance.id.clone(), name: instance.name.clone() }
}

/// The task under way on an instance, if any.
pub(crate) fn task(instance: &Instance) -> Option<&str> {
    instance.task_state.as_deref().filter(|task| !task.is_empty())
}

impl Restarted {
    /// Whether the reboot that it asked for was carried out, or begun.
    pub(crate) fn was_seen(&self, actions: &[SeenAction]) -> bool {
        self.is_done || actions.iter().any(|one| one.action == REBOOT && !self.known.contains(&one.request))
    }
}

/// Nova's name of the action.
pub(crate) const REBOOT: &str = "reboot";
/// Nova's name of the action.
pub(crate) const START: &str = "start";
/// Nova's name of the action.
pub(crate) const ATTACH: &str = "attach_volume";
/// Nova's name of the action.
pub(crate) const DETACH: &str = "detach_volume";

/// Nova's name of the action.
pub(super) const EVACUATE: &str = "evacuate";

/// What an earlier call asked to evacuate: the requests that Nova had before, and when.
pub(super) type Asked = BTreeMap<String, (BTreeSet<String>, DateTime<Utc>)>;

impl Seen {
    pub(crate) fn actions_of(&self, instance: &str) -> &[SeenAction] {
        self.actions.get(instance).map_or(&[], Vec::as_slice)
    }

    /// The newest action of these kinds since then.
    pub(super) fn since(&self, instance: &str, kinds: &[&str], since: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.newest(instance, kinds, since, DateTime::<Utc>::MAX_UTC).map(|(began, _)| began)
    }

    /// The newest action of these kinds in this time, the end excluded.
    pub(super) fn newest(
        &self,
        instance: &str,
        kinds: &[&str],
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Option<(DateTime<Utc>, &str)> {
        let of_kind = self.actions_of(instance).iter().filter(|one| kinds.contains(&one.action.as_str()));
        let times = of_kind.filter_map(|one| Some((one.began?, one.action.as_str())));
        // Nova's times are whole seconds.
        times.filter(|(began, _)| began.timestamp() >= since.timestamp() && *began < until).max()
    }

    pub(crate) fn instance(&self, id: &str) -> Option<&Instance> {
        self.map.instances.iter().find(|one| one.id == id)
    }
}
