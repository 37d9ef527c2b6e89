//! The status as text, for people and monitoring systems.

use std::fmt::Write;

use chrono::Local;

use super::figures::{Limits, Status, Urgency, VolumeStatus};
use crate::units::ByteLen;

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
        let word = match self.level {
            Urgency::Ok => "OK",
            Urgency::Warning => "WARNING",
            Urgency::Critical => "CRITICAL",
        };
        let what = self.reasons.first().map_or_else(
            || format!("{} volumes have their backups", self.volumes.iter().filter(|volume| !volume.gone).count()),
            |worst| match self.reasons.len() {
                1 => worst.what.clone(),
                more => format!("{} (and {} more)", worst.what, more - 1),
            },
        );
        let mut text = format!("VOLBAK {word} - {what}\n");
        // Writing to a String cannot fail.
        for reason in self.reasons.iter().skip(1) {
            let _ = writeln!(text, "{}", reason.what);
        }
        for notice in &self.notices {
            let _ = writeln!(text, "{notice}");
        }
        if let Some(run) = &self.last_run {
            let started = run.started.with_timezone(&Local).format("%Y-%m-%d %H:%M");
            let _ = writeln!(text, "last run {started}: {}", run.outcome);
        }
        let mut rows = vec![
            ["VOLUME", "LAST BACKUP", "AGE", "WORTH", "SIZE", "BACKUPS", "VERIFIED", "PROBLEMS"].map(str::to_owned),
        ];
        rows.extend(self.volumes.iter().map(row));
        if rows.len() > 1 {
            let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let widths: [usize; 8] = std::array::from_fn(width);
            for row in &rows {
                let cells: Vec<String> =
                    row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                let _ = writeln!(text, "{}", cells.join("  ").trim_end());
            }
        }
        text
    }
}

fn row(volume: &VolumeStatus) -> [String; 8] {
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
    [
        match (volume.gone, &volume.cloud) {
            (true, _) => format!("{} (gone)", volume.name),
            (false, Some(cloud)) => format!("{} [{cloud}]", volume.name),
            (false, None) => volume.name.clone(),
        },
        volume.last_backup.map_or_else(none, |at| at.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string()),
        volume.age_seconds.map_or_else(none, age),
        worth,
        volume.archive_bytes.map_or_else(none, |bytes| ByteLen(bytes).to_string()),
        backups,
        volume
            .last_verification
            .map_or_else(none, |last| format!("{} {}", last.at.with_timezone(&Local).format("%Y-%m-%d"), last.level)),
        volume.problems.to_string(),
    ]
}
