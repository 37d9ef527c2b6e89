//! The status as text, for people and monitoring systems.

use std::fmt::Write;

use chrono::{DateTime, Local, Utc};

use super::figures::{Limits, Status, Urgency, VolumeStatus};
use crate::report::table::{Column, Screen, Table, Tint};
use crate::shown;
use crate::shown::counted;
use crate::units::ByteLen;

/// The columns of [`row`].
const COLUMNS: [Column; 8] = [
    Column { name: "VOLUME", dispensable: 0, least: Some(12) },
    Column { name: "LAST BACKUP", dispensable: 2, least: None },
    Column { name: "AGE", dispensable: 0, least: None },
    Column { name: "WORTH", dispensable: 0, least: Some(8) },
    Column { name: "SIZE", dispensable: 4, least: None },
    Column { name: "BACKUPS", dispensable: 5, least: None },
    Column { name: "VERIFIED", dispensable: 3, least: None },
    Column { name: "PROBLEMS", dispensable: 1, least: None },
];

impl Status {
    /// The text with performance data behind a bar in its first line, as the guidelines for plugins of Nagios say.
    pub fn nagios(&self, limits: Limits) -> String {
        // A bar in a message would begin the data.
        let text = self.text().replace('|', "/");
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let mut data = Vec::new();
        let seconds = |hours: u32| u64::from(hours) * 3600;
        for volume in self.volumes.iter().filter(|volume| !volume.gone) {
            if let Some(age) = volume.age_seconds {
                let (warning, critical) = (seconds(limits.warning_hours), seconds(limits.critical_hours));
                data.push(format!("'{}_age'={}s;{warning};{critical};0", volume.name, age.max(0)));
            }
            if let Some(bytes) = volume.archive_bytes {
                data.push(format!("'{}_size'={bytes}B;;;0", volume.name));
            }
        }
        if let Some(run) = &self.last_run {
            data.push(format!("'run_time'={}s;;;0", run.duration_seconds));
        }
        if let Some(room) = &self.room {
            let all = room.used_bytes.saturating_add(room.available_bytes);
            data.push(format!("'used'={}B;;;0;{all}", room.used_bytes));
            data.extend(room.full_in_days.map(|days| format!("'full_in_days'={days};;;0")));
        }
        format!("{first} | {}\n{rest}", data.join(" "))
    }

    /// The text; its first line is a complete summary.
    pub fn text(&self) -> String {
        self.text_on(Screen::default())
    }

    /// The same for a terminal, escaped.
    pub fn text_on(&self, screen: Screen) -> String {
        let (word, tint) = match self.level {
            Urgency::Ok => ("OK", Tint::Good),
            Urgency::Warning => ("WARNING", Tint::Doubtful),
            Urgency::Critical => ("CRITICAL", Tint::Bad),
        };
        let what = self.reasons.first().map_or_else(
            || {
                let present = self.volumes.iter().filter(|volume| !volume.gone).count() as u64;
                counted(present, "volume has its backups", "volumes have their backups")
            },
            |worst| match self.reasons.len() {
                1 => worst.what.clone(),
                more => format!("{} (and {} more)", worst.what, more - 1),
            },
        );
        let mut text = format!("VOLBAK {} - {}\n", screen.tinted(word, tint), shown::text(&what));
        // Writing to a String cannot fail.
        for reason in self.reasons.iter().skip(1) {
            let _ = writeln!(text, "{}", shown::text(&reason.what));
        }
        for notice in &self.notices {
            let _ = writeln!(text, "{}", shown::text(notice));
        }
        if let Some(run) = &self.last_run {
            let started = run.started.with_timezone(&Local).format("%Y-%m-%d %H:%M");
            let _ = writeln!(text, "last run {started}: {}", shown::text(&run.outcome));
        }
        if !self.volumes.is_empty() {
            let mut table = Table::new(&COLUMNS);
            for volume in &self.volumes {
                table.push(row(volume));
            }
            text.push_str(&table.text(screen));
        }
        text
    }
}

fn row(volume: &VolumeStatus) -> [(String, Tint); 8] {
    let none = || "-".to_owned();
    let counts = [
        (volume.encrypted as u64, "encrypted"),
        (volume.protected as u64, "protected"),
        (volume.pinned, "pinned"),
        (volume.bad, "bad"),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let backups = match counts.as_slice() {
        [] => volume.backups.to_string(),
        _ => format!("{} ({})", volume.backups, counts.join(", ")),
    };
    let age = |seconds: i64| match seconds / 3600 {
        hours @ ..48 => format!("{hours} h"),
        hours => format!("{} d", hours / 24),
    };
    let worth = match (volume.whole, volume.last_whole_age_seconds) {
        (None, _) => none(),
        (Some(true), _) => "whole".to_owned(),
        (Some(false), Some(seconds)) => format!("partial, last whole {} ago", age(seconds)),
        (Some(false), None) => "partial, none whole".to_owned(),
    };
    let worth_tint = match volume.whole {
        Some(true) => Tint::Good,
        Some(false) => Tint::Doubtful,
        None => Tint::Plain,
    };
    let backups_tint = if volume.bad > 0 { Tint::Bad } else { Tint::Plain };
    let problems_tint = if volume.problems > 0 { Tint::Bad } else { Tint::Plain };
    let plain = |text: String| (text, Tint::Plain);
    let name = match (volume.gone, &volume.cloud) {
        (true, _) => format!("{} (gone)", volume.name),
        (false, Some(cloud)) => format!("{} [{cloud}]", volume.name),
        (false, None) => volume.name.clone(),
    };
    let last = volume.last_backup.map_or_else(none, |at| at.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string());
    let day = |at: DateTime<Utc>| at.with_timezone(&Local).format("%Y-%m-%d").to_string();
    let mut verified = volume.last_verification.map_or_else(none, |last| format!("{} {}", day(last.at), last.level));
    if let Some(proof) = volume.last_proof.filter(|proof| Some(*proof) != volume.last_verification) {
        verified += &format!(", {} {}", day(proof.at), proof.level);
    }
    [
        plain(name),
        plain(last),
        plain(volume.age_seconds.map_or_else(none, age)),
        (worth, worth_tint),
        plain(volume.archive_bytes.map_or_else(none, |bytes| ByteLen(bytes).to_string())),
        (backups, backups_tint),
        plain(verified),
        (volume.problems.to_string(), problems_tint),
    ]
}
