//! The checks, in the order in which they are made.

use std::cell::RefCell;

use chrono::{DateTime, Utc};

use super::tries::{self, Tried, tried};
use super::{Abilities, Answer, Finding};
use crate::objects::{ObjectClient, ObjectError, Written};
use crate::shown;

/// The length of a probe object: enough to see that a range of it is the right one.
pub(super) const PROBE_BYTES: usize = 64 << 10;
const MOST_REMAINS: usize = 200;

pub(super) struct Probe<'a> {
    pub(super) client: &'a ObjectClient,
    now: DateTime<Utc>,
    /// The folder of this check: no two checks share it.
    folder: String,
    pub(super) content: Vec<u8>,
    pub(super) abilities: Abilities,
    findings: Vec<Finding>,
    /// What was written, to be removed.
    written: RefCell<Vec<(String, Option<String>)>>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(client: &'a ObjectClient, now: DateTime<Utc>) -> Self {
        let id = tries::unique(now);
        let folder = client.address().key(&format!(".volbak/probe/{id}"));
        let content = tries::noise(PROBE_BYTES);
        let (abilities, findings) = (Abilities::default(), Vec::new());
        Self { client, now, folder, content, abilities, findings, written: RefCell::default() }
    }

    /// Makes all checks. Objects of the probe are removed also after an error.
    pub(super) fn run(mut self) -> Result<(Abilities, Vec<Finding>), ObjectError> {
        let done = self.all();
        // What cannot be removed now is removed by the next check.
        for (key, version) in self.written.take() {
            let _ = self.client.delete(&key, version.as_deref());
        }
        done?;
        self.abilities.skew_seconds = self.client.skew_seconds();
        Ok((self.abilities, self.findings))
    }

    /// Only what an intruder could do.
    pub(super) fn intrude(mut self) -> Result<Vec<Finding>, ObjectError> {
        let done = self.as_intruder();
        for (key, version) in self.written.take() {
            let _ = self.client.delete(&key, version.as_deref());
        }
        done.map(|()| self.findings)
    }

    fn all(&mut self) -> Result<(), ObjectError> {
        self.write_and_read()?;
        self.list()?;
        self.remains()?;
        self.damaged_upload()?;
        self.replaced()?;
        self.parts()?;
        self.small_parts()?;
        self.copied_range()?;
        self.versions()?;
        self.lock()?;
        self.rule()?;
        self.elsewhere()?;
        self.deleted()
    }

    pub(super) fn add(&mut self, about: &'static str, answer: Answer, what: impl Into<String>) {
        self.findings.push(Finding { about, answer, what: what.into() });
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    pub(super) fn note(&self, key: &str, written: &Written) {
        self.written.borrow_mut().push((key.to_owned(), written.version.clone()));
    }

    pub(super) fn put(&self, name: &str) -> Result<String, ObjectError> {
        let key = self.key(name);
        self.note(&key, &self.client.put(&key, &self.content, false)?);
        Ok(key)
    }

    /// Without this the store is of no use: its error ends the check.
    fn write_and_read(&mut self) -> Result<(), ObjectError> {
        let key = self.put("plain")?;
        let read = self.client.get(&key, PROBE_BYTES as u64)?;
        if read.as_deref() == Some(&self.content[..]) {
            self.add("objects", Answer::Good, "an object is read as it was written");
        } else {
            self.add("objects", Answer::Bad, "an object that was written just now is missing or has other content");
        }
        let range = 1000..5000;
        let is_right = match tried(self.client.get_range(&key, &range))? {
            Tried::Done(bytes) => bytes == self.content[1000..5000],
            Tried::Refused(_) | Tried::Odd(_) => false,
        };
        self.abilities.ranged_reads = Some(is_right);
        if is_right {
            self.add("ranges", Answer::Good, "a part of an object is read alone");
        } else {
            self.add(
                "ranges",
                Answer::Bad,
                "a part of an object cannot be read alone: each restored file would read all of its archive",
            );
        }
        Ok(())
    }

    fn list(&mut self) -> Result<(), ObjectError> {
        let listed = self.client.list(&format!("{}/", self.folder), false)?;
        let is_there =
            listed.objects.iter().any(|object| object.key == self.key("plain") && object.len == PROBE_BYTES as u64);
        if is_there {
            self.add("lists", Answer::Good, "an object is listed as soon as it is written");
        } else {
            self.add(
                "lists",
                Answer::Doubtful,
                "an object that was written just now is not listed: lists of backups are late",
            );
        }
        Ok(())
    }

    /// Removes what an interrupted check left.
    fn remains(&mut self) -> Result<(), ObjectError> {
        let all = self.client.address().key(".volbak/probe/");
        if let Tried::Done(uploads) = tried(self.client.uploads(&all))? {
            for (key, id) in uploads.iter().take(MOST_REMAINS) {
                tried(self.client.abort_upload(key, id))?;
            }
        }
        let own = format!("{}/", self.folder);
        let objects = self.client.list(&all, false)?.objects;
        for object in objects.iter().filter(|object| !object.key.starts_with(&own)).take(MOST_REMAINS) {
            // Without the right to delete they stay; they are small.
            tried(self.client.delete(&object.key, None))?;
        }
        Ok(())
    }

    fn damaged_upload(&mut self) -> Result<(), ObjectError> {
        let key = self.key("damaged");
        let other = tries::md5_of(b"something else");
        let checks = match tried(self.client.put_with_md5(&key, &self.content, other))? {
            Tried::Done(written) => {
                self.note(&key, &written);
                false
            }
            Tried::Refused(_) | Tried::Odd(_) => true,
        };
        self.abilities.checks_md5 = Some(checks);
        if checks {
            self.add("damage", Answer::Good, "an upload that was damaged on the way is refused (Content-MD5)");
        } else {
            self.add(
                "damage",
                Answer::Doubtful,
                "Content-MD5 is not heeded: damage on the way is found by `verify` alone",
            );
        }
        Ok(())
    }

    fn replaced(&mut self) -> Result<(), ObjectError> {
        let key = self.put("replaced")?;
        let (keeps, what) = match tried(self.client.put(&key, b"other", true))? {
            Tried::Done(written) => {
                self.note(&key, &written);
                (false, "If-None-Match is not heeded: an object is replaced".to_owned())
            }
            Tried::Refused(refusal) if refusal.is_there => {
                (true, "If-None-Match keeps an object from being replaced".to_owned())
            }
            Tried::Refused(refusal) => (false, format!("If-None-Match is not supported ({})", refusal.what)),
            Tried::Odd(why) => (false, format!("If-None-Match: {why}")),
        };
        self.abilities.only_new = Some(keeps);
        // volbak does not rely on it: each run has keys of its own.
        self.add("conditions", Answer::Good, what);
        Ok(())
    }

    fn versions(&mut self) -> Result<(), ObjectError> {
        let (is_on, answer, what) = match tried(self.client.versioning())? {
            Tried::Done(Some(state)) if state == "Enabled" => (
                Some(true),
                Answer::Good,
                "the bucket keeps versions: what is overwritten or deleted can be brought back".to_owned(),
            ),
            Tried::Done(state) => {
                let state = state.map_or_else(|| "off".to_owned(), |state| shown::text(&state));
                let what = format!(
                    "the bucket keeps no versions ({state}): an intruder with its credentials can overwrite backups: enable versioning"
                );
                (Some(false), Answer::Doubtful, what)
            }
            Tried::Refused(refusal) => {
                (None, Answer::Doubtful, format!("whether the bucket keeps versions is not known: {}", refusal.what))
            }
            Tried::Odd(why) => {
                (None, Answer::Doubtful, format!("whether the bucket keeps versions is not known: {why}"))
            }
        };
        self.abilities.versions = is_on;
        self.add("versions", answer, what);
        Ok(())
    }

    fn lock(&mut self) -> Result<(), ObjectError> {
        let key = self.key("locked");
        if let Some(why) = self.client.why_no_lock() {
            self.abilities.locks = Some(false);
            self.add("lock", Answer::Good, format!("no object lock: {why}"));
            return Ok(());
        }
        let lock = tries::lock(self.now);
        let (locks, what) = match tried(self.client.put_locked(&key, &self.content, &lock))? {
            Tried::Refused(refusal) => (false, format!("no object lock: {}", refusal.what)),
            Tried::Odd(why) => (false, format!("no object lock: {why}")),
            Tried::Done(written) => {
                let retention = tried(self.client.retention(&key, written.version.as_deref()))?;
                let is_set = matches!(&retention, Tried::Done(Some((mode, _))) if mode == "GOVERNANCE");
                // Deleting a locked version has to fail. If it does not, nothing is left.
                let deleted = tried(self.client.delete(&key, written.version.as_deref()))?;
                match (is_set, deleted) {
                    (false, _) => (
                        false,
                        "a lock is taken without a word, and not kept: object lock cannot be relied on".to_owned(),
                    ),
                    (true, Tried::Done(())) => (
                        false,
                        "a lock is kept, and the locked object can be deleted: object lock cannot be relied on"
                            .to_owned(),
                    ),
                    (true, _) => {
                        self.note(&key, &written);
                        (
                            true,
                            format!(
                                "object lock is enforced: the probe {} stays for {} s",
                                shown::text(&key),
                                tries::LOCK_SECONDS
                            ),
                        )
                    }
                }
            }
        };
        self.abilities.locks = Some(locks);
        self.add("lock", Answer::Good, what);
        Ok(())
    }

    fn rule(&mut self) -> Result<(), ObjectError> {
        let ends = match tried(self.client.ends_uploads())? {
            Tried::Done(ends) => ends,
            Tried::Refused(_) | Tried::Odd(_) => None,
        };
        self.abilities.ends_uploads = ends;
        match ends {
            Some(true) => self.add("lifecycle", Answer::Good, "a rule of the bucket ends uploads that were not completed"),
            Some(false) => self.add(
                "lifecycle",
                Answer::Doubtful,
                "no rule of the bucket ends uploads that were not completed: add AbortIncompleteMultipartUpload after 7 days",
            ),
            None => self.add("lifecycle", Answer::NotTried, "the store does not say whether a rule ends uploads that were not completed"),
        }
        Ok(())
    }

    fn elsewhere(&mut self) -> Result<(), ObjectError> {
        if self.client.address().prefix.is_empty() {
            self.add(
                "other hosts",
                Answer::NotTried,
                "the destination is the whole bucket: give each host a prefix of its own",
            );
            return Ok(());
        }
        let key = format!("volbak-probe-{}", tries::unique(self.now));
        let may = match tried(self.client.put(&key, b"", false))? {
            Tried::Done(written) => {
                self.note(&key, &written);
                true
            }
            Tried::Refused(_) | Tried::Odd(_) => false,
        };
        self.abilities.may_write_elsewhere = Some(may);
        if may {
            self.add(
                "other hosts",
                Answer::Doubtful,
                "these credentials write outside the prefix, and so over backups of other hosts",
            );
        } else {
            self.add("other hosts", Answer::Good, "these credentials do not write outside the prefix");
        }
        Ok(())
    }

    fn deleted(&mut self) -> Result<(), ObjectError> {
        let key = self.put("deleted")?;
        let may = match tried(self.client.delete(&key, None))? {
            Tried::Done(()) => self.client.head(&key)?.is_none(),
            Tried::Refused(_) | Tried::Odd(_) => false,
        };
        self.abilities.may_delete = Some(may);
        let what = if may {
            "these credentials delete objects: `prune` works with them, and so does whoever steals them"
        } else {
            "these credentials do not delete objects: prune with others, elsewhere"
        };
        self.add("deleting", Answer::Good, what);
        Ok(())
    }
}
