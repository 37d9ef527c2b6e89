//! Backups kept because of a sudden change after them, in `.volbak/pins.json`.
//!
//! A night that loses or changes most of a volume's files may be an accident or an intruder. The last backup before
//! it is pinned until `volbak accept` confirms the change.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::destination::{Destination, OWN_DIRECTORY};
use super::error::StoreError;

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

/// A sudden change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The stem of the pinned backup: the last before the change.
    pub kept: String,
    /// The stem of the first backup with the change.
    pub changed: String,
    /// The start of that backup.
    pub changed_at: DateTime<Utc>,
    /// The change with its figures, one line.
    pub what: String,
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

    /// Adds a change.
    pub fn add(&mut self, name: &str, pin: Pin) {
        let volume = self.volumes.entry(name.to_owned()).or_default();
        volume.measured_since = Some(pin.changed_at);
        volume.pending.push(pin);
        if volume.pending.len() > MAX_PINS {
            volume.pending.remove(1);
        }
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
        let Some(volume) = self.of(name) else { return Vec::new() };
        let is_pending = |what: &String| volume.pending.iter().any(|pin| pin.what == *what);
        volume.accepted.iter().filter(|what| !is_pending(what)).map(|what| as_problem(what)).collect()
    }

    /// The volumes with pending changes, and these changes.
    pub fn all_pending(&self) -> impl Iterator<Item = (&str, &[Pin])> {
        self.volumes
            .iter()
            .filter(|(_, volume)| !volume.pending.is_empty())
            .map(|(name, volume)| (name.as_str(), volume.pending.as_slice()))
    }
}

/// The beginning of a backup's problem that tells this change.
pub fn as_problem(what: &str) -> String {
    format!("sudden change: {what}")
}

impl Destination {
    /// Reads the pins. An invalid file is an error: retention must not treat the backups as unpinned.
    pub fn pins(&self) -> Result<Pins, StoreError> {
        let Some(own) = self.existing_volume_directory(OWN_DIRECTORY)? else { return Ok(Pins::default()) };
        let Some(bytes) = own.read_file(FILE, FILE_MAX_BYTES)? else { return Ok(Pins::default()) };
        serde_json::from_slice(&bytes).map_err(|error| StoreError::Io {
            what: "understanding",
            path: own.path().join(FILE),
            source: error.into(),
        })
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

    use super::{MAX_PINS, Pin, Pins};
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
        pins.add("v", pin(1));
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
        let mut pins = Pins::default();
        for number in 0..100 {
            pins.add("v", pin(number));
        }
        let pending = pins.pending("v");
        assert_eq!(pending.len(), MAX_PINS);
        assert_eq!((&pending[0], pending.last().unwrap()), (&pin(0), &pin(99)));
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
