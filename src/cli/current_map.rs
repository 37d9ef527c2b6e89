//! The map of the cloud as it is now, for the verbs that show it.

use chrono::Local;
use volbak::cloud::CloudMap;
use volbak::error::with_causes;
use volbak::outside::{Clock, SystemClock};
use volbak::run::cloud::{When, load, take};

use super::log;
use super::place::Place;

/// The map that the cloud gives; if it is down, is not to be asked, or is not in the config, the newest saved one.
pub(crate) fn current(place: &Place, saved: bool) -> anyhow::Result<CloudMap> {
    let newest = || -> anyhow::Result<CloudMap> { Ok(load(&place.open()?, When::Newest)?) };
    let options = place.config.as_ref().map(|config| &config.openstack).filter(|options| options.enabled && !saved);
    let Some(options) = options else { return newest() };
    match take(options, SystemClock.now()) {
        Ok(taken) => {
            for doubt in &taken.doubts {
                log::warning(&format!("warning: {doubt}"));
            }
            Ok(taken.map)
        }
        Err(error) => {
            log::warning(&format!("warning: the cloud could not be asked: {}", with_causes(&error)));
            let map = newest()?;
            let when = map.taken_at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S");
            log::warning(&format!("warning: this is the map saved on {when}"));
            Ok(map)
        }
    }
}
