//! The view of all hosts as metrics, for Prometheus.

use std::fmt::Write;

use super::view::{FleetView, HostView, Light, VolumeView};
use crate::report::metrics::escaped;

impl FleetView {
    /// The metrics of all hosts in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let overdue = [(String::new(), &())];
        family(&mut text, "volbak_fleet_overdue", "Whether anything is overdue, silent or bad.", &overdue, |()| {
            Some(u8::from(self.is_overdue).to_string())
        });
        family(&mut text, "volbak_fleet_judged_timestamp_seconds", "When the hosts were judged.", &overdue, |()| {
            Some(self.now.timestamp().to_string())
        });
        let hosts: Vec<(String, &HostView)> =
            self.hosts.iter().map(|host| (format!("{{host=\"{}\"}}", escaped(&host.name)), host)).collect();
        let mut of_host = |name: &str, help: &str, value: &dyn Fn(&HostView) -> Option<String>| {
            family(&mut text, &format!("volbak_fleet_host_{name}"), help, &hosts, value);
        };
        of_host("light", "The worst of the host: 0 green, 1 amber, 2 red, 3 silent.", &|host| Some(light(host.light)));
        of_host("expected", "Whether the list of hosts has it.", &|host| Some(u8::from(host.expected).to_string()));
        of_host("last_run_timestamp_seconds", "Start of the last run over all volumes.", &|host| {
            host.last_run.map(|at| at.timestamp().to_string())
        });
        of_host("volumes", "Number of volumes.", &|host| host.state.as_ref().map(|_| host.volumes.len().to_string()));
        of_host("overdue_volumes", "Number of volumes that are overdue or bad.", &|host| {
            host.state.as_ref().map(|_| host.overdue().to_string())
        });
        of_host("problems", "Problems of the last run itself.", &|host| {
            Some(host.state.as_ref()?.problems.to_string())
        });
        of_host("destination_available_bytes", "Free space in its destination.", &|host| {
            Some(host.state.as_ref()?.usage?.available_bytes.to_string())
        });
        of_host("destination_used_bytes", "Used space of its destination's filesystem.", &|host| {
            Some(host.state.as_ref()?.usage?.used_bytes.to_string())
        });
        of_host("copy_failed", "Backups that the last run did not copy to the second destination.", &|host| {
            Some(host.state.as_ref()?.copy.as_ref()?.failed.to_string())
        });
        let label = |host: &HostView, volume: &VolumeView| {
            format!("{{host=\"{}\",volume=\"{}\"}}", escaped(&host.name), escaped(&volume.state.name))
        };
        let mut volumes: Vec<(String, &VolumeView)> =
            self.volumes().map(|(host, volume)| (label(host, volume), volume)).collect();
        // A series that is there twice would make Prometheus refuse all of them, and a forged state may have one.
        volumes.sort_by(|(a, _), (b, _)| a.cmp(b));
        volumes.dedup_by(|(a, _), (b, _)| a == b);
        let mut of_volume = |name: &str, help: &str, value: &dyn Fn(&VolumeView) -> Option<String>| {
            family(&mut text, &format!("volbak_fleet_volume_{name}"), help, &volumes, value);
        };
        of_volume("light", "How urgent the volume is, as volbak_fleet_host_light.", &|volume| {
            Some(light(volume.light))
        });
        of_volume("last_good_timestamp_seconds", "Start of its newest whole backup.", &|volume| {
            volume.state.last_good.map(|at| at.timestamp().to_string())
        });
        of_volume(
            "last_verification_timestamp_seconds",
            "Its last verification that found a backup good.",
            &|volume| volume.state.verified.map(|verified| verified.at.timestamp().to_string()),
        );
        of_volume(
            "last_proof_timestamp_seconds",
            "Its last restore test or boot that found a backup good.",
            &|volume| volume.state.proof.map(|proof| proof.at.timestamp().to_string()),
        );
        of_volume("encrypted", "Whether its newest usable backup is encrypted.", &|volume| {
            volume.state.encrypted.map(|is| u8::from(is).to_string())
        });
        of_volume("archive_bytes", "Length of its newest archive.", &|volume| {
            volume.state.archive_bytes.map(|bytes| bytes.to_string())
        });
        of_volume("backups_bytes", "Size of all its backups.", &|volume| Some(volume.state.backups_bytes.to_string()));
        of_volume("bad_backups", "Number of its bad backups.", &|volume| Some(volume.state.bad.to_string()));
        of_volume("problems", "Problems of its last backup.", &|volume| Some(volume.state.problems.to_string()));
        text
    }
}

fn light(light: Light) -> String {
    (light as u8).to_string()
}

fn family<T>(text: &mut String, name: &str, help: &str, of: &[(String, &T)], value: impl Fn(&T) -> Option<String>) {
    let lines: String = of.iter().filter_map(|(label, one)| Some(format!("{name}{label} {}\n", value(one)?))).collect();
    if !lines.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{lines}");
    }
}
