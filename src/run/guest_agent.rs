//! Quiesces an instance through the QEMU guest agent, by libvirt's `virsh qemu-agent-command`.

use std::ffi::OsString;
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;

use super::backup::{AroundError, AroundFreeze};
use super::child::{ChildError, ChildProgram, run};
use crate::outside::{Cancel, programs};
use crate::shown;

const VIRSH: &str = "virsh";
const URI: &str = "qemu:///system";
/// The time that libvirt gives the agent for an answer.
const ANSWER_SECONDS: u64 = 10;
/// The time for virsh itself: libvirtd may hang, too.
const TIME_LIMIT: Duration = Duration::from_secs(ANSWER_SECONDS + 5);
/// An instance that stays frozen does not work.
const THAW_TRIES: u32 = 3;

/// An instance whose domain runs on this host.
#[derive(Debug)]
pub(crate) struct GuestAgent {
    /// Nova gives the domain the UUID of its instance.
    domain: String,
    cancel: Cancel,
    /// Whether the agent said that it froze the filesystems.
    is_frozen: Mutex<bool>,
}

/// Why the instance is not, or may not be, as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AgentError {
    #[error("{0:?} is no UUID of an instance")]
    NotAnId(String),
    #[error("virsh is not installed on this host (package libvirt-clients)")]
    NoVirsh,
    #[error("libvirt has no running domain of it on this host{said}")]
    NotHere { said: String },
    #[error("libvirt does not say which volumes it has: {0}")]
    Volumes(String),
    #[error(
        "its domain on this host has no volume {0}: the map of the cloud that puts them together is not of now, and another \
         instance may have it"
    )]
    OtherVolumes(String),
    #[error("its guest agent does not freeze its filesystems: {0}")]
    Freeze(String),
    #[error(
        "its filesystems were thawed before, by something else: the snapshots may be of a filesystem that was written to"
    )]
    ThawedBefore,
    #[error(
        "its guest agent does not thaw its filesystems: {said}; thaw them: virsh -c {URI} qemu-agent-command {domain} \
         '{{\"execute\":\"guest-fsfreeze-thaw\"}}'"
    )]
    Thaw { domain: String, said: String },
}

/// The answer of the agent.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "return")]
    count: i64,
}

impl GuestAgent {
    /// The instance, if its domain runs on this host.
    pub(crate) fn find(instance: &str, cancel: &Cancel) -> Result<Self, AgentError> {
        let is_id = instance.len() == 36 && instance.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if !is_id || instance.starts_with('-') {
            return Err(AgentError::NotAnId(shown::text(instance)));
        }
        if !programs::is_installed(VIRSH) {
            return Err(AgentError::NoVirsh);
        }
        let agent = Self { domain: instance.to_owned(), cancel: cancel.clone(), is_frozen: Mutex::new(false) };
        let not_here = |said: String| AgentError::NotHere { said: format!(": {said}") };
        let state = agent.virsh(&["domstate", instance], true).map_err(|error| not_here(error.to_string()))?;
        let state = shown::text(String::from_utf8_lossy(&state).trim());
        if state == "running" { Ok(agent) } else { Err(not_here(format!("it is {state}"))) }
    }

    fn virsh(&self, arguments: &[&str], may_be_cancelled: bool) -> Result<Vec<u8>, ChildError> {
        let all = [VIRSH, "-c", URI, "--quiet"].iter().chain(arguments);
        let argv: Vec<OsString> = all.map(OsString::from).collect();
        let cancel = may_be_cancelled.then_some(&self.cancel);
        run(&ChildProgram { argv: &argv, environment: &[], input: b"", timeout: TIME_LIMIT, cancel })
    }

    /// Fails unless the domain has these volumes: Nova gives each disk the volume's UUID as its serial number.
    pub(crate) fn check_volumes(&self, volumes: &[String]) -> Result<(), AgentError> {
        let said =
            self.virsh(&["dumpxml", &self.domain], true).map_err(|error| AgentError::Volumes(error.to_string()))?;
        let domain = String::from_utf8_lossy(&said);
        // In XML, no text of a tenant has a `<` of its own.
        let is_missing = |volume: &&String| !domain.contains(&format!("<serial>{volume}</serial>"));
        let missing: Vec<&str> = volumes.iter().filter(is_missing).map(String::as_str).collect();
        if missing.is_empty() { Ok(()) } else { Err(AgentError::OtherVolumes(missing.join(", "))) }
    }

    /// Sends a command, and returns the number in the answer.
    fn ask(&self, command: &str, may_be_cancelled: bool) -> Result<i64, String> {
        let json = format!("{{\"execute\":\"{command}\"}}");
        let seconds = ANSWER_SECONDS.to_string();
        let arguments = ["qemu-agent-command", self.domain.as_str(), "--timeout", &seconds, &json];
        let said = self.virsh(&arguments, may_be_cancelled).map_err(|error| error.to_string())?;
        let answer: Result<Answer, _> = serde_json::from_slice(&said);
        answer
            .map(|answer| answer.count)
            .map_err(|error| format!("its answer to {command} cannot be understood: {error}"))
    }

    /// Whether the agent froze at least one filesystem.
    pub(crate) fn is_frozen(&self) -> bool {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, bool> {
        self.is_frozen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl AroundFreeze for GuestAgent {
    fn before(&self) -> Result<(), AroundError> {
        match self.ask("guest-fsfreeze-freeze", true) {
            Ok(1..) => {
                *self.lock() = true;
                Ok(())
            }
            Ok(_) => Err(AgentError::Freeze("it froze none".to_owned()).into()),
            Err(said) => Err(AgentError::Freeze(said).into()),
        }
    }

    /// Also thaws when the freeze failed: its answer may have come too late. Only what was frozen must thaw.
    fn after(&self, _snapshot: Option<&str>, _is_frozen: bool) -> Result<(), AroundError> {
        let was_frozen = self.is_frozen();
        let tries = if was_frozen { THAW_TRIES } else { 1 };
        let mut said = String::new();
        for _ in 0..tries {
            match self.ask("guest-fsfreeze-thaw", false) {
                // After a try whose answer was lost nothing is frozen any more.
                Ok(..=0) if was_frozen && said.is_empty() => return Err(AgentError::ThawedBefore.into()),
                Ok(_) => return Ok(()),
                Err(why) => said = why,
            }
        }
        if was_frozen { Err(AgentError::Thaw { domain: self.domain.clone(), said }.into()) } else { Ok(()) }
    }
}
