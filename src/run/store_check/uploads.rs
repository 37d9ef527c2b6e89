//! Checks of uploads in parts.

use super::Answer;
use super::probe::{PROBE_BYTES, Probe};
use super::tries::{self, Tried, tried};
use crate::objects::{CopySource, ObjectError, Part};

/// Parts of an upload, as Amazon has it.
const USUAL_MOST_PARTS: u32 = 10_000;
/// What Swift has, and the least that volbak needs.
const LEAST_MOST_PARTS: u32 = 1000;

impl Probe<'_> {
    fn begun(&mut self, name: &str) -> Result<Option<(String, String)>, ObjectError> {
        let key = self.key(name);
        match tried(self.client.begin_upload(&key))? {
            Tried::Done(id) => Ok(Some((key, id))),
            Tried::Refused(_) | Tried::Odd(_) => Ok(None),
        }
    }

    pub(super) fn parts(&mut self) -> Result<(), ObjectError> {
        let Some((key, id)) = self.begun("parts")? else {
            self.add("uploads", Answer::Bad, "an object cannot be uploaded in parts: archives need that");
            return Ok(());
        };
        let accepts = |number| Ok(matches!(tried(self.client.put_part(&key, &id, number, b"x"))?, Tried::Done(_)));
        let most = match self.client.known_most_parts() {
            // One part is sent in any case: the store may refuse it for another reason.
            Ok(Some(known)) => accepts(1).map(|is_accepted| if is_accepted { known } else { 0 }),
            Ok(None) => tries::highest(USUAL_MOST_PARTS, LEAST_MOST_PARTS, accepts),
            Err(error) => Err(error),
        };
        self.client.abort_upload(&key, &id)?;
        let most = most?;
        let is_gone = !self.client.has_parts(&key, &id)?;
        self.abilities.most_parts = Some(most);
        let (answer, what) = match most {
            0 => (Answer::Bad, "no part of an upload is accepted".to_owned()),
            1..LEAST_MOST_PARTS => {
                (Answer::Bad, format!("an upload has at most {most} parts; volbak needs {LEAST_MOST_PARTS}"))
            }
            _ => (Answer::Good, format!("an object is uploaded in at most {most} parts")),
        };
        self.add("uploads", answer, what);
        if !is_gone {
            self.add(
                "uploads",
                Answer::Doubtful,
                "an upload that was aborted still holds parts: they take room, and are paid for",
            );
        }
        Ok(())
    }

    pub(super) fn small_parts(&mut self) -> Result<(), ObjectError> {
        let Some((key, id)) = self.begun("small")? else { return Ok(()) };
        let mut parts: Vec<Part> = Vec::new();
        for (number, bytes) in (1..).zip(self.content.chunks(PROBE_BYTES / 2)) {
            parts.push(self.client.put_part(&key, &id, number, bytes)?);
        }
        let is_accepted = match tried(self.client.complete_upload(&key, &id, &parts, false))? {
            Tried::Done(written) => {
                self.note(&key, &written);
                true
            }
            Tried::Refused(_) | Tried::Odd(_) => {
                self.client.abort_upload(&key, &id)?;
                false
            }
        };
        self.abilities.small_parts = Some(is_accepted);
        let what = if is_accepted {
            "parts below 5 MiB are accepted"
        } else {
            "parts below 5 MiB are refused, but for the last"
        };
        self.add("uploads", Answer::Good, what);
        Ok(())
    }

    /// A part that is a range of another object, and whether completing keeps an object from being replaced.
    pub(super) fn copied_range(&mut self) -> Result<(), ObjectError> {
        let source = self.key("plain");
        let etag = self.client.head(&source)?.map(|found| found.etag).unwrap_or_default();
        let from = CopySource { key: &source, etag: &etag, range: 1000..5000 };
        let Some((key, id)) = self.begun("copied")? else { return Ok(()) };
        let copied = match tried(self.client.copy_part(&key, &id, 1, &from))? {
            Tried::Done(part) => {
                let written = self.client.complete_upload(&key, &id, &[part], false)?;
                self.note(&key, &written);
                let read = self.client.get(&key, PROBE_BYTES as u64)?;
                read.as_deref() == Some(&self.content[1000..5000])
            }
            Tried::Refused(_) | Tried::Odd(_) => {
                self.client.abort_upload(&key, &id)?;
                false
            }
        };
        self.abilities.copies_ranges = Some(copied);
        if copied {
            self.add("copies", Answer::Good, "a part is made of a range of another object, on the server");
        } else {
            self.add(
                "copies",
                Answer::Doubtful,
                "a part cannot be made of a range of another object: each night sends everything",
            );
        }
        let target = self.put("kept")?;
        let Some(id) = self.begun("kept")?.map(|(_, id)| id) else { return Ok(()) };
        let part = self.client.put_part(&target, &id, 1, b"other")?;
        let (keeps, what) = match tried(self.client.complete_upload(&target, &id, &[part], true))? {
            Tried::Done(written) => {
                self.note(&target, &written);
                (false, "If-None-Match is not heeded when an upload is completed: the object is replaced".to_owned())
            }
            Tried::Refused(refusal) => {
                self.client.abort_upload(&target, &id)?;
                (refusal.is_there, format!("If-None-Match when an upload is completed: {}", refusal.what))
            }
            Tried::Odd(why) => (false, format!("If-None-Match when an upload is completed: {why}")),
        };
        self.abilities.only_new_upload = Some(keeps);
        self.add("conditions", Answer::Good, what);
        Ok(())
    }
}
