//! The way to the object store of a project: a token, and the address from the catalogue.

use super::catalogue::OBJECT_STORE;
use super::error::CloudError;
use super::session::{Limits, Session};
use super::settings::CloudSettings;
use crate::http::{Http, Secret};

/// A token, and where the object store of its project is.
#[derive(Debug)]
pub(crate) struct ObjectStoreAccess {
    pub(crate) token: Secret,
    pub(crate) url: String,
}

/// Logs in through `http`, and looks the object store up.
pub(crate) fn object_store(
    settings: &CloudSettings,
    http: Http,
    limits: Limits,
) -> Result<ObjectStoreAccess, CloudError> {
    let session = Session::through(http, settings.clone(), limits)?;
    let url = session.endpoint(OBJECT_STORE)?;
    Ok(ObjectStoreAccess { token: session.token()?, url })
}
