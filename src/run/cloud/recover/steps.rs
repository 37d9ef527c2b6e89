//! Carries out one step. Each write is sent once, and its result is then read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::error::RecoverError;
use super::look::Looker;
use super::plan::{Action, Named};
use crate::cloud::Attached;
use crate::openstack::{CloudError, Connector};

/// What Cinder is told of a host whose attachment leads out of the wedge: no host ever logs in with it.
const INITIATOR: &str = "iqn.2026-11.volbak:recover";
const CONNECTOR_IP: &str = "127.0.0.1";

/// What an earlier call asked for may still be on its way for so long.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// The result of a step.
pub(super) enum Ended {
    Done,
    /// It was not carried out, or not to its end; the others go on.
    Failed(String),
}

/// What a write's error means.
pub(super) enum Fate {
    /// The server refused: nothing was done.
    Refused(String),
    /// Whether it was carried out is not known, or no other would be: the recovery ends, and the next call looks.
    Unknown(RecoverError),
}

pub(super) fn fate(error: CloudError) -> Fate {
    match error.status() {
        Some(401 | 403) => Fate::Unknown(error.into()),
        Some(400..=499) => Fate::Refused(error.to_string()),
        _ => Fate::Unknown(error.into()),
    }
}

/// A write that was refused fails its step; one whose fate is not known ends the recovery.
fn sent(result: Result<(), CloudError>) -> Result<Option<String>, RecoverError> {
    match result.map_err(fate) {
        Ok(()) => Ok(None),
        Err(Fate::Refused(why)) => Ok(Some(why)),
        Err(Fate::Unknown(error)) => Err(error),
    }
}

/// Carries out a step that is about a volume.
pub(super) fn carry_out(action: &Action, looker: &Looker<'_>) -> Result<Ended, RecoverError> {
    match action {
        Action::KeepAttached { volume } => {
            if let Some(why) = sent(looker.session.keep_attached(&volume.id))? {
                return Ok(Ended::Failed(why));
            }
            in_time(looker, looker.patience, "its status is not in-use", || {
                Ok(looker.session.volume(&volume.id)?.status == "in-use")
            })
        }
        Action::DeleteAttachment { volume, attachment, .. } => {
            match looker.session.delete_attachment(attachment) {
                // It is gone since it was read.
                Err(error) if error.status() == Some(404) => {}
                done => {
                    if let Some(why) = sent(done)? {
                        return Ok(Ended::Failed(why));
                    }
                }
            }
            in_time(looker, looker.patience, "the attachment is still there", || {
                Ok(looker.session.attachments_of(&volume.id)?.iter().all(|one| one.id != *attachment))
            })
        }
        Action::Release { volume, instance } | Action::FreeWedge { volume, instance } => {
            let is_wedge = matches!(action, Action::FreeWedge { .. });
            take_back(volume, instance, is_wedge, looker)
        }
        Action::Attach { volume, instance, .. } => {
            if let Some(why) = sent(looker.session.attach(&instance.id, &volume.id))? {
                return Ok(Ended::Failed(why));
            }
            in_time(looker, looker.patience, "it is not attached on both sides", || {
                let (status, pair) = looker.pair(&volume.id, &instance.id)?;
                Ok(status == "in-use" && pair.is_some_and(|pair| is_whole(&pair)))
            })
        }
        Action::Restart { .. } | Action::RebootInside { .. } => Ok(Ended::Done),
    }
}

fn is_whole(pair: &Attached) -> bool {
    let cinder = pair.cinder.as_ref().and_then(|cinder| cinder.status.as_deref());
    pair.nova.is_some() && cinder.is_none_or(|status| status == "attached") && pair.cinder.is_some()
}

pub(super) fn in_time(
    looker: &Looker<'_>,
    patience: Duration,
    otherwise: &str,
    is_so: impl FnMut() -> Result<bool, RecoverError>,
) -> Result<Ended, RecoverError> {
    if looker.until(patience, is_so)? {
        return Ok(Ended::Done);
    }
    Ok(Ended::Failed(format!("{otherwise} after {} s", patience.as_secs())))
}

/// What can be sent to take a volume back from Nova. Each is sent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sent {
    Made,
    Completed,
    KeptAttached,
    Detached,
    Deleted,
}

/// Has Nova let a volume go that is half attached, or that Nova alone maps, from whichever state it is in: an earlier call may
/// have ended after any of the writes.
fn take_back(volume: &Named, instance: &Named, is_wedge: bool, looker: &Looker<'_>) -> Result<Ended, RecoverError> {
    let mut already: BTreeSet<Sent> = BTreeSet::new();
    let mut failed = None;
    let began = Instant::now();
    let is_done = looker.until(looker.patience, || {
        let (status, pair) = looker.pair(&volume.id, &instance.id)?;
        let cinder = pair.as_ref().and_then(|pair| pair.cinder.as_ref());
        let nova = pair.as_ref().and_then(|pair| pair.nova.as_ref());
        let next = match (cinder, nova) {
            (None, None) => return Ok(true),
            (None, Some(_)) if is_wedge && status == "available" => Sent::Made,
            // Nova is about to forget it, as Cinder has.
            (None, Some(_)) if already.contains(&Sent::Detached) => return Ok(false),
            (None, Some(_)) => {
                failed = Some(format!("Nova maps it, Cinder has no attachment, and its status is {status}"));
                return Ok(true);
            }
            (Some(_), None) => Sent::Deleted,
            (Some(cinder), Some(_))
                if !is_wedge && already.is_empty() && cinder.status.as_deref() == Some("attached") =>
            {
                failed = Some("the compute host has it by now: its attachment is not half made any more".to_owned());
                return Ok(true);
            }
            (Some(cinder), Some(_)) => match status.as_str() {
                "in-use" => Sent::Detached,
                // Nova is at it, since this call or an earlier one asked.
                "detaching" if already.contains(&Sent::Detached) || began.elapsed() < GRACE => return Ok(false),
                _ if is_wedge && cinder.status.as_deref() != Some("attached") => Sent::Completed,
                _ => Sent::KeptAttached,
            },
        };
        if !already.insert(next) {
            // What was sent takes effect at once, but for a detachment, which Nova may give up.
            failed = Some(match next {
                Sent::Detached => "Nova does not detach it: see the log of nova-compute".to_owned(),
                _ => format!("{next:?} was sent, and its status is still {status}"),
            });
            return Ok(true);
        }
        let attachment = cinder.and_then(|cinder| cinder.attachment.clone()).unwrap_or_default();
        let result = match next {
            Sent::Made => {
                let connector = Connector {
                    host: looker.session.server(&instance.id)?.host.unwrap_or_else(|| "unknown".to_owned()),
                    initiator: INITIATOR.to_owned(),
                    ip: CONNECTOR_IP.to_owned(),
                };
                looker.session.make_attachment(&volume.id, &instance.id, &connector).map(drop)
            }
            Sent::Completed => looker.session.complete_attachment(&attachment),
            Sent::KeptAttached => looker.session.keep_attached(&volume.id),
            Sent::Detached => match looker.session.detach(&instance.id, &volume.id) {
                // Nova let it go since it was looked at.
                Err(error) if error.status() == Some(404) => Ok(()),
                done => done,
            },
            Sent::Deleted => match looker.session.delete_attachment(&attachment) {
                Err(error) if error.status() == Some(404) => Ok(()),
                done => done,
            },
        };
        failed = sent(result)?;
        Ok(failed.is_some())
    })?;
    match failed {
        Some(why) => Ok(Ended::Failed(why)),
        None if is_done => in_time(looker, looker.patience, "it is not available", || {
            Ok(looker.session.volume(&volume.id)?.status != "detaching")
        }),
        None => Ok(Ended::Failed(format!("Nova still maps it after {} s", looker.patience.as_secs()))),
    }
}
