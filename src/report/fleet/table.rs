//! The view of all hosts for a terminal.

use super::view::{FleetView, HostView, Light, age};
use crate::report::table::aligned;
use crate::units::ByteLen;

/// The maximum number of volumes that are listed.
const MAX_VOLUMES: usize = 50;

impl FleetView {
    /// A line for each host, then the volumes to look at.
    pub fn text(&self) -> String {
        let mut rows = vec![
            ["HOST", "STATE", "LAST RUN", "VOLUMES", "ENCRYPTED", "OVERDUE", "FREE", "REASON"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(self.hosts.iter().map(|host| self.row(host)));
        let mut text = aligned(&rows, "");
        let bad: Vec<Vec<String>> = self
            .volumes()
            .filter(|(_, volume)| volume.light > Light::Green)
            .map(|(host, volume)| {
                let name = format!("{} {}", host.name, volume.state.name);
                vec![name, volume.light.word().to_owned(), volume.reason.clone()]
            })
            .collect();
        if !bad.is_empty() {
            text.push_str("\nVolumes to look at\n");
            text.push_str(&aligned(&bad[..bad.len().min(MAX_VOLUMES)], ""));
        }
        if let Some(more @ 1..) = bad.len().checked_sub(MAX_VOLUMES) {
            text.push_str(&format!("and {more} more\n"));
        }
        text
    }

    fn row(&self, host: &HostView) -> Vec<String> {
        let none = || "-".to_owned();
        let state = host.state.as_ref();
        vec![
            host.name.clone(),
            host.light.word().to_owned(),
            host.last_run.map_or_else(none, |at| format!("{} ago", age(at, self.now))),
            state.map_or_else(none, |_| host.volumes.len().to_string()),
            state.map_or_else(none, |_| host.encrypted().to_string()),
            state.map_or_else(none, |_| host.overdue().to_string()),
            state.and_then(|it| it.usage).map_or_else(none, |usage| ByteLen(usage.available_bytes).to_string()),
            host.reasons.join("; "),
        ]
    }
}
