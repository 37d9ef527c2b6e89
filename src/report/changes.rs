//! What changed since the last run, and what needs an administrator: the few lines that are worth reading in the morning.

use chrono::{DateTime, Utc};

use super::facts::{Outcome, RunReport, VolumeReport};
use super::standing::{Standing, VolumeStanding};
use crate::shown::{self, counted};
use crate::units::ByteLen;

/// An archive that is so many times as large or as small as the last one is a change.
const FACTOR: u64 = 2;
/// Below this size, such a change says nothing.
const LEAST_BYTES: u64 = 1 << 20;
/// A destination that is full sooner needs somebody.
const SOON_DAYS: u64 = 14;
/// More lines are counted.
const MAX_LINES: usize = 20;

impl RunReport {
    /// Adds what changed since the runs that `before` records, and what needs an administrator.
    pub(crate) fn compare(&mut self, before: &Standing, now: DateTime<Utc>) {
        let of = |volume: &VolumeReport| before.volumes.get(&volume.name).filter(|known| known.host == self.host);
        // In the first run, all volumes are new.
        let mut changes = Vec::new();
        if before.volumes.values().any(|volume| volume.host == self.host) {
            for volume in &self.volumes {
                changes.extend(change(volume, of(volume)).map(|what| format!("{}: {what}", shown::text(&volume.name))));
            }
            let is_known = |name: &str| before.volumes.get(name).is_some_and(|volume| volume.gone);
            let gone = self.gone.iter().filter(|gone| !is_known(&gone.name));
            changes.extend(gone.map(|gone| format!("{}: it is gone from the host", shown::text(&gone.name))));
        }
        let mut needs = Vec::new();
        for volume in &self.volumes {
            needs.extend(need(volume, of(volume), now).map(|what| format!("{}: {what}", shown::text(&volume.name))));
        }
        let late = self.volumes.iter().filter(|volume| volume.out_of_time).count();
        if late > 0 {
            let volumes = counted(late as u64, "volume was", "volumes were");
            needs.push(format!("{volumes} not backed up in time: the run needs more hours, or more jobs"));
        }
        if let Some(days) = self.usage.and_then(|usage| usage.full_in_days).filter(|days| *days <= SOON_DAYS) {
            let days = counted(days, "day", "days");
            needs.push(format!("the destination is full in {days}, if it fills as in the last nights"));
        }
        (self.changes, self.needs) = (shortened(changes), shortened(needs));
    }
}

fn shortened(mut lines: Vec<String>) -> Vec<String> {
    if let Some(more @ 1..) = lines.len().checked_sub(MAX_LINES) {
        lines.truncate(MAX_LINES);
        lines.push(format!("and {more} more"));
    }
    lines
}

/// How a volume's result differs from that of its last run.
fn change(volume: &VolumeReport, before: Option<&VolumeStanding>) -> Option<String> {
    let Some(before) = before else { return Some("it is new".to_owned()) };
    let was_good = before.outcome == Outcome::BackedUp;
    match (&volume.outcome, was_good) {
        (Outcome::BackedUp, false) => return Some("it is backed up again".to_owned()),
        (Outcome::Failed(_), true) => return Some("it failed, and did not in its last run".to_owned()),
        (Outcome::NotStarted(_), true) => return Some("it was not started, and was in its last run".to_owned()),
        _ => {}
    }
    if volume.whole == Some(false) && before.errors == 0 {
        return Some("its backup is partial, and had no errors in its last run".to_owned());
    }
    let (new, old) = (volume.archive_bytes?, before.archive_bytes?);
    let is_larger = new / FACTOR >= old && new >= LEAST_BYTES;
    let is_smaller = old / FACTOR >= new && old >= LEAST_BYTES;
    let word = if is_larger { "grew" } else { "shrank" };
    (is_larger || is_smaller).then(|| format!("its archive {word} from {} to {}", ByteLen(old), ByteLen(new)))
}

/// Why a volume without a new backup needs somebody.
fn need(volume: &VolumeReport, before: Option<&VolumeStanding>, now: DateTime<Utc>) -> Option<String> {
    if volume.outcome == Outcome::BackedUp || volume.out_of_time {
        return None;
    }
    let earlier = volume.history.last().map(|past| past.taken_at);
    Some(match earlier.max(before.and_then(|before| before.last_success)) {
        None => "it has no backup at all".to_owned(),
        Some(last) => format!("its last backup is {} h old", (now - last).num_hours().max(0)),
    })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::super::{Outcome, RunFacts, RunReport, Standing, Usage, VolumeReport};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn volume(name: &str, bytes: Option<u64>) -> VolumeReport {
        let outcome = if bytes.is_some() { Outcome::BackedUp } else { Outcome::Failed("no room".to_owned()) };
        let blank = VolumeReport::not_started(name.to_owned(), String::new());
        VolumeReport { outcome, archive_bytes: bytes, taken_at: bytes.map(|_| at("2026-11-28T01:00:00Z")), ..blank }
    }

    fn report(volumes: Vec<VolumeReport>) -> RunReport {
        let json = r#"{"format_version": 1, "host": "h", "started": "2026-11-28T01:00:00Z", "duration_seconds": 0,
            "retention_days": 7, "destination": "/b", "usage": null, "aborted": null, "volumes": []}"#;
        RunReport { volumes, ..serde_json::from_str(json).unwrap() }
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let mut before = Standing::default();
        let first = report(vec![
            volume("same", Some(3 << 20)),
            volume("grown", Some(3 << 20)),
            volume("fails", Some(3 << 20)),
            volume("mended", None),
            volume("bad", None),
        ]);
        let mut first_night = first.clone();
        first_night.compare(&before, at("2026-11-28T02:00:00Z"));
        assert!(first_night.changes.is_empty(), "{:?}", first_night.changes);
        assert_eq!(first_night.needs, ["mended: it has no backup at all", "bad: it has no backup at all"]);

        before.note(&first, RunFacts { scope: "", is_whole: true, existing: None });
        let mut second = report(vec![
            volume("same", Some((3 << 20) + 5)),
            volume("grown", Some(9 << 20)),
            volume("fails", None),
            volume("mended", Some(1)),
            volume("bad", None),
            volume("new", Some(1)),
        ]);
        second.usage = Some(Usage { backups_bytes: 1, used_bytes: 1, available_bytes: 1, full_in_days: Some(12) });
        second.compare(&before, at("2026-11-29T03:30:00Z"));
        let changes = [
            "grown: its archive grew from 3 MiB to 9 MiB",
            "fails: it failed, and did not in its last run",
            "mended: it is backed up again",
            "new: it is new",
        ];
        assert_eq!(second.changes, changes);
        let needs = [
            "fails: its last backup is 26 h old",
            "bad: it has no backup at all",
            "the destination is full in 12 days, if it fills as in the last nights",
        ];
        assert_eq!(second.needs, needs);
    }

    #[test]
    fn many_lines_are_counted() {
        let mut many = report((0..50).map(|number| volume(&format!("volume-{number}"), None)).collect());
        many.compare(&Standing::default(), at("2026-11-28T02:00:00Z"));
        assert_eq!((many.needs.len(), many.needs.last().unwrap().as_str()), (21, "and 30 more"));
    }
}
