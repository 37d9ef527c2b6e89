//! Finds a set by name: `GROUP` or `GROUP@DATE`, as a backup is found by `VOLUME` or `VOLUME@DATE`.

use std::collections::BTreeMap;

use chrono::{DateTime, Local, Utc};

use super::cloud::instances::ID_CHARACTERS;
use super::cloud::names::backed_up_as;
use super::locate::moment::Moment;
use super::locate::{LocateError, is_bad};
use super::unsigned;
use crate::shown;
use crate::store::catalog::{BackupState, CatalogEntry, list_volume};
use crate::store::retention::is_future;
use crate::store::{Backup, Destination};

/// A set that was found: the backups of volumes whose snapshots were taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedSet {
    /// In a form that can be typed.
    pub name: String,
    /// The volumes and their backups.
    pub backups: Vec<(String, Backup)>,
    /// Why it is partial, a line for each member that lacks something.
    pub lacking: Vec<String>,
    /// Facts to know before it is used, one line each.
    pub notes: Vec<String>,
    /// A backup of it is plain, and newer than an encrypted one of its volume.
    pub is_doubtful: bool,
    taken_at: DateTime<Utc>,
    is_in_the_future: bool,
}

impl LocatedSet {
    /// Whether each member has a whole backup that is not known to be bad.
    pub fn is_whole(&self) -> bool {
        self.lacking.is_empty()
    }
}

/// A backup of a set, and what to know of it.
struct Member {
    entry: CatalogEntry,
    note: Option<unsigned::Note>,
}

/// Whether `group` is that of an instance called `name`.
fn is_of_instance(group: &str, name: &str) -> bool {
    let id = group.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
    id.is_some_and(|id| id.len() == ID_CHARACTERS && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The sets of a group, oldest first. The name of an instance stands for its group, if there is no other group of that name and
/// one instance alone is called so.
pub fn sets_of(destination: &Destination, name: &str, now: DateTime<Utc>) -> Result<Vec<LocatedSet>, LocateError> {
    let mut by_group: BTreeMap<String, BTreeMap<String, Vec<Member>>> = BTreeMap::new();
    for volume in destination.volume_names()? {
        let Some(directory) = destination.existing_volume_directory(&volume)? else { continue };
        let entries = list_volume(&*directory, &volume)?;
        let first_sealed = unsigned::first_sealed(&entries);
        for entry in &entries {
            if let BackupState::Complete { manifest } = &entry.state
                && let Some(set) =
                    manifest.set.as_ref().filter(|set| set.group == name || is_of_instance(&set.group, name))
            {
                let of_group = by_group.entry(set.group.clone()).or_default();
                let member = Member { entry: entry.clone(), note: unsigned::note_of(entry, first_sealed) };
                of_group.entry(set.id.clone()).or_default().push(member);
            }
        }
    }
    if by_group.contains_key(name) {
        by_group.retain(|group, _| group == name);
    }
    if by_group.len() > 1 {
        let candidates = by_group.into_keys().map(|group| shown::text(&group)).collect();
        return Err(LocateError::Ambiguous { wanted: name.to_owned(), candidates });
    }
    let mut sets: Vec<LocatedSet> = by_group
        .into_iter()
        .flat_map(|(group, by_id)| {
            by_id.into_values().filter_map(move |members| located(&group, &members, now)).collect::<Vec<_>>()
        })
        .collect();
    sets.sort_by_key(|set| set.taken_at);
    name_apart(&mut sets);
    Ok(sets)
}

/// Sets of one second, or of the hour that a clock's change repeats, get names with the microsecond.
fn name_apart(sets: &mut [LocatedSet]) {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for set in sets.iter() {
        *uses.entry(set.name.clone()).or_default() += 1;
    }
    for set in sets.iter_mut().filter(|set| uses[&set.name] > 1) {
        set.name += &set.taken_at.format("%.6f").to_string();
    }
}

fn located(group: &str, members: &[Member], now: DateTime<Utc>) -> Option<LocatedSet> {
    let mut there = BTreeMap::new();
    for Member { entry, .. } in members {
        if let BackupState::Complete { manifest } = &entry.state {
            there.insert(entry.name.as_str(), (entry, manifest));
        }
    }
    let (_, first) = there.values().next()?;
    let set = first.set.as_ref()?;
    let mut lacking = Vec::new();
    for member in &set.members {
        match there.get(member.as_str()) {
            None => lacking.push(format!("{member} has no backup in it")),
            Some((entry, manifest)) if is_bad(entry, manifest) => {
                lacking.push(format!("{}: a verification found it bad", entry.stem));
            }
            Some((entry, manifest)) if !manifest.is_whole() => lacking.push(format!("{} is partial", entry.stem)),
            Some(_) => {}
        }
    }
    let date = first.started_at.with_timezone(&Local).format("%d_%m_%Y_%H%M%S");
    Some(LocatedSet {
        name: format!("{group}@{date}"),
        backups: there.values().map(|(entry, _)| (entry.name.clone(), entry.files())).collect(),
        lacking,
        notes: members.iter().flat_map(|member| &member.note).map(|note| note.line.clone()).collect(),
        is_doubtful: members.iter().flat_map(|member| &member.note).any(|note| note.is_doubtful),
        taken_at: first.started_at,
        is_in_the_future: is_future(first.started_at, now),
    })
}

/// Finds the set `wanted`: of that date, or the newest whole one. `None` if there is no group of that name, or if a
/// volume has the name.
pub fn find_set(
    wanted: &str,
    destination: &Destination,
    now: DateTime<Utc>,
) -> Result<Option<LocatedSet>, LocateError> {
    let (group, date) = wanted.rsplit_once('@').map_or((wanted, None), |(group, date)| (group, Some(date)));
    let is_path = wanted.contains('/') || group.is_empty() || group.starts_with('.');
    if is_path || destination.surveyed(&[group.to_owned()])?.existing_volume_directory(group)?.is_some() {
        return Ok(None);
    }
    let mut sets = sets_of(destination, group, now)?;
    if sets.is_empty() {
        return Ok(None);
    }
    let group_there = sets[0].name.rsplit_once('@').map_or(group, |(group, _)| group).to_owned();
    if group_there != group {
        // An instance and its volume often have one name.
        let volumes = backed_up_as(destination, group);
        if !volumes.is_empty() {
            let candidates = volumes.into_keys().chain([group_there]).map(|name| shown::text(&name)).collect();
            return Err(LocateError::Ambiguous { wanted: shown::text(group), candidates });
        }
    }
    let there = |sets: &[LocatedSet]| -> Vec<String> {
        sets.iter()
            .map(|set| if set.is_whole() { set.name.clone() } else { format!("{} (partial)", set.name) })
            .collect()
    };
    let Some(date) = date.filter(|date| *date != "last") else {
        return match sets.iter().rposition(|set| set.is_whole() && !set.is_in_the_future) {
            Some(at) => Ok(Some(sets.swap_remove(at))),
            // A partial one is used only by its date.
            None => Err(LocateError::NoSuchDate {
                volume: group.to_owned(),
                date: "a whole set".to_owned(),
                there: there(&sets),
            }),
        };
    };
    let moment = Moment::parse(date, now.with_timezone(&Local).date_naive())
        .ok_or_else(|| LocateError::BadDate(date.to_owned()))?;
    let (mut matching, others): (Vec<_>, Vec<_>) =
        sets.into_iter().partition(|set| moment.is_at(set.taken_at.with_timezone(&Local).naive_local()));
    match matching.len() {
        0 => Err(LocateError::NoSuchDate { volume: group.to_owned(), date: date.to_owned(), there: there(&others) }),
        1 => Ok(matching.pop()),
        _ => Err(LocateError::Ambiguous { wanted: wanted.to_owned(), candidates: there(&matching) }),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::{LocatedSet, name_apart};

    #[test]
    fn two_sets_of_one_second_have_two_names() {
        let taken = |time: &str| LocatedSet {
            name: format!("db@29_11_2026_{}", &time[..8].replace(':', "")),
            backups: Vec::new(),
            lacking: Vec::new(),
            notes: Vec::new(),
            is_doubtful: false,
            taken_at: format!("2026-11-29T{time}Z").parse::<DateTime<Utc>>().unwrap(),
            is_in_the_future: false,
        };
        let mut sets = [taken("18:41:26.000450"), taken("18:41:26.8"), taken("18:41:27.1")];
        name_apart(&mut sets);
        let names = sets.map(|set| set.name);
        assert_eq!(names, ["db@29_11_2026_184126.000450", "db@29_11_2026_184126.800000", "db@29_11_2026_184127"]);
    }
}
