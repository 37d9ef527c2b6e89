//! The map as text.

use std::fmt;
use std::fmt::Write;

use super::{Attached, CloudMap, CloudVolume, Difference};
use crate::shown;
use crate::shown::counted;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str| shown::text(text);
        match self {
            Self::OnlyNova { instance } => {
                write!(f, "Nova maps it to the instance {}, and Cinder has no attachment", text(instance))
            }
            Self::OnlyCinder { attachment, instance: Some(instance) } => {
                write!(
                    f,
                    "Cinder has the attachment {} to the instance {}, and Nova does not map it",
                    text(attachment),
                    text(instance)
                )
            }
            Self::OnlyCinder { attachment, instance: None } => {
                write!(f, "Cinder has the attachment {}, and Nova does not map it", text(attachment))
            }
            Self::OtherAttachment { instance, cinder, nova } => write!(
                f,
                "for the instance {} Cinder has the attachment {}, and Nova means {}",
                text(instance),
                text(cinder),
                text(nova)
            ),
            Self::NoSuchInstance { instance } => {
                write!(f, "Cinder has an attachment to the instance {}, which Nova does not have", text(instance))
            }
            Self::Status { status } => write!(f, "Cinder's status {} does not fit its attachments", text(status)),
        }
    }
}

impl CloudMap {
    /// A table of the volumes, and the differences after it.
    pub fn text(&self) -> String {
        let mut lines = vec![["VOLUME", "NAME", "SIZE", "STATUS", "PROJECT", "INSTANCE", "DEVICE"].map(str::to_owned)];
        for volume in &self.volumes {
            let project = volume.project_name.as_ref().or(volume.project.as_ref());
            let attachments =
                if volume.attachments.is_empty() { vec![None] } else { volume.attachments.iter().map(Some).collect() };
            for attached in attachments {
                lines.push([
                    shown::text(&volume.lv),
                    or_dash(&volume.name),
                    format!("{} GiB", volume.size_gib),
                    shown::text(&volume.status),
                    or_dash(project.map_or("", String::as_str)),
                    attached.map_or_else(|| "-".to_owned(), |one| or_dash(instance_of(one))),
                    attached.map_or_else(|| "-".to_owned(), |one| or_dash(device_of(one))),
                ]);
            }
        }
        let mut widths = [0; 7];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(shown::columns(cell));
            }
        }
        let mut text = String::new();
        let when = self.taken_at.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S");
        let _ = writeln!(text, "Map of the cloud {}, taken on {when}", shown::text(&self.cloud));
        for line in &lines {
            let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| shown::padded(cell, width)).collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        let attached = self.volumes.iter().filter(|volume| !volume.attachments.is_empty()).count();
        let _ = writeln!(
            text,
            "{}, {attached} of them attached; {}",
            counted(self.volumes.len() as u64, "volume", "volumes"),
            counted(self.instances.len() as u64, "instance", "instances")
        );
        for volume in &self.volumes {
            for difference in &volume.differences {
                let _ = writeln!(text, "{}: {difference}", shown::text(&volume.lv));
            }
        }
        for doubt in &self.doubts {
            let _ = writeln!(text, "{}", shown::text(doubt));
        }
        text
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { shown::text(text) }
}

fn instance_of(one: &Attached) -> &str {
    one.instance_name.as_ref().filter(|name| !name.is_empty()).or(one.instance.as_ref()).map_or("", String::as_str)
}

/// Nova knows the device; Cinder was told it.
fn device_of(one: &Attached) -> &str {
    let nova = one.nova.as_ref().and_then(|side| side.device.as_deref());
    nova.or_else(|| one.cinder.as_ref().and_then(|side| side.device.as_deref())).unwrap_or_default()
}

/// The display name and the instances of a volume, as they stand beside its logical volume's name: `data-1 (web-1)`;
/// empty if it has neither.
pub fn shown_names(volume: &CloudVolume) -> String {
    let instances: Vec<String> =
        volume.attachments.iter().map(instance_of).filter(|name| !name.is_empty()).map(shown::text).collect();
    let name = shown::text(&volume.name);
    match (name.is_empty(), instances.is_empty()) {
        (_, true) => name,
        (true, false) => format!("({})", instances.join(", ")),
        (false, false) => format!("{name} ({})", instances.join(", ")),
    }
}
