//! What somebody with the credentials of this host could do to its backups, and to those of others: tried on probe objects.

use chrono::{DateTime, TimeDelta, Utc};

use super::probe::Probe;
use super::tries::{self, Tried, tried};
use super::{Answer, Finding, client};
use crate::config::Config;
use crate::error::with_causes;
use crate::objects::{LockHeaders, ObjectAddress, ObjectClient, ObjectError};

/// How long the probe of the lock is locked.
const LOCK_SECONDS: i64 = 300;

/// For `doctor`: tries it if the destination is in an object store, and removes what was written as far as that may be done.
pub fn intruder_findings(config: &Config, now: DateTime<Utc>) -> Vec<Finding> {
    let address = config.backup_destination.display().to_string();
    if !ObjectAddress::is_meant(&address) {
        return Vec::new();
    }
    let found = client(&address, &config.store).and_then(|client| intruder(&client, now));
    found.unwrap_or_else(|error| {
        vec![Finding { about: "intruder", answer: Answer::Doubtful, what: with_causes(&error) }]
    })
}

fn intruder(client: &ObjectClient, now: DateTime<Utc>) -> Result<Vec<Finding>, ObjectError> {
    Probe::new(client, now).intrude()
}

impl Probe<'_> {
    /// The tries, in the order of their harm.
    pub(super) fn as_intruder(&mut self) -> Result<(), ObjectError> {
        let keeps_versions = matches!(tried(self.client.versioning())?, Tried::Done(Some(state)) if state == "Enabled");
        self.overwrite(keeps_versions)?;
        self.delete_version(keeps_versions)?;
        self.shorten()?;
        self.read_elsewhere()
    }

    fn overwrite(&mut self, keeps_versions: bool) -> Result<(), ObjectError> {
        let key = self.put("overwritten")?;
        match tried(self.client.put(&key, b"overwritten", false))? {
            Tried::Done(written) => {
                self.note(&key, &written);
                let (answer, what) = if keeps_versions {
                    (Answer::Good, "can be overwritten; the version before it stays, and `verify` reports it")
                } else {
                    (Answer::Doubtful, "can be overwritten, and its content is lost: enable versions in the bucket")
                };
                self.add("intruder", answer, format!("with the credentials of this host a backup {what}"));
            }
            Tried::Refused(_) | Tried::Odd(_) => {
                self.add("intruder", Answer::Good, "the credentials of this host overwrite no backup");
            }
        }
        Ok(())
    }

    fn delete_version(&mut self, keeps_versions: bool) -> Result<(), ObjectError> {
        let key = self.key("deleted-version");
        let written = self.client.put(&key, &self.content, false)?;
        self.note(&key, &written);
        let is_deleted = |result| Ok::<_, ObjectError>(matches!(tried(result)?, Tried::Done(())));
        let may_delete = is_deleted(self.client.delete(&key, None))? && self.client.head(&key)?.is_none();
        let may_delete_version = keeps_versions && is_deleted(self.client.delete(&key, written.version.as_deref()))?;
        let (answer, what) = match (may_delete, keeps_versions, may_delete_version) {
            (true, false, _) | (_, true, true) => {
                (Answer::Doubtful, "delete backups for good: take the right away, or lock backups (`lock` in [store])")
            }
            (true, true, false) => (Answer::Good, "delete backups, whose versions stay"),
            (false, ..) => (Answer::Good, "delete no backup"),
        };
        self.add("intruder", answer, format!("the credentials of this host {what}"));
        Ok(())
    }

    /// Writes a locked probe, and tries to end its lock.
    fn shorten(&mut self) -> Result<(), ObjectError> {
        if !matches!(tried(self.client.has_object_lock())?, Tried::Done(true)) {
            self.add(
                "intruder",
                Answer::NotTried,
                "the bucket has no object lock, or these credentials may not ask: no lock was tried",
            );
            return Ok(());
        }
        let lock = |seconds| LockHeaders { mode: "GOVERNANCE", until: tries::in_seconds(seconds) };
        let key = self.key("shortened");
        let written = match tried(self.client.put_locked(&key, &self.content, &lock(LOCK_SECONDS)))? {
            Tried::Done(written) => written,
            Tried::Refused(_) | Tried::Odd(_) => {
                self.add(
                    "intruder",
                    Answer::NotTried,
                    "these credentials write nothing that is locked: no lock was tried",
                );
                return Ok(());
            }
        };
        self.note(&key, &written);
        let version = written.version.as_deref();
        if let Tried::Done(()) = tried(self.client.set_retention(&key, version, &lock(2)))? {
            let is_shorter = |until: &str| {
                DateTime::parse_from_rfc3339(until)
                    .is_ok_and(|end| end < Utc::now() + TimeDelta::seconds(LOCK_SECONDS / 2))
            };
            let found = tried(self.client.retention(&key, version))?;
            if matches!(&found, Tried::Done(Some((_, until))) if is_shorter(until))
                || matches!(found, Tried::Done(None))
            {
                let what = "the credentials of this host end locks (s3:BypassGovernanceRetention): take the right away, or use lock = \"compliance\"";
                self.add("intruder", Answer::Doubtful, what);
                return Ok(());
            }
        }
        self.add(
            "intruder",
            Answer::Good,
            format!("the credentials of this host end no lock; a probe stays locked for {LOCK_SECONDS} s"),
        );
        Ok(())
    }

    /// Looks for an object of another prefix, and reads its first byte.
    fn read_elsewhere(&mut self) -> Result<(), ObjectError> {
        let own = self.client.address().key("");
        if own.is_empty() {
            return Ok(());
        }
        let listed = match tried(self.client.list_first("", 1000))? {
            Tried::Done(listed) => listed,
            Tried::Refused(_) | Tried::Odd(_) => {
                self.add("intruder", Answer::Good, "the credentials of this host list no other prefixes");
                return Ok(());
            }
        };
        let Some(other) = listed.iter().find(|key| !key.starts_with(&own)) else {
            self.add("intruder", Answer::NotTried, "nothing of another host was found to be read");
            return Ok(());
        };
        let may_read = matches!(tried(self.client.get_first(other, 1))?, Tried::Done(Some(_)));
        if may_read {
            let what = "the credentials of this host read objects of other hosts: limit them to its prefix, or encrypt backups";
            self.add("intruder", Answer::Doubtful, what);
        } else {
            self.add("intruder", Answer::Good, "the credentials of this host read no objects of other hosts");
        }
        Ok(())
    }
}
