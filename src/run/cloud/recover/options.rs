//! Options of the verb.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};

use crate::config::OpenStackOptions;
use crate::outside::Cancel;
use crate::store::Destination;

/// What is to be recovered, and how.
#[derive(Debug)]
pub struct RecoverOptions {
    /// The cloud.
    pub openstack: OpenStackOptions,
    /// Where the saved maps are.
    pub destination: Option<Destination>,
    /// One instance alone: its id or its name.
    pub instance: Option<String>,
    /// When the power went.
    pub outage: Option<DateTime<Utc>>,
    /// The saved map of this day decides where volumes belong.
    pub from_map: Option<NaiveDate>,
    /// The journal; a file in `/var/lib/volbak/recover`, by the cloud, if `None`.
    pub journal: Option<PathBuf>,
    /// The plan that was seen before: nothing but its steps is done.
    pub seen_plan: Option<PathBuf>,
    /// The user by whom instances whose volumes came late are rebooted from inside, by ssh.
    pub inside: Option<String>,
    /// The pause between two steps.
    pub pause: Duration,
    /// How long one step may take.
    pub patience: Duration,
    /// How long a state that should pass has to stay before it is taken for stale.
    pub settle: Duration,
    /// The wish to stop.
    pub cancel: Cancel,
}
