//! Removes snapshots left by a crash.

use std::path::Path;
use std::time::Duration;

use crate::events::{Event, Observer, Problem, Severity};
use crate::outside::RunCommand;
use crate::owner::{Owner, OwnerState};
use crate::source::error::SourceError;
use crate::source::lvm::{LvFacts, Which, lvs};
use crate::source::naming::is_snapshot_name;
use crate::source::naming::{OWNER_TAG_PREFIX, SNAPSHOT_TAG};
use crate::source::snapshot::remove;
use crate::source::thin::{MARKS, release_left};

/// How long the removal of one snapshot is retried.
const PATIENCE: Duration = Duration::from_secs(5);

/// What happened to the snapshots with volbak's tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaleSnapshots {
    /// The removed ones, `VG/LV`.
    pub removed: Vec<String>,
    /// The remaining ones, `VG/LV` and the reason.
    pub left: Vec<(String, String)>,
}

/// Removes snapshots left by earlier runs, in these groups or, if none is named, in all. A stale snapshot has
/// volbak's tag and a name that volbak makes, its process ended on this host, and it is not open. Reports to the
/// observer each removal (a notice) and each snapshot that remains and may need attention (a warning). Also releases
/// the metadata snapshots of thin pools that such runs reserved.
///
/// Fails if LVM cannot be queried. A snapshot that cannot be removed is no failure; it is listed as remaining.
pub fn remove_stale(
    volume_groups: &[String],
    commands: &dyn RunCommand,
    observer: &dyn Observer,
) -> Result<StaleSnapshots, SourceError> {
    release_left(Path::new(MARKS), commands, observer);
    let me = Owner::this_process().map_err(|error| SourceError::io("reading it", "/proc/self", error))?;
    let mut outcome = StaleSnapshots::default();
    for volume in lvs(commands, Which::All)? {
        if !volume_groups.is_empty() && !volume_groups.contains(&volume.vg) {
            continue;
        }
        let name = volume.full_name();
        let tell = |severity, what: &str| {
            observer.on_event(&Event::Problem(Problem::new(severity, name.clone(), what)));
        };
        match judge(&volume, |owner| owner.state(&me)) {
            Staleness::NotOurs => {}
            Staleness::InUseByRun(why) => outcome.left.push((name, why)),
            Staleness::Leave(why) => {
                tell(Severity::Warning, &format!("the snapshot is left alone: {why}"));
                outcome.left.push((name, why));
            }
            Staleness::Remove(why) => match remove(commands, &volume, PATIENCE) {
                Ok(()) => {
                    tell(Severity::Notice, &format!("removed the snapshot that an earlier run left ({why})"));
                    outcome.removed.push(name);
                }
                Err(error) => {
                    tell(Severity::Warning, &error.to_string());
                    outcome.left.push((name, error.to_string()));
                }
            },
        }
    }
    Ok(outcome)
}

/// The decision for a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Staleness {
    /// It does not have the tag.
    NotOurs,
    /// A run in progress uses it.
    InUseByRun(String),
    /// It has the tag, but does not look like a stale snapshot for this reason.
    Leave(String),
    /// It is stale, for this reason.
    Remove(String),
}

fn judge(volume: &LvFacts, state_of: impl Fn(&Owner) -> OwnerState) -> Staleness {
    let leave = |why: &str| Staleness::Leave(why.to_owned());
    if !volume.tags.iter().any(|tag| tag == SNAPSHOT_TAG) {
        return Staleness::NotOurs;
    }
    if !is_snapshot_name(&volume.lv) {
        return leave("it has volbak's tag, but not a name that volbak gives; remove the tag or the volume");
    }
    // A thin snapshot survives the deletion of its origin, as a volume of its own. LVM first creates a thick one
    // as a linear volume, clears it and only then ties it to its origin; a power cut in between leaves it linear.
    let is_snapshot = volume.origin.is_some() || volume.is_thin();
    let has_role = |part: &str| volume.roles.iter().any(|role| role.contains(part));
    let is_half_made = volume.attr.starts_with('-') && has_role("public") && !has_role("origin");
    if volume.hidden || !(is_snapshot || is_half_made) {
        return leave("it has volbak's tag, but is no snapshot; remove the tag or the volume");
    }
    let owners: Vec<&str> = volume.tags.iter().filter_map(|tag| tag.strip_prefix(OWNER_TAG_PREFIX)).collect();
    let [owner] = owners[..] else {
        return leave("it does not say which process it belongs to; remove it with lvremove if it is no longer needed");
    };
    let Ok(owner) = owner.parse::<Owner>() else {
        return leave("its owner tag has a form that this version does not know");
    };
    match state_of(&owner) {
        OwnerState::Myself | OwnerState::Running => {
            Staleness::InUseByRun(format!("process {} uses it right now", owner.pid()))
        }
        OwnerState::Unknown => Staleness::Leave(format!(
            "it belongs to process {} on host {}, and whether that still runs cannot be told from here",
            owner.pid(),
            owner.host()
        )),
        OwnerState::Gone if volume.is_open => {
            leave("its device is open; see who uses it with `lsblk` and `fuser -vm`, and run again")
        }
        OwnerState::Gone => Staleness::Remove(format!("process {} has ended", owner.pid())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Staleness, judge};
    use crate::owner::OwnerState;
    use crate::source::lvm::LvFacts;
    use crate::source::lvm::lv_row;

    fn snapshot(name: &str, tags: &[&str]) -> LvFacts {
        let mut volume = lv_row(name, "swi-a-s---", "public,snapshot,thicksnapshot", "linear", "vol-1");
        volume.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        volume
    }

    const OURS: &str = "vol-1-volbak-010203";
    const OWNER: &str = "volbak.owner=host:boot:1:2:3";

    #[test]
    fn only_what_is_surely_left_over_is_removed() {
        let removed = |volume: &LvFacts, state| matches!(judge(volume, |_| state), Staleness::Remove(_));
        let stale = snapshot(OURS, &["volbak", OWNER, "somebodys-tag"]);
        assert!(removed(&stale, OwnerState::Gone));
        assert!(!removed(&stale, OwnerState::Running));
        assert!(!removed(&stale, OwnerState::Myself));
        assert!(!removed(&stale, OwnerState::Unknown));
        let gone = |volume: &LvFacts| judge(volume, |_| OwnerState::Gone);
        let left = |volume: &LvFacts| matches!(gone(volume), Staleness::Leave(_));

        assert_eq!(gone(&snapshot(OURS, &[])), Staleness::NotOurs, "the name alone says nothing");
        assert_eq!(gone(&snapshot(OURS, &["volbak.kept", "volbak2", OWNER])), Staleness::NotOurs);
        assert!(left(&snapshot("_snapshot-0f8fad5b", &["volbak", OWNER])), "Cinder's, tagged by mistake");
        assert!(left(&snapshot("volume-0f8fad5b", &["volbak", OWNER])));
        assert!(left(&snapshot(OURS, &["volbak"])));
        assert!(left(&snapshot(OURS, &["volbak", OWNER, "volbak.owner=host:boot:1:2:4"])));
        assert!(left(&snapshot(OURS, &["volbak", "volbak.owner=x"])));

        let tagged = |attr, role, layout| {
            let mut volume = lv_row(OURS, attr, role, layout, "");
            volume.tags = stale.tags.clone();
            volume
        };
        assert!(removed(&tagged("-wi-a-----", "public", "linear"), OwnerState::Gone), "half-made, then a power cut");
        assert!(left(&tagged("owi-a-s---", "public,origin,thickorigin", "linear")));
        assert!(left(&tagged("twi-aotz--", "private", "thin,pool")));
        let mut open = stale.clone();
        open.is_open = true;
        assert!(left(&open));
        let mut overflowed = stale;
        overflowed.snapshot_invalid = true;
        assert!(removed(&overflowed, OwnerState::Gone));
    }
}
