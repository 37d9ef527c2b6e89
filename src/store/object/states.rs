//! The objects of a backup as the store has them now, with their older versions.

use std::collections::BTreeSet;

use super::{ObjectStore, seen};
use crate::manifest::ObjectRecord;
use crate::objects::{ObjectError, ObjectVersion};
use crate::store::api::ObjectStates;
use crate::store::error::StoreError;

impl ObjectStore {
    /// The objects whose names begin with `start`, and their parts. One request; one more for each destination, which asks
    /// for versions. With Swift a few for each object that may be large.
    pub(super) fn states(&self, start: &str) -> Result<ObjectStates, StoreError> {
        let mut states = self.without_parts(start)?;
        for (name, state) in &mut states.by_name {
            if state.current.is_none() || seen::is_small(name) {
                continue;
            }
            match self.client.wrong_parts(&self.key(name)?) {
                Ok(wrong) => state.wrong_parts = wrong,
                Err(error) if error.status() == Some(403) => {
                    states.without_parts = Some("these credentials may not look at segments".to_owned());
                }
                Err(error) => return Err(self.failed("looking at the segments of", name, error)),
            }
        }
        Ok(states)
    }

    fn without_parts(&self, start: &str) -> Result<ObjectStates, StoreError> {
        let prefix = self.key(start)?;
        let failed = |error| self.failed("listing", start, error);
        let mut without_versions = None;
        let may_not = |right: &str| Some(format!("these credentials may not ask for versions ({right})"));
        match self.asked_for_versions() {
            Ok(true) => match self.client.object_versions(&prefix) {
                Ok(versions) => return Ok(self.by_name(versions)),
                Err(error) if error.status() == Some(403) => without_versions = may_not("s3:ListBucketVersions"),
                Err(error) => return Err(failed(error)),
            },
            Err(error) if error.status() == Some(403) => without_versions = may_not("s3:GetBucketVersioning"),
            // The bucket has no versions, or the store.
            Ok(false) | Err(ObjectError::Status { .. } | ObjectError::NotUnderstood { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        let mut states = ObjectStates { without_versions, ..ObjectStates::default() };
        for object in self.client.list(&prefix, false).map_err(failed)?.objects {
            let state = states.by_name.entry(object.key[self.prefix.len()..].to_owned()).or_default();
            state.current = Some(ObjectRecord { etag: object.etag, version: None });
        }
        Ok(states)
    }

    fn by_name(&self, versions: Vec<ObjectVersion>) -> ObjectStates {
        let mut states = ObjectStates::default();
        let mut decided = BTreeSet::new();
        for ObjectVersion { key, id, etag, is_latest } in versions {
            let name = &key[self.prefix.len()..];
            let state = states.by_name.entry(name.to_owned()).or_default();
            if is_latest {
                decided.insert(name.to_owned());
            }
            let Some(etag) = etag else { continue };
            let object = ObjectRecord { etag, version: Some(id).filter(|id| id != "null") };
            if is_latest && state.current.is_none() {
                state.current = Some(object);
            } else {
                state.older.push(object);
            }
        }
        // A store that does not say which version is the latest lists it first.
        for (name, state) in &mut states.by_name {
            if !decided.contains(name) && !state.older.is_empty() {
                state.current = Some(state.older.remove(0));
            }
        }
        states
    }
}
