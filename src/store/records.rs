//! Small files in `.volbak/` that are replaced atomically.

use std::io::Read;

use serde::de::DeserializeOwned;

use super::api::{Listing, Store, Writers};
use super::destination::{Destination, OWN_DIRECTORY};
use super::error::StoreError;
use super::open::OpenError;
use crate::outside::BlockCursor;

/// The kept reports, one file each.
pub const REPORTS: &str = "reports";
/// The states of hosts, a folder for each.
pub const FLEET: &str = "fleet";
/// The saved maps of the cloud, one file each.
pub const MAPS: &str = "cloud";
/// The standing of each volume after its last run.
pub const STANDING: &str = "standing.json";
/// The protected backups, one `VOLUME/STEM` per line.
const PROTECTED: &str = "protected";
const PROTECTED_MAX_BYTES: u64 = 16 << 20;

impl Destination {
    /// Reads a JSON file in `.volbak/`; the default without one. One that cannot be understood is an error.
    pub(crate) fn read_own_json<T: DeserializeOwned + Default>(
        &self,
        name: &str,
        max_bytes: u64,
    ) -> Result<T, StoreError> {
        let Some(own) = self.existing_volume_directory(OWN_DIRECTORY)? else { return Ok(T::default()) };
        let Some(bytes) = own.read_file(name, max_bytes)? else { return Ok(T::default()) };
        serde_json::from_slice(&bytes).map_err(|error| StoreError::Io {
            what: "understanding",
            path: own.path().join(name),
            source: error.into(),
        })
    }

    /// The protected backups, `VOLUME/STEM` each, sorted.
    pub fn protected(&self) -> Result<Vec<String>, StoreError> {
        let Some(own) = self.existing_volume_directory(OWN_DIRECTORY)? else { return Ok(Vec::new()) };
        let bytes = own.read_file(PROTECTED, PROTECTED_MAX_BYTES)?.unwrap_or_default();
        let mut lines: Vec<String> = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
        lines.retain(|line| !line.is_empty());
        lines.sort_unstable();
        lines.dedup();
        Ok(lines)
    }

    /// Replaces the list of protected backups. Requires the lock.
    pub fn set_protected(&self, backups: &[String]) -> Result<(), StoreError> {
        let mut text = backups.join("\n");
        text.push('\n');
        self.volume_directory(OWN_DIRECTORY)?.replace_file(PROTECTED, text.as_bytes())
    }
}

impl dyn Store {
    /// Reads at most `max_bytes` of the file `name`; `None` if it does not exist.
    pub fn read_file(&self, name: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let file = match self.open(name) {
            Ok(file) => file,
            Err(OpenError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        let read = BlockCursor::new(file).take(max_bytes).read_to_end(&mut bytes);
        read.map_err(StoreError::io("reading", &self.path().join(name)))?;
        Ok(Some(bytes))
    }

    /// Removes the dated files that are `old`, and what a killed run left of others. `listing` is that of this folder.
    pub fn tidy(&self, listing: &Listing, old: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        for staged in &listing.staged {
            self.discard(staged)?;
        }
        listing.files.iter().filter(|name| old(name)).try_for_each(|name| self.remove(name))
    }

    /// Writes or replaces the file `name` atomically.
    pub fn replace_file(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put(name, bytes, Writers::One)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Destination;

    #[test]
    fn a_record_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let destination = Destination::open(dir.path()).unwrap();
        assert!(destination.existing_own_directory("reports").unwrap().is_none());
        assert_eq!(destination.protected().unwrap(), Vec::<String>::new());
        let reports = destination.own_directory("reports").unwrap();
        assert_eq!(reports.read_file("a", 9).unwrap(), None);
        std::fs::write(reports.path().join(".volbak-tmp.a"), "left by a crash").unwrap();
        reports.replace_file("a", b"one").unwrap();
        reports.replace_file("a", b"two").unwrap();
        assert_eq!(reports.read_file("a", 2).unwrap().unwrap(), b"tw");
        assert_eq!(reports.list().unwrap().files, ["a"]);
        destination.set_protected(&["v/b".to_owned(), "v/a".to_owned()]).unwrap();
        assert_eq!(destination.protected().unwrap(), ["v/a", "v/b"]);
    }
}
