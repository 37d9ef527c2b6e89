//! The view of all hosts as one static page: no script, no remote content, readable on a phone, in light and dark.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::view::{FleetView, HostView, Light, VolumeView, age};
use crate::report::Verification;
use crate::report::escape::html as escaped;
use crate::report::size::df_percent;
use crate::shown::counted;
use crate::units::ByteLen;

/// With more volumes the tables of volumes in order begin closed.
const MAX_OPEN_VOLUMES: usize = 100;
const STYLE: &str = include_str!("page.css");

impl FleetView {
    /// The page.
    pub fn html(&self) -> String {
        let (volumes, overdue) =
            (self.volumes().count(), self.volumes().filter(|(_, it)| it.light >= Light::Red).count());
        let title = match (self.hosts_with(Light::Silent), self.is_overdue) {
            (0, false) => "All backups are in time".to_owned(),
            (0, true) => "Backups are overdue".to_owned(),
            (1, _) => "1 host is silent".to_owned(),
            (silent, _) => format!("{silent} hosts are silent"),
        };
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <title>volbak: {title}</title>\n<style>\n{STYLE}</style></head>\n<body>\n\
             <header class=\"{}\"><h1>{title}</h1><p>{}</p></header>\n",
            class(self.hosts.first().map_or(Light::Green, |worst| worst.light)),
            time(self.now),
        );
        page.push_str("<ul class=\"figures\">");
        let figures = [
            (Light::Silent, self.hosts_with(Light::Silent), "silent hosts"),
            (Light::Red, self.hosts_with(Light::Red), "hosts overdue"),
            (Light::Red, overdue, "volumes overdue"),
            (Light::Amber, self.hosts_with(Light::Amber), "hosts with problems"),
            (Light::Green, self.hosts_with(Light::Green), "hosts in order"),
        ];
        for (light, count, what) in figures {
            let colour = if count == 0 && light != Light::Green { "none" } else { class(light) };
            // Writing to a String cannot fail.
            let _ = write!(page, "<li class=\"{colour}\"><b>{count}</b> {what}</li>");
        }
        let _ = writeln!(page, "<li class=\"none\"><b>{volumes}</b> volumes</li></ul>");
        for host in &self.hosts {
            self.host(&mut page, host, volumes <= MAX_OPEN_VOLUMES);
        }
        page.push_str("</body></html>\n");
        page
    }

    fn host(&self, page: &mut String, host: &HostView, all_open: bool) {
        let _ = writeln!(
            page,
            "<section class=\"{0}\">\n<h2>{1} <span class=\"word\">{2}</span></h2>",
            class(host.light),
            escaped(&host.name),
            host.light.word()
        );
        if !host.reasons.is_empty() {
            let items: Vec<String> =
                host.reasons.iter().map(|reason| format!("<li>{}</li>", escaped(reason))).collect();
            let _ = writeln!(page, "<ul class=\"reasons\">{}</ul>", items.concat());
        }
        let Some(state) = &host.state else {
            page.push_str("</section>\n");
            return;
        };
        let run =
            host.last_run.map_or_else(|| "never".to_owned(), |at| format!("{} ago ({})", age(at, self.now), time(at)));
        let mut facts = vec![("Last run", run), ("Destination", escaped(&state.destination))];
        if let Some(usage) = state.usage {
            let (used, free) = (df_percent(usage.used_bytes, usage.available_bytes), ByteLen(usage.available_bytes));
            facts.push(("Room", format!("{free} free, {used}% used{}", meter(used))));
        }
        if host.encrypted() > 0 {
            facts.push((
                "Encrypted",
                format!("{} of {}", host.encrypted(), counted(host.volumes.len() as u64, "volume", "volumes")),
            ));
        }
        if let Some(copy) = &state.copy {
            facts.push(("Copies", format!("{} copied to {}, {} failed", copy.copied, escaped(&copy.to), copy.failed)));
        }
        let facts: Vec<String> =
            facts.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>")).collect();
        let _ = writeln!(page, "<dl>{}</dl>", facts.concat());
        let (to_look_at, in_order): (Vec<&VolumeView>, Vec<&VolumeView>) =
            host.volumes.iter().partition(|volume| volume.light > Light::Green);
        self.table(page, &to_look_at);
        if !in_order.is_empty() {
            let open = if all_open { " open" } else { "" };
            let what = counted(in_order.len() as u64, "volume", "volumes");
            let _ = writeln!(page, "<details{open}><summary>{what} in order</summary>");
            self.table(page, &in_order);
            page.push_str("</details>\n");
        }
        page.push_str("</section>\n");
    }

    fn table(&self, page: &mut String, volumes: &[&VolumeView]) {
        if volumes.is_empty() {
            return;
        }
        page.push_str(
            "<table><thead><tr><th>Volume</th><th>Last good</th><th>Proof</th><th>Archive</th><th>All backups</th>\
             <th>Trend</th></tr></thead>\n<tbody>\n",
        );
        for volume in volumes {
            self.volume(page, volume);
        }
        page.push_str("</tbody></table>\n");
    }

    fn volume(&self, page: &mut String, volume: &VolumeView) {
        let state = &volume.state;
        let none = || "–".to_owned();
        let reason = match volume.reason.as_str() {
            "" => String::new(),
            why => format!("<div class=\"why\">{}</div>", escaped(why)),
        };
        let archive = state.archive_bytes.map_or_else(none, |bytes| ByteLen(bytes).to_string());
        let archive = archive + if state.encrypted == Some(true) { ", encrypted" } else { "" };
        let tested = |it: Verification| format!("{}, {} ago", it.level, age(it.at, self.now));
        let proofs = [state.verified, state.proof.filter(|proof| Some(*proof) != state.verified)];
        let proofs: Vec<String> = proofs.into_iter().flatten().map(tested).collect();
        let proof = if proofs.is_empty() { none() } else { proofs.join("; ") };
        let cells = [
            ("Last good", state.last_good.map_or_else(none, |at| format!("{} ago", age(at, self.now)))),
            ("Proof", proof),
            ("Archive", archive),
            ("All backups", ByteLen(state.backups_bytes).to_string()),
            ("Trend", trend(&state.trend)),
        ];
        let cells: Vec<String> =
            cells.iter().map(|(name, value)| format!("<td data-name=\"{name}\">{value}</td>")).collect();
        let _ = writeln!(
            page,
            "<tr class=\"{}\"><td><b>{}</b>{reason}</td>{}</tr>",
            class(volume.light),
            escaped(&state.name),
            cells.concat()
        );
    }
}

fn class(light: Light) -> &'static str {
    match light {
        Light::Green => "green",
        Light::Amber => "amber",
        Light::Red => "red",
        Light::Silent => "silent",
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// A bar that shows how full something is.
fn meter(percent: u64) -> String {
    let percent = percent.min(100);
    let class = if percent >= 90 { " class=\"full\"" } else { "" };
    format!("<span class=\"meter\"><i{class} style=\"width:{percent}%\"></i></span>")
}

/// The last archive sizes as a line; the lowest place is zero.
fn trend(sizes: &[u64]) -> String {
    const WIDTH: u128 = 84;
    const HEIGHT: u128 = 18;
    let Some(last) = sizes.len().checked_sub(1).filter(|last| *last > 0) else { return "–".to_owned() };
    let top = u128::from(sizes.iter().copied().max().unwrap_or(0).max(1));
    let point = |(at, size): (usize, &u64)| {
        let x = at as u128 * WIDTH / last as u128 + 1;
        let y = HEIGHT + 1 - u128::from(*size) * HEIGHT / top;
        format!("{x},{y}")
    };
    let points: Vec<String> = sizes.iter().enumerate().map(point).collect();
    format!(
        "<svg width=\"86\" height=\"20\" role=\"img\" aria-label=\"the last {} archives\"><polyline points=\"{}\"/></svg>",
        sizes.len(),
        points.join(" ")
    )
}
