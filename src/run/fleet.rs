//! The states of hosts: each run leaves its own, and the verb `fleet` reads those of all hosts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::kept::{moment_of, name_of_run};
use crate::error::with_causes;
use crate::report::fleet::{FoundHost, HostState, MAX_STATE_BYTES, folder_of};
use crate::store::api::{Folder, Store, Writers};
use crate::store::records::FLEET;
use crate::store::{Destination, StoreError, StoreOptions, run};

/// The number of states of a host that are kept.
const MAX_KEPT: usize = 30;
/// More hosts than this are an error: a folder was mistaken for one of states.
const MAX_HOSTS: usize = 10_000;
/// The number of files that are tried for a host, the newest first.
const MAX_TRIED: usize = 5;

/// Why the states of hosts could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The destination.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are too many folders.
    #[error("{} has more than {MAX_HOSTS} folders: is it a directory of hosts' states?", .0.display())]
    TooMany(PathBuf),
}

/// Leaves a state in the destination, and in the shared directory if there is one. Returns the errors.
pub(super) fn leave(state: &HostState, destination: Option<&Destination>, shared: Option<&Path>) -> Vec<String> {
    let mut errors = Vec::new();
    let json = match state.to_json() {
        Ok(json) => json,
        Err(error) => return vec![with_causes(&error)],
    };
    let into = |folder: Result<Folder, StoreError>| -> Result<(), StoreError> {
        let missing = || StoreError::Missing(folder_of(&state.host).into());
        let host = folder?.folder(&folder_of(&state.host), true)?.ok_or_else(missing)?;
        let files = host.list()?.files;
        let name = name_of_run(&state.at, &run(&*host)?, &files);
        // Runs of other destinations on this host write there, too, perhaps in the same second.
        host.put(&name, json.as_bytes(), Writers::Many)?;
        let dated: Vec<&String> = files.iter().chain([&name]).filter(|name| moment_of(name).is_some()).collect();
        let old = dated.len().saturating_sub(MAX_KEPT);
        dated.iter().take(old).try_for_each(|name| host.remove(name))
    };
    if let Some(destination) = destination
        && let Err(error) = into(destination.own_directory(FLEET))
    {
        errors.push(with_causes(&error));
    }
    if let Some(shared) = shared {
        let root = Destination::open(shared).map(Destination::into_store);
        if let Err(error) = into(root) {
            errors.push(with_causes(&error));
        }
    }
    errors
}

/// Reads the newest state of each host in each of these places: destinations, directories with a folder for each host, or prefixes
/// of an object store below which the destinations are. A host that is in several is there several times.
pub fn read_states(
    roots: &[PathBuf],
    options: &StoreOptions,
    now: DateTime<Utc>,
) -> Result<Vec<FoundHost>, FleetError> {
    let mut hosts = Vec::new();
    for root in roots {
        for (name, folders) in host_folders(Destination::reach(root, options)?)? {
            let (place, state) = match folders.as_slice() {
                [folder] => {
                    let state = folder.folder(&name, false)?.and_then(|host| newest(&*host, now));
                    (folder.path().join(&name), state)
                }
                several => (root.clone(), Some(Err(claimed_by(several)))),
            };
            hosts.extend(state.map(|state| FoundHost { name, place, state }));
        }
    }
    Ok(hosts)
}

/// The names of hosts, and the folders in which each has its own: several if destinations below a prefix claim to be of one host.
fn host_folders(destination: Destination) -> Result<BTreeMap<String, Vec<Folder>>, FleetError> {
    let mut found = match destination.existing_own_directory(FLEET)? {
        Some(folder) => in_folder(&folder)?,
        None => return Ok(by_name(in_folder(&destination.into_store())?)),
    };
    if found.is_empty() && !destination.is_local() {
        for (prefix, name) in in_folder(&destination.into_store())? {
            let of_host = prefix.folder(&name, false)?.map(Destination::over);
            if let Some(folder) = of_host.map(|host| host.existing_own_directory(FLEET)).transpose()?.flatten() {
                found.extend(in_folder(&folder)?);
            }
        }
    }
    Ok(by_name(found))
}

fn by_name(found: Vec<(Folder, String)>) -> BTreeMap<String, Vec<Folder>> {
    let mut all: BTreeMap<String, Vec<Folder>> = BTreeMap::new();
    for (folder, name) in found {
        all.entry(name).or_default().push(folder);
    }
    all
}

/// A host that may write to its own prefix could leave a newer state for another host there.
fn claimed_by(folders: &[Folder]) -> String {
    let places: Vec<String> = folders.iter().map(|folder| folder.path().display().to_string()).collect();
    format!("its states are in several places: {}; name the destinations that count", places.join(", "))
}

/// The folders in this one that can be those of hosts.
fn in_folder(folder: &Folder) -> Result<Vec<(Folder, String)>, FleetError> {
    let mut names = folder.list()?.folders;
    names.retain(|name| !name.starts_with('.'));
    if names.len() > MAX_HOSTS {
        return Err(FleetError::TooMany(folder.path().to_owned()));
    }
    Ok(names.into_iter().map(|name| (Folder::clone(folder), name)).collect())
}

/// The newest state of a host that is not named after a time in the future; `None` if the folder has no state.
fn newest(folder: &dyn Store, now: DateTime<Utc>) -> Option<Result<HostState, String>> {
    let files = match folder.list() {
        Ok(listing) => listing.files,
        Err(error) => return Some(Err(with_causes(&error))),
    };
    let limit = now.naive_utc() + chrono::TimeDelta::hours(1);
    let dated: Vec<&String> = files.iter().filter(|name| moment_of(name).is_some()).collect();
    let past = dated.iter().filter(|name| moment_of(name).is_some_and(|time| time <= limit));
    let mut first_error = None;
    // With all of them in the future, the newest of these: the judgement finds its date.
    let candidates = if past.clone().next().is_some() { past.copied().collect() } else { dated.clone() };
    for file in candidates.iter().rev().take(MAX_TRIED) {
        match read(folder, file) {
            Ok(state) => return Some(Ok(state)),
            Err(error) => first_error = first_error.or(Some(format!("{file}: {error}"))),
        }
    }
    first_error.map(Err)
}

fn read(folder: &dyn Store, file: &str) -> Result<HostState, String> {
    // The length first: a host may have put any file there.
    let opened = folder.open(file).map_err(|error| with_causes(&error))?;
    if opened.len_bytes() > MAX_STATE_BYTES {
        return Err(format!("it has {} bytes, more than a state can have", opened.len_bytes()));
    }
    let mut bytes = vec![0; usize::try_from(opened.len_bytes()).unwrap_or(0)];
    opened.read_at(0, &mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    HostState::from_json(&bytes).map_err(|error| with_causes(&error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use chrono::{DateTime, TimeDelta};

    use super::read_states;
    use crate::store::StoreOptions;

    #[test]
    fn whatever_lies_in_a_hosts_folder_is_an_error_of_that_host() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let name = "2026-11-20_010000.json";
        for host in ["fifo", "link", "huge", "deep", "binary", "empty", "directory", "nothing", ".hidden"] {
            fs::create_dir(at(host)).unwrap();
        }
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo").join(name),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        std::os::unix::fs::symlink("/etc/shadow", at("link").join(name)).unwrap();
        fs::File::create(at("huge").join(name)).unwrap().set_len(1 << 40).unwrap();
        fs::write(at("deep").join(name), "[".repeat(1 << 20)).unwrap();
        fs::write(at("binary").join(name), [0xff; 1000]).unwrap();
        fs::write(at("empty").join(name), "").unwrap();
        fs::create_dir(at("directory").join(name)).unwrap();
        fs::write(at("nothing").join("notes.txt"), "{}").unwrap();
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_800);
        let found = read_states(&[dir.path().to_owned()], &StoreOptions::default(), now).unwrap();
        let names: Vec<&str> = found.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["binary", "deep", "empty", "fifo", "huge", "link"]);
        assert!(found.iter().all(|host| host.state.is_err()));
    }
}
