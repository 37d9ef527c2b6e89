//! Saved maps: `.volbak/cloud/DATE.json` in the destination, one a run.

use chrono::{DateTime, Duration, Local, NaiveDate, Utc};

use crate::cloud::{BadMap, CloudMap, MAX_BYTES};
use crate::error::with_causes;
use crate::run::kept::{KeptError, SUFFIX, moment_of, name_at};
use crate::store::Destination;
use crate::store::records::MAPS;

const DAY: &str = "%Y-%m-%d";

/// Why a saved map cannot be used.
pub type SavedError = KeptError<BadMap>;

/// Which map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The newest.
    Newest,
    /// The newest of this day.
    Day(NaiveDate),
}

/// Saves a map, and removes those older than `keep_days`, but never the newest. The first of a day is `DATE.json`, and
/// later ones have the time after the date: a run after an outage does not replace the map from before it.
pub fn save(destination: &Destination, map: &CloudMap, keep_days: u32) -> Result<(), SavedError> {
    let maps = destination.own_directory(MAPS)?;
    let taken = map.taken_at.with_timezone(&Local);
    let first = format!("{}{SUFFIX}", taken.format(DAY));
    let listing = maps.list()?;
    let name = if listing.files.contains(&first) { name_at(&taken) } else { first };
    let bytes = map.to_bytes().map_err(|source| SavedError::Damaged { name: name.clone(), source })?;
    maps.replace_file(&name, &bytes)?;
    let oldest = taken.date_naive() - Duration::days(i64::from(keep_days));
    maps.tidy(&listing, |old| old != name && day_of(old).is_some_and(|day| day < oldest))?;
    Ok(())
}

/// Reads a saved map. Newer ones that are damaged are named in its doubts.
pub fn load(destination: &Destination, when: When) -> Result<CloudMap, SavedError> {
    let mut damaged = Vec::new();
    let mut map = newest_of(destination, when, |_| true, &mut damaged)?;
    map.doubts.extend(damaged);
    Ok(map)
}

/// The newest of these saved maps that fits: one from before an outage, or the one that was used before. One that is damaged
/// is passed over, which `doubts` then says; it is the error if no other fits.
pub(crate) fn newest_of(
    destination: &Destination,
    when: When,
    fits: impl Fn(&CloudMap) -> bool,
    doubts: &mut Vec<String>,
) -> Result<CloudMap, SavedError> {
    let root = destination.root().display().to_string();
    let none = || {
        SavedError::None(match when {
            When::Newest => format!(
                "{root} has no saved map of the cloud: a run with [openstack] in its config saves one, see docs/cloud.md"
            ),
            When::Day(day) => format!("{root} has no map of the cloud of {day}"),
        })
    };
    let maps = destination.existing_own_directory(MAPS)?.ok_or_else(none)?;
    let mut names = maps.list()?.files;
    names.retain(|name| day_of(name).is_some_and(|day| when == When::Newest || when == When::Day(day)));
    // `DATE.json` is older than `DATE_TIME.json`.
    names.sort_by(|one, other| one.trim_end_matches(SUFFIX).cmp(other.trim_end_matches(SUFFIX)));
    let mut damaged = Vec::new();
    for name in names.into_iter().rev() {
        let bytes = maps.read_file(&name, MAX_BYTES)?.ok_or_else(none)?;
        match CloudMap::from_bytes(&bytes) {
            Ok(map) if fits(&map) => {
                let taken = map.taken_at.with_timezone(&Local).format("%Y-%m-%d %H:%M");
                let passed_over = |error: SavedError| format!("{}; the one of {taken} is used", with_causes(&error));
                doubts.extend(damaged.into_iter().map(passed_over));
                return Ok(map);
            }
            Ok(_) => {}
            Err(source) => damaged.push(SavedError::Damaged { name, source }),
        }
    }
    Err(damaged.into_iter().next().unwrap_or_else(none))
}

fn day_of(name: &str) -> Option<NaiveDate> {
    let day = NaiveDate::parse_from_str(name.strip_suffix(SUFFIX)?, DAY).ok();
    day.or_else(|| moment_of(name).map(|moment| moment.date()))
}

/// The age of a map, for people.
pub(super) fn age(map: &CloudMap, now: DateTime<Utc>) -> String {
    let hours = (now - map.taken_at).num_hours().max(0);
    if hours < 48 { format!("{hours} h old") } else { format!("{} days old", hours / 24) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use chrono::{DateTime, Days, Utc};

    use super::{SavedError, When, load, save};
    use crate::cloud::{CloudMap, FORMAT};
    use crate::store::Destination;

    fn map(taken_at: DateTime<Utc>, cloud: &str) -> CloudMap {
        CloudMap {
            format: FORMAT,
            taken_at,
            cloud: cloud.to_owned(),
            region: None,
            knows_attachment_ids: true,
            volumes: Vec::new(),
            instances: Vec::new(),
            doubts: Vec::new(),
        }
    }

    #[test]
    fn the_first_map_of_a_day_stays_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let destination = Destination::open(folder.path()).unwrap();
        assert!(matches!(load(&destination, When::Newest), Err(SavedError::None(_))));
        let noon: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        save(&destination, &map(noon, "first"), 30).unwrap();
        save(&destination, &map(noon + chrono::Duration::minutes(5), "second"), 30).unwrap();
        let day = noon.with_timezone(&chrono::Local).date_naive();
        let maps = folder.path().join(".volbak/cloud");
        let first = maps.join(format!("{day}.json"));
        assert!(std::fs::read_to_string(&first).unwrap().contains("first"));
        assert_eq!(first.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&destination, When::Newest).unwrap().cloud, "second");
        assert_eq!(load(&destination, When::Day(day)).unwrap().cloud, "second");
        save(&destination, &map(noon.checked_add_days(Days::new(40)).unwrap(), "third"), 30).unwrap();
        assert_eq!(load(&destination, When::Newest).unwrap().cloud, "third");
        assert!(matches!(load(&destination, When::Day(day)), Err(SavedError::None(_))));
        // A damaged one is passed over, and is the error only if there is no other.
        let cut_off = "2027-06-01.json";
        std::fs::write(maps.join(cut_off), "{\"format\": 1, \"volumes\": 7}").unwrap();
        let found = load(&destination, When::Newest).unwrap();
        assert_eq!((found.cloud.as_str(), found.doubts.len()), ("third", 1));
        assert!(found.doubts[0].contains(cut_off), "{:?}", found.doubts);
        let day = When::Day(chrono::NaiveDate::from_ymd_opt(2027, 6, 1).unwrap());
        assert!(matches!(load(&destination, day), Err(SavedError::Damaged { .. })));
    }
}
