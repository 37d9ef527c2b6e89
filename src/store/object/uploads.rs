//! Uploads that no process continues.

use super::ObjectStore;
use crate::store::error::StoreError;

impl ObjectStore {
    /// Aborts uploads below this prefix that no open file of this process continues: what killed runs left. Only the
    /// one writer of the prefix may call this. Returns their number.
    pub fn abort_dead_uploads(&self) -> Result<usize, StoreError> {
        let failed = |error| self.failed("aborting uploads in", "", error);
        let mut aborted = 0;
        for (key, id) in self.client.uploads(&self.prefix).map_err(failed)? {
            if self.stage.find(&key).is_some() {
                continue;
            }
            // A part that was on its way may arrive after the upload was aborted.
            for _ in 0..10 {
                self.client.abort_upload(&key, &id).map_err(failed)?;
                if !self.client.has_parts(&key, &id).map_err(failed)? {
                    break;
                }
            }
            aborted += 1;
        }
        Ok(aborted)
    }
}
