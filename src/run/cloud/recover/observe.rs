//! Sees the state of the cloud: the map, the services of both sides, and what was done to each instance.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::error::RecoverError;
use super::seen::{Seen, SeenAction, SeenService};
use crate::openstack::{CloudError, InstanceAction, Service, Session};
use crate::run::cloud::collect;

/// Sees what a plan needs.
pub(crate) fn observe(session: &Session, now: DateTime<Utc>) -> Result<Seen, RecoverError> {
    session.renew_deadline();
    let services = services(session)?;
    let map = collect::map_with_unlisted(session, now)?;
    let mut actions = BTreeMap::new();
    for instance in &map.instances {
        session.renew_deadline();
        match session.instance_actions(&instance.id) {
            Ok(found) => drop(actions.insert(instance.id.clone(), found.into_iter().map(seen_action).collect())),
            // Deleted since it was listed.
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Seen { map, services, actions })
}

/// The services of both sides. A user without the rights of an administrator is refused here, before anything else.
pub(crate) fn services(session: &Session) -> Result<Vec<SeenService>, RecoverError> {
    let refused = |right: &'static str| {
        move |error: CloudError| {
            let is_right = matches!(error, CloudError::Status { status: 403, .. });
            if is_right { RecoverError::MissingRight { right } } else { error.into() }
        }
    };
    let cinder = session.volume_services().map_err(refused("volume_extension:services:index of Cinder"))?;
    let nova = session.compute_services().map_err(refused("os_compute_api:os-services:list of Nova"))?;
    let seen = |of: &'static str| {
        move |service: Service| SeenService {
            of,
            is_up: service.state.as_deref() == Some("up"),
            is_enabled: service.status.as_deref() != Some("disabled"),
            is_forced_down: service.forced_down,
            id: service.id.and_then(|id| id.as_str().map(str::to_owned)),
            binary: service.binary,
            host: service.host,
        }
    };
    let mut all: Vec<SeenService> = cinder.into_iter().map(seen("Cinder")).collect();
    all.extend(nova.into_iter().map(seen("Nova")));
    // Reading is a right of readers, too.
    if !session.is_admin() {
        return Err(RecoverError::MissingRight {
            right: "volume_extension:volume_admin_actions:reset_status of Cinder",
        });
    }
    Ok(all)
}

pub(crate) fn seen_action(action: InstanceAction) -> SeenAction {
    SeenAction {
        began: action.start_time.as_deref().and_then(nova_time),
        action: action.action,
        request: action.request_id,
    }
}

/// Nova's times are in UTC, and do not say so.
fn nova_time(text: &str) -> Option<DateTime<Utc>> {
    let plain = text.trim_end_matches('Z');
    NaiveDateTime::parse_from_str(plain, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|time| time.and_utc())
}
