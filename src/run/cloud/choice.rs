//! What the cloud decides about a night: which volumes are backed up, and how long their backups are kept. The map of
//! this run decides, or else the newest saved one; without a map the patterns of the config alone do.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::saved::{SavedError, When, age, load};
use crate::cloud::{CloudMap, CloudVolume};
use crate::config::{ByCloud, Config, OpenStackOptions, Pattern, Retention, VolumeException};
use crate::error::with_causes;
use crate::outside::host;
use crate::run::prune::Shelf;
use crate::shown;
use crate::store::Destination;

/// Volumes that a problem names.
const MOST_NAMED: usize = 20;

/// The map that decides.
#[derive(Debug, Default)]
pub(crate) struct DecidingMap {
    map: Option<CloudMap>,
    /// Whether it was taken by this run.
    is_fresh: bool,
    /// Which one it is, for the report.
    said: String,
}

/// Retentions that volumes ask for.
#[derive(Debug, Default)]
pub(crate) struct Retentions {
    /// One for each volume that asks for one: its own table in the config takes precedence.
    pub(crate) exceptions: Vec<VolumeException>,
    /// Those that the limits changed, a line each.
    pub(crate) limited: Vec<String>,
    /// Those that mean nothing, a line each.
    pub(crate) nonsense: Vec<String>,
}

impl DecidingMap {
    /// The map of this run.
    pub(crate) fn fresh(map: CloudMap) -> Self {
        Self { map: Some(map), is_fresh: true, said: "the map of this run".to_owned() }
    }

    /// The newest saved map, for a run whose cloud does not answer, and for verbs that do not ask it.
    pub(crate) fn saved(options: &OpenStackOptions, destination: &Destination, now: DateTime<Utc>) -> Self {
        if !options.decides() {
            return Self::default();
        }
        match load(destination, When::Newest) {
            Ok(map) => {
                let said = format!("a saved map, {}", age(&map, now));
                Self { map: Some(map), is_fresh: false, said }
            }
            Err(SavedError::None(_)) => Self { said: "no map: there is no saved one".to_owned(), ..Self::default() },
            Err(error) => Self { said: format!("no map: {}", with_causes(&error)), ..Self::default() },
        }
    }

    /// Which map it is.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// The map.
    pub(crate) fn map(&self) -> Option<&CloudMap> {
        self.map.as_ref()
    }

    /// Why `select` leaves this volume out. A volume that the map does not have is backed up.
    pub(crate) fn leaves_out(&self, options: &OpenStackOptions, lv: &str) -> Option<String> {
        let choice = options.select.as_ref().filter(|_| options.enabled)?;
        choice.leaves_out(&by_cloud(self.map.as_ref()?.of_lv(lv)?))
    }

    /// The volumes that Cinder has on this host, by the map of this run: these are not gone, even where their volume group
    /// is not active. Empty where the map does not say.
    pub(crate) fn on_this_host(&self, options: &OpenStackOptions) -> Vec<&CloudVolume> {
        let host = options.host.clone().unwrap_or_else(host::name);
        match &self.map {
            Some(map) if self.is_fresh && options.enabled => map.on_host(&host).collect(),
            _ => Vec::new(),
        }
    }

    /// Those of these logical volumes of this host that Cinder no longer knows: a backup of each says that it did.
    /// None unless the map of this run has all volumes, and some of this host.
    pub(crate) fn forgotten<'s>(
        &self,
        options: &OpenStackOptions,
        existing: &[String],
        shelves: &'s [Shelf],
    ) -> Vec<&'s str> {
        let Some(map) = self.map.as_ref().filter(|map| map.is_complete()) else { return Vec::new() };
        if self.on_this_host(options).is_empty() {
            return Vec::new();
        }
        let was_known = |shelf: &&Shelf| shelf.manifests().any(|manifest| manifest.cloud.is_some());
        let is_forgotten = |shelf: &&Shelf| existing.contains(&shelf.name) && map.of_lv(&shelf.name).is_none();
        shelves.iter().filter(is_forgotten).filter(was_known).map(|shelf| shelf.name.as_str()).collect()
    }

    /// The retentions that the metadata of these volumes ask for, and those of volumes with backups. The map decides, or what
    /// the last backup that the map of its night had says of a volume that the map does not have.
    pub(crate) fn retentions<'n>(
        &'n self,
        config: &Config,
        names: impl Iterator<Item = &'n str>,
        shelves: &'n [Shelf],
    ) -> Retentions {
        let mut found = Retentions::default();
        let Some(limits) = config.openstack.retention_limits.filter(|_| config.openstack.enabled) else { return found };
        let by_backups = shelves.iter().filter_map(|shelf| {
            let entry = shelf.manifests().rev().find_map(|manifest| manifest.cloud.as_ref())?;
            Some((shelf.name.as_str(), &entry.volume.metadata))
        });
        let mut metadata: BTreeMap<&str, &BTreeMap<String, String>> = by_backups.collect();
        for name in names.chain(shelves.iter().map(|shelf| shelf.name.as_str())) {
            if let Some(volume) = self.map.as_ref().and_then(|map| map.of_lv(name)) {
                metadata.insert(name, &volume.metadata);
            }
        }
        for (name, metadata) in metadata {
            let days = match limits.of(metadata) {
                None => continue,
                Some(Retention::Days(days)) => days,
                Some(Retention::Limited { days, asked }) => {
                    let asked = shown::text(&asked);
                    found.limited.push(format!(
                        "{name} asks for a retention of {asked} days, and has {days}: retention_limits is {limits}"
                    ));
                    days
                }
                Some(Retention::Nonsense(asked)) => {
                    let asked = shown::text(&asked);
                    found.nonsense.push(format!(
                        "{name}: its metadata say volbak:retention={asked}, which is no number of days; the retention of the \
                         config holds"
                    ));
                    continue;
                }
            };
            // Names of logical volumes are patterns that match themselves.
            if let Ok(pattern) = Pattern::new(name) {
                found.exceptions.push(VolumeException::of_retention(pattern, days));
            }
        }
        found
    }
}

/// What `select` says of the volumes, for the report.
pub(crate) fn about_select(deciding: &DecidingMap, left_out: &[(String, String)], all: usize) -> String {
    let said = deciding.said();
    let lines: Vec<String> = left_out.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    match listed(&lines) {
        Some(names) => format!("select, by {said}: {} of {all} volumes are left out: {names}", left_out.len()),
        None if deciding.map().is_some() => format!("select, by {said}: none of {all} volumes is left out"),
        None => {
            format!("select is not applied, by {said}; all {all} volumes that the patterns select are backed up")
        }
    }
}

fn by_cloud(volume: &CloudVolume) -> ByCloud<'_> {
    ByCloud {
        project: [volume.project.as_deref(), volume.project_name.as_deref()],
        volume_type: volume.volume_type.as_deref(),
        metadata: &volume.metadata,
        is_attached: !volume.attachments.is_empty(),
        is_bootable: volume.bootable,
    }
}

/// The first of them, and how many more; `None` without any.
pub(crate) fn listed(all: &[String]) -> Option<String> {
    let more = all.len().saturating_sub(MOST_NAMED);
    let first = all.get(..MOST_NAMED.min(all.len()))?.join("; ");
    match (all.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(first),
        (false, more) => Some(format!("{first}; and {more} more")),
    }
}
