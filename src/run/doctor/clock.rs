//! The clock, by which backups get their dates.

use std::path::Path;

use chrono::{DateTime, TimeZone, Utc};

use super::finding::{Add, Answer};
use crate::outside::RunCommand;

pub(super) fn clock(now: DateTime<Utc>, commands: &dyn RunCommand, add: &mut Add<'_>) {
    // Before this there was no volbak.
    let earliest = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).single().unwrap_or(DateTime::UNIX_EPOCH);
    let local = now.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S %:z");
    if now < earliest {
        add("clock", Answer::Bad, format!("it says {local}: backups would get wrong dates"));
        return;
    }
    let (answer, what) = judge(kernel_is_synchronized(commands), has_marks());
    add("clock", answer, format!("{local}{what}"));
}

/// The kernel's own state (adjtimex(2), `STA_UNSYNC`), whichever program keeps the clock; timedatectl(1) shows it. `None`
/// where there is no systemd.
fn kernel_is_synchronized(commands: &dyn RunCommand) -> Option<bool> {
    let arguments = ["show", "--property=NTPSynchronized", "--value"].map(Into::into);
    let output = commands.run("timedatectl", &arguments).ok().filter(|output| output.status.success())?;
    match output.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

/// Files that timesyncd and chrony leave in /run.
fn has_marks() -> bool {
    Path::new("/run/systemd/timesync/synchronized").exists() || Path::new("/run/chrony").exists()
}

fn judge(by_kernel: Option<bool>, has_marks: bool) -> (Answer, &'static str) {
    match (by_kernel, has_marks) {
        (Some(true), _) | (None, true) => (Answer::Good, ", synchronized by a time server"),
        // chrony without `rtcsync` never sets the kernel's state; `chronyc tracking` shows the truth.
        (Some(false), true) => {
            (Answer::Good, ", and a time service is there, although the kernel's state is not synchronized")
        }
        (Some(false) | None, false) => (
            Answer::Doubtful,
            "; no time service synchronizes it: install chrony or systemd-timesyncd; see timedatectl",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, judge};

    #[test]
    fn the_kernels_state_counts_whichever_program_keeps_the_clock() {
        assert_eq!(judge(Some(true), false).0, Answer::Good, "ntpd, PTP, a guest's agent");
        assert_eq!(judge(None, true).0, Answer::Good);
        assert_eq!(judge(Some(false), true).0, Answer::Good);
        assert_eq!(judge(Some(false), false).0, Answer::Doubtful);
        assert_eq!(judge(None, false).0, Answer::Doubtful);
    }
}
