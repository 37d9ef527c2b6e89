//! Backups kept because of a sudden change after them, in `.volbak/pins.json`.
//!
//! A night that loses or changes most of a volume's files may be an accident or an intruder. The last backup before
//! it is pinned until `volbak accept` confirms the change.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::destination::{Destination, OWN_DIRECTORY};
use super::error::StoreError;
use crate::manifest::Manifest;
pub use crate::manifest::Pin;

const FILE: &str = "pins.json";
const FILE_MAX_BYTES: u64 = 64 << 20;
/// With more pending changes of a volume, the first and the most recent ones are kept.
const MAX_PINS: usize = 8;

/// The pins of all volumes, by volume name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    volumes: BTreeMap<String, VolumePins>,
}

/// The pins of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumePins {
    /// Changes not yet accepted, oldest first.
    pub pending: Vec<Pin>,
    /// The changes that were accepted last, each in the words of [`Pin::what`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// The start of the first backup after the last change. Earlier backups are no baseline for later nights.
    /// `None` without a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_since: Option<DateTime<Utc>>,
}

impl Pins {
    /// The pins of the volume `name`.
    pub fn of(&self, name: &str) -> Option<&VolumePins> {
        self.volumes.get(name)
    }

    /// The changes of the volume `name` not yet accepted, oldest first.
    pub fn pending(&self, name: &str) -> &[Pin] {
        self.of(name).map_or(&[], |volume| &volume.pending)
    }

    /// Replaces the pins of the volume `name`.
    pub fn set(&mut self, name: &str, pins: VolumePins) {
        self.volumes.insert(name.to_owned(), pins);
    }

    /// Removes and returns the pending changes of the volume `name`, and notes that they are accepted.
    pub fn accept(&mut self, name: &str) -> Vec<Pin> {
        let Some(volume) = self.volumes.get_mut(name) else { return Vec::new() };
        let accepted = std::mem::take(&mut volume.pending);
        volume.accepted.extend(accepted.iter().map(|pin| pin.what.clone()));
        let old = volume.accepted.len().saturating_sub(MAX_PINS);
        volume.accepted.drain(..old);
        accepted
    }

    /// The changes of the volume `name` that were accepted last, each as [`as_problem`] has it; none that is pending again.
    pub fn accepted(&self, name: &str) -> Vec<String> {
        self.of(name).map(VolumePins::accepted_problems).unwrap_or_default()
    }

    /// The volumes with pending changes, and these changes.
    pub fn all_pending(&self) -> impl Iterator<Item = (&str, &[Pin])> {
        self.volumes
            .iter()
            .filter(|(_, volume)| !volume.pending.is_empty())
            .map(|(name, volume)| (name.as_str(), volume.pending.as_slice()))
    }
}

impl VolumePins {
    /// Adds a change.
    pub fn add(&mut self, pin: Pin) {
        self.measured_since = Some(pin.changed_at);
        self.pending.push(pin);
        if self.pending.len() > MAX_PINS {
            self.pending.remove(1);
        }
    }

    /// Adds the changes that the volume's backups record, since they could not be written here, and returns them.
    pub fn add_unwritten<'a>(&mut self, manifests: impl Iterator<Item = &'a Manifest>) -> Vec<Pin> {
        let is_unwritten = |pin: &&Pin| self.measured_since.is_none_or(|since| pin.changed_at > since);
        let mut unwritten: Vec<Pin> =
            manifests.flat_map(|manifest| &manifest.unpinned).filter(is_unwritten).cloned().collect();
        unwritten.sort_by_key(|pin| pin.changed_at);
        unwritten.dedup();
        for pin in &unwritten {
            self.add(pin.clone());
        }
        unwritten
    }

    /// The changes that were accepted last, as [`Pins::accepted`].
    pub fn accepted_problems(&self) -> Vec<String> {
        let is_pending = |what: &String| self.pending.iter().any(|pin| pin.what == *what);
        self.accepted.iter().filter(|what| !is_pending(what)).map(|what| as_problem(what)).collect()
    }
}

/// The beginning of a backup's problem that tells this change.
pub fn as_problem(what: &str) -> String {
    format!("sudden change: {what}")
}

impl Destination {
    /// Reads the pins. An invalid file is an error: retention must not treat the backups as unpinned.
    pub fn pins(&self) -> Result<Pins, StoreError> {
        self.read_own_json(FILE, FILE_MAX_BYTES)
    }

    /// Replaces the pins. Requires the lock.
    pub fn set_pins(&self, pins: &Pins) -> Result<(), StoreError> {
        let mut text = serde_json::to_string_pretty(pins).map_err(|error| StoreError::Io {
            what: "writing",
            path: self.root().join(OWN_DIRECTORY).join(FILE),
            source: error.into(),
        })?;
        text.push('\n');
        self.volume_directory(OWN_DIRECTORY)?.replace_file(FILE, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::{MAX_PINS, Pin, Pins, VolumePins};
    use crate::manifest::{Manifest, blank};
    use crate::store::Destination;

    fn pin(number: u32) -> Pin {
        Pin {
            kept: format!("v_{number}"),
            changed: format!("v_{}", number + 1),
            changed_at: DateTime::UNIX_EPOCH + TimeDelta::days(number.into()),
            what: "fewer".to_owned(),
        }
    }

    #[test]
    fn pins_are_kept_until_they_are_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let destination = Destination::open(dir.path()).unwrap();
        let mut pins = destination.pins().unwrap();
        assert_eq!(pins, Pins::default());
        let mut of_v = VolumePins::default();
        of_v.add(pin(1));
        pins.set("v", of_v);
        destination.set_pins(&pins).unwrap();
        let mut read = destination.pins().unwrap();
        assert_eq!(read.pending("v"), [pin(1)]);
        assert_eq!(read.pending("w"), []);
        assert_eq!(read.accept("v"), [pin(1)]);
        assert_eq!(read.all_pending().count(), 0);
        assert_eq!(read.accepted("v"), ["sudden change: fewer"]);
        assert_eq!(read.of("v").unwrap().measured_since, Some(pin(1).changed_at), "still the measure after it");
    }

    #[test]
    fn of_many_changes_the_first_and_the_last_stay() {
        let mut pins = VolumePins::default();
        for number in 0..100 {
            pins.add(pin(number));
        }
        let pending = pins.pending;
        assert_eq!(pending.len(), MAX_PINS);
        assert_eq!((&pending[0], pending.last().unwrap()), (&pin(0), &pin(99)));
    }

    #[test]
    fn pins_that_only_backups_record_are_pending_until_they_are_written() {
        let backup = |pins: &[Pin]| Manifest { unpinned: pins.to_vec(), ..blank() };
        let backups = [backup(&[pin(3)]), backup(&[]), backup(&[pin(3), pin(4)])];
        let mut pins = VolumePins::default();
        pins.add(pin(1));
        assert_eq!(pins.add_unwritten(backups.iter()), [pin(3), pin(4)]);
        assert_eq!(pins.pending, [pin(1), pin(3), pin(4)]);
        assert_eq!(pins.add_unwritten(backups.iter()), [], "they are known now");
    }

    #[test]
    fn pins_that_cannot_be_understood_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let destination = Destination::open(dir.path()).unwrap();
        destination.set_pins(&Pins::default()).unwrap();
        std::fs::write(dir.path().join(".volbak/pins.json"), "{").unwrap();
        assert!(destination.pins().is_err());
    }
}
