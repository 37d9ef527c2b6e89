//! The plan of a recovery: what is to be done, in its order, each step with its reason. It is data: printed, saved, compared.

use std::fmt::Write;

use chrono::{DateTime, Local, Utc};
use serde::{Deserialize, Serialize};

use crate::shown::{self, counted};

/// The version of the format that this program writes.
pub(super) const FORMAT: u32 = 1;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The version of the format.
    pub format: u32,
    /// The cloud: its name in clouds.yaml, or Keystone's address.
    pub cloud: String,
    /// The instance that it is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Named>,
    /// The outage: a reboot after it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<DateTime<Utc>>,
    /// When the saved map was taken that says how it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_map: Option<DateTime<Utc>>,
    /// Whether that map is the law, also where the cloud's own relations say something else.
    pub from_map: bool,
    /// Why nothing at all can be done.
    pub stops: Vec<String>,
    /// What is to be done, in this order.
    pub steps: Vec<Step>,
    /// What is not as it should be, and what this does not do: each with what to do next.
    pub unclear: Vec<Finding>,
    /// What is left as it is on purpose, and may surprise.
    pub notes: Vec<Finding>,
    /// Attached volumes that need nothing.
    pub volumes_right: Vec<String>,
    /// Instances that need no restart.
    pub instances_right: Vec<String>,
}

/// An id, and the name that people know.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    /// The UUID.
    pub id: String,
    /// The name; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
    /// Why.
    pub why: String,
}

/// What is done by a step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Cinder's status follows the attachment that is there.
    KeepAttached {
        /// The volume.
        volume: Named,
    },
    /// An attachment that Nova does not map is deleted.
    DeleteAttachment {
        /// The volume.
        volume: Named,
        /// The attachment.
        attachment: String,
        /// The instance that it names, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<Named>,
    },
    /// A half-made attachment that Nova maps is taken back by Nova.
    Release {
        /// The volume.
        volume: Named,
        /// The instance.
        instance: Named,
    },
    /// Nova maps the volume and Cinder has no attachment: one is made, so that Nova can let the volume go.
    FreeWedge {
        /// The volume.
        volume: Named,
        /// The instance.
        instance: Named,
    },
    /// The instance is rebooted HARD, once.
    Restart {
        /// The instance.
        instance: Named,
    },
    /// Nova attaches the volume.
    Attach {
        /// The volume.
        volume: Named,
        /// The instance.
        instance: Named,
        /// The device that it had; Nova chooses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// The instance is rebooted from inside.
    RebootInside {
        /// The instance.
        instance: Named,
        /// Its address.
        address: String,
    },
}

/// Something that is named, and not done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// The volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Named>,
    /// The instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Named>,
    /// What it is, and what to do next.
    pub what: String,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = shown::text(&self.id);
        if self.name.is_empty() { f.write_str(&id) } else { write!(f, "{} ({id})", shown::text(&self.name)) }
    }
}

impl Action {
    /// The volume.
    pub fn volume(&self) -> Option<&Named> {
        match self {
            Self::KeepAttached { volume }
            | Self::DeleteAttachment { volume, .. }
            | Self::Release { volume, .. }
            | Self::FreeWedge { volume, .. }
            | Self::Attach { volume, .. } => Some(volume),
            Self::Restart { .. } | Self::RebootInside { .. } => None,
        }
    }

    /// The instance.
    pub fn instance(&self) -> Option<&Named> {
        match self {
            Self::KeepAttached { .. } => None,
            Self::DeleteAttachment { instance, .. } => instance.as_ref(),
            Self::Release { instance, .. }
            | Self::FreeWedge { instance, .. }
            | Self::Restart { instance }
            | Self::Attach { instance, .. }
            | Self::RebootInside { instance, .. } => Some(instance),
        }
    }

    /// Whether both do the same to the same: names and devices may differ.
    pub fn is_same(&self, other: &Self) -> bool {
        let id = |named: Option<&Named>| named.map(|named| named.id.clone());
        let is_same_attachment = match (self, other) {
            (Self::DeleteAttachment { attachment, .. }, Self::DeleteAttachment { attachment: other, .. }) => {
                attachment == other
            }
            _ => true,
        };
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && id(self.volume()) == id(other.volume())
            && id(self.instance()) == id(other.instance())
            && is_same_attachment
    }

    /// The step's place in the documented order.
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::KeepAttached { .. }
            | Self::DeleteAttachment { .. }
            | Self::Release { .. }
            | Self::FreeWedge { .. } => Phase::Clean,
            Self::Restart { .. } => Phase::Restart,
            Self::Attach { .. } => Phase::Attach,
            Self::RebootInside { .. } => Phase::Inside,
        }
    }
}

/// The documented order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Clean,
    Restart,
    Attach,
    Inside,
}

const PHASES: [(Phase, &str); 4] = [
    (Phase::Clean, "Clean what is stale"),
    (Phase::Restart, "Restart instances, each once"),
    (Phase::Attach, "Attach volumes again"),
    (Phase::Inside, "Reboot from inside"),
];

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::KeepAttached { volume } => write!(f, "volume {volume}: set to in-use"),
            Self::DeleteAttachment { volume, attachment, .. } => {
                write!(f, "volume {volume}: delete the attachment {}", shown::text(attachment))
            }
            Self::Release { volume, instance } => {
                write!(f, "volume {volume}: have Nova detach it from the instance {instance}")
            }
            Self::FreeWedge { volume, instance } => write!(
                f,
                "volume {volume}: make an attachment to the instance {instance}, have Nova detach it, and delete the attachment"
            ),
            Self::Restart { instance } => write!(f, "instance {instance}: reboot HARD"),
            Self::Attach { volume, instance, device } => {
                write!(f, "volume {volume}: attach to the instance {instance}")?;
                device.as_ref().map_or(Ok(()), |device| write!(f, ", where it was {}", shown::text(device)))
            }
            Self::RebootInside { instance, address } => {
                write!(f, "instance {instance}: reboot from inside, by ssh to {}", shown::text(address))
            }
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.volume, &self.instance) {
            (Some(volume), _) => write!(f, "volume {volume}: ")?,
            (None, Some(instance)) => write!(f, "instance {instance}: ")?,
            (None, None) => {}
        }
        f.write_str(&shown::text(&self.what))
    }
}

impl Plan {
    /// Whether nothing is to be done, and nothing is unclear.
    pub fn is_right(&self) -> bool {
        self.stops.is_empty() && self.steps.is_empty() && self.unclear.is_empty()
    }

    /// Reads a saved plan.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let plan: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if plan.format > FORMAT {
            return Err(format!(
                "it has format {}, and this version of volbak knows formats up to {FORMAT}",
                plan.format
            ));
        }
        Ok(plan)
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A plan is strings and lists: nothing in it cannot be written.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The plan for people.
    pub fn text(&self) -> String {
        let when = |time: DateTime<Utc>| time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string();
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "Recovery of the cloud {}", shown::text(&self.cloud));
        if let Some(instance) = &self.instance {
            let _ = writeln!(text, "Instance - {instance} alone");
        }
        let outage = self.outage.map_or_else(|| "not known".to_owned(), when);
        let _ = writeln!(text, "Outage - {outage}: reboots after it count");
        let map = match self.saved_map {
            Some(time) if self.from_map => format!("{}, which decides where volumes belong", when(time)),
            Some(time) => when(time),
            None => "none".to_owned(),
        };
        let _ = writeln!(text, "Saved map - {map}");
        for stop in &self.stops {
            let _ = writeln!(text, "\nNothing can be done: {}", shown::text(stop));
        }
        for (phase, title) in PHASES {
            let steps: Vec<&Step> = self.steps.iter().filter(|step| step.action.phase() == phase).collect();
            if steps.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n{title}: {}...", steps.len());
            for step in steps {
                let _ = writeln!(text, "  - {}\n      {}", step.action, shown::text(&step.why));
            }
        }
        text.push_str(&finding_lines(&self.unclear, &self.notes));
        let _ = writeln!(
            text,
            "\nSteps - {} - To look at : {}\nNothing to do - {}, {}",
            self.steps.len(),
            self.unclear.len(),
            counted(self.volumes_right.len() as u64, "volume", "volumes"),
            counted(self.instances_right.len() as u64, "instance", "instances")
        );
        text
    }
}

/// What is not done, and what is left as it is.
pub(super) fn finding_lines(unclear: &[Finding], notes: &[Finding]) -> String {
    let mut text = String::new();
    for (title, findings) in [("Not done, and to look at", unclear), ("Left as it is", notes)] {
        if !findings.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\n{title}: {}...", findings.len());
            for finding in findings {
                let _ = writeln!(text, "  - {finding}");
            }
        }
    }
    text
}
