//! `store check`: what an object store can do is tried on small objects below `.volbak/` of the destination, which are
//! removed again, and recorded there.

mod intruder;
mod probe;
mod tries;
mod uploads;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::objects::{ObjectClient, ObjectError};
use crate::outside::host;
pub use crate::run::doctor::{Answer, Finding};
pub use crate::store::object::client;
pub use intruder::intruder_findings;
use probe::Probe;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct StoreFacts {
    /// The destination.
    pub destination: String,
    /// The store's address.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// Where the credentials come from.
    pub credentials_from: String,
    /// The host that tried it.
    pub host: String,
    /// When.
    pub checked_at: DateTime<Utc>,
    /// What the store can do, for programs.
    #[serde(flatten)]
    pub abilities: Abilities,
    /// Each check, for people.
    pub findings: Vec<Finding>,
    /// The key of the record of this check in the bucket; `None` if it could not be written.
    pub recorded_as: Option<String>,
    /// Requests that were sent.
    pub requests: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Bytes that were received.
    pub received_bytes: u64,
}

/// What the store can do. `None`: not known.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Abilities {
    /// A part of an object is read alone.
    pub ranged_reads: Option<bool>,
    /// An upload that was damaged on the way is refused.
    pub checks_md5: Option<bool>,
    /// The highest number of a part.
    pub most_parts: Option<u32>,
    /// A part that is not the last may have less than 5 MiB.
    pub small_parts: Option<bool>,
    /// A part is made of a range of another object.
    pub copies_ranges: Option<bool>,
    /// `If-None-Match: *` keeps an object from being replaced.
    pub only_new: Option<bool>,
    /// The same, when an upload in parts is completed.
    pub only_new_upload: Option<bool>,
    /// The bucket keeps versions.
    pub versions: Option<bool>,
    /// A lock keeps a version from being deleted.
    pub locks: Option<bool>,
    /// A rule of the bucket ends uploads that were not completed.
    pub ends_uploads: Option<bool>,
    /// These credentials may delete.
    pub may_delete: Option<bool>,
    /// These credentials may write outside the prefix.
    pub may_write_elsewhere: Option<bool>,
    /// The store's clock minus this host's in seconds, if it refuses requests for that.
    pub skew_seconds: i64,
}

/// Tries the store, and records what was found. An error means that it cannot be used at all.
pub fn check(client: &ObjectClient, now: DateTime<Utc>) -> Result<StoreFacts, ObjectError> {
    let (abilities, mut findings) = Probe::new(client, now).run()?;
    let settings = client.settings();
    for note in settings.readable_files.iter().chain(&settings.doubts).cloned().chain(client.take_notes()) {
        findings.push(Finding { about: "settings", answer: Answer::Doubtful, what: note });
    }
    let (settings, traffic) = (client.settings(), client.traffic());
    let mut facts = StoreFacts {
        destination: client.address().to_string(),
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        credentials_from: settings.credentials_from.clone(),
        host: host::name(),
        checked_at: now,
        abilities,
        findings,
        recorded_as: None,
        requests: traffic.requests,
        sent_bytes: traffic.sent_bytes,
        received_bytes: traffic.received_bytes,
    };
    // A new key for each record: nothing in the store is written twice.
    let time = now.to_rfc3339_opts(SecondsFormat::Millis, true).replace(':', "");
    let key = client.address().key(&format!(".volbak/checks/{time}.json"));
    let text = serde_json::to_vec_pretty(&facts).unwrap_or_default();
    match client.put(&key, &text, false) {
        Ok(_) => facts.recorded_as = Some(key),
        Err(error) => facts.findings.push(Finding {
            about: "record",
            answer: Answer::Doubtful,
            what: format!("what was found is not recorded in the store: {error}"),
        }),
    }
    Ok(facts)
}
