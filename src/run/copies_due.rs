//! The backups that a night has to copy to the second destination. The record is written before the copies begin, and each
//! copy that was made is struck off: a copy that failed is tried again, although newer backups were copied since.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{Destination, OWN_DIRECTORY, StoreError};

/// Its name in `.volbak/`.
const FILE: &str = "copies-due.json";
const MAX_BYTES: u64 = 64 << 20;

/// `VOLUME/STEM` of the backups that each second destination lacks.
type AllDue = BTreeMap<String, BTreeSet<String>>;

/// The backups that one second destination lacks.
pub(crate) struct CopiesDue<'a> {
    destination: &'a Destination,
    to: String,
    recorded: BTreeSet<String>,
}

impl<'a> CopiesDue<'a> {
    /// Reads the record for the second destination `to`.
    pub(crate) fn read(destination: &'a Destination, to: &str) -> Result<Self, StoreError> {
        let recorded = all_due(destination)?.remove(to).unwrap_or_default();
        Ok(Self { destination, to: to.to_owned(), recorded })
    }

    /// An empty record in place of one that cannot be read.
    pub(crate) fn unknown(destination: &'a Destination, to: &str) -> Self {
        Self { destination, to: to.to_owned(), recorded: BTreeSet::new() }
    }

    /// Whether this backup is still to be copied.
    pub(crate) fn contains(&self, volume: &str, stem: &str) -> bool {
        self.recorded.contains(&key(volume, stem))
    }

    /// Records these backups, and no others.
    pub(crate) fn record<'b>(&mut self, due: impl Iterator<Item = (&'b str, &'b str)>) -> Result<(), StoreError> {
        let due: BTreeSet<String> = due.map(|(volume, stem)| key(volume, stem)).collect();
        if due == self.recorded {
            return Ok(());
        }
        // A record that cannot be read is replaced.
        let mut all = all_due(self.destination).unwrap_or_default();
        if due.is_empty() {
            all.remove(&self.to);
        } else {
            all.insert(self.to.clone(), due.clone());
        }
        let bytes = serde_json::to_vec(&all).unwrap_or_default();
        self.destination.volume_directory(OWN_DIRECTORY)?.replace_file(FILE, &bytes)?;
        self.recorded = due;
        Ok(())
    }
}

fn key(volume: &str, stem: &str) -> String {
    format!("{volume}/{stem}")
}

fn all_due(destination: &Destination) -> Result<AllDue, StoreError> {
    destination.read_own_json(FILE, MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::CopiesDue;
    use crate::store::Destination;

    #[test]
    fn each_second_destination_has_its_own_record() {
        let dir = tempfile::tempdir().unwrap();
        let destination = Destination::open(dir.path()).unwrap();
        let read = |to: &str| CopiesDue::read(&destination, to).unwrap();
        read("one").record([("v", "v_1"), ("v", "v_2")].into_iter()).unwrap();
        read("other").record([("v", "v_3")].into_iter()).unwrap();
        assert!(
            read("one").contains("v", "v_2") && !read("one").contains("v", "v_3") && !read("one").contains("w", "v_2")
        );
        read("one").record(std::iter::empty()).unwrap();
        assert!(!read("one").contains("v", "v_1") && read("other").contains("v", "v_3"));
        let file = dir.path().join(".volbak/copies-due.json");
        std::fs::write(&file, "{").unwrap();
        assert!(CopiesDue::read(&destination, "one").is_err());
        CopiesDue::unknown(&destination, "one").record([("v", "v_4")].into_iter()).unwrap();
        assert!(read("one").contains("v", "v_4"));
    }
}
