//! The outage, the saved map and the journal: the facts that are known before the cloud is read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local, TimeDelta, Utc};

use super::error::RecoverError;
use super::journal::{Earlier, Header};
use super::options::RecoverOptions;
use crate::cloud::CloudMap;
use crate::error::with_causes;
use crate::openstack::Session;
use crate::run::cloud::saved::{SavedError, When, newest_of};
use crate::run::record::sha256;
use crate::shown::{self, hex};

const FOLDER: &str = "/var/lib/volbak/recover";
/// A journal that was written to within this time is of the same outage, unless another one is named.
pub(super) const SAME_OUTAGE: TimeDelta = TimeDelta::hours(24);

pub(super) struct Situation {
    pub(super) outage: Option<DateTime<Utc>>,
    pub(super) saved: Option<CloudMap>,
    /// Whether the journal is of an earlier outage.
    pub(super) is_new: bool,
    pub(super) stops: Vec<String>,
}

/// The header of a journal of this cloud.
pub(super) fn header(session: &Session, now: DateTime<Utc>) -> Header {
    let settings = session.settings();
    let region = settings.region.as_ref().map(|region| format!(" {region}")).unwrap_or_default();
    Header::new("recovery".to_owned(), format!("{}{region}", settings.auth_url), now)
}

pub(super) fn default_journal(cloud: &str) -> PathBuf {
    let digest = hex(&sha256(cloud.as_bytes()));
    Path::new(FOLDER).join(format!("{}.journal", digest.get(..16).unwrap_or(&digest)))
}

pub(super) fn find(
    options: &RecoverOptions,
    session: &Session,
    earlier: &Earlier,
    now: DateTime<Utc>,
    doubts: &mut Vec<String>,
) -> Result<Situation, RecoverError> {
    let mut stops = Vec::new();
    let mut is_new = false;
    let shown = |time: DateTime<Utc>| time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S");
    let mut own = earlier.header.as_ref();
    if let (Some(header), Some(last)) = (own, earlier.last()) {
        let before = header.outage.map_or_else(|| "unknown".to_owned(), |time| shown(time).to_string());
        match options.outage {
            Some(outage) if Some(outage) == header.outage => {}
            Some(outage) if outage > last => {
                is_new = true;
                own = None;
            }
            Some(_) => stops.push(format!(
                "the journal is of the recovery from the outage of {before}, which was at work until {}: an outage that is not \
                 later is the same one; omit --outage, or name another journal with --journal",
                shown(last)
            )),
            None if now - last > SAME_OUTAGE => stops.push(format!(
                "the journal is of the recovery from the outage of {before}, and was written to last at {}: name the outage \
                 with --outage, that one or a later one",
                shown(last)
            )),
            None => {}
        }
    }
    let saved = saved(options, session, own, doubts)?;
    if let Some(map) =
        saved.as_ref().filter(|_| own.is_none() && options.outage.is_none() && options.from_map.is_none())
    {
        doubts.push(format!(
            "the outage is taken to be later than the newest saved map, of {}: if it was earlier, that map shows its damage; name its \
             time with --outage, and the map from before it decides",
            shown(map.taken_at)
        ));
    }
    let outage = options.outage.or(own.and_then(|header| header.outage)).or(saved.as_ref().map(|map| map.taken_at));
    Ok(Situation { outage, saved, is_new, stops })
}

/// The saved map: that of `--from-map`, that of the journal, or the newest from before the outage.
fn saved(
    options: &RecoverOptions,
    session: &Session,
    own: Option<&Header>,
    doubts: &mut Vec<String>,
) -> Result<Option<CloudMap>, RecoverError> {
    let Some(destination) = &options.destination else {
        return match options.from_map {
            Some(_) => Err(SavedError::None("there is no destination, and so no saved map".to_owned()).into()),
            None => Ok(None),
        };
    };
    let settings = session.settings();
    let outage = options.outage.or(own.and_then(|header| header.outage));
    let is_of_this_cloud = |map: &CloudMap| map.cloud == settings.name && map.region == settings.region;
    if let Some(day) = options.from_map {
        let fits = |map: &CloudMap| is_of_this_cloud(map) && options.outage.is_none_or(|outage| map.taken_at < outage);
        return Ok(Some(newest_of(destination, When::Day(day), fits, doubts)?));
    }
    let found = match own.and_then(|header| header.saved_map) {
        Some(taken) => {
            let fits = |map: &CloudMap| is_of_this_cloud(map) && map.taken_at == taken;
            newest_of(destination, When::Newest, fits, doubts)
        }
        // The map that gave the outage its time is not before it.
        None if own.is_some() => return Ok(None),
        None => {
            let fits = |map: &CloudMap| is_of_this_cloud(map) && outage.is_none_or(|outage| map.taken_at < outage);
            newest_of(destination, When::Newest, fits, doubts)
        }
    };
    match found {
        Ok(map) => Ok(Some(map)),
        Err(SavedError::None(_)) if own.and_then(|header| header.saved_map).is_none() => Ok(None),
        Err(error) if own.is_none() => {
            doubts.push(format!("there is no saved map to compare with: {}", with_causes(&error)));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The id of the instance that is called so, now or in the saved map.
pub(super) fn instance(name: &str, map: &CloudMap, saved: Option<&CloudMap>) -> Result<String, RecoverError> {
    for map in [Some(map), saved].into_iter().flatten() {
        let ids: BTreeSet<&str> = map
            .instances
            .iter()
            .filter(|instance| instance.id == name || instance.name == name)
            .map(|instance| instance.id.as_str())
            .collect();
        if ids.contains(name) {
            return Ok(name.to_owned());
        }
        if let (Some(id), 1) = (ids.first(), ids.len()) {
            return Ok((*id).to_owned());
        }
        if ids.len() > 1 {
            let ids: Vec<String> = ids.into_iter().map(shown::text).collect();
            let what =
                format!("several instances are called {}: {}; name one by its ID", shown::text(name), ids.join(", "));
            return Err(RecoverError::WhichInstance(what));
        }
    }
    Err(RecoverError::WhichInstance(format!("Nova has no instance {}, and the saved map has none", shown::text(name))))
}
